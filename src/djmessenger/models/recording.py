"""Context of the rule that runs: its name, and the replies that it queued."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from django.db import models

_rule: ContextVar[str] = ContextVar("djmessenger_rule", default="")
_rows: ContextVar[list[models.Model] | None] = ContextVar("djmessenger_rows", default=None)


@contextlib.contextmanager
def answering(rule: str) -> Iterator[list[models.Model]]:
    """Set the name of the rule for all replies queued in the block, and yield the list of these replies.

    ``record_reply`` appends to the list.
    """
    rows: list[models.Model] = []
    tokens = _rule.set(rule), _rows.set(rows)
    try:
        yield rows
    finally:
        _rule.reset(tokens[0])
        _rows.reset(tokens[1])


def rule_that_runs() -> str:
    """Return the name of the rule of the innermost ``answering`` block, or the empty text outside of any."""
    return _rule.get()


def record_reply(row: models.Model) -> None:
    """Append a queued reply to the list of the innermost ``answering`` block. Does nothing outside of one."""
    rows = _rows.get()
    if rows is not None:
        rows.append(row)
