"""The simulator as an app: one line in ``INSTALLED_APPS``, one in ``urls.py``."""

from __future__ import annotations

import importlib

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SimulatorConfig(AppConfig):
    """Lets the bot of this process speak to the simulator's emulator."""

    name = "djmessenger.simulator"
    label = "djmessenger_simulator"
    verbose_name = _("Messenger simulator")

    def ready(self) -> None:
        # By name: these modules need the models, which are not there while this one is imported.
        importlib.import_module("djmessenger.simulator.checks")
        importlib.import_module("djmessenger.simulator.gate").install()
