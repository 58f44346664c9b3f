"""The simulator as an app: one line in ``INSTALLED_APPS``, one in ``urls.py``."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SimulatorConfig(AppConfig):
    """Lets the bot of this process speak to the simulator's emulator."""

    name = "djmessenger.simulator"
    label = "djmessenger_simulator"
    verbose_name = _("Messenger simulator")

    def ready(self) -> None:
        # Models are loaded here; at the import of this module they are not.
        import djmessenger.simulator.checks  # noqa: F401, PLC0415
        from djmessenger.simulator.transport import install  # noqa: PLC0415

        install()
