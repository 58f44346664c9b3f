"""Faults: switches that make the emulator fail as Meta, or the connection to Meta, can fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

GRAPH_FAULTS: Mapping[str, str] = {
    "token_dead": "Graph refuses the token (190; option subcode)",
    "blocked": "the person has blocked the Page (551/1545041)",
    "other_app": "another app controls the thread (10/2018300)",
    "window_closed": "the window is closed (10/2018278)",
    "page_restricted": "the Page is restricted for a while (10/1893063)",
    "throttled": "too many calls (613, with usage headers at 100 percent)",
    "business_throttled": "the Page's daily budget is used up (80006, with usage headers)",
    "usage_headers": "calls pass, with usage headers (option percent)",
    "server_error": "500 with Graph's transient error, code 2",
    "server_error_empty": "500 without a body",
    "timeout_before": "no answer; the call was not performed",
    "timeout_after": "no answer; the call was performed",
    "unreachable": "no connection",
    "truncated": "the call was performed; its answer is cut in the middle",
    "batch_null": "the slot of a batch is null; the call was performed",
    "refused": "Graph refuses with the options code, subcode, message, type and status",
}

WEBHOOK_FAULTS: Mapping[str, str] = {
    "duplicate": "each item is posted twice (option copies)",
    "delay": "items are posted later (option seconds)",
    "reorder": "waiting items are posted in reverse order",
    "batch": "waiting items are posted together (option shape: entries or messaging)",
    "standby": "items come in the standby container",
    "echo_late": "echoes come later than everything else (option seconds)",
    "echo_lost": "echoes never come",
    "wrong_signature": "the signature is of another secret",
    "no_signature": "the signature header is missing",
    "sha1_signature": "the old X-Hub-Signature header comes too",
    "unknown_event": "each item is preceded by one of an unknown kind",
    "no_timestamp": "items have no timestamp",
    "seconds": "timestamps are in seconds",
    "hop_context": "entries carry hop_context (option value)",
    "numeric_ids": "sender and recipient ids are numbers, as in 2016",
    "old_mids": "message ids have the shape of 2016",
    "seq": "messages carry seq, as in 2016",
    "stickers_2016": "stickers as in 2016: message.sticker_id beside an image",
    "stickers_v6": "stickers as from 2020: an image with sticker_id",
    "stickers_transition": "stickers as in summer 2026: an image and a sticker",
    "text_app_id": "app ids in echoes are strings",
}

FAULTS: Mapping[str, str] = {**GRAPH_FAULTS, **WEBHOOK_FAULTS}
"""Meaning of each fault by name, in one line."""


@dataclass
class Fault:
    """A switch that is on."""

    name: str
    times: int | None = None
    """Number of strikes until the fault switches itself off; None means no limit."""
    where: str = "messages"
    """Part of the path of Graph calls that the fault strikes; empty means all calls."""
    options: dict[str, Any] = field(default_factory=dict)


class Faults:
    """Faults of one emulator. Safe to use from several threads."""

    def __init__(self) -> None:
        self._on: dict[str, Fault] = {}
        self._lock = threading.Lock()

    def on(self, name: str, *, times: int | None = None, where: str | None = None, **options: Any) -> Fault:
        """Switch a fault on; raise ``KeyError`` if its name is unknown."""
        if name not in FAULTS:
            raise KeyError(f"there is no fault {name!r}; known are {', '.join(sorted(FAULTS))}")
        everywhere = (
            "" if name in {"token_dead", "unreachable", "usage_headers", "batch_null"} else "messages"
        )
        fault = Fault(name, times, everywhere if where is None else where, options)
        with self._lock:
            self._on[name] = fault
        return fault

    def off(self, name: str) -> None:
        """Switch a fault off, if it is on."""
        with self._lock:
            self._on.pop(name, None)

    def clear(self) -> None:
        """Switch all faults off."""
        with self._lock:
            self._on.clear()

    @contextmanager
    def active(self, name: str, **options: Any) -> Iterator[Fault]:
        """Switch a fault on for a ``with`` block."""
        fault = self.on(name, **options)
        try:
            yield fault
        finally:
            with self._lock:
                if self._on.get(name) is fault:
                    del self._on[name]

    def names(self) -> tuple[str, ...]:
        """Return the names of the faults that are on."""
        with self._lock:
            return tuple(self._on)

    def __contains__(self, name: object) -> bool:
        return name in self._on

    def strike(self, name: str, path: str = "") -> Fault | None:
        """Return the fault if it is on and strikes this path, and count the strike; otherwise None."""
        with self._lock:
            fault = self._on.get(name)
            if fault is None or (path and fault.where not in path):
                return None
            if fault.times is not None:
                if fault.times <= 0:
                    return None
                fault.times -= 1
                if fault.times == 0:
                    del self._on[name]
            return fault
