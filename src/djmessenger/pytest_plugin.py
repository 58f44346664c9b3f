"""The pytest plugin: a fixture ``messenger``, found by itself where pytest-django is installed too."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest


@pytest.fixture
def messenger(db: None, settings: Any) -> Iterator[Any]:
    """Meta with one Page and its app, persons who write to it, and the bot of this project."""
    # By name: Django is not set up yet when pytest reads this file.
    with import_module("djmessenger.testing").Messenger(settings) as kit:
        yield kit
