"""The ``DJM_*`` settings as one table, read live from the Django settings: ``settings.DJM_ENDPOINT``."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings as django_settings
from django.utils.functional import Promise

from djmessenger import rulebook
from djmessenger.utils.default_routing_policy import RUNNABLE_ROUTING_POLICY


class Setting(NamedTuple):
    """One row of the table; the checks and the docs read it too."""

    type: type | tuple[type, ...]
    default: Any
    meaning: str
    documented: bool = False
    secret: bool = False


Text = (str, Promise)

SETTINGS: dict[str, Setting] = {
    # What a bot needs.
    "DJM_ENDPOINT": Setting(
        str, "", "Path at which Meta posts callbacks, without the leading slash. Required.", documented=True
    ),
    "DJM_PAGE_ACCESS_TOKEN": Setting(
        str, "", "Access token of the Page. Required outside DEBUG.", documented=True, secret=True
    ),
    "DJM_APP_SECRET": Setting(
        (str, list, tuple, dict),
        "",
        "Secret of the Meta app, several of them, or a dict by app id; it signs callbacks and calls. "
        "Required outside DEBUG.",
        secret=True,
    ),
    "DJM_ENDPOINT_VERIFY_TOKEN": Setting(
        str,
        "djmessenger_verify_token",
        "Token typed in the App Dashboard; has to match when Meta verifies the webhook.",
        documented=True,
        secret=True,
    ),
    # What the bot says.
    "DJM_ROUTING_POLICY": Setting(
        (dict, str, os.PathLike),
        RUNNABLE_ROUTING_POLICY,
        "What to do with each kind of messaging: a dict, or the path of a JSON file. "
        "Without it the messenger.py modules of the installed apps are the policy; the default serves only "
        "where there are none.",
        documented=True,
    ),
    "DJM_DEFAULT_SENDER_TEXT": Setting(
        Text, "Thanks for your message", "Text sent by DefaultMessageReplier.", documented=True
    ),
    "DJM_BOT_PREFIX": Setting(Text, "", "Put in front of every text that is sent.", documented=True),
    "DJM_BUSINESS_ADDRESS": Setting(
        Text, "", "Address of the business, for texts and templates of the project.", documented=True
    ),
    "DJM_SAVE_USER_PROFILE": Setting(
        bool,
        True,
        "Whether the profile of a person who writes is fetched from Graph and stored; "
        "otherwise only the page-scoped id is stored.",
        documented=True,
    ),
    # What a person sees before the first message.
    "DJM_THREAD_ENABLE_AUTO_CONFIG": Setting(
        bool,
        False,
        "Whether greeting, get-started button and menu are sent after each migrate; "
        "otherwise the management commands send them.",
        documented=True,
    ),
    "DJM_THREAD_GREETINGS_TEXT": Setting(
        Text, "", "Greeting shown to first-time visitors; at most 160 characters.", documented=True
    ),
    "DJM_THREAD_ENABLE_GET_STARTED_BUTTON": Setting(
        bool, True, "Whether the get-started button is shown.", documented=True
    ),
    "DJM_THREAD_PERSISTENT_MENUS": Setting(
        (list, tuple),
        (),
        "Entries of the persistent menu, at most 20 dicts: type (postback or web_url), title, url or payload. "
        "A postback without payload gets the numbered payload of its place.",
    ),
    "DJM_PROFILE": Setting(
        (dict, str, os.PathLike),
        {},
        "What a person sees before the first message, as a dict by Meta's names of the properties, or the path of a "
        "TOML file; under pages what differs on one Page. Laid over the DJM_THREAD settings.",
    ),
    # The platform.
    "DJM_PAGE_ID": Setting(
        str, "", "Id of the Page, where one Page is set here; learnt from the first callback when left out."
    ),
    "DJM_APP_ID": Setting(
        str, "", "Id of the Meta app; tells our own echoes from those of other apps on the Page."
    ),
    "DJM_WEBHOOK_FIELDS": Setting(
        (list, tuple),
        (),
        "Webhook fields beyond those that follow from the rules, such as standby, or feed for another part of the "
        "project.",
    ),
    "DJM_PAGES": Setting(
        dict,
        {},
        "More Pages than one, by page id: a dict with token, app_id, channel (messenger, instagram), login "
        "(facebook, instagram), version, policy, language and log; what is left out comes from the Page's row, "
        "then from the settings of the one Page.",
        secret=True,
    ),
    "DJM_TOKEN_KEYS": Setting(
        (str, list, tuple),
        (),
        "Keys, newest first, under which tokens are kept in the database; "
        "manage.py djmessenger tokens --new-key makes one.",
        secret=True,
    ),
    "DJM_GRAPH_URL": Setting(
        str, "https://graph.facebook.com", "Where Graph is; another address serves emulators and tests."
    ),
    "DJM_INSTAGRAM_GRAPH_URL": Setting(
        str,
        "https://graph.instagram.com",
        "Where Graph is for accounts with Instagram Login; where only DJM_GRAPH_URL is set, it is there too.",
    ),
    "DJM_GRAPH_VERSION": Setting(
        str, "v26.0", "Version of the Graph API in each call, such as v26.0; any version that Meta serves."
    ),
    "DJM_GRAPH_TIMEOUT": Setting(
        (int, float), 10.0, "Total time for one call to Graph, in seconds, from connecting to the last byte."
    ),
    "DJM_UPLOAD_TIMEOUT": Setting(
        (int, float), 45.0, "Total time to upload one file to Graph, in seconds; below DJM_LEASE."
    ),
    "DJM_REQUEST_LOG": Setting(
        int, 1000, "How many calls to Graph are kept for each Page whose request log is on."
    ),
    "DJM_RULEBOOK": Setting(
        dict,
        {},
        "Overrides of the dated rulebook: key of a row to its new value, for a limit that Meta changed.",
    ),
    "DJM_OUTGOING_CHECKS": Setting(
        str,
        "refuse",
        "What happens to a message over a limit of the rulebook: refuse it, or warn and send it.",
    ),
    # Receiving and handling.
    "DJM_VERIFY_SIGNATURE": Setting(
        bool, True, "Whether callbacks must carry a true X-Hub-Signature-256. Leave it on."
    ),
    "DJM_MAX_BODY": Setting(
        int, 8 * 1024 * 1024, "Largest body of a callback, in bytes; a larger one is answered 413."
    ),
    "DJM_MAX_EVENT_AGE": Setting(
        datetime.timedelta,
        datetime.timedelta(days=7),
        "Events older than this are stored and ignored.",
    ),
    "DJM_MAX_PENDING": Setting(
        int, 500, "How many events of one conversation may wait; what comes on top is stored and ignored."
    ),
    "DJM_DISPATCHER": Setting(
        str,
        "embedded",
        "What handles a stored callback: inline, embedded, worker, celery, or the dotted path of a class.",
    ),
    "DJM_TRIES": Setting(
        int, 8, "How often a failing event is handled, with growing pauses, before it is failed for good."
    ),
    "DJM_WHEN_UNSURE": Setting(
        str,
        "resend",
        "What happens to a reply of which neither answer nor echo came in time: resend it, or park it for staff.",
    ),
    "DJM_SECOND_OPINION": Setting(
        bool,
        False,
        "Whether the conversation is read at Meta before an unsure reply is sent again or set aside; the token needs "
        "pages_read_engagement for it.",
    ),
    "DJM_ECHO_WAIT": Setting(
        (int, float),
        15.0,
        "How long an unsure reply waits for its echo, in seconds, until lags are known; from then on it is four times "
        "the lag, at least two thirds of this and at most eight times this.",
    ),
    "DJM_LEASE": Setting(
        (int, float), 60.0, "How long a worker may hold a conversation queue without a sign, in seconds."
    ),
    "DJM_POLL": Setting((int, float), 1.0, "How often an idle worker looks for work by itself, in seconds."),
    "DJM_SWEEP": Setting(
        (int, float), 20.0, "How often a worker looks for what no wake-up announced, in seconds."
    ),
    "DJM_SIMULATOR": Setting(
        bool,
        False,
        "Whether staff may use the simulator while DEBUG is off; in DEBUG it is open to everybody.",
    ),
    "DJM_SIMULATOR_CALLBACK": Setting(
        str,
        "",
        "Where the simulator posts callbacks, where the address of the site as browsers see it does not reach the "
        "bot from the server itself.",
    ),
    # What stays, and for how long; manage.py djmessenger purge removes the rest.
    "DJM_KEEP_BODIES": Setting(
        datetime.timedelta, datetime.timedelta(days=7), "How long raw callbacks are kept once they are split."
    ),
    "DJM_KEEP_KEYS": Setting(
        datetime.timedelta,
        datetime.timedelta(days=8),
        "How long the key of a handled event is kept, so that a second delivery does nothing; never less than a day "
        "over DJM_MAX_EVENT_AGE.",
    ),
    "DJM_KEEP_TEXTS": Setting(
        (datetime.timedelta, type(None)),
        datetime.timedelta(days=30),
        "How long handled events and finished replies are kept, with what people wrote; None: for ever. What "
        "SaveMessagingHandler keeps is not removed.",
    ),
    "DJM_KEEP_ATTEMPTS": Setting(
        datetime.timedelta,
        datetime.timedelta(days=30),
        "How long the attempts of finished replies are kept.",
    ),
    "DJM_KEEP_FAILED": Setting(
        datetime.timedelta,
        datetime.timedelta(days=90),
        "How long failed events, failed and parked replies and callbacks that were not understood are kept.",
    ),
    "DJM_HEALTH_TOKEN": Setting(
        str,
        "",
        "Token that a monitor sends to see the health page; without it, signed-in staff alone see it.",
        secret=True,
    ),
    "DJM_HEALTH_MAX_WAIT": Setting(
        (int, float),
        60.0,
        "How long the oldest event or reply may wait, in seconds, before the health page answers 503.",
    ),
    "DJM_REGEX_ENGINE": Setting(
        str, "regex", "Engine for patterns over texts of persons: regex, or re2 (extra djmessenger[re2])."
    ),
    "DJM_REGEX_TIMEOUT": Setting(
        (int, float), 0.05, "Time limit for one pattern on one text, in seconds; beyond it nothing matched."
    ),
}


def is_set(name: str) -> bool:
    """Whether the project sets it itself."""
    return _configured() and hasattr(django_settings, name)


def read(name: str) -> Any:
    """Give the project's value, else the default of the table."""
    default = SETTINGS[name].default
    return getattr(django_settings, name, default) if _configured() else default


def page_setting(page_id: str, name: str) -> Any:
    """Give one value of the Page's entry in ``DJM_PAGES``, or an empty text."""
    # One expression: no frame holds the entry, and with it the token.
    return (read("DJM_PAGES").get(page_id) or {}).get(name, "")


def overrides() -> Mapping[str, Any]:
    """Give the project's overrides of the rulebook."""
    value: Mapping[str, Any] = read("DJM_RULEBOOK")
    return value


_seen_configured = False


def _configured() -> bool:
    """Words work without Django; a project named by the environment counts although nobody asked yet."""
    global _seen_configured  # noqa: PLW0603 - each request asks several times, and it never goes back
    if not _seen_configured:
        _seen_configured = django_settings.configured or "DJANGO_SETTINGS_MODULE" in os.environ
    return _seen_configured


rulebook.read_overrides_from(overrides)

if TYPE_CHECKING:
    DJM_ENDPOINT: str
    DJM_PAGE_ACCESS_TOKEN: str
    DJM_APP_SECRET: str | list[str] | tuple[str, ...] | dict[str, str]
    DJM_ENDPOINT_VERIFY_TOKEN: str
    DJM_ROUTING_POLICY: dict[str, Any] | str | os.PathLike[str]
    DJM_DEFAULT_SENDER_TEXT: str | Promise
    DJM_BOT_PREFIX: str | Promise
    DJM_BUSINESS_ADDRESS: str | Promise
    DJM_SAVE_USER_PROFILE: bool
    DJM_THREAD_ENABLE_AUTO_CONFIG: bool
    DJM_THREAD_GREETINGS_TEXT: str | Promise
    DJM_THREAD_ENABLE_GET_STARTED_BUTTON: bool
    DJM_THREAD_PERSISTENT_MENUS: list[dict[str, Any]] | tuple[dict[str, Any], ...]
    DJM_PROFILE: dict[str, Any] | str | os.PathLike[str]
    DJM_PAGE_ID: str
    DJM_APP_ID: str
    DJM_WEBHOOK_FIELDS: list[str] | tuple[str, ...]
    DJM_PAGES: dict[str, dict[str, Any]]
    DJM_TOKEN_KEYS: str | list[str] | tuple[str, ...]
    DJM_GRAPH_URL: str
    DJM_INSTAGRAM_GRAPH_URL: str
    DJM_GRAPH_VERSION: str
    DJM_GRAPH_TIMEOUT: float
    DJM_UPLOAD_TIMEOUT: float
    DJM_REQUEST_LOG: int
    DJM_RULEBOOK: dict[str, Any]
    DJM_OUTGOING_CHECKS: str
    DJM_VERIFY_SIGNATURE: bool
    DJM_MAX_BODY: int
    DJM_MAX_EVENT_AGE: datetime.timedelta
    DJM_MAX_PENDING: int
    DJM_DISPATCHER: str
    DJM_TRIES: int
    DJM_WHEN_UNSURE: str
    DJM_SECOND_OPINION: bool
    DJM_ECHO_WAIT: float
    DJM_LEASE: float
    DJM_POLL: float
    DJM_SWEEP: float
    DJM_SIMULATOR: bool
    DJM_SIMULATOR_CALLBACK: str
    DJM_KEEP_BODIES: datetime.timedelta
    DJM_KEEP_KEYS: datetime.timedelta
    DJM_KEEP_TEXTS: datetime.timedelta | None
    DJM_KEEP_ATTEMPTS: datetime.timedelta
    DJM_KEEP_FAILED: datetime.timedelta
    DJM_HEALTH_TOKEN: str
    DJM_HEALTH_MAX_WAIT: float
    DJM_REGEX_ENGINE: str
    DJM_REGEX_TIMEOUT: float
else:

    def __getattr__(name: str) -> Any:
        if name in SETTINGS:
            return read(name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *SETTINGS])
