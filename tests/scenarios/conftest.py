"""Bots for the scenarios: the rules of the test's own module, the shop of the demo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.core.management import call_command

from djmessenger.demo import settings as demo
from djmessenger.routing import Policy
from djmessenger.rules.registry import policy_from_modules


@pytest.fixture
def own_rules(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the rules in the test's module the bot, as if it were the ``messenger.py`` of an app."""
    policy = policy_from_modules([request.module])
    monkeypatch.setattr(Policy, "load", lambda source: policy)


@pytest.fixture
def shop(transactional_db: None, settings: Any) -> Iterator[None]:
    """The shop of the demo as an app of the project, with its table, its languages and its menu."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "djmessenger.demo.apps.ShopConfig"]
    # Last, for Django reads the catalogues of the apps anew when these change.
    for name in ("DJM_THREAD_GREETINGS_TEXT", "DJM_THREAD_PERSISTENT_MENUS", "LANGUAGE_CODE", "LANGUAGES"):
        setattr(settings, name, getattr(demo, name))
    call_command("migrate", "shop", verbosity=0)
    yield
    call_command("migrate", "shop", "zero", verbosity=0)
    # The pages of the admin of later tests would look for the app of these models.
    for model in apps.get_app_config("shop").get_models():
        if admin.site.is_registered(model):
            admin.site.unregister(model)
