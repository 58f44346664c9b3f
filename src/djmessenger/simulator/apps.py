"""Simulator as a Django app: one line in ``INSTALLED_APPS`` and one in ``urls.py``."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SimulatorConfig(AppConfig):
    """App that sends the Graph calls of this process to the emulator of the simulator."""

    name = "djmessenger.simulator"
    label = "djmessenger_simulator"
    verbose_name = _("Messenger simulator")

    def ready(self) -> None:
        # The imported modules use models, which are not loaded yet when Django imports this module.
        import djmessenger.simulator.checks  # noqa: F401, PLC0415
        from djmessenger.simulator.transport import install  # noqa: PLC0415

        install()
