"""Settings for the plugin of django-stubs."""

from __future__ import annotations

SECRET_KEY = "made-up"
DEBUG = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "djmessenger", "typed_bot"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DJM_ENDPOINT = "messenger"
