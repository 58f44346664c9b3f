"""Every ``DJM_*`` setting, each declared once; types, checks and documentation follow from these lines. Internal.

The bounds refuse values with which the bot does not work. A comment gives the reason if the meaning does not.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.functional import Promise

from djmessenger.secret import TypedSecret
from djmessenger.settings.setting import (
    Form,
    SecretSetting,
    SecretsSetting,
    Setting,
    declared_in,
    type_name,
)
from djmessenger.utils.default_routing_policy import RUNNABLE_ROUTING_POLICY

DAY = 24 * 60 * 60
"""Upper bound of times in seconds: a longer one is a mistake of unit, such as milliseconds."""
CENTURY = timedelta(days=36_500)
"""The longest time that can be subtracted from the current time without leaving the calendar."""

ID = Form(r"[0-9]{1,32}", "digits alone")
TOKEN = Form(r"[!-~]*", "visible ASCII characters alone, without spaces and line breaks")
TYPED = Form(r"(?!\s)[^\x00-\x1f\x7f\ud800-\udfff]*(?<!\s)", "visible characters, without spaces at the ends")
"""Text that staff type into a field of Meta."""
ADDRESS = Form(
    r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[A-Za-z0-9._~%/-]*)?",
    "an address such as https://graph.facebook.com",
)
FIELD = Form(r"[a-z][a-z0-9_]*", "names of fields such as standby")


class _UpkeepSettings:
    """The settings of retention, health and patterns, a part of ``AppSettings``."""

    # Retention: manage.py djmessenger purge removes older rows.
    DJM_KEEP_BODIES: Setting[timedelta] = Setting(
        timedelta(days=7),
        "Time for which raw callbacks are kept after they are split into events.",
        minimum=timedelta(0),
        maximum=CENTURY,
    )
    DJM_KEEP_KEYS: Setting[timedelta] = Setting(
        timedelta(days=8),
        "Time for which the key of a handled event is kept, so that a second delivery has no effect. Keys are always "
        "kept for at least a day more than DJM_MAX_EVENT_AGE.",
        minimum=timedelta(0),
        maximum=CENTURY,
    )
    DJM_KEEP_TEXTS: Setting[timedelta | None] = Setting(
        timedelta(days=30),
        "Time for which handled events and finished replies are kept with their texts; None keeps them for ever. "
        "Events that SaveMessagingHandler keeps are not removed.",
        minimum=timedelta(0),
        maximum=CENTURY,
    )
    DJM_KEEP_ATTEMPTS: Setting[timedelta] = Setting(
        timedelta(days=30),
        "Time for which the attempts of finished replies are kept.",
        minimum=timedelta(0),
        maximum=CENTURY,
    )
    DJM_KEEP_FAILED: Setting[timedelta] = Setting(
        timedelta(days=90),
        "Time for which failed events, failed and parked replies and callbacks that were not understood are kept.",
        minimum=timedelta(0),
        maximum=CENTURY,
    )

    # Monitoring and patterns.
    DJM_HEALTH_TOKEN: SecretSetting[str] = SecretSetting(
        "",
        "Token that a monitor sends to read the health page. Without it only signed-in staff can read the page.",
        form=TOKEN,
    )
    DJM_HEALTH_MAX_WAIT: Setting[float] = Setting(
        60.0,
        "Seconds that the oldest event or reply may wait before the health page answers 503.",
        above=0,
        maximum=30 * DAY,
    )
    DJM_REGEX_ENGINE: Setting[str] = Setting(
        "regex",
        "Engine for patterns over texts of persons. re2 needs the package google-re2.",
        choices=("regex", "re2"),
    )
    DJM_REGEX_TIMEOUT: Setting[float] = Setting(
        0.05,
        "Seconds for one pattern on one text. A pattern that takes longer does not match. All patterns of one event "
        "have four times as long.",
        above=0,
        maximum=60,
    )


class AppSettings(_UpkeepSettings):
    """The settings of the project, with their defaults.

    Each setting is read from Django's settings once, and again after the signal ``setting_changed``, which
    ``override_settings`` and the test tools send. A type has to be written in full: ``typing.get_type_hints`` reads it,
    and the check derives from it.
    """

    # The least that a bot needs.
    DJM_ENDPOINT: Setting[str] = Setting(
        "",
        "Path at which Meta posts callbacks, without the leading slash. Required.",
        documented=True,
    )
    DJM_PAGE_ACCESS_TOKEN: SecretSetting[str] = SecretSetting(
        "",
        "Access token of the Page. Required outside DEBUG.",
        documented=True,
        form=TOKEN,
    )
    DJM_APP_SECRET: SecretsSetting[str | list[str] | tuple[str, ...] | dict[str, str]] = SecretsSetting(
        "",
        "Secret of the Meta app, several secrets of one app, or a dict of secrets by app id. It verifies callbacks "
        "and signs calls. Required outside DEBUG.",
        form=TOKEN,
        form_of_keys=ID,
    )
    DJM_ENDPOINT_VERIFY_TOKEN: SecretSetting[str] = SecretSetting(
        "djmessenger_verify_token",
        "Verify token of the webhook. The same text is typed in the App Dashboard.",
        documented=True,
        wrapper=TypedSecret,
        form=TYPED,
    )

    # The answers of the bot.
    DJM_ROUTING_POLICY: Setting[dict[str, Any] | str | os.PathLike[str]] = Setting(
        RUNNABLE_ROUTING_POLICY,
        "Rules for each type of event, as a dict or as the path of a JSON file. If the setting is left out, the "
        "messenger.py modules of the installed apps are the policy. The default serves only if there is no such "
        "module.",
        documented=True,
    )
    DJM_DEFAULT_SENDER_TEXT: Setting[str | Promise] = Setting(
        "Thanks for your message",
        "Text that DefaultMessageReplier sends.",
        documented=True,
    )
    DJM_BOT_PREFIX: Setting[str | Promise] = Setting(
        "",
        "Text in front of each text message of the bot.",
        documented=True,
    )
    DJM_BUSINESS_ADDRESS: Setting[str | Promise] = Setting(
        "",
        "Address of the business. Only the project's own code and templates read it.",
        documented=True,
    )
    DJM_SAVE_USER_PROFILE: Setting[bool] = Setting(
        True,
        "Fetch the profile of a person who writes from Graph and store it. Otherwise only the page-scoped id is "
        "stored.",
        documented=True,
    )

    # The view of a person before the first message.
    DJM_THREAD_ENABLE_AUTO_CONFIG: Setting[bool] = Setting(
        False,
        "Send greeting, get-started button and menu to Meta after each migrate. Otherwise management commands send "
        "them.",
        documented=True,
    )
    DJM_THREAD_GREETINGS_TEXT: Setting[str | Promise] = Setting(
        "",
        "Greeting for first-time visitors; at most 160 characters.",
        documented=True,
    )
    DJM_THREAD_ENABLE_GET_STARTED_BUTTON: Setting[bool] = Setting(
        True,
        "Show the get-started button.",
        documented=True,
    )
    DJM_THREAD_PERSISTENT_MENUS: Setting[list[Any] | tuple[Any, ...]] = Setting(
        (),
        "Entries of the persistent menu: at most 20 dicts with type (postback or web_url), title, and url or payload. "
        "A postback without payload gets the number of its place as payload.",
    )
    DJM_PROFILE: Setting[dict[str, Any] | str | os.PathLike[str]] = Setting(
        {},
        "Messenger Profile of the Page, as a dict by Meta's names of the properties or as the path of a TOML file. "
        "The key pages holds the differences of single Pages. Its properties replace those of the DJM_THREAD settings.",
    )

    # The platform.
    DJM_PAGE_ID: Setting[str] = Setting(
        "",
        "Id of the Page, if the project has one Page. Without it the id of the first callback is taken.",
        form=ID,
    )
    DJM_APP_ID: Setting[str] = Setting(
        "",
        "Id of the Meta app. The bot distinguishes its own echoes from those of other apps on the Page by it.",
        form=ID,
    )
    DJM_WEBHOOK_FIELDS: Setting[list[str] | tuple[str, ...]] = Setting(
        (),
        "Webhook fields to subscribe to in addition to those of the rules, such as standby, or feed for another part "
        "of the project.",
        form=FIELD,
    )
    DJM_PAGES: Setting[dict[str, dict[str, Any]]] = Setting(
        {},
        "Pages by page id, each with the keys of the second table. A key that is left out is read from the Page's "
        "row in the database, then from the settings of the one Page.",
        secret=True,
    )
    DJM_TOKEN_KEYS: SecretsSetting[str | list[str] | tuple[str, ...]] = SecretsSetting(
        (),
        "Keys that encrypt tokens in the database, newest first. manage.py djmessenger tokens --new-key makes one.",
    )
    DJM_GRAPH_URL: Setting[str] = Setting(
        "https://graph.facebook.com",
        "Address of the Graph API. Another address serves emulators and tests.",
        form=ADDRESS,
    )
    DJM_INSTAGRAM_GRAPH_URL: Setting[str] = Setting(
        "https://graph.instagram.com",
        "Address of the Graph API for accounts with Instagram Login. If only DJM_GRAPH_URL is set, that address is "
        "used.",
        form=ADDRESS,
    )
    DJM_GRAPH_VERSION: Setting[str] = Setting(
        "v26.0",
        "Version of the Graph API in each call, such as v26.0.",
    )
    DJM_GRAPH_TIMEOUT: Setting[float] = Setting(
        10.0,
        "Seconds for one call to Graph, from connecting to the last byte; at most half of DJM_LEASE.",
        above=0,
        maximum=DAY,
    )
    DJM_UPLOAD_TIMEOUT: Setting[float] = Setting(
        45.0,
        "Seconds for the upload of one file to Graph; less than DJM_LEASE.",
        above=0,
        maximum=DAY,
    )
    DJM_REQUEST_LOG: Setting[int] = Setting(
        1000,
        "Number of calls to Graph that are kept for each Page with a request log.",
        minimum=1,
        # A slice of a query takes no larger number on SQLite.
        maximum=1_000_000,
    )
    DJM_RULEBOOK: Setting[dict[str, Any]] = Setting(
        {},
        "Overrides of the dated rulebook by key of a row, for a limit or a date that Meta changed.",
    )
    DJM_OUTGOING_CHECKS: Setting[str] = Setting(
        "refuse",
        "Treatment of a message over a limit of the rulebook: refuse raises an error, warn sends it with a warning.",
        choices=("refuse", "warn"),
    )

    # Receiving and handling.
    DJM_VERIFY_SIGNATURE: Setting[bool] = Setting(
        True,
        "Require a valid X-Hub-Signature-256 of each callback. Leave it on.",
    )
    DJM_MAX_BODY: Setting[int] = Setting(
        8 * 1024 * 1024,
        "Largest body of a callback in bytes. A larger one is answered 413.",
        # One text of 2,000 characters takes up to 24,000 bytes as escaped JSON.
        minimum=32 * 1024,
        maximum=1024 * 1024 * 1024,
    )
    DJM_MAX_ITEMS: Setting[int] = Setting(
        1_000,
        "Number of items in one callback. A callback with more of them, or with more than a hundred times as many "
        "values, is quarantined.",
        # Meta documents batches of up to 1,000 updates.
        minimum=1,
        maximum=1_000_000,
    )
    DJM_MAX_EVENT_AGE: Setting[timedelta] = Setting(
        timedelta(days=7),
        "Age over which an event is stored and ignored.",
        # A shorter time ignores messages because of the difference of two clocks.
        minimum=timedelta(minutes=1),
        maximum=CENTURY,
    )
    DJM_MAX_PENDING: Setting[int] = Setting(
        500,
        "Number of events of one conversation that may wait. Further events are stored and ignored.",
        minimum=1,
        maximum=1_000_000,
    )
    DJM_MAX_UNASKED: Setting[int] = Setting(
        20,
        "Number of messages that rules may send to a person without an event between that the person authored. Further "
        "ones fail. 0: without limit.",
        minimum=0,
        maximum=1_000_000,
    )
    DJM_FAST_EXCHANGES: Setting[int] = Setting(
        20,
        "Number of events of a person in a row, each within 5 seconds of the answer before, after which answers wait. "
        "The wait doubles with each event, up to 5 minutes. 0: answers never wait.",
        minimum=0,
        maximum=1_000_000,
    )
    DJM_DISPATCHER: Setting[str] = Setting(
        "embedded",
        "Runner of the work on stored callbacks: inline, embedded, worker, celery, tasks, or a dotted path of a class.",
    )
    DJM_TRIES: Setting[int] = Setting(
        8,
        "Number of attempts to handle a failing event, with growing pauses, before its state is failed.",
        minimum=1,
        maximum=1_000,
    )
    DJM_CRASHES: Setting[int] = Setting(
        3,
        "Number of processes that may die while they handle an event, before its state is failed, or while they split "
        "a callback, before it is quarantined.",
        # The first crash may be that of another event of the process.
        minimum=2,
        maximum=1_000,
    )
    DJM_WHEN_UNSURE: Setting[str] = Setting(
        "resend",
        "Treatment of a reply whose delivery is unknown because neither answer nor echo came in time: resend sends it "
        "again, park leaves it to staff.",
        choices=("resend", "park"),
    )
    DJM_LOOK_UP_UNSURE: Setting[bool] = Setting(
        False,
        "Look up the conversation at Meta before a reply of unknown delivery is sent again or parked. The token needs "
        "pages_read_engagement for it.",
    )
    DJM_ECHO_WAIT: Setting[float] = Setting(
        15.0,
        "Seconds that a reply of unknown delivery waits for its echo while no delay of echoes is measured. "
        "Afterwards the wait is four times the measured delay, between two thirds of this value and eight times this "
        "value.",
        above=0,
        maximum=DAY,
    )
    DJM_LEASE: Setting[float] = Setting(
        60.0,
        "Seconds after which another worker may take over a conversation queue whose worker does not renew its lease.",
        above=0,
        maximum=DAY,
    )
    DJM_POLL: Setting[float] = Setting(
        1.0,
        "Seconds between two looks of an idle worker for new work.",
        # Zero would query the database without a pause.
        above=0,
        maximum=DAY,
    )
    DJM_SWEEP: Setting[float] = Setting(
        20.0,
        "Seconds between two searches for work that no wake-up announced.",
        above=0,
        maximum=DAY,
    )
    DJM_SIMULATOR: Setting[bool] = Setting(
        False,
        "Open the simulator to staff while DEBUG is off. In DEBUG it is open to all visitors.",
    )
    DJM_SIMULATOR_CALLBACK: Setting[str] = Setting(
        "",
        "Address to which the simulator posts callbacks, if the server cannot reach the bot on its own port of "
        "127.0.0.1.",
        form=ADDRESS,
    )

    def read(self, name: str) -> Any:
        """Return the value of the project, otherwise the default, and keep it as an attribute of this object."""
        value = functools.partial(value_as_set, name)
        if not _is_configured():
            return SETTINGS[name].normalised(value)
        # Guard: a thread reads a value, another thread changes the setting and calls `forget`, and then the first
        # thread keeps its old value. It keeps it in the dict of before, which is read no more, and which no variable
        # holds.
        # Test: tests/test_settings.py, test_a_value_that_was_read_before_a_change_is_not_kept.
        keep = self.__dict__.setdefault
        return keep(name, SETTINGS[name].normalised(value))

    def forget(self) -> None:
        """Read each setting again at its next use."""
        object.__setattr__(self, "__dict__", {})

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name} is set in the settings of the project")

    def is_set(self, name: str) -> bool:
        """Return True if the project itself sets the setting."""
        return _is_configured() and hasattr(settings, name)

    def problem(self, name: str) -> str:
        """Return the reason why the value of a setting is refused, or an empty text; never raises."""
        try:
            value = value_as_set(name)
        except Exception as error:  # noqa: BLE001 - Django looks at attributes of the value, which may raise anything
            return (
                f"cannot be read, because it raises {type_name(error)}; it must be {SETTINGS[name].accepted}"
            )
        return SETTINGS[name].problem(value)

    def page_setting(self, page_id: str, name: str) -> Any:
        """Return one value of the Page's entry in ``DJM_PAGES``, or an empty text. The token is a ``Secret``.

        Raises ``DJMInvalidConfigException``, which shows no part of the token, if it cannot be used.
        """
        value = functools.partial(self.page_value, page_id, name)
        return PAGE_KEYS[name].normalised(value, f"DJM_PAGES[{page_id!r}][{name!r}]")

    def page_value(self, page_id: str, name: str) -> Any:
        """Return one value of the Page's entry in ``DJM_PAGES`` as it is set. No frame holds the entry."""
        return (self.DJM_PAGES.get(page_id) or {}).get(name, "")


class PageEntry:
    """The keys of one entry of ``DJM_PAGES``."""

    token: SecretSetting[str] = SecretSetting("", "Access token of the Page.", form=TOKEN)
    app_id: Setting[str] = Setting("", "Id of the Meta app to which the Page belongs.", form=ID)
    channel: Setting[str] = Setting(
        "",
        "Channel of the Page.",
        choices=("messenger", "instagram"),
    )
    login: Setting[str] = Setting(
        "",
        "Login of an Instagram account: through its Facebook Page, or Instagram Login.",
        choices=("facebook", "instagram"),
    )
    version: Setting[str] = Setting("", "Version of the Graph API for the Page.")
    policy: Setting[str | os.PathLike[str]] = Setting(
        "",
        "Policy of the Page: dotted path of a module or a dict, or path of a JSON file.",
    )
    language: Setting[str] = Setting("", "Language of a person without a known language.")
    log: Setting[bool] = Setting(False, "Keep a request log of the Page.")


SETTINGS: Mapping[str, Setting[Any]] = declared_in(AppSettings)
"""The declarations by name, in the order of the source."""

PAGE_KEYS: Mapping[str, Setting[Any]] = declared_in(PageEntry)
"""The declarations of the keys of a ``DJM_PAGES`` entry."""

RENAMED: Mapping[str, str] = {"DJM_SECOND_OPINION": "DJM_LOOK_UP_UNSURE"}
"""Former names of settings to their new names."""

GONE: Mapping[str, str] = {
    "DJM_POST_MESSAGE_URL": "Addresses are made from DJM_GRAPH_URL and DJM_GRAPH_VERSION.",
    "DJM_USER_DETAILS_URL": "Addresses are made from DJM_GRAPH_URL and DJM_GRAPH_VERSION.",
    "DJM_THREAD_SETTINGS_URL": "Addresses are made from DJM_GRAPH_URL and DJM_GRAPH_VERSION.",
    "DJM_BASE_DIR": "No part of the package needs it.",
}
"""Settings of the package of 2016 that have no successor, each with the reason."""

app_settings = AppSettings()


def value_as_set(name: str) -> Any:
    """Return the value of the project as it is set, otherwise the default."""
    return getattr(settings, name, SETTINGS[name].default) if _is_configured() else SETTINGS[name].default


def _forget(setting: str, **kwargs: Any) -> None:
    if setting in SETTINGS:
        app_settings.forget()


# Connected before all caches of objects that are made from settings, so that those read the new values.
setting_changed.connect(_forget, dispatch_uid="djmessenger.settings")

_seen_configured = False


def _is_configured() -> bool:
    """Return True if Django has settings, or if the environment names them; the defaults serve otherwise."""
    global _seen_configured  # noqa: PLW0603 - each event asks several times, and it never becomes False again
    if not _seen_configured:
        _seen_configured = settings.configured or "DJANGO_SETTINGS_MODULE" in os.environ
    return _seen_configured
