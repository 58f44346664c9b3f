"""Places where a test may kill the process; nothing happens in any other run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

_ARMED = os.environ.get("DJM_FAILPOINT", "")
_HITS = os.environ.get("DJM_FAILPOINT_HITS", "")


def failpoint(name: str) -> None:
    """Kill this process without a chance to tidy up, once, when the environment arms this name.

    ``DJM_FAILPOINT`` names the point; ``DJM_FAILPOINT_HITS`` is a folder in which the one that kills leaves a file
    of that name, which keeps the next process alive.
    """
    if name != _ARMED:
        return
    try:
        with (Path(_HITS) / name).open("x"):
            os.kill(os.getpid(), signal.SIGKILL)
    except FileExistsError:
        return
