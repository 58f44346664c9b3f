"""Configuration of the Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class DjmessengerConfig(AppConfig):
    """App configuration that connects the parts after all apps are loaded, and loads every ``messenger.py``."""

    name = "djmessenger"
    label = "djmessenger"
    verbose_name = _("Messenger")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # These modules import models, which are not loaded yet when Django imports this file.
        import djmessenger.database_checks  # noqa: PLC0415
        import djmessenger.page_checks  # noqa: PLC0415
        import djmessenger.secret_checks  # noqa: F401, PLC0415
        from djmessenger.bot import install  # noqa: PLC0415
        from djmessenger.operations.profile_apply import auto_configure  # noqa: PLC0415
        from djmessenger.pipeline.connections import begin_as_writer  # noqa: PLC0415

        install()
        connection_created.connect(begin_as_writer, dispatch_uid="djmessenger.sqlite")
        post_migrate.connect(auto_configure, sender=self, dispatch_uid="djmessenger.auto_configure")
