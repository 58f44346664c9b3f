"""Settings of one Page: its entry in ``DJM_PAGES``, otherwise its row, otherwise the settings of the default Page."""

from __future__ import annotations

import hashlib
import hmac
import operator
from dataclasses import dataclass
from typing import NamedTuple

from django.conf import settings

from djmessenger import models
from djmessenger.bot.tokens import decrypt
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.secret import Secret
from djmessenger.settings import app_settings


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """Values from which the Graph client of a Page is made. Equal values share one client."""

    page_id: str
    """Id in the path of calls, or ``me`` if the token decides the Page."""
    channel: str
    token: Secret
    app_secret: Secret
    base_url: str
    version: str
    logged_as: int | None = None
    """Primary key of the Page's row if its calls are logged, otherwise None."""


class ClientColumns(NamedTuple):
    """The columns of a Page's row on which its client depends. Equal columns and settings have one client."""

    id: int | None
    page_id: str
    channel: str
    login: str
    app_id: str
    version: str
    token_ciphertext: str
    is_logged: bool


_read_columns = operator.attrgetter(*ClientColumns._fields)


def client_columns(page: models.Page) -> ClientColumns:
    return ClientColumns._make(_read_columns(page))


def page_of(columns: ClientColumns) -> models.Page:
    """Return an unsaved Page with these columns, for ``client_config_for``."""
    return models.Page(**columns._asdict())


def app_secrets() -> dict[str, Secret]:
    """Return the app secrets that may sign a callback, by app id. A secret without an app id gets ``#1``, ``#2``.

    In DEBUG without a secret, one derived from ``SECRET_KEY`` is returned. The simulator signs with it. Raises
    ``DJMInvalidConfigException`` if ``DJM_APP_SECRET`` has a value that cannot be a secret.
    """
    found = configured_app_secrets()
    if not found and settings.DEBUG:
        return {app_settings.DJM_APP_ID: _made_up("app secret")}
    return found


def configured_app_secrets() -> dict[str, Secret]:
    """Return the app secrets of the settings, as ``app_secrets`` does, without a made-up one."""
    # The name of a single secret is empty.
    return {name or app_settings.DJM_APP_ID: secret for name, secret in app_settings.DJM_APP_SECRET.items()}


def page_access_token() -> Secret:
    """Return ``DJM_PAGE_ACCESS_TOKEN``. In DEBUG, if it is empty, return a made-up token for the emulator."""
    token = app_settings.DJM_PAGE_ACCESS_TOKEN
    if token or not settings.DEBUG:
        return token
    return _made_up("page access token")


def _made_up(purpose: str) -> Secret:
    purpose = f"djmessenger {purpose}"
    return Secret(hmac.new(settings.SECRET_KEY.encode(), purpose.encode(), hashlib.sha256).hexdigest()[:32])


def default_page() -> models.Page:
    """Return the Page that is used if none is named: its row, or an unsaved one made from the settings.

    It is the Page of ``DJM_PAGE_ID``, otherwise the only one of ``DJM_PAGES``, otherwise the Page of the token. Raises
    ``DJMInvalidConfigException`` if ``DJM_PAGES`` has several and nothing chooses one.
    """
    page_id = app_settings.DJM_PAGE_ID
    if not page_id and len(app_settings.DJM_PAGES) == 1 and not app_settings.DJM_PAGE_ACCESS_TOKEN:
        page_id = next(iter(app_settings.DJM_PAGES))
    if not page_id:
        if app_settings.DJM_PAGES and not app_settings.DJM_PAGE_ACCESS_TOKEN:
            raise DJMInvalidConfigException(
                f"Which Page? DJM_PAGES names {len(app_settings.DJM_PAGES)}; set DJM_PAGE_ID to the usual one, or name "
                "one (bot.get_client(page), or --page of a command)."
            )
        return models.Page()
    return find_page(page_id)


def find_page(page_id: str) -> models.Page:
    """Return the row of a Page, or an unsaved one made from the settings if the database has none."""
    row = models.Page.objects.filter(page_id=page_id).first()
    return row or models.Page(page_id=page_id, **_channel_of(page_id))


def all_pages() -> list[models.Page]:
    """Return all Pages that have a token, sorted by id: rows, entries of ``DJM_PAGES`` and the default Page."""
    found = {page.page_id: page for page in models.Page.objects.all()}
    for page_id in [*app_settings.DJM_PAGES, app_settings.DJM_PAGE_ID]:
        if page_id and page_id not in found:
            found[page_id] = models.Page(page_id=page_id, **_channel_of(page_id))
    return [page for _id, page in sorted(found.items()) if _has_token(page)]


def _channel_of(page_id: str) -> dict[str, str]:
    channel = app_settings.page_setting(page_id, "channel")
    return {"channel": channel} if channel else {}


def _has_token(page: models.Page) -> bool:
    return bool(
        app_settings.page_setting(page.page_id, "token")
        or page.token_ciphertext
        or (is_default(page) and page_access_token())
    )


def is_default(page: models.Page) -> bool:
    """Return whether ``DJM_PAGE_ACCESS_TOKEN`` and the other settings of the default Page apply to this Page.

    Without ``DJM_PAGE_ID`` they apply to every Page, but only if ``DJM_PAGES`` is empty. Otherwise a guess could send
    with the token of another Page.
    """
    if app_settings.DJM_PAGE_ID:
        return page.page_id in {"", app_settings.DJM_PAGE_ID}
    return not page.page_id or not app_settings.DJM_PAGES


def token_of(page: models.Page) -> Secret:
    """Return the token of a Page.

    Raises ``DJMInvalidConfigException`` if it has none, and ``TokenKeyError`` if it cannot be decrypted.
    """
    if app_settings.page_setting(page.page_id, "token"):
        token: Secret = app_settings.page_setting(page.page_id, "token")
        return token
    if page.token_ciphertext:
        return decrypt(page.page_id, page.token_ciphertext)
    if is_default(page) and page_access_token():
        return page_access_token()
    if is_default(page) and not page.page_id:
        raise DJMInvalidConfigException(
            "DJM_PAGE_ACCESS_TOKEN is empty: copy the Page's token from the App Dashboard "
            "(Messenger, API setup) into the environment of this process."
        )
    raise DJMInvalidConfigException(
        f"Page {page.page_id} has no token: give it one in the admin or in DJM_PAGES, or set DJM_PAGE_ID to its id "
        "if DJM_PAGE_ACCESS_TOKEN is its token."
    )


def client_config_for(page: models.Page) -> ClientConfig:
    """Return the values for a client of this Page. Raises as ``token_of`` does."""
    return ClientConfig(
        page_id=_page_id_in_calls(page),
        channel=page.configured("channel"),
        token=token_of(page),
        app_secret=_app_secret_of(page),
        base_url=_host_of(page),
        version=page.configured("version") or app_settings.DJM_GRAPH_VERSION,
        logged_as=page.pk if page.is_logged or app_settings.page_setting(page.page_id, "log") else None,
    )


def _app_secret_of(page: models.Page) -> Secret:
    app_id = page.get_app_id()
    # With Instagram Login the app has a second secret. Meta refuses a proof made with the secret of another app.
    if page.has_instagram_login() and not app_id:
        return Secret()
    return app_secrets().get(app_id, Secret())


def _page_id_in_calls(page: models.Page) -> str:
    # Callbacks of an Instagram account behind a Facebook Page have the id of the account, but calls use the Page's
    # token, so `me` stands for the Page.
    if page.configured("channel") == models.Page.Channel.INSTAGRAM and not page.has_instagram_login():
        return "me"
    return page.page_id or "me"


def _host_of(page: models.Page) -> str:
    """Return the base address of Graph. If only ``DJM_GRAPH_URL`` is set, such as for an emulator, all Pages use it."""
    own = app_settings.is_set("DJM_INSTAGRAM_GRAPH_URL") or not app_settings.is_set("DJM_GRAPH_URL")
    return (
        app_settings.DJM_INSTAGRAM_GRAPH_URL
        if page.has_instagram_login() and own
        else app_settings.DJM_GRAPH_URL
    )
