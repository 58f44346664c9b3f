"""The Django app."""

from __future__ import annotations

import importlib

from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class DjmessengerConfig(AppConfig):
    """Wires the parts when all apps are there, and loads every ``messenger.py``."""

    name = "djmessenger"
    label = "djmessenger"
    verbose_name = _("Messenger")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # By name: these modules need the models, which are not there while this one is imported.
        importlib.import_module("djmessenger.checks")
        importlib.import_module("djmessenger.bot").install()
        begin_as_writer = importlib.import_module("djmessenger.pipeline.connections").begin_as_writer
        connection_created.connect(begin_as_writer, dispatch_uid="djmessenger.sqlite")
        auto_configure = importlib.import_module("djmessenger.operations.profile_apply").auto_configure
        post_migrate.connect(auto_configure, sender=self, dispatch_uid="djmessenger.auto_configure")
