"""Pages of the kit: those of the project, with made-up tokens and app secrets instead of the real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from djmessenger import models
from djmessenger.bot.pages import client_config_for, is_default
from djmessenger.channels import INSTAGRAM, MESSENGER
from djmessenger.settings import app_settings
from djmessenger.settings.declared import value_as_set
from messenger_emulator import Emulator, Page

PAGE_ID = "104233987650012"
APP_ID = "883041772661055"
TOKEN = "made-up-token-of-the-page"  # noqa: S105 - taken by the emulator alone
SECRET = "made-up-secret-of-the-app"  # noqa: S105 - likewise

SETTINGS: dict[str, Any] = {
    "DJM_DISPATCHER": "djmessenger.testing.driver.WaitingDispatcher",
    # The persons of a test answer at once.
    "DJM_FAST_EXCHANGES": 0,
    "DJM_PAGE_ACCESS_TOKEN": TOKEN,
    "DJM_TRIES": 1,
}
"""Settings that the kit overrides during a test, beside those of ``made_up``."""


def made_up() -> dict[str, Any]:
    """Return the settings that the kit overrides. Apps and Pages keep their ids and get made-up secrets and tokens."""
    pages = {
        str(page_id): {**entry, "token": f"{TOKEN}-{page_id}"}
        for page_id, entry in app_settings.DJM_PAGES.items()
    }
    return {
        **SETTINGS,
        "DJM_APP_SECRET": {app_id: secret_of(app_id) for app_id in _app_ids()} or SECRET,
        **({"DJM_PAGES": pages} if pages else {}),
    }


def secret_of(app_id: str) -> str:
    return f"{SECRET}-{app_id}"


def _app_ids() -> list[str]:
    """Return the app ids of ``DJM_APP_SECRET``, also of those without a secret, as in an environment of tests."""
    configured = value_as_set("DJM_APP_SECRET")
    return [*map(str, configured)] if isinstance(configured, Mapping) else []


def main_page_id() -> str:
    """Return the id of the Page that ``messenger.page`` stands for."""
    return app_settings.DJM_PAGE_ID or next(iter(app_settings.DJM_PAGES), PAGE_ID)


def add_page(
    emulator: Emulator,
    override: Callable[[str, Any], None],
    page_id: str,
    *,
    name: str,
    channel: str,
    login: str,
    **options: Any,
) -> Page:
    """Add a Page to the emulator, and to ``DJM_PAGES`` if the bot has no token for it otherwise.

    ``page_id`` is the id in callbacks. Channel and login default to those in ``DJM_PAGES``. ``override`` sets a setting
    until the end of the test.
    """
    channel = channel or app_settings.page_setting(page_id, "channel") or MESSENGER
    login = login or app_settings.page_setting(page_id, "login")
    row = models.Page(page_id=page_id, channel=channel, login=login)
    known = app_settings.DJM_PAGES
    if page_id not in known and (channel == INSTAGRAM or not is_default(row)):
        # With DJM_PAGES, DJM_PAGE_ACCESS_TOKEN is no longer the token of each Page, so all Pages are named.
        others = {page.account_id: {"token": page.token} for page in emulator.pages.values()}
        entry = {"token": f"{TOKEN}-{page_id}", "channel": channel, **({"login": login} if login else {})}
        override("DJM_PAGES", {**others, **known, page_id: entry})
    app_id = row.get_app_id()
    app_ids = _app_ids()
    signer = app_id if app_id in app_ids else next(iter(app_ids), "")
    page = emulator.add_page(
        # Graph knows an Instagram account by another id than callbacks: by that of the Facebook Page, or by `id`.
        f"1{page_id}" if channel == INSTAGRAM else page_id,
        f"{TOKEN}-{page_id}",
        app_id=app_id or APP_ID,
        app_secret=secret_of(signer) if app_ids else SECRET,
        name=name or f"Page {page_id}",
        channel=channel,
        login="instagram" if row.has_instagram_login() else "facebook",
        account_id=page_id,
        require_proof=bool(client_config_for(row).app_secret),
        **options,
    )
    # The bot has one token for all Pages that it does not name; the emulator finds the Page by the id in the call.
    # Nothing renews a token of the settings, and a test may travel further than the token lives.
    page.token_made = None
    page.token = app_settings.page_value(page_id, "token") or TOKEN
    return page
