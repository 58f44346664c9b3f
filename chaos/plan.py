"""Plan of a pass: its load, its faults and the shared secrets."""

from __future__ import annotations

from dataclasses import dataclass

TOKEN = "made-up-page-token"
SECRET = "0123456789abcdef0123456789abcdef"


@dataclass(kw_only=True)
class Plan:
    """Options of a pass."""

    database: str = "sqlite"
    dispatcher: str = "worker"
    seed: int = 1
    conversations: int = 200
    seconds: float = 60.0
    """Minimum seconds of faults; they continue until each fault has struck."""
    share: float = 0.25
    """Share of the sends that a fault strikes."""
    receipts: bool = True
    """True if the emulator sends delivery and read receipts."""
    without: str = ""
    """Guard to remove, see ``chaos.sabotage``; the pass should fail without it."""
    workers: int = 2
    lease: float = 3.0
    time_out: float = 0.8
    """Timeout of a Graph call in seconds."""
    echo_wait: float = 6.0
    pause: float = 0.2
    """Maximum seconds between two texts."""
    timed: bool = True
    """True if the bounds of time are checked. A busy machine can break them without a fault of the bot."""

    @property
    def intakes(self) -> tuple[bool, ...]:
        """True for each web process, in turn, with ``intake_app`` in front: none, all or every second one."""
        return [(False,), (True,), (True, False)][self.seed % 3]
