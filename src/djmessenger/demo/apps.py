"""Coffee shop as a Django app."""

from __future__ import annotations

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """App of the demo; a project of your own would call it ``shop``."""

    name = "djmessenger.demo"
    label = "shop"
    verbose_name = "Coffee shop (demo)"
    default_auto_field = "django.db.models.BigAutoField"
