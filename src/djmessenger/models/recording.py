"""Context of the rule that runs: its name, the limits of its replies, and the replies that it queued."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from django.db import models

_rule: ContextVar[str] = ContextVar("djmessenger_rule", default="")
_rows: ContextVar[list[models.Model] | None] = ContextVar("djmessenger_rows", default=None)
_limit: ContextVar[Callable[[models.Model], None] | None] = ContextVar("djmessenger_limit", default=None)


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


@contextlib.contextmanager
def limiting(limit: Callable[[models.Model], None]) -> Iterator[None]:
    """Call ``limit`` with each reply that a rule queues in the block, before it is inserted."""
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def limit_reply(row: models.Model) -> None:
    """Apply the limits of the innermost ``limiting`` block to a reply of a rule. Does nothing outside of a rule."""
    limit = _limit.get()
    if limit is not None and _rows.get() is not None:
        limit(row)


def rule_that_runs() -> str:
    """Return the name of the rule of the innermost ``answering`` block, or the empty text outside of any."""
    return _rule.get()


def record_reply(row: models.Model) -> None:
    """Append a queued reply to the list of the innermost ``answering`` block. Does nothing outside of one."""
    rows = _rows.get()
    if rows is not None:
        rows.append(row)
