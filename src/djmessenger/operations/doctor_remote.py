"""The links that only Meta, or somebody outside, can tell of: token, app, fields, callback, clock."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit, urlunsplit

import urllib3
from django.utils import timezone

from djmessenger import bot, graph, models
from djmessenger.exceptions import DJMException
from djmessenger.graph.results import TokenInfo
from djmessenger.operations.doctor import FAIL, OK, WARN, Finding, span
from djmessenger.operations.profile_apply import page_of
from djmessenger.operations.subscriptions import app_fields, subscribed_fields, wanted_fields
from djmessenger.settings import app_settings

INSTAGRAM = models.Page.Channel.INSTAGRAM
ON_MESSENGER = ("pages_messaging", "pages_manage_metadata")
ON_INSTAGRAM = ("instagram_manage_messages", "pages_manage_metadata")
"""Scopes without which nothing is sent, or nothing can be subscribed."""
GRANTED = frozenset({"live", "approved", "granted"})
"""Statuses of a permission that went through App Review."""
SKEW_WARN, SKEW_FAIL = 5.0, 60.0
"""Seconds by which this machine's clock may differ from Meta's."""
EXPIRES_SOON = datetime.timedelta(days=14)

Fetch = Callable[[str], tuple[int, str]]
"""Gets a page from outside: status and text. Raises ``OSError`` or an error of the HTTP client."""


class _Stop(Exception):
    """What follows cannot be asked."""


def fetch(url: str) -> tuple[int, str]:
    """Get a page: no redirect is followed, nothing is repeated, and ten seconds are enough."""
    answer = urllib3.request("GET", url, redirect=False, retries=False, timeout=10.0)
    return answer.status, answer.data[:1000].decode("utf-8", "replace")


@dataclass
class RemoteDoctor:
    """Examines one Page and its app. ``url`` is the address of the webhook, where Meta does not tell it."""

    page_id: str = ""
    url: str = ""
    fetch: Fetch = fetch
    now: Callable[[], datetime.datetime] = timezone.now

    def findings(self) -> Iterator[Finding]:
        """Examine what only Meta, or somebody outside, can tell."""
        try:
            page = page_of(self.page_id)
            client = bot.get_client(page)
        except DJMException as error:
            yield Finding(FAIL, "token", str(error), "Set it, then run this again.")
            return
        try:
            yield from self._token(client, page)
            yield from self._app(client, page)
        except _Stop:
            return
        finally:
            yield from self._clock(client)

    def _token(self, client: graph.Client, page: models.Page) -> Iterator[Finding]:
        """Ask who the token is."""
        is_linked = page.configured("channel") == INSTAGRAM and not page.has_instagram_login()
        names = "id,name,instagram_business_account" if is_linked else "id,name"
        names = "id,user_id,username" if page.has_instagram_login() else names
        try:
            me = client.execute(graph.Call("GET", "me", params={"fields": names}))
        except graph.TokenError as error:
            said = f"Meta refuses it: {error.code}/{error.subcode}, {error.message}"
            yield Finding(FAIL, "token", said, error.action)
            raise _Stop from error
        except graph.GraphError as error:
            yield Finding(FAIL, "graph", str(error), error.action)
            raise _Stop from error
        me = me if isinstance(me, Mapping) else {}
        account = me.get("instagram_business_account")
        ids = [me.get("id"), me.get("user_id"), account.get("id") if isinstance(account, Mapping) else None]
        known = [str(value) for value in ids if value]
        name = me.get("name") or me.get("username") or ""
        yield Finding(OK, "token", f"it is valid, and that of the Page {name} ({', '.join(known)})")
        if page.page_id and page.page_id not in known:
            yield Finding(
                FAIL, "page", f"the token is that of the Page {', '.join(known)}, and {page.page_id} is configured",
                "Generate a token for the right Page (App Dashboard, Messenger, API setup), or mend DJM_PAGE_ID.",
            )  # fmt: skip
        elif page.page_id:
            yield Finding(OK, "page", "the token's Page is the one that is configured")
        if client.served_version not in {"", client.version}:
            yield Finding(
                WARN, "version", f"{client.version} was asked for, and {client.served_version} answered",
                "Set DJM_GRAPH_VERSION; docs/graph-versions.md says how to move.",
            )  # fmt: skip

    def _app(self, client: graph.Client, page: models.Page) -> Iterator[Finding]:
        try:
            app = bot.get_app_client(page)
        except DJMException as error:
            yield Finding(WARN, "app", "scopes, mode and webhook of the app were not looked at", str(error))
            yield from self._fields(client, None, page)
            yield from self._callback("")
            return
        try:
            info = app.debug_token(client)
            yield Finding(OK, "secret", "DJM_APP_ID and DJM_APP_SECRET belong together")
        except graph.GraphError as error:
            wrong = isinstance(error, (graph.TokenError, graph.MessageRejected))
            yield Finding(
                FAIL, "secret", f"Meta does not take DJM_APP_ID with DJM_APP_SECRET: {error}" if wrong else str(error),
                "Copy both from the App Dashboard (App settings, Basic); a secret that was reset is another one."
                if wrong else error.action,
            )  # fmt: skip
            yield from self._fields(client, None, page)
            yield from self._callback("")
            return
        yield from self._scopes(info, page)
        yield from self._mode(app)
        yield from self._fields(client, app, page)
        yield from self._webhook(app, page)

    def _scopes(self, info: TokenInfo, page: models.Page) -> Iterator[Finding]:
        if not info.is_valid:
            yield Finding(
                FAIL,
                "token",
                f"Meta calls it invalid: {info.problem or 'no reason'}",
                graph.TokenError.action,
            )
        if info.app_id and info.app_id != page.get_app_id():
            yield Finding(
                FAIL,
                "token",
                f"it was made for the app {info.app_id}",
                f"Generate one for the app {page.get_app_id()}.",
            )
        needed: tuple[str, ...] = ON_INSTAGRAM if page.configured("channel") == INSTAGRAM else ON_MESSENGER
        if app_settings.DJM_LOOK_UP_UNSURE:
            needed = (*needed, "pages_read_engagement")
        missing = [scope for scope in needed if scope not in info.scopes]
        if missing:
            yield Finding(
                FAIL, "scopes", f"the token lacks {', '.join(missing)}",
                "Connect the Page again in the App Dashboard and grant them; for people without a role they need App "
                "Review too.",
            )  # fmt: skip
        else:
            yield Finding(OK, "scopes", ", ".join(needed))
        for name, moment in (("token", info.expires_at), ("data access", info.data_access_expires_at)):
            if moment is not None and moment - self.now() < EXPIRES_SOON:
                yield Finding(
                    WARN, "token", f"the {name} ends on {moment:%Y-%m-%d}",
                    "Generate a token from a long-lived one of a person; such a token of a Page does not expire.",
                )  # fmt: skip

    def _mode(self, app: graph.Client) -> Iterator[Finding]:
        try:
            status = app.app_permissions().get("pages_messaging", "")
        except graph.GraphError as error:
            yield Finding(WARN, "mode", f"it could not be asked: {error}", error.action)
            return
        if status in GRANTED:
            yield Finding(OK, "mode", f"pages_messaging went through App Review ({status})")
        else:
            yield Finding(
                WARN, "mode", "the app is in development, or has Standard Access: only people with a role on the app "
                "(administrators, developers, testers) get answers",
                "Write from such an account until the review is done; docs/app-review.md says what to hand in.",
            )  # fmt: skip

    def _fields(self, client: graph.Client, app: graph.Client | None, page: models.Page) -> Iterator[Finding]:
        try:
            wanted = wanted_fields(page)
        except Exception as error:  # noqa: BLE001 - whatever a policy of the project raises
            yield Finding(
                FAIL, "fields", f"the policy cannot be built: {type(error).__name__}", "Run manage.py check."
            )
            return
        cure = "Run manage.py djmessenger subscribe."
        try:
            present = subscribed_fields(client, page.get_app_id())
            if not present:
                yield Finding(FAIL, "fields", "the Page is not subscribed, so nothing comes", cure)
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
                f"the app lacks {', '.join(missing)}" if missing else "the app has them too",
                "Tick them in the App Dashboard (Messenger, Webhooks): both levels have to agree."
                if missing
                else "",
            )

    def _webhook(self, app: graph.Client, page: models.Page) -> Iterator[Finding]:
        wanted = "instagram" if page.configured("channel") == INSTAGRAM else "page"
        try:
            found = next((item for item in app.app_subscriptions() if item.object == wanted), None)
        except graph.GraphError as error:
            yield Finding(WARN, "webhook", f"it could not be asked: {error}", error.action)
            return
        if found is None:
            yield Finding(
                FAIL, "webhook", "the app has no webhook, so nothing comes",
                "Enter address and verify token in the App Dashboard (Messenger, Webhooks).",
            )  # fmt: skip
        elif found.active is False:
            yield Finding(FAIL, "webhook", "Meta switched it off", "Save it again in the App Dashboard.")
        elif urlsplit(found.callback_url).path.strip("/") != app_settings.DJM_ENDPOINT.strip("/"):
            yield Finding(
                WARN, "webhook", f"Meta posts to {found.callback_url}, and DJM_ENDPOINT is {app_settings.DJM_ENDPOINT}",
                "Fine where urls.py includes djmessenger below a prefix; else enter the right address.",
            )  # fmt: skip
        yield from self._callback(found.callback_url if found is not None else "")

    def _callback(self, url: str) -> Iterator[Finding]:
        url = self.url or url
        if not url:
            yield Finding(
                WARN, "callback", "its address is not known, so it was not called",
                "Give it: manage.py djmessenger doctor --url https://your.site/...",
            )  # fmt: skip
            return
        parts = urlsplit(url)
        if parts.scheme != "https":
            yield Finding(FAIL, "callback", f"{url} is not https", "Meta posts to https alone.")
        challenge = str(secrets.randbelow(9 * 10**9) + 10**9)
        query = {
            "hub.mode": "subscribe",
            "hub.challenge": challenge,
            "hub.verify_token": app_settings.DJM_ENDPOINT_VERIFY_TOKEN,
        }
        shown = urlunsplit(parts._replace(query=""))
        try:
            status, text = self.fetch(urlunsplit(parts._replace(query=urlencode(query))))
        except (OSError, urllib3.exceptions.HTTPError) as error:
            yield Finding(
                FAIL, "callback", f"{shown} cannot be reached: {type(error).__name__}",
                "Check address, certificate and firewall; Meta has to reach it from outside.",
            )  # fmt: skip
            return
        if status == 200 and text == challenge:
            yield Finding(OK, "callback", f"{shown} answers the challenge")
        elif status == 403:
            yield Finding(
                FAIL, "callback", f"{shown} refuses the verify token",
                "The process that answers there has another DJM_ENDPOINT_VERIFY_TOKEN: restart it, or mend that.",
            )  # fmt: skip
        else:
            yield Finding(
                FAIL, "callback", f"{shown} answers {status}, and not with the challenge",
                "Include djmessenger.urls at that address; nothing in front may log in, redirect or cache.",
            )  # fmt: skip

    def _clock(self, client: graph.Client) -> Iterator[Finding]:
        skew = client.clock_skew
        if skew is None:
            return
        off = abs(skew)
        status = FAIL if off > SKEW_FAIL else WARN if off > SKEW_WARN else OK
        direction = "ahead of" if skew > 0 else "behind"
        what = "agrees with Meta's" if status == OK else f"is {span(off)} {direction} Meta's"
        cure = "Let the machine keep time by NTP: windows, echoes and expiries are reckoned by its clock."
        yield Finding(status, "clock", f"this machine's {what}", "" if status == OK else cure)
