"""Examination of the links that need the network: token, app, webhook fields, callback, clock."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit, urlunsplit

import urllib3
from django.utils import timezone

from djmessenger import bot, models
from djmessenger.bot import renewal
from djmessenger.channels import INSTAGRAM, channel_of
from djmessenger.clock import as_stored
from djmessenger.exceptions import DJMException
from djmessenger.graph.client import Client
from djmessenger.graph.errors import GraphError, MessageRejected, TokenError
from djmessenger.graph.results import TokenInfo
from djmessenger.graph.wire import Call
from djmessenger.models.pages import TOKEN_WARNING
from djmessenger.operations.doctor import FAIL, OK, WARN, Finding, span
from djmessenger.operations.profile_apply import page_of
from djmessenger.operations.subscriptions import app_fields, subscribed_fields, wanted_fields
from djmessenger.settings import app_settings

ON_MESSENGER = ("pages_messaging", "pages_manage_metadata")
ON_INSTAGRAM = ("instagram_manage_messages", "pages_manage_metadata")
ON_INSTAGRAM_LOGIN = ("instagram_business_basic", "instagram_business_manage_messages")
"""Scopes that are needed to send messages and to subscribe to webhook fields."""
GRANTED = frozenset({"live", "approved", "granted"})
"""Statuses of a permission that App Review granted."""
SKEW_WARN, SKEW_FAIL = 5.0, 60.0
"""Seconds of difference from Meta's clock that are worth a warning, and that are a failure."""
Fetch = Callable[[str], tuple[int, str]]
"""Function that gets a url and returns status and text. Raises ``OSError`` or an error of the HTTP client."""


class _Stop(Exception):
    """The token does not work, so the following links cannot be examined."""


def fetch(url: str) -> tuple[int, str]:
    """Get a url and return status and text. No redirect, no retry, a time limit of ten seconds."""
    answer = urllib3.request("GET", url, redirect=False, retries=False, timeout=10.0)
    return answer.status, answer.data[:1000].decode("utf-8", "replace")


@dataclass
class RemoteDoctor:
    """The examination of one Page and its app. ``url`` replaces the address of the webhook that Meta returns."""

    page_id: str = ""
    url: str = ""
    fetch: Fetch = fetch
    now: Callable[[], datetime.datetime] = timezone.now

    def findings(self) -> Iterator[Finding]:
        """Examine the links one after the other and yield the findings."""
        try:
            page = page_of(self.page_id)
            client = bot.get_client(page)
        except DJMException as error:
            yield Finding(FAIL, "token", str(error), "Set the token, then run the command again.")
            return
        try:
            yield from self._token(client, page)
            yield from self._app(client, page)
        except _Stop:
            return
        finally:
            yield from self._clock(client)

    def _token(self, client: Client, page: models.Page) -> Iterator[Finding]:
        """Read the Page of the token from Graph. Raises ``_Stop`` if Graph refuses."""
        is_linked = page.configured("channel") == INSTAGRAM and not page.has_instagram_login()
        names = "id,name,instagram_business_account" if is_linked else "id,name"
        names = "id,user_id,username" if page.has_instagram_login() else names
        try:
            me = client.execute(Call("GET", "me", params={"fields": names}))
        except TokenError as error:
            refusal = f"Meta refuses the token: {error.code}/{error.subcode}, {error.message}"
            yield Finding(FAIL, "token", refusal, error.action)
            raise _Stop from error
        except GraphError as error:
            yield Finding(FAIL, "graph", str(error), error.action)
            raise _Stop from error
        me = me if isinstance(me, Mapping) else {}
        yield from self._page_of_token(me, page)
        if page.has_instagram_login():
            yield from self._end_of_token(page)
        if client.served_version not in {"", client.version}:
            yield Finding(
                WARN, "version", f"Meta answered with {client.served_version} instead of {client.version}",
                "Set DJM_GRAPH_VERSION; docs/graph-versions.md describes the steps.",
            )  # fmt: skip

    @staticmethod
    def _page_of_token(me: Mapping[str, Any], page: models.Page) -> Iterator[Finding]:
        """Compare the configured Page with the one of the token. Callbacks have one of its ids only."""
        account = me.get("instagram_business_account")
        ids = {
            "id": me.get("id"),
            "user_id": me.get("user_id"),
            "instagram_business_account": account.get("id") if isinstance(account, Mapping) else None,
        }
        found = {key: str(value) for key, value in ids.items() if value}
        name = me.get("name") or me.get("username") or ""
        yield Finding(OK, "token", f"valid; it belongs to the Page {name} ({', '.join(found.values())})")
        # The last one is the id in callbacks: that of the Page, or of the Instagram account.
        key, right = list(found.items())[-1] if found else ("id", "")
        if not page.page_id:
            return
        if page.page_id == right:
            yield Finding(OK, "page", "the Page of the token is the configured Page")
        elif page.page_id in found.values():
            yield Finding(
                FAIL, "page", f"{page.page_id} is configured, but callbacks of this account have the id {right}",
                f"Name the account {right} in DJM_PAGES and DJM_PAGE_ID, and in the admin. Graph calls this id {key}.",
            )  # fmt: skip
        else:
            yield Finding(
                FAIL, "page",
                f"the token belongs to the Page {', '.join(found.values())}, but {page.page_id} is configured",
                "Generate a token for the right Page (App Dashboard, Messenger, API setup), or correct DJM_PAGE_ID.",
            )  # fmt: skip

    @staticmethod
    def _end_of_token(page: models.Page) -> Iterator[Finding]:
        if not renewal.is_renewable(page):
            yield Finding(
                WARN, "token", "it is in the settings, and Meta ends it 60 days after it was made",
                renewal.IN_SETTINGS.format(page_id=page.page_id),
            )  # fmt: skip
        elif page.is_token_ending():
            yield Finding(
                WARN, "token", f"the token ends on {page.date_token_expires:%Y-%m-%d}, and no renewal succeeded",
                "Run manage.py djmessenger tokens --refresh, which names the reason, or enter a new token.",
            )  # fmt: skip
        elif page.date_token_expires is not None:
            yield Finding(
                OK, "token", f"it is renewed in time, and ends on {page.date_token_expires:%Y-%m-%d}"
            )

    def _app(self, client: Client, page: models.Page) -> Iterator[Finding]:
        try:
            app = bot.get_app_client(page)
        except DJMException as error:
            yield Finding(WARN, "app", "scopes, mode and webhook of the app were not examined", str(error))
            yield from self._fields(client, None, page)
            yield from self._callback("")
            return
        try:
            info = app.debug_token(client)
            yield Finding(OK, "secret", "DJM_APP_ID and DJM_APP_SECRET belong together")
        except GraphError as error:
            wrong = isinstance(error, (TokenError, MessageRejected))
            if wrong and page.has_instagram_login():
                # The call for the account carried a proof, so the secret is right. Meta documents no such calls here.
                yield Finding(
                    WARN, "app", "Meta refuses calls for an app of Instagram Login: scopes, mode and webhook were not "
                    "examined", "Compare them in the App Dashboard (Instagram, API setup with Instagram login).",
                )  # fmt: skip
                yield from self._fields(client, None, page)
                yield from self._callback("")
                return
            yield Finding(
                FAIL, "secret",
                f"Meta refuses DJM_APP_ID with DJM_APP_SECRET: {error}" if wrong else str(error),
                "Copy both from the App Dashboard (App settings, Basic); a reset changes the secret."
                if wrong else error.action,
            )  # fmt: skip
            yield from self._fields(client, None, page)
            yield from self._callback("")
            return
        yield from self._scopes(info, page)
        yield from self._mode(app, page)
        yield from self._fields(client, app, page)
        yield from self._webhook(app, page)

    def _scopes(self, info: TokenInfo, page: models.Page) -> Iterator[Finding]:
        if not info.is_valid:
            yield Finding(
                FAIL,
                "token",
                f"invalid, Meta's reason: {info.problem or 'none'}",
                TokenError.action,
            )
        if info.app_id and info.app_id != page.get_app_id():
            yield Finding(
                FAIL,
                "token",
                f"it belongs to the app {info.app_id}",
                f"Generate a token for the app {page.get_app_id()}.",
            )
        needed = _needed_scopes(page)
        missing = [scope for scope in needed if scope not in info.scopes]
        if missing:
            yield Finding(
                FAIL, "scopes", f"the token lacks {', '.join(missing)}",
                "Connect the Page again in the App Dashboard and grant them. To answer people without a role on the "
                "app, App Review must grant them too.",
            )  # fmt: skip
        else:
            yield Finding(OK, "scopes", ", ".join(needed))
        ends = [("data access", info.data_access_expires_at)]
        if not page.has_instagram_login():
            ends.append(("token", info.expires_at))
        for name, moment in ends:
            if moment is not None and as_stored(moment) - self.now() < TOKEN_WARNING:
                yield Finding(
                    WARN, "token", f"the {name} ends on {moment:%Y-%m-%d}",
                    "Generate the Page token from a long-lived user token; such a Page token does not expire.",
                )  # fmt: skip

    def _mode(self, app: Client, page: models.Page) -> Iterator[Finding]:
        scope = next(name for name in _needed_scopes(page) if "messag" in name)
        try:
            status = app.app_permissions().get(scope, "")
        except GraphError as error:
            yield Finding(WARN, "mode", f"it could not be read: {error}", error.action)
            return
        if status in GRANTED:
            yield Finding(OK, "mode", f"App Review granted {scope} ({status})")
        else:
            yield Finding(
                WARN, "mode", "the app is in development, or has Standard Access: only people with a role on the app "
                "(administrators, developers, testers) get replies",
                "Write from such an account until App Review is done; docs/app-review.md describes the request.",
            )  # fmt: skip

    def _fields(self, client: Client, app: Client | None, page: models.Page) -> Iterator[Finding]:
        try:
            wanted = wanted_fields(page)
        except Exception as error:  # noqa: BLE001 - a policy of the project may raise anything
            yield Finding(
                FAIL, "fields", f"the policy cannot be built: {type(error).__name__}", "Run manage.py check."
            )
            return
        cure = "Run manage.py djmessenger subscribe."
        try:
            present = subscribed_fields(client, page.get_app_id())
            if not present:
                yield Finding(FAIL, "fields", "the Page is not subscribed, so no callback comes", cure)
            elif wanted - present:
                yield Finding(FAIL, "fields", f"the Page lacks {', '.join(sorted(wanted - present))}", cure)
            else:
                yield Finding(OK, "fields", f"the Page has the {len(wanted)} fields that the rules need")
            at_app = None if app is None else app_fields(app, page.configured("channel"))
        except DJMException as error:
            yield Finding(FAIL, "fields", str(error), getattr(error, "action", cure))
            return
        if app is not None and at_app is not None:
            missing = sorted(wanted - at_app)
            yield Finding(
                FAIL if missing else OK,
                "fields",
                f"the app lacks {', '.join(missing)}" if missing else "the app has these fields too",
                "Tick them in the App Dashboard (Messenger, Webhooks); Meta delivers only fields set at both levels."
                if missing
                else "",
            )

    def _webhook(self, app: Client, page: models.Page) -> Iterator[Finding]:
        object_name = channel_of(page.configured("channel")).object_name
        try:
            subscription = next(
                (item for item in app.app_subscriptions() if item.object == object_name), None
            )
        except GraphError as error:
            yield Finding(WARN, "webhook", f"it could not be read: {error}", error.action)
            return
        if subscription is None:
            yield Finding(
                FAIL, "webhook", "the app has no webhook, so no callback comes",
                "Enter address and verify token in the App Dashboard (Messenger, Webhooks).",
            )  # fmt: skip
        elif subscription.active is False:
            yield Finding(FAIL, "webhook", "Meta disabled the webhook", "Save it again in the App Dashboard.")
        elif urlsplit(subscription.callback_url).path.strip("/") != app_settings.DJM_ENDPOINT.strip("/"):
            yield Finding(
                WARN, "webhook",
                f"Meta posts to {subscription.callback_url}, but DJM_ENDPOINT is {app_settings.DJM_ENDPOINT}",
                "Correct if urls.py includes djmessenger below a prefix; otherwise enter the right address.",
            )  # fmt: skip
        yield from self._callback(subscription.callback_url if subscription is not None else "")

    def _callback(self, url: str) -> Iterator[Finding]:
        url = self.url or url
        if not url:
            yield Finding(
                WARN, "callback", "its address is unknown, so it was not called",
                "Run manage.py djmessenger doctor --url https://your.site/...",
            )  # fmt: skip
            return
        parts = urlsplit(url)
        if parts.scheme != "https":
            yield Finding(
                FAIL, "callback", f"{url} is not https", "Use an https address; Meta posts to no other."
            )
        challenge = str(secrets.randbelow(9 * 10**9) + 10**9)
        shown = urlunsplit(parts._replace(query=""))
        try:
            status, text = self.fetch(_verification(url, challenge))
        except (OSError, urllib3.exceptions.HTTPError) as error:
            yield Finding(
                FAIL, "callback", f"{shown} cannot be reached: {type(error).__name__}",
                "Check address, certificate and firewall; Meta must reach it over the internet.",
            )  # fmt: skip
            return
        if status == 200 and text == challenge:
            yield Finding(OK, "callback", f"{shown} answers the challenge")
        elif status == 403:
            yield Finding(
                FAIL, "callback", f"{shown} refuses the verify token",
                "The process at that address has another DJM_ENDPOINT_VERIFY_TOKEN: correct it, or restart it.",
            )  # fmt: skip
        else:
            yield Finding(
                FAIL, "callback", f"{shown} answers {status}, but not with the challenge",
                "Include djmessenger.urls at that address. A proxy before it must not log in, redirect or cache.",
            )  # fmt: skip

    def _clock(self, client: Client) -> Iterator[Finding]:
        skew = client.clock_skew
        if skew is None:
            return
        off = abs(skew)
        status = FAIL if off > SKEW_FAIL else WARN if off > SKEW_WARN else OK
        direction = "ahead of" if skew > 0 else "behind"
        what = "agrees with Meta's" if status == OK else f"is {span(off)} {direction} Meta's"
        cure = "Synchronise the clock by NTP: windows, echo waits and expiry times are computed from it."
        yield Finding(status, "clock", f"this machine's {what}", "" if status == OK else cure)


def _needed_scopes(page: models.Page) -> tuple[str, ...]:
    if page.has_instagram_login():
        return ON_INSTAGRAM_LOGIN
    needed = ON_INSTAGRAM if page.configured("channel") == INSTAGRAM else ON_MESSENGER
    return (*needed, "pages_read_engagement") if app_settings.DJM_LOOK_UP_UNSURE else needed


def _verification(url: str, challenge: str) -> str:
    """Return the address of a verification as Meta sends it. It contains the verify token."""
    query = {"hub.mode": "subscribe", "hub.challenge": challenge}
    token = app_settings.DJM_ENDPOINT_VERIFY_TOKEN
    return urlunsplit(
        urlsplit(url)._replace(query=f"{urlencode(query)}&hub.verify_token={quote_plus(token.reveal())}")
    )
