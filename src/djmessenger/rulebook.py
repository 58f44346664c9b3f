"""Placeholder of the dated rulebook; the real table replaces it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_overrides: Callable[[], Mapping[str, Any]] = dict


def read_overrides_from(source: Callable[[], Mapping[str, Any]]) -> None:
    """Say where overrides of rows come from; ``djmessenger.settings`` names itself."""
    global _overrides  # noqa: PLW0603
    _overrides = source
