"""The log of Graph calls; tokens and proofs never stand in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

HIDDEN = "<hidden>"
_SECRET = frozenset({"access_token", "appsecret_proof", "input_token", "fb_exchange_token", "client_secret"})


@dataclass
class LoggedCall:
    """One call of Graph and its answer."""

    time: float
    method: str
    path: str
    body: dict[str, Any]
    """The parameters of query and body together."""
    status: int = 0
    """0 while, or when, there is no answer."""
    answer: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    """Those of the answer."""
    page_id: str = ""
    fault: str = ""
    """The switch that spoilt the call, if one did."""
    warnings: list[str] = field(default_factory=list)
    """What passes but should not be relied on."""
    files: list[str] = field(default_factory=list)
    """Names of the uploaded files."""

    @property
    def error(self) -> dict[str, Any] | None:
        """The error of the answer, None when the call was accepted."""
        if isinstance(self.answer, dict) and isinstance(self.answer.get("error"), dict):
            return dict(self.answer["error"])
        return None


def redact(value: Any) -> Any:
    """Give a copy without tokens and proofs, at any depth."""
    if isinstance(value, dict):
        return {key: HIDDEN if key in _SECRET else redact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redact(item) for item in value]
    if isinstance(value, str) and any(f"{key}=" in value for key in _SECRET):
        return HIDDEN
    return value
