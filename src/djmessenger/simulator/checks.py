"""What ``manage.py check`` says about the simulator."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Warning  # noqa: A004

from djmessenger.checks import DOCS
from djmessenger.settings import app_settings


@checks.register(checks.Tags.security, "djmessenger")
def check_simulator(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """The simulator is for development; on a live site somebody meant it."""
    found: list[CheckMessage] = []
    if app_settings.DJM_SIMULATOR is True and not settings.DEBUG:
        found.append(
            Warning(
                "DJM_SIMULATOR is on while DEBUG is off: every member of staff can write to the bot as a made-up "
                "person, and the rows stand among those of customers.",
                hint=f"Remove the setting when you have tried what you wanted to try. See {DOCS}simulator.md",
                id="djmessenger.W050",
            )
        )
    return found
