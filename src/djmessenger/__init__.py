"""djmessenger: a Django app for Messenger and Instagram bots."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

VERSION = (2, 0, 0, "alpha", 0)

_STAGES = {"alpha": "a", "beta": "b", "rc": "rc"}


def get_version(version: tuple[int, int, int, str, int] | None = None) -> str:
    """Return a version tuple as PEP 440 text; without an argument, the version of this package."""
    major, minor, micro, stage, serial = version or VERSION
    main = f"{major}.{minor}.{micro}" if micro else f"{major}.{minor}"
    if stage == "final":
        return main
    if stage == "alpha" and not serial:
        return f"{main}.dev{get_git_changeset() or 0}"
    return f"{main}{_STAGES[stage]}{serial}"


def get_git_changeset() -> str | None:
    """Return the UTC time of the newest commit as ``YYYYMMDDHHMMSS``, or None outside a git checkout.

    The number orders development versions; two commits of one second have the same number.
    """
    command = ["git", "log", "-1", "--format=%ct", "HEAD"]
    try:
        answer = subprocess.run(  # noqa: S603 - git, with a fixed command line
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        )
        committed = datetime.datetime.fromtimestamp(int(answer.stdout), tz=datetime.UTC)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return committed.strftime("%Y%m%d%H%M%S")
