"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DjmessengerConfig(AppConfig):
    """Loads every ``messenger.py`` at start and wires the road to the outbox."""

    name = "djmessenger"
    label = "djmessenger"
    verbose_name = _("Messenger")
    default_auto_field = "django.db.models.BigAutoField"
