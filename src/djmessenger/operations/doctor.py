"""Finding of ``manage.py djmessenger doctor`` about one link of the chain from a person to a reply."""

from __future__ import annotations

from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"


class Finding(NamedTuple):
    """One line of the report: status, link, finding, and the cure if there is something to do."""

    status: str
    link: str
    what: str
    cure: str = ""


def span(seconds: float) -> str:
    """Return a number of seconds as a readable text: 3 days, 5 hours, 40 seconds."""
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"
