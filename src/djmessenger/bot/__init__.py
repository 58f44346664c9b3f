"""Composition (internal): the only place that makes policies, clients, secrets and the dispatcher from the settings."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import importlib
import inspect
import logging
import os
from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.core.signals import setting_changed
from django.db import DatabaseError
from django.utils import timezone
from django.utils.module_loading import autodiscover_modules, import_string

from djmessenger import models, routing, rulebook
from djmessenger.bot import renewal
from djmessenger.bot.pages import (
    ClientColumns,
    ClientConfig,
    app_secrets,
    client_columns,
    client_config_for,
    default_page,
    page_of,
)
from djmessenger.bot.tokens import decrypt, encrypt, key_problems
from djmessenger.bot.tokens import is_under_newest_key as is_ciphertext_under_newest_key
from djmessenger.clock import as_stored
from djmessenger.exceptions import DJMException, DJMInvalidConfigException, TokenKeyError
from djmessenger.graph.client import Client, LoggedCall
from djmessenger.graph.context import set_default as set_default_client
from djmessenger.graph.wire import Transport
from djmessenger.pipeline.dispatch import (
    Dispatcher,
    EmbeddedDispatcher,
    InlineDispatcher,
    WorkerDispatcher,
)
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.handling import Inbox
from djmessenger.pipeline.process_end import handle_signals
from djmessenger.pipeline.sending import Outbox
from djmessenger.routing.problems import Problem
from djmessenger.rules import registry
from djmessenger.secret import Secret
from djmessenger.settings import app_settings
from djmessenger.signals import reply_queued
from djmessenger.sql import atomic

logger = logging.getLogger(__name__)

_LONG_ENOUGH = 16
"""Characters that a token must have before its last four may be shown: short ones would reveal too much."""

DISPATCHERS: Mapping[str, type[Dispatcher]] = {
    "inline": InlineDispatcher,
    "embedded": EmbeddedDispatcher,
    "worker": WorkerDispatcher,
}
OTHER_DISPATCHERS: Mapping[str, str] = {
    "celery": "djmessenger.contrib.celery.CeleryDispatcher",
    "tasks": "djmessenger.contrib.tasks.TasksDispatcher",
}
"""Dispatchers that need an extra: name in ``DJM_DISPATCHER`` to dotted path."""


def get_policy(page: models.Page | None = None) -> routing.Policy:
    """Return the policy of a Page, otherwise of the project. It is built once for the process.

    The project's policy is ``DJM_ROUTING_POLICY`` if set, otherwise that of the ``messenger.py`` modules, otherwise the
    default. Raises ``DJMInvalidConfigException`` with every mistake in the policy.
    """
    source = "" if page is None else page.configured("policy")
    return _policy_at(source) if source else _project_policy()


@functools.lru_cache(maxsize=1)
def _project_policy() -> routing.Policy:
    if app_settings.is_set("DJM_ROUTING_POLICY"):
        return routing.Policy.load(app_settings.DJM_ROUTING_POLICY)
    load_modules()
    written = registry.collect(config.name for config in apps.get_app_configs())
    if written is not None:
        return written
    return routing.Policy.load(app_settings.DJM_ROUTING_POLICY)


@functools.lru_cache(maxsize=256)
def _policy_at(source: str) -> routing.Policy:
    if _is_file(source):
        return routing.Policy.load(source)
    found = _imported(source)
    if isinstance(found, routing.Policy):
        return found
    return registry.policy_from_modules([found]) if inspect.ismodule(found) else routing.Policy.load(found)


def _is_file(source: str) -> bool:
    return source.endswith(".json") or "/" in source or os.sep in source


def _is_dotted_path(text: str) -> bool:
    """Return True for names with dots between them; import functions raise odd errors for other texts."""
    return all(part.isidentifier() for part in text.split("."))


def _imported(source: str) -> Any:
    """Import and return the module of rules, the dict or the ``Policy`` at a dotted path.

    Raises ``DJMInvalidConfigException`` if there is none, and ``ImportError`` if the module itself fails.
    """
    load_modules()
    if not _is_dotted_path(source):
        raise DJMInvalidConfigException(f"There is no policy at {source!r}: it is no dotted path")
    try:
        return importlib.import_module(source)
    except ImportError as error:
        # The module exists and one of its own imports failed. That error must not read as "no such policy".
        if error.name is None or not f"{source}.".startswith(f"{error.name}."):
            raise
    try:
        found = import_string(source)
    except ImportError as error:
        raise DJMInvalidConfigException(f"There is no policy at {source!r}: {error}") from error
    if isinstance(found, (routing.Policy, Mapping)):
        return found
    raise DJMInvalidConfigException(f"{source!r} is no module of rules, no dict and no Policy")


def get_problems_at(source: str) -> list[Problem]:
    """Return every mistake in the policy at ``source``, a dotted path or a JSON file. Raises nothing."""
    if _is_file(source):
        return routing.Policy.problems_of(source)
    try:
        found = _imported(source)
        if isinstance(found, Mapping):
            return routing.Policy.problems_of(found)
        policy = registry.policy_from_modules([found]) if inspect.ismodule(found) else found
    except routing.InvalidPolicy as error:
        return error.problems
    except (DJMException, ImportError) as error:
        return [Problem(rule="", position=source, message=str(error), id="E030")]
    return policy.problems()


def get_policy_problems() -> list[Problem]:
    """Return every mistake in the project's policy, without building it."""
    load_modules()
    names = [config.name for config in apps.get_app_configs()]
    if app_settings.is_set("DJM_ROUTING_POLICY"):
        return [*routing.Policy.problems_of(app_settings.DJM_ROUTING_POLICY), *registry.overruled(names)]
    problems = registry.problems(names)
    return routing.Policy.problems_of(app_settings.DJM_ROUTING_POLICY) if problems is None else problems


def load_modules() -> None:
    """Import the ``messenger.py`` of every installed app, which registers its rules and payloads."""
    autodiscover_modules("messenger")


_transport: Transport | None = None


def use_transport(transport: Transport | None) -> None:
    """Set the transport of all clients made from now on; None stands for the network."""
    global _transport  # noqa: PLW0603 - one process, one network
    _transport = transport
    _client.cache_clear()
    _client_of_row.cache_clear()


@functools.lru_cache(maxsize=1024)
def _client(config: ClientConfig) -> Client:
    return Client(
        config.token,
        app_secret=config.app_secret,
        page_id=config.page_id,
        channel=config.channel,
        base_url=config.base_url,
        version=config.version,
        transport=_transport,
        timeout=app_settings.DJM_GRAPH_TIMEOUT,
        on_call=None if config.logged_as is None else functools.partial(_log_call, config.logged_as),
    )


def get_client(page: models.Page | None = None) -> Client:
    """Return the Graph client of a Page, by default of ``default_page``. Equal settings share one client.

    Raises ``DJMInvalidConfigException`` if the Page has no token, and ``TokenKeyError`` if it cannot be decrypted.
    """
    return _client_of_row(client_columns(default_page() if page is None else page))


@functools.lru_cache(maxsize=1024)
def _client_of_row(columns: ClientColumns) -> Client:
    """Return the client of a Page's row. The engine asks for it twice a message, so both steps are cached."""
    return _client(client_config_for(page_of(columns)))


def get_app_client(page: models.Page | None = None) -> Client:
    """Return a client with the token of a Page's Meta app, for its subscriptions, permissions and tokens.

    Raises ``DJMInvalidConfigException`` if the settings lack the id or the secret of the app.
    """
    app_id = (default_page() if page is None else page).get_app_id()
    secret = app_secrets().get(app_id, Secret())
    if not (app_id and secret):
        raise DJMInvalidConfigException(
            "DJM_APP_ID and DJM_APP_SECRET are needed for calls about the app: copy both from the App Dashboard "
            "(App settings, Basic)."
        )
    return Client(
        Secret(f"{app_id}|{secret.reveal()}"),
        app_secret=secret,
        page_id=app_id,
        base_url=app_settings.DJM_GRAPH_URL,
        version=app_settings.DJM_GRAPH_VERSION,
        transport=_transport,
        timeout=app_settings.DJM_GRAPH_TIMEOUT,
    )


def _log_call(page_pk: int, call: LoggedCall) -> None:
    """Insert a line into the Page's request log. A database error is logged and not raised, so no call fails."""
    facts = dataclasses.asdict(call)
    moment = as_stored(datetime.datetime.fromtimestamp(facts.pop("at"), tz=datetime.UTC))
    facts["path"], facts["fbtrace_id"] = call.path[:255], call.fbtrace_id[:64]
    try:
        # Guard: without the savepoint a refused line would break an open transaction of the caller.
        # No test covers an open transaction here.
        with atomic():
            models.GraphCall.objects.note(page_pk, date=moment, **facts)
    except DatabaseError:
        logger.exception(
            "Line of the request log not stored: database error; the call itself is not affected",
            extra={"action": "request_log_failed"},
        )


def _client_for_renewal(page: models.Page) -> Client:
    # Meta names the address of the renewal without a version of Graph.
    return _client(dataclasses.replace(client_config_for(page), version=""))


def renew_token(page: models.Page) -> bool:
    """Renew the stored token of a Page with Instagram Login now, as ``renewal.renew`` does."""
    return renewal.renew(page, _client_for_renewal)


def set_token(page: models.Page, token: Secret) -> None:
    """Set the encrypted token of a Page's row without saving the row. An empty token removes the stored one.

    Save the columns ``Page.TOKEN_COLUMNS``.
    """
    page.token_ciphertext = encrypt(page.page_id, token) if token else ""
    # The age of the token is unknown. Meta renews none that is younger than a day.
    page.date_token_renewal = timezone.now() + datetime.timedelta(
        hours=rulebook.limit("instagram_token.least_hours")
    )
    page.date_token_expires = page.token_claimed_until = None


def token_hint(page: models.Page) -> str:
    """Return the last four characters of a row's token, for staff, or the empty text if it has none."""
    if not page.token_ciphertext:
        return ""
    token = decrypt(page.page_id, page.token_ciphertext)
    return token.reveal()[-4:] if len(token.reveal()) >= _LONG_ENOUGH else "…"


def is_under_newest_key(page: models.Page) -> bool:
    """Return whether the newest of ``DJM_TOKEN_KEYS`` decrypts a row's token, so that it needs no older key."""
    return is_ciphertext_under_newest_key(page.token_ciphertext)


def rotate_tokens() -> int:
    """Encrypt every token in the database with the newest key. Return the number of tokens that had another key.

    Raises ``TokenKeyError`` at the end, with the Pages whose token no key decrypts. All others are done by then.
    """
    changed, unread = 0, []
    for page in models.Page.objects.exclude(token_ciphertext="").order_by("pk"):
        before = page.token_ciphertext
        try:
            set_token(page, decrypt(page.page_id, before))
        except TokenKeyError:
            if key_problems():
                raise
            unread.append(page.page_id)
            continue
        if not is_ciphertext_under_newest_key(before):
            # Guard: staff may store a new token between the read and this write. The condition on the old ciphertext
            # keeps the new token.
            # Test: tests/test_pages.py, test_rotation_keeps_a_token_that_is_stored_meanwhile.
            rows = models.Page.objects.filter(pk=page.pk, token_ciphertext=before)
            changed += rows.update(token_ciphertext=page.token_ciphertext)
    if unread:
        raise TokenKeyError(
            f"{changed} tokens are under the newest key now; no key opens those of {', '.join(unread)}. Put the older "
            "key back into DJM_TOKEN_KEYS, or enter these tokens again."
        )
    return changed


@functools.lru_cache(maxsize=1)
def get_engine() -> Engine:
    """Return the engine of this process, made from the settings."""
    # With `inline` the caller sees a failure at once. After a pause no worker would try the event again.
    tries = 1 if app_settings.DJM_DISPATCHER == "inline" else app_settings.DJM_TRIES
    return Engine(
        inbox=Inbox(get_policy, get_client, tries=tries),
        outbox=Outbox(get_client),
        renew_tokens=functools.partial(renewal.renew_due, _client_for_renewal),
    )


def get_dispatcher_class() -> type[Dispatcher]:
    """Return the class that ``DJM_DISPATCHER`` names. Raises ``DJMInvalidConfigException`` if it names none."""
    name = app_settings.DJM_DISPATCHER
    if name in DISPATCHERS:
        return DISPATCHERS[name]
    words = [*DISPATCHERS, *OTHER_DISPATCHERS]
    known = f"it must be {' or '.join(words)}, or the dotted path of a class"
    path = OTHER_DISPATCHERS.get(name, name)
    if not _is_dotted_path(path):
        raise DJMInvalidConfigException(f"DJM_DISPATCHER is {name!r}: {known}")
    try:
        kind: type[Dispatcher] = import_string(path)
    except ImportError as error:
        raise DJMInvalidConfigException(f"DJM_DISPATCHER is {name!r}: {known} ({error})") from error
    for method in ("callback_stored", "replies_queued"):
        if not isinstance(kind, type) or not hasattr(kind, method):
            raise DJMInvalidConfigException(
                f"DJM_DISPATCHER is {name!r}, which is no class with a method {method}: {known}"
            )
    return kind


_dispatcher: Dispatcher | None = None


def use_dispatcher(dispatcher: Dispatcher | None) -> None:
    """Replace the dispatcher of this process. With None the dispatcher of ``DJM_DISPATCHER`` is used again."""
    global _dispatcher  # noqa: PLW0603 - one process, one dispatcher
    _dispatcher = dispatcher


@functools.lru_cache(maxsize=1)
def _named_dispatcher() -> Dispatcher:
    return get_dispatcher_class()(get_engine)


def get_dispatcher() -> Dispatcher:
    """Return the dispatcher of this process: that of ``use_dispatcher``, otherwise that of ``DJM_DISPATCHER``."""
    return _dispatcher or _named_dispatcher()


def wake(row: models.Callback | models.Messaging | models.Reply) -> None:
    """Wake the dispatcher for a row that was set back to its waiting state. With ``inline`` the work is done here."""
    if isinstance(row, models.Callback):
        get_dispatcher().callback_stored(row.pk)
    elif row.conversation_id is not None:
        if app_settings.DJM_DISPATCHER == "inline":
            get_engine().drain_conversation(row.conversation_id)
        else:
            get_dispatcher().replies_queued(row.conversation_id)
    elif isinstance(row, models.Messaging) and app_settings.DJM_DISPATCHER == "inline":
        get_engine().drain_queue(models.ConversationQueue.Kind.IN, queue_id=row.queue_id)


def install() -> None:
    """Load the rules, connect the signals and set the default Graph client. The app config calls it once."""
    load_modules()
    if not app_settings.problem("DJM_DISPATCHER"):
        if app_settings.DJM_DISPATCHER in OTHER_DISPATCHERS:
            # The import registers the tasks in a worker of Celery. If Celery is missing, the system check reports it.
            with contextlib.suppress(DJMInvalidConfigException):
                get_dispatcher_class()
        if app_settings.DJM_DISPATCHER == "embedded":
            # Web servers load the app in the main thread. Requests may run in other threads, which cannot set handlers.
            # test_replies_under_way_are_settled_before_the_process_ends, wsgiref
            handle_signals()
    set_default_client(get_client)
    reply_queued.connect(_replies_queued, dispatch_uid="djmessenger.bot")
    setting_changed.connect(_forget, dispatch_uid="djmessenger.bot")


def _replies_queued(conversation_id: int, **kwargs: Any) -> None:
    get_dispatcher().replies_queued(conversation_id)


def _forget(setting: str, **kwargs: Any) -> None:
    """Clear the caches of all objects made from settings, when a test changes a setting."""
    if not setting.startswith("DJM_") and setting not in {"INSTALLED_APPS", "DEBUG", "SECRET_KEY"}:
        return
    if _named_dispatcher.cache_info().currsize:
        _named_dispatcher().stop()
    for made in (
        _project_policy,
        _policy_at,
        _client,
        _client_of_row,
        decrypt,
        get_engine,
        _named_dispatcher,
    ):
        made.cache_clear()
