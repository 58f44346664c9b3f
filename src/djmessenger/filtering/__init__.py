"""Filters decide whether a messaging goes on to the handlers and repliers of a rule."""

from __future__ import annotations

from djmessenger.filtering.base import (
    AllFilter,
    AnyFilter,
    BaseFilter,
    FunctionFilter,
    NotFilter,
    Verdict,
    as_filter,
    literal_key,
    literal_keys,
)

__all__ = [
    "AllFilter",
    "AnyFilter",
    "BaseFilter",
    "FunctionFilter",
    "NotFilter",
    "Verdict",
    "as_filter",
    "literal_key",
    "literal_keys",
]
