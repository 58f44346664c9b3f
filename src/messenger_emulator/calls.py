"""Log of Graph calls, without tokens and proofs."""

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
    """Parameters of query and body together."""
    status: int = 0
    """HTTP status; 0 if there is no answer."""
    answer: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of the answer."""
    page_id: str = ""
    fault: str = ""
    """Name of the fault that changed the call, if any."""
    warnings: list[str] = field(default_factory=list)
    """Features of the call that Graph still accepts but has retired."""
    files: list[str] = field(default_factory=list)
    """Names of the uploaded files."""

    @property
    def error(self) -> dict[str, Any] | None:
        """Error of the answer; None if the call was accepted."""
        if isinstance(self.answer, dict) and isinstance(self.answer.get("error"), dict):
            return dict(self.answer["error"])
        return None


def redact(value: Any) -> Any:
    """Return a copy without tokens and proofs, at any depth."""
    if isinstance(value, dict):
        return {key: HIDDEN if key in _SECRET else redact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redact(item) for item in value]
    if isinstance(value, str) and any(f"{key}=" in value for key in _SECRET):
        return HIDDEN
    return value
