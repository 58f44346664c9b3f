"""System checks of settings, secrets, platform and policy, each with a hint for its solution.

Mistakes in a policy keep the ids of ``djmessenger.routing`` (030 and up). A check that depends on the date is a
warning: an error would stop ``migrate`` on a day on which the project did not change.
"""

from __future__ import annotations

import contextlib
import datetime
import difflib
import functools
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from djmessenger import bot, models, requirements, rulebook, sql
from djmessenger.channels import MESSENGER
from djmessenger.exceptions import DJMException
from djmessenger.operations import profile_declaration as declaration
from djmessenger.operations import profile_properties as profile
from djmessenger.operations import profile_thread_settings as thread
from djmessenger.routing import dated
from djmessenger.settings.declared import GONE, RENAMED, SETTINGS, app_settings
from djmessenger.settings.setting import type_name

DOCS = "docs/"
"""Folder of the documentation in the repository, to which the hints refer."""

ENDS_SOON = 90
"""Days before the end of a Graph version on which the warnings begin."""

ENGINES: Mapping[str, str] = {"regex": "regex", "re2": "re2"}
"""Value of ``DJM_REGEX_ENGINE`` to the module that it needs."""

# Clients resolve the parts "." and ".." themselves, so they reach no server.
_PART = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+"
_ENDPOINT = re.compile(rf"{_PART}(/{_PART})*/?", re.ASCII)
_VERSION = re.compile(r"v[1-9][0-9]*\.[0-9]+", re.ASCII)

_ENTRIES_APART = "DJM_PAGES"
"""The setting whose entries ``check_pages`` reports one by one."""

_A_DAY = datetime.timedelta(days=1)

Check = Callable[..., list[CheckMessage]]


def register(*names: str, tags: tuple[str, ...] = ()) -> Callable[[Check], Check]:
    """Register a check of these settings, which reports an exception as E001.

    The methods of a value are code of the project, and so are those of each value inside it. The message has no text
    of the exception, because that text may contain a secret.
    """

    def decorate(check: Check) -> Check:
        @functools.wraps(check)
        def reporting(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
            try:
                return list(check(app_configs, **kwargs))
            except Exception as error:
                set_here = [name for name in names if name in dir(settings)]
                if not set_here:
                    raise
                place = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{place.filename}, line {place.lineno}"
                message = f"{_listed(set_here)} cannot be checked: {type_name(error)} in {where}."
                hint = "Set plain values: text, numbers, lists and dicts."
                return [new_error("E001", message, hint, "settings")]

        checks.register(reporting, "djmessenger", *tags)
        return reporting

    return decorate


@register(*SETTINGS)
def check_settings(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Report each ``DJM_*`` of the project that is not declared, or whose value is refused."""
    messages: list[CheckMessage] = []
    for name in _names_in_settings():
        if name not in SETTINGS:
            messages.append(_undeclared(name))
        elif problem := _problem(name):
            messages.append(new_error("E001", f"{name} {problem}.", SETTINGS[name].meaning, "settings"))
    messages += [
        new_warning(
            "W001",
            f"{name} has no effect: Django reads names in capitals alone.",
            f"Did you mean {name.upper()}?",
            "settings",
        )
        for name in _names_in_small_letters()
    ]
    return [*messages, *_relations()]


@register("DJM_ENDPOINT")
def check_webhook(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Report an endpoint to which Meta cannot post."""
    if not are_right("DJM_ENDPOINT"):
        return []
    endpoint = app_settings.DJM_ENDPOINT
    if not endpoint.strip("/"):
        return [
            new_error(
                "E002",
                "DJM_ENDPOINT names no path, so Meta cannot post anything.",
                "Set it to a path that cannot be guessed; manage.py get_random_endpoint makes one.",
                "quickstart",
            )
        ]
    if endpoint.startswith("/") or not _ENDPOINT.fullmatch(endpoint):
        return [
            new_error(
                "E003",
                f"DJM_ENDPOINT is {endpoint!r}, which is not a plain path.",
                "Use letters, digits and . _ ~ - only, with / between parts and none in front. "
                "It is matched literally, never as a pattern.",
                "settings",
            )
        ]
    return []


@register(
    "DJM_APP_SECRET",
    "DJM_PAGE_ACCESS_TOKEN",
    "DJM_VERIFY_SIGNATURE",
    "DJM_ENDPOINT_VERIFY_TOKEN",
    tags=(checks.Tags.security,),
)
def check_secrets(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Report missing secrets and callbacks that are not verified, except in DEBUG."""
    debug = is_debug()
    messages: list[CheckMessage] = []
    if not debug and are_right("DJM_APP_SECRET") and not app_settings.DJM_APP_SECRET:
        messages.append(
            new_error(
                "E004",
                "DJM_APP_SECRET is empty, so no callback can be verified and each is answered 503.",
                "Copy the app secret from the App Dashboard (App settings, Basic) into the environment and read it in "
                "the settings.",
                "going-live",
            )
        )
    tokens = ("DJM_PAGE_ACCESS_TOKEN", "DJM_PAGES", "DJM_TOKEN_KEYS")
    if not debug and are_right(*tokens) and not any(map(app_settings.read, tokens)):
        messages.append(
            new_error(
                "E005",
                "DJM_PAGE_ACCESS_TOKEN is empty, so the bot cannot answer.",
                "Copy the Page's token from the App Dashboard (Messenger, API setup) into the environment and read it "
                "in the settings.",
                "going-live",
            )
        )
    if are_right("DJM_VERIFY_SIGNATURE") and not app_settings.DJM_VERIFY_SIGNATURE:
        make = new_warning if debug else new_error
        messages.append(
            make(
                "W006" if debug else "E006",
                "DJM_VERIFY_SIGNATURE is off: a stranger who knows the endpoint can post messages in the name of any "
                "person.",
                "Remove the setting. To post callbacks by hand, sign them with djmessenger.signatures.sign.",
                "going-live",
            )
        )
    public = (SETTINGS["DJM_ENDPOINT_VERIFY_TOKEN"].default, "")
    is_text = are_right("DJM_ENDPOINT_VERIFY_TOKEN")
    if not debug and is_text and app_settings.DJM_ENDPOINT_VERIFY_TOKEN.reveal() in public:
        messages.append(
            new_warning(
                "W007",
                "DJM_ENDPOINT_VERIFY_TOKEN has its default value, which is public.",
                "Set a value of your own, and enter the same value in the App Dashboard.",
                "going-live",
            )
        )
    return messages


@register("DJM_GRAPH_VERSION", "DJM_GRAPH_URL", "DJM_RULEBOOK")
def check_graph(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Report a Graph version that is none or ends soon, and an address of Graph without https."""
    messages: list[CheckMessage] = []
    if are_right("DJM_GRAPH_VERSION"):
        messages += version_messages(app_settings.DJM_GRAPH_VERSION, _today())
    if are_right("DJM_GRAPH_URL") and not _is_safe(app_settings.DJM_GRAPH_URL):
        messages.append(
            new_warning(
                "W010",
                "DJM_GRAPH_URL is not an https address, so the Page's token is sent unencrypted.",
                "Remove the setting, or use https; only an emulator on this machine needs no https.",
                "settings",
            )
        )
    return messages


@register("DJM_RULEBOOK")
def check_rulebook(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Report each override of the dated rulebook that cannot be used."""
    if not are_right("DJM_RULEBOOK"):
        return []
    hint = "Set a limit to its new number, and an end to its new date, or to None if there is no end."
    return [
        new_error("E011", f"DJM_RULEBOOK[{problem.key!r}]: {problem.message}.", hint, "rulebook")
        for problem in rulebook.problems()
    ]


@register("DJM_RULEBOOK")
def check_age_of_rulebook(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Report that the table of Meta's limits is older than ``STALE_DAYS``."""
    days = rulebook.days_since_reading(_today())
    if days <= rulebook.STALE_DAYS:
        return []
    hint = "Update djmessenger. Until then, read Meta's changelogs and set what changed in DJM_RULEBOOK."
    return [
        new_warning("W070", f"The newest row of the rulebook was read {days} days ago.", hint, "rulebook")
    ]


@register("DJM_RULEBOOK", "DJM_PAGES")
def check_endings(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Report each feature of the platform that the rules use and that ends soon or has ended."""
    today = _today()
    messages: list[CheckMessage] = []
    for use in policy_uses():
        row = rulebook.row(use.key)
        if row.until is None or row.until > today + datetime.timedelta(days=ENDS_SOON):
            continue
        days = (row.until - today).days
        instead = f"Use {row.instead}. " if row.instead else ""
        hint = (
            f"{instead}{row.source}, read {row.date}. If Meta moved the day, set the new one in DJM_RULEBOOK."
        )
        where = f"The rule {use.rule} uses in {use.what}: {row.what}."
        if days <= 0:
            messages.append(
                new_warning(
                    "W017", f"{where} THIS HAS ENDED on {row.until}; Meta refuses it.", hint, "rulebook"
                )
            )
        else:
            messages.append(
                new_warning("W016", f"{where} This ends in {days} days, on {row.until}.", hint, "rulebook")
            )
    return messages


def policy_uses() -> list[dated.Use]:
    """Return the rulebook rows that the policies use, also those of ``DJM_PAGES``. A broken policy is left out."""
    uses: dict[dated.Use, None] = {}
    pages = app_settings.DJM_PAGES if are_right("DJM_PAGES") else {}
    named = [models.Page(page_id=str(page_id)) for page_id in pages]
    for page in (None, *named):
        # An exception of a policy is reported by the check of the policy.
        with contextlib.suppress(Exception):
            channel = MESSENGER if page is None else page.configured("channel")
            uses |= dict.fromkeys(dated.dated_uses(bot.get_policy(page), channel))
    return list(uses)


@register("DJM_PROFILE")
def check_profile(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Report the first mistake in ``DJM_PROFILE``, for each Page in it."""
    if not are_right("DJM_PROFILE"):
        return []
    source = app_settings.DJM_PROFILE
    languages = [code for code, _name in settings.LANGUAGES]
    try:
        written = declaration.read_declaration(source, getattr(settings, "BASE_DIR", ""))
        for page_id in ("", *map(str, written[declaration.PAGES])):
            of_page = declaration.declaration_for_page(written, page_id)
            properties = declaration.declared_properties(of_page, languages, settings.LANGUAGE_CODE)
            declared = {name: value for name, value in properties.items() if value is not None}
            # Properties that another one needs may be set on the Page already, so all of them count as present.
            profile.in_order(declared, present=profile.ORDER)
    except DJMException as error:
        return [new_error("E018", f"{error}.", SETTINGS["DJM_PROFILE"].meaning, "profile")]
    return []


@register("DJM_DISPATCHER", "DJM_REGEX_ENGINE")
def check_dispatcher(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Report a wrong dispatcher, a regex engine that is not installed, and a database that is unfit for threads."""
    messages: list[CheckMessage] = []
    kind: type | None = None
    if are_right("DJM_DISPATCHER"):
        name = app_settings.DJM_DISPATCHER
        try:
            kind = bot.get_dispatcher_class()
        except DJMException as error:
            close = difflib.get_close_matches(name, [*bot.DISPATCHERS, *bot.OTHER_DISPATCHERS], 1)
            hint = f"Did you mean {close[0]!r}?" if close else SETTINGS["DJM_DISPATCHER"].meaning
            if name in bot.OTHER_DISPATCHERS:
                hint = f"Install it: {requirements.install(name)}"
            messages.append(new_error("E008", f"{error}.", hint, "settings"))
    engine = app_settings.DJM_REGEX_ENGINE
    if are_right("DJM_REGEX_ENGINE") and importlib.util.find_spec(ENGINES[engine]) is None:
        command = f" {requirements.install(engine)}" if engine in requirements.REQUIREMENTS else ""
        messages.append(
            new_error(
                "E009",
                f"DJM_REGEX_ENGINE is {engine!r}, but the module {ENGINES[engine]} is not installed.",
                f"Install it, or set another engine.{command}",
                "settings",
            )
        )
    database = getattr(settings, "DATABASES", {}).get(sql.alias()) or {}
    works_beside = kind is not None and not issubclass(kind, bot.DISPATCHERS["inline"])
    messages += _check_work(kind, database)
    on_sqlite = "sqlite" in str(database.get("ENGINE", ""))
    if works_beside and on_sqlite and (missing := _missing_options(database)):
        messages.append(
            new_warning(
                "W012",
                f"SQLite is used with threads, but without {_listed(missing)}: readers and writers block each other, "
                "and a request may fail with 'database is locked'.",
                f'Set DATABASES["{sql.alias()}"]["OPTIONS"] = {{"transaction_mode": "IMMEDIATE", "timeout": 20, '
                '"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"}.',
                "existing-project",
            )
        )
    return messages


def _check_work(kind: type | None, database: Mapping[str, Any]) -> list[CheckMessage]:
    """Report rules that run inside Meta's request, and a database that no worker can read."""
    messages: list[CheckMessage] = []
    is_inline = kind is not None and issubclass(kind, bot.DISPATCHERS["inline"])
    if is_inline and not is_debug() and not _is_test():
        messages.append(
            new_warning(
                "W028",
                "DJM_DISPATCHER is 'inline': rules and calls to Graph run inside Meta's request, which Meta ends after "
                "five seconds, and failed work is not tried again.",
                "'inline' is for tests and shells. Set 'embedded', 'worker' or 'celery'.",
                "deployment",
            )
        )
    elsewhere = {"worker", *bot.OTHER_DISPATCHERS}
    is_elsewhere = are_right("DJM_DISPATCHER") and app_settings.DJM_DISPATCHER in elsewhere
    in_memory = "sqlite" in str(database.get("ENGINE", "")) and ":memory:" in str(database.get("NAME", ""))
    if is_elsewhere and in_memory:
        messages.append(
            new_warning(
                "W029",
                "The database is in the memory of this process, so a worker cannot read the callbacks in it.",
                "Set a file or a server in DATABASES, or set DJM_DISPATCHER = 'embedded'.",
                "deployment",
            )
        )
    return [*messages, *getattr(kind, "check", list)()]


@checks.register(checks.Tags.database, "djmessenger")
def check_history(
    app_configs: Any = None, databases: Iterable[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report a database that records some, but not all, of the migrations that the first one replaces.

    ``migrate`` runs this check before it reads the records. Django then raises ``NodeNotFoundError``, which names
    another migration.
    """
    replaced = {("djmessenger", name) for name in ("0001_initial", "0002_sweep", "0003_slow_lanes")}
    messages: list[CheckMessage] = []
    for alias in databases or ():
        recorded = replaced & MigrationRecorder(connections[alias]).applied_migrations().keys()
        if recorded and recorded != replaced:
            names = _listed(sorted(name for _app, name in recorded), "and")
            messages.append(
                new_error(
                    "E049",
                    f"The database {alias!r} records {names} of djmessenger without the migrations that followed, so "
                    "no command can read the migrations of this version.",
                    "If the package of 2016 recorded it, remove the tables and the records of that package. If a "
                    "development version of 2.0 did, first migrate with the last version that has 0003_slow_lanes.",
                    "upgrading",
                )
            )
    return messages


@register("DJM_THREAD_GREETINGS_TEXT", "DJM_THREAD_PERSISTENT_MENUS")
def check_thread(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Report a greeting or a menu that cannot be sent."""
    languages = [code for code, _name in settings.LANGUAGES]
    code = settings.LANGUAGE_CODE
    messages: list[CheckMessage] = []
    text, menu = app_settings.DJM_THREAD_GREETINGS_TEXT, app_settings.DJM_THREAD_PERSISTENT_MENUS
    if are_right("DJM_THREAD_GREETINGS_TEXT") and text:
        try:
            thread.greeting_entries(text, languages, code)
        except DJMException as error:
            messages.append(
                new_error(
                    "E013", f"{error}.", "Shorten the greeting; its translations count too.", "settings"
                )
            )
    if not are_right("DJM_THREAD_PERSISTENT_MENUS") or not menu:
        return messages
    try:
        thread.menu_entries(menu, languages, code)
    except DJMException as error:
        meaning = SETTINGS["DJM_THREAD_PERSISTENT_MENUS"].meaning
        messages.append(new_error("E014", f"{error}.", meaning, "settings"))
    if not app_settings.DJM_THREAD_ENABLE_GET_STARTED_BUTTON:
        messages.append(
            new_warning(
                "W015",
                "DJM_THREAD_PERSISTENT_MENUS is set while DJM_THREAD_ENABLE_GET_STARTED_BUTTON is False; Meta shows "
                "a menu only beside that button.",
                "Set DJM_THREAD_ENABLE_GET_STARTED_BUTTON to True, or remove the menu.",
                "settings",
            )
        )
    return messages


@register("DJM_ROUTING_POLICY")
def check_policy(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Report each mistake of the policy with its position."""
    if not are_right("DJM_ROUTING_POLICY"):
        return []
    return [message_of_problem(problem) for problem in policy_problems()]


def message_of_problem(problem: Any, prefix: str = "") -> CheckMessage:
    make = Error if problem.is_error else Warning
    where = f"{problem.position} ({problem.rule})" if problem.rule else problem.position
    hint = f"{problem.hint} See {DOCS}{problem.docs.replace('.html', '.md')}".strip()
    return make(f"{prefix}{where}: {problem.message}", hint=hint, id=f"djmessenger.{problem.id}")


def policy_problems() -> Iterable[Any]:
    """Return every mistake in the policy in use, as ``routing.Problem``."""
    return bot.get_policy_problems()


def _names_in_settings() -> Iterator[str]:
    return (name for name in sorted(set(dir(settings))) if name.startswith("DJM_"))


def _names_in_small_letters() -> list[str]:
    module = sys.modules.get(getattr(settings, "SETTINGS_MODULE", None) or "")
    return [name for name in vars(module or object) if not name.isupper() and name.upper() in SETTINGS]


def _undeclared(name: str) -> CheckMessage:
    if name in RENAMED:
        return new_error(
            "E023",
            f"{name} is now {RENAMED[name]}.",
            f"Rename it in the settings. {SETTINGS[RENAMED[name]].meaning}",
            "settings",
        )
    if name in GONE:
        hint = f"Remove it. {GONE[name]}"
    elif close := difflib.get_close_matches(name, SETTINGS, 1, 0.75):
        hint = f"Did you mean {close[0]}?"
    else:
        hint = "Remove it, or choose a name of your own that does not begin with DJM_."
    return new_warning("W001", f"{name} is not a setting of djmessenger.", hint, "settings")


def _problem(name: str) -> str:
    problem = app_settings.problem(name)
    if problem and name == _ENTRIES_APART:
        # A value whose attributes raise is no dict.
        with contextlib.suppress(Exception):
            return "" if isinstance(app_settings.read(name), dict) else problem
    return problem


def are_right(*names: str) -> bool:
    """Return True if the values of these settings can be used; otherwise E001 reports them."""
    return not any(map(_problem, names))


def _relations() -> Iterator[CheckMessage]:
    """Compare settings with each other, if each of them has a right value."""
    if (
        are_right("DJM_LEASE", "DJM_GRAPH_TIMEOUT")
        and app_settings.DJM_LEASE < 2 * app_settings.DJM_GRAPH_TIMEOUT
    ):
        yield new_error(
            "E027",
            f"DJM_LEASE is {app_settings.DJM_LEASE}, less than twice DJM_GRAPH_TIMEOUT "
            f"({app_settings.DJM_GRAPH_TIMEOUT}): a call could last longer than its lease, and another process could "
            "send the same reply.",
            "Raise DJM_LEASE or lower DJM_GRAPH_TIMEOUT.",
            "reliability",
        )
    if (
        are_right("DJM_LEASE", "DJM_UPLOAD_TIMEOUT")
        and app_settings.DJM_UPLOAD_TIMEOUT >= app_settings.DJM_LEASE
    ):
        yield new_error(
            "E019",
            f"DJM_UPLOAD_TIMEOUT is {app_settings.DJM_UPLOAD_TIMEOUT}, not below DJM_LEASE ({app_settings.DJM_LEASE}): "
            "an upload could last longer than its lease.",
            "Lower DJM_UPLOAD_TIMEOUT or raise DJM_LEASE.",
            "settings",
        )
    if app_settings.is_set("DJM_KEEP_KEYS") and are_right("DJM_KEEP_KEYS", "DJM_MAX_EVENT_AGE"):
        least = app_settings.DJM_MAX_EVENT_AGE + _A_DAY
        if least > app_settings.DJM_KEEP_KEYS:
            yield new_warning(
                "W021",
                f"DJM_KEEP_KEYS is less than DJM_MAX_EVENT_AGE and one day, so keys are kept for {least} instead.",
                SETTINGS["DJM_KEEP_KEYS"].meaning,
                "settings",
            )


def is_debug() -> bool:
    """Return whether the project sets DEBUG. A test runner turns DEBUG off before the checks and saves the value."""
    test_utils = sys.modules.get("django.test.utils")
    saved = getattr(getattr(test_utils, "_TestState", None), "saved_data", None)
    return bool(settings.DEBUG or getattr(saved, "debug", False))


def _is_test() -> bool:
    """Return whether a test runner set up the environment of tests."""
    return hasattr(getattr(sys.modules.get("django.test.utils"), "_TestState", None), "saved_data")


def version_messages(
    version: str, today: datetime.date, name: str = "DJM_GRAPH_VERSION"
) -> list[CheckMessage]:
    hint = "Read Meta's changelog of the Graph API and set a later version; v26.0 works."
    if not _VERSION.fullmatch(version):
        return [new_warning("W008", f"{name} is {version!r}; a version looks like v26.0.", hint, "settings")]
    key = f"graph.{version}"
    row = rulebook.rows().get(key)
    if row is None or row.until is None or row.until > today + datetime.timedelta(days=ENDS_SOON):
        return []
    ended = rulebook.retirement(key, today) is not None
    when = (
        f"HAS ENDED on {row.until}: Meta answers with its oldest version that still works"
        if ended
        else f"ends on {row.until}"
    )
    return [new_warning("W009", f"{name} is {version}, which {when}.", hint, "graph-versions")]


def _today() -> datetime.date:
    return datetime.datetime.now(tz=datetime.UTC).date()


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return parts.scheme == "https" or host in {"localhost", "::1"} or host.startswith("127.")


def _missing_options(database: Mapping[str, Any]) -> list[str]:
    options = database.get("OPTIONS") or {}
    missing = []
    if not re.search(r"journal_mode\s*=\s*['\"]?wal", str(options.get("init_command", "")), re.IGNORECASE):
        missing.append("WAL")
    if str(options.get("transaction_mode", "")).upper() not in {"IMMEDIATE", "EXCLUSIVE"}:
        missing.append("an immediate transaction_mode")
    return missing


def _listed(words: Iterable[str], word: str = "or") -> str:
    return f" {word} ".join(words)


def new_error(number: str, message: str, hint: str, page: str) -> CheckMessage:
    return Error(message, hint=f"{hint} See {DOCS}{page}.md", id=f"djmessenger.{number}")


def new_warning(number: str, message: str, hint: str, page: str) -> CheckMessage:
    return Warning(message, hint=f"{hint} See {DOCS}{page}.md", id=f"djmessenger.{number}")
