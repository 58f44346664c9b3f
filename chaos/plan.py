"""The plan of a pass: its load, its faults and the secrets that all parts share."""

from __future__ import annotations

from dataclasses import dataclass

TOKEN = "made-up-page-token"
SECRET = "0123456789abcdef0123456789abcdef"


@dataclass(kw_only=True)
class Plan:
    """What a pass is made of."""

    database: str = "sqlite"
    dispatcher: str = "worker"
    seed: int = 1
    conversations: int = 200
    seconds: float = 60.0
    """How long it storms at least; on it goes until each fault has struck."""
    share: float = 0.25
    """The part of the sends that Graph spoils."""
    receipts: bool = True
    """Whether each message is marked as delivered and read."""
    without: str = ""
    """A guard to take out, see ``chaos.sabotage``; the pass should fail then."""
    workers: int = 2
    lease: float = 3.0
    time_out: float = 0.8
    """Seconds that a call of Graph may take."""
    echo_wait: float = 6.0
    pause: float = 0.2
    """Seconds at most between two texts."""
    timed: bool = True
    """Whether the bounds of time are checked: a machine with other things to do may break them."""
