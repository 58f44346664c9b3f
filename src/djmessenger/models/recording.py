"""The rule that runs, and the replies that it queued."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from django.db import models

_rule: ContextVar[str] = ContextVar("djmessenger_rule", default="")
_rows: ContextVar[list[models.Model] | None] = ContextVar("djmessenger_rows", default=None)


@contextlib.contextmanager
def answering(rule: str) -> Iterator[list[models.Model]]:
    """Name the rule in every row that is queued inside; give the rows as they come."""
    rows: list[models.Model] = []
    tokens = _rule.set(rule), _rows.set(rows)
    try:
        yield rows
    finally:
        _rule.reset(tokens[0])
        _rows.reset(tokens[1])


def rule_that_runs() -> str:
    """Give the name of the rule in whose ``answering`` this is called, empty outside of any."""
    return _rule.get()


def note(row: models.Model) -> None:
    """Count a row in where the rows of a rule are listened to."""
    rows = _rows.get()
    if rows is not None:
        rows.append(row)
