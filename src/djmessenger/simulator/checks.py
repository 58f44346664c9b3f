"""What ``manage.py check`` says about the simulator."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage, Warning  # noqa: A004

from djmessenger import settings
from djmessenger.checks import DOCS


@checks.register(checks.Tags.security, "djmessenger")
def check_simulator(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """The simulator is for development; on a live site somebody meant it."""
    found: list[CheckMessage] = []
    if settings.DJM_SIMULATOR and not django_settings.DEBUG:
        found.append(
            Warning(
                "DJM_SIMULATOR is on while DEBUG is off: every member of staff can write to the bot as a made-up "
                "person, and the rows stand among those of customers.",
                hint=f"Remove the setting when you have tried what you wanted to try. See {DOCS}simulator.md",
                id="djmessenger.W050",
            )
        )
    default = settings.SETTINGS["DJM_GRAPH_URL"].default
    enabled = django_settings.DEBUG or settings.DJM_SIMULATOR
    if enabled and settings.DJM_DISPATCHER == "worker" and default == settings.DJM_GRAPH_URL:
        found.append(
            Warning(
                "The simulator is installed and DJM_DISPATCHER is 'worker', so answers are sent by another process, "
                "which does not know the simulated persons.",
                hint="Set DJM_GRAPH_URL to the simulator's address with graph behind it, such as "
                f"http://127.0.0.1:8000/simulator/graph. See {DOCS}simulator.md",
                id="djmessenger.W051",
            )
        )
    return found
