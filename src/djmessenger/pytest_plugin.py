"""The pytest plugin with the fixture ``messenger``; pytest loads it by its entry point.

The fixture needs pytest-django.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest


@pytest.fixture
def messenger(db: None, settings: Any) -> Iterator[Any]:
    """Start an emulated Meta with one Page, its app and people, connected to the bot of this project."""
    # Imported by name, because Django is not set up yet when pytest imports this file.
    with import_module("djmessenger.testing").Messenger(settings) as kit:
        yield kit
