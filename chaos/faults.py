"""Table of the faults of Graph, with the outcome that the bot must give the attempt."""

from __future__ import annotations

import email.utils
import time
from dataclasses import dataclass, field

from messenger_emulator.core import GraphResponse

SILENCE = 0.4
"""Seconds of silence after the timeout of the client."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Fault of one send. Without a ``status`` the answer is that of the emulator."""

    fate: str
    """Outcome of the attempt: accepted, unsent, refused or unknown."""
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    way: str = ""
    """Fault of the connection during the answer; see ``chaos.wire``."""
    silent: str = ""
    """``before`` or ``after`` the message is accepted: no answer until the client's timeout."""
    slow: bool = False
    """True for a late answer before the timeout; the echo comes first."""

    def answer(self, usual: GraphResponse | None) -> GraphResponse:
        if self.status is None:
            status, headers, body = usual or (500, {}, b"")
        else:
            status, headers, body = self.status, self.headers, self.body
        if headers.get("Retry-After") == "date":
            headers = {**headers, "Retry-After": email.utils.formatdate(time.time() + 2, usegmt=True)}
        return status, {**headers, **({"Storm": self.way} if self.way else {})}, body


JSON = {"Content-Type": "application/json"}


def _error(
    status: int, code: int, subcode: int | None = None, *, fate: str, more: str = "", **options: str
) -> Fault:
    extra = f', "error_subcode": {subcode}' if subcode else ""
    body = f'{{"error": {{"message": "stormy", "code": {code}{extra}{more}, "fbtrace_id": "A0"}}}}'
    headers = {name.replace("_", "-"): value for name, value in options.items()}
    return Fault(fate=fate, status=status, headers={**JSON, **headers}, body=body.encode())


UNSENT = {
    "throttled, seconds": _error(429, 613, fate="unsent", Retry_After="1"),
    "throttled, date": _error(429, 613, fate="unsent", Retry_After="date"),
    "throttled, junk": _error(429, 4, fate="unsent", Retry_After="1; soon"),
    "throttled, a year": _error(429, 613, fate="unsent", Retry_After="31536000"),
    "throttled, no code": Fault(fate="unsent", status=429, headers={"Retry-After": "1"}),
    "code 4": _error(403, 4, fate="unsent"),
    "code 32": _error(400, 32, fate="unsent"),
    "code 80006": _error(400, 80006, fate="unsent"),
    "dead token": _error(400, 190, 463, fate="unsent"),
}
REFUSED = {
    "code 10": _error(403, 10, fate="refused"),
    "code 100": _error(400, 100, fate="refused"),
    "code 200": _error(403, 200, fate="refused"),
    "unreachable": _error(400, 551, fate="refused"),
    "window closed": _error(403, 10, 2018278, fate="refused"),
}
UNKNOWN = {
    "500": Fault(fate="unknown", status=500),
    "html": Fault(
        fate="unknown", status=502, headers={"Content-Type": "text/html"}, body=b"<html>Bad gateway</html>"
    ),
    "400 and no JSON": Fault(fate="unknown", status=400, headers=JSON, body=b"no JSON"),
    "redirect": Fault(fate="unknown", status=302, headers={"Location": "http://127.0.0.1:1/"}),
    "code 1": _error(500, 1, fate="unknown"),
    "code 2": _error(500, 2, fate="unknown"),
    "code 1200": _error(500, 1200, fate="unknown"),
    "transient": _error(400, 100, fate="unknown", more=', "is_transient": true'),
    "unknown code": _error(400, 918273, fate="unknown"),
    "hung up before": Fault(fate="unknown", way="hang up"),
    "reset before": Fault(fate="unknown", way="reset"),
    "silent before": Fault(fate="unknown", silent="before", way="hang up"),
}
SPOILT = {
    "200 without id": Fault(fate="unknown", status=200, headers=JSON, body=b'{"recipient_id": "1"}'),
    "500 although taken": Fault(fate="unknown", status=500),
    "code 1 although taken": _error(500, 1, 1357046, fate="unknown"),
    "html although taken": Fault(
        fate="unknown", status=200, headers={"Content-Type": "text/html"}, body=b"<html>"
    ),
    "redirect although taken": Fault(fate="unknown", status=302, headers={"Location": "http://127.0.0.1:1/"}),
    "cut": Fault(fate="unknown", status=200, headers=JSON, body=b'{"recipient_id": "1", "mess'),
    "broken off": Fault(fate="unknown", way="break off"),
    "drops": Fault(fate="unknown", way="drip"),
    "huge": Fault(fate="unknown", status=200, headers=JSON, body=b" " * (10 * 1024 * 1024)),
    "deep": Fault(fate="unknown", status=200, headers=JSON, body=b"[" * 100_000),
    "bad gzip": Fault(
        fate="unknown", status=200, headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b\x08 no gzip"
    ),
    "hung up after": Fault(fate="unknown", way="hang up"),
    "reset after": Fault(fate="unknown", way="reset"),
    "silent after": Fault(fate="unknown", silent="after"),
    "taken late": Fault(fate="unknown", silent="before"),
    "echo before the answer": Fault(fate="accepted", slow=True),
}
FAULTS: dict[str, Fault] = {**UNSENT, **REFUSED, **UNKNOWN, **SPOILT}
TAKEN = frozenset(SPOILT)
"""Faults of calls that Graph performs."""

ECHOES = ("late", "lost", "twice", "in standby", "without metadata")
"""Faults of an echo."""
FORGED = ("of another app", "to another person")
"""Kinds of forged echoes, of messages that Graph never accepted. The bot must not settle a reply by them."""
