"""System check of the simulator."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Warning  # noqa: A004

from djmessenger.checks import DOCS
from djmessenger.settings import app_settings


@checks.register(checks.Tags.security, "djmessenger")
def check_simulator(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Warn if the simulator is on while DEBUG is off, because it is made for development."""
    messages: list[CheckMessage] = []
    if app_settings.DJM_SIMULATOR is True and not settings.DEBUG:
        messages.append(
            Warning(
                "DJM_SIMULATOR is on while DEBUG is off: every member of staff can write to the bot as a made-up "
                "person, and the rows of these conversations are stored among those of customers.",
                hint=(
                    "Remove the setting when your trial is over. Until then the simulator posts callbacks only to "
                    f"DJM_SIMULATOR_CALLBACK. See {DOCS}simulator.md"
                ),
                id="djmessenger.W050",
            )
        )
    return messages
