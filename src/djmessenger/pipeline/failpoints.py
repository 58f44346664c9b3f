"""Places at which a test may kill the process; without the environment variables they have no effect."""

from __future__ import annotations

import os
import signal
from pathlib import Path

_ARMED = frozenset(filter(None, os.environ.get("DJM_FAILPOINT", "").split(",")))
_HITS = os.environ.get("DJM_FAILPOINT_HITS", "")


PLACES = {
    "intake_body_read": "K1",
    "intake_stored": "K2",
    "intake_splitting": "K3",
    "inbox_claimed": "K4",
    "inbox_in_handler": "K5",
    "inbox_before_commit": "K6",
    "inbox_before_release": "K7",
    "outbox_claimed": "K8",
    "outbox_attempt_committed": "K9",
    "outbox_request_written": "K10",
    "outbox_answer_read": "K11",
    "outbox_before_release": "K12",
    "outbox_resolving": "K13",
    "purge_between_chunks": "K14",
    "replay_between_rows": "K16",
}
"""Each place at which a test may kill a process, with its short name.

The code calls each place once: ``outbox_request_written`` in ``chaos/inside.py``, all others in the package.
"""


def failpoint(name: str) -> None:
    """Kill this process with ``SIGKILL`` if the environment names this place; each place kills once.

    ``DJM_FAILPOINT`` contains names, separated by commas. ``DJM_FAILPOINT_HITS`` is a folder. A file with the name of
    the place is created there before the kill, and keeps the next process alive.
    """
    if name not in _ARMED:
        return
    try:
        with (Path(_HITS) / name).open("x"):
            os.kill(os.getpid(), signal.SIGKILL)
    except FileExistsError:
        return
