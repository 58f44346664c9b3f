"""What belongs to one Page: its entry in ``DJM_PAGES``, then its row, then the settings of the one Page."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings

from djmessenger import models
from djmessenger.bot.tokens import decrypt
from djmessenger.exceptions import DJMInvalidConfigException, DJMInvalidValueException
from djmessenger.graph.wire import Secret
from djmessenger.settings import app_settings


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """All that a Graph client of a Page is made of; one client serves as long as none of it changes."""

    page_id: str
    """The id in the path of calls, or ``me`` where the token says which Page."""
    token: Secret
    app_secret: Secret
    base_url: str
    version: str
    logged_as: int | None = None
    """Key of the Page's row where its calls are logged."""


def app_secrets() -> dict[str, str]:
    """Give the app secrets that may sign a callback, by app id; the id is a running number where none is set.

    In DEBUG without a secret it is one made of ``SECRET_KEY``: the simulator signs with it, strangers cannot.
    """
    configured = app_settings.DJM_APP_SECRET
    if isinstance(configured, Mapping):
        found = {str(app_id): secret for app_id, secret in configured.items()}
    elif isinstance(configured, (list, tuple)):
        found = {f"#{number}": secret for number, secret in enumerate(configured, 1)}
    else:
        found = {app_settings.DJM_APP_ID: configured}
    found = {app_id: secret for app_id, secret in found.items() if secret}
    if not found and settings.DEBUG:
        return {app_settings.DJM_APP_ID: _made_up("app secret")}
    return found


def page_access_token() -> str:
    """Give the token of the one Page of the settings; in DEBUG without one, a made-up one for the emulator."""
    token = app_settings.DJM_PAGE_ACCESS_TOKEN
    if token or not settings.DEBUG:
        return token
    return _made_up("page access token")


def _made_up(purpose: str) -> str:
    key = settings.SECRET_KEY.encode()
    return hmac.new(key, f"djmessenger {purpose}".encode(), hashlib.sha256).hexdigest()[:32]


def default_page() -> models.Page:
    """Give the Page that is meant where none is named: its row, or one made of the settings.

    It is that of ``DJM_PAGE_ID``, else the only one of ``DJM_PAGES``, else whichever Page the token is of.
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
    """Give the row of a Page; one that is not kept in the database yet is made of the settings, and not saved."""
    row = models.Page.objects.filter(page_id=page_id).first()
    return row or models.Page(page_id=page_id, **_channel_of(page_id))


def all_pages() -> list[models.Page]:
    """Give every Page that is set up to speak, by id: rows with a token, entries of ``DJM_PAGES``, the default one."""
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
    """Tell whether the settings of the one Page are this Page's.

    Without ``DJM_PAGE_ID`` they serve any Page that has nothing of its own, unless ``DJM_PAGES`` names some: then
    a guess could speak with the wrong token.
    """
    if app_settings.DJM_PAGE_ID:
        return page.page_id in {"", app_settings.DJM_PAGE_ID}
    return not page.page_id or not app_settings.DJM_PAGES


def token_of(page: models.Page) -> Secret:
    """Give the token of a Page; ``DJMInvalidConfigException`` says what to do where there is none."""
    if app_settings.page_setting(page.page_id, "token"):
        return _secret(page, app_settings.page_setting(page.page_id, "token"))
    if page.token_ciphertext:
        return decrypt(page.page_id, page.token_ciphertext)
    if is_default(page) and page_access_token():
        return _secret(page, page_access_token())
    if is_default(page) and not page.page_id:
        raise DJMInvalidConfigException(
            "DJM_PAGE_ACCESS_TOKEN is empty: copy the Page's token from the App Dashboard "
            "(Messenger, API setup) into the environment of this process."
        )
    raise DJMInvalidConfigException(
        f"Page {page.page_id} has no token: give it one in the admin or in DJM_PAGES, or set DJM_PAGE_ID to its id "
        "where DJM_PAGE_ACCESS_TOKEN is its token."
    )


def client_config_for(page: models.Page) -> ClientConfig:
    """Gather what a client for this Page is made of."""
    return ClientConfig(
        page_id=_page_id_in_calls(page),
        token=token_of(page),
        app_secret=_app_secret_of(page),
        base_url=_host_of(page),
        version=page.configured("version") or app_settings.DJM_GRAPH_VERSION,
        logged_as=page.pk if page.is_logged or app_settings.page_setting(page.page_id, "log") else None,
    )


def _app_secret_of(page: models.Page) -> Secret:
    app_id = page.get_app_id()
    # The app of an Instagram Login has a secret of its own: a proof made with another's is refused.
    if page.has_instagram_login() and not app_id:
        return Secret()
    return Secret(app_secrets().get(app_id, ""))


def _page_id_in_calls(page: models.Page) -> str:
    # An Instagram account behind a Facebook Page has callbacks under its own id, and is spoken for by the Page.
    if page.configured("channel") == models.Page.Channel.INSTAGRAM and not page.has_instagram_login():
        return "me"
    return page.page_id or "me"


def _host_of(page: models.Page) -> str:
    """Give Graph's address; an emulator set with ``DJM_GRAPH_URL`` alone stands for all hosts."""
    own = app_settings.is_set("DJM_INSTAGRAM_GRAPH_URL") or not app_settings.is_set("DJM_GRAPH_URL")
    return (
        app_settings.DJM_INSTAGRAM_GRAPH_URL
        if page.has_instagram_login() and own
        else app_settings.DJM_GRAPH_URL
    )


def _secret(page: models.Page, value: object) -> Secret:
    """Wrap a token of the settings; what is wrong with it is said without it."""
    if not isinstance(value, str):
        value = "***"
        raise DJMInvalidConfigException(
            f"The token of Page {page.page_id or 'DJM_PAGE_ACCESS_TOKEN'} is no text"
        )
    try:
        return Secret(value)
    except DJMInvalidValueException as error:
        value, problem = "***", str(error)
    raise DJMInvalidConfigException(f"Page {page.page_id or 'of the settings'}: {problem}")
