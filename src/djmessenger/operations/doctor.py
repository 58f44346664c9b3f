"""What ``manage.py djmessenger doctor`` says of one link of the chain from a person to an answer."""

from __future__ import annotations

from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"


class Finding(NamedTuple):
    """One line of the report."""

    status: str
    link: str
    what: str
    cure: str = ""


def span(seconds: float) -> str:
    """Say how long a time is."""
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"
