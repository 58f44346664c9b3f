"""Assembly: settings become policies, clients, secrets and the dispatcher, here and nowhere else."""

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
from django.db import DatabaseError, transaction
from django.utils.module_loading import autodiscover_modules, import_string

from djmessenger import models, routing
from djmessenger.bot.pages import ClientConfig, app_secrets, client_config_for, default_page
from djmessenger.bot.tokens import decrypt, encrypt, key_problems
from djmessenger.bot.tokens import is_under_newest_key as is_ciphertext_under_newest_key
from djmessenger.exceptions import DJMException, DJMInvalidConfigException, TokenKeyError
from djmessenger.graph.client import Client, LoggedCall
from djmessenger.graph.context import set_default as set_default_client
from djmessenger.graph.wire import Secret, Transport
from djmessenger.pipeline.dispatch import (
    Dispatcher,
    EmbeddedDispatcher,
    InlineDispatcher,
    WorkerDispatcher,
)
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.inbox import Inbox
from djmessenger.pipeline.outbox import Outbox
from djmessenger.routing.problems import Problem
from djmessenger.rules import registry
from djmessenger.settings import app_settings
from djmessenger.signals import reply_queued

logger = logging.getLogger(__name__)

_LONG_ENOUGH = 16
"""Letters of a token of which four may be shown."""

DISPATCHERS: Mapping[str, type[Dispatcher]] = {
    "inline": InlineDispatcher,
    "embedded": EmbeddedDispatcher,
    "worker": WorkerDispatcher,
}
OTHER_DISPATCHERS: Mapping[str, str] = {"celery": "djmessenger.contrib.celery.CeleryDispatcher"}
"""Those of an extra, by the path of their class."""


def get_policy(page: models.Page | None = None) -> routing.Policy:
    """Give the policy of a Page; where it names none, the project's.

    That is ``DJM_ROUTING_POLICY``, else the ``messenger.py`` modules, else the default. Built once for the process.
    Raises ``DJMInvalidConfigException`` with every mistake in it.
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
    """Give the module of rules, the dict or the policy that a dotted path names."""
    load_modules()
    if not _is_dotted_path(source):
        raise DJMInvalidConfigException(f"There is no policy at {source!r}: it is no dotted path")
    try:
        return importlib.import_module(source)
    except ImportError as error:
        # A module that is there and fails is not to be taken for a name inside its parent.
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
    """Give every mistake in the policy of a Page, which is a dotted path or a JSON file."""
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
    """Give every mistake in the policy that would serve; building it is not needed."""
    load_modules()
    names = [config.name for config in apps.get_app_configs()]
    if app_settings.is_set("DJM_ROUTING_POLICY"):
        return [*routing.Policy.problems_of(app_settings.DJM_ROUTING_POLICY), *registry.overruled(names)]
    problems = registry.problems(names)
    return routing.Policy.problems_of(app_settings.DJM_ROUTING_POLICY) if problems is None else problems


def load_modules() -> None:
    """Import the ``messenger.py`` of every installed app, so that its rules and payloads are known."""
    autodiscover_modules("messenger")


_transport: Transport | None = None


def use_transport(transport: Transport | None) -> None:
    """Let every client made from now on speak through this transport; None: over the network."""
    global _transport  # noqa: PLW0603 - one process, one network
    _transport = transport
    _client.cache_clear()


@functools.lru_cache(maxsize=1024)
def _client(config: ClientConfig) -> Client:
    return Client(
        config.token,
        app_secret=config.app_secret,
        page_id=config.page_id,
        base_url=config.base_url,
        version=config.version,
        transport=_transport,
        timeout=app_settings.DJM_GRAPH_TIMEOUT,
        on_call=None if config.logged_as is None else functools.partial(_log_call, config.logged_as),
    )


def get_client(page: models.Page | None = None) -> Client:
    """Give the Graph client of a Page, or of the one that is meant where none is named.

    ``DJMInvalidConfigException`` where the Page has no token, ``TokenKeyError`` where it cannot be read.
    """
    return _client(client_config_for(default_page() if page is None else page))


def get_app_client(page: models.Page | None = None) -> Client:
    """Give the client that speaks for the app of a Page itself: about its subscriptions, permissions and tokens.

    Raises ``DJMInvalidConfigException`` where the settings do not name the app and its secret.
    """
    app_id = (default_page() if page is None else page).get_app_id()
    secret = Secret(app_secrets().get(app_id, ""))
    if not (app_id and secret):
        raise DJMInvalidConfigException(
            "DJM_APP_ID and DJM_APP_SECRET are needed to ask about the app: both stand in the App Dashboard "
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
    """Keep a call in the Page's request log; the call itself never fails for it."""
    facts = dataclasses.asdict(call)
    moment = datetime.datetime.fromtimestamp(facts.pop("at"), tz=datetime.UTC)
    facts["path"], facts["fbtrace_id"] = call.path[:255], call.fbtrace_id[:64]
    try:
        # Inside a transaction of the caller's a refused line takes nothing else with it.
        with transaction.atomic():
            models.GraphCall.objects.note(page_pk, date=moment, **facts)
    except DatabaseError:
        logger.exception("A line of the request log is lost", extra={"action": "request_log_failed"})


def set_token(page: models.Page, token: Secret) -> None:
    """Put a token into a Page's row, encrypted and not saved; an empty one removes what is there."""
    page.token_ciphertext = encrypt(page.page_id, token) if token else ""


def token_hint(page: models.Page) -> str:
    """Tell staff which token a row holds by its last four letters; empty where it holds none."""
    if not page.token_ciphertext:
        return ""
    token = decrypt(page.page_id, page.token_ciphertext)
    return token.reveal()[-4:] if len(token.reveal()) >= _LONG_ENOUGH else "…"


def is_under_newest_key(page: models.Page) -> bool:
    """Tell whether the newest of ``DJM_TOKEN_KEYS`` opens the token of a row, so that the older ones can go."""
    return is_ciphertext_under_newest_key(page.token_ciphertext)


def rotate_tokens() -> int:
    """Encrypt every token in the database anew under the newest key; give how many were under another.

    ``TokenKeyError`` names those that cannot be read, when all others are done.
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
            # Whoever typed a new token meanwhile keeps it.
            rows = models.Page.objects.filter(pk=page.pk, token_ciphertext=before)
            changed += rows.update(token_ciphertext=page.token_ciphertext)
    if unread:
        raise TokenKeyError(
            f"{changed} tokens are under the newest key now; no key opens those of {', '.join(unread)}. Put the older "
            "key back into DJM_TOKEN_KEYS, or type these tokens again."
        )
    return changed


@functools.lru_cache(maxsize=1)
def get_engine() -> Engine:
    """Give the engine, with what the settings say about policies and clients."""
    # Who works inline sees a failure at once; a pause would leave the event to a worker that is not there.
    tries = 1 if app_settings.DJM_DISPATCHER == "inline" else app_settings.DJM_TRIES
    return Engine(inbox=Inbox(get_policy, get_client, tries=tries), outbox=Outbox(get_client))


def get_dispatcher_class() -> type[Dispatcher]:
    """Give the class that ``DJM_DISPATCHER`` names; ``DJMInvalidConfigException`` says why there is none."""
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
                f"DJM_DISPATCHER is {name!r}, which is no class with {method}: {known}"
            )
    return kind


_dispatcher: Dispatcher | None = None


def use_dispatcher(dispatcher: Dispatcher | None) -> None:
    """Have this process told of work by another dispatcher than the setting names; None: as the setting says."""
    global _dispatcher  # noqa: PLW0603 - one process, one dispatcher
    _dispatcher = dispatcher


@functools.lru_cache(maxsize=1)
def _named_dispatcher() -> Dispatcher:
    return get_dispatcher_class()(get_engine)


def get_dispatcher() -> Dispatcher:
    """Give the dispatcher that ``DJM_DISPATCHER`` names, one for the process."""
    return _dispatcher or _named_dispatcher()


def wake(row: models.Callback | models.Messaging | models.Reply) -> None:
    """Have a row worked on that was put back to where it waits; a hint, as all wake-ups are."""
    if isinstance(row, models.Callback):
        get_dispatcher().callback_stored(row.pk)
    elif row.conversation_id is not None:
        if app_settings.DJM_DISPATCHER == "inline":
            get_engine().conversation(row.conversation_id)
        else:
            get_dispatcher().replies_queued(row.conversation_id)
    elif app_settings.DJM_DISPATCHER == "inline":
        get_engine().inbox.handle_event_without_conversation(row.pk)


def install() -> None:
    """Connect the parts that know each other only here; called once by the app config."""
    load_modules()
    if app_settings.DJM_DISPATCHER in OTHER_DISPATCHERS:
        # So that a worker of Celery knows the tasks; what is not installed is the business of the check.
        with contextlib.suppress(DJMInvalidConfigException):
            get_dispatcher_class()
    set_default_client(get_client)
    reply_queued.connect(_replies_queued, dispatch_uid="djmessenger.bot")
    setting_changed.connect(_forget, dispatch_uid="djmessenger.bot")


def _replies_queued(conversation_id: int, **kwargs: Any) -> None:
    get_dispatcher().replies_queued(conversation_id)


def _forget(setting: str, **kwargs: Any) -> None:
    """Build anew what was made of settings that a test changes."""
    if not setting.startswith("DJM_") and setting not in {"INSTALLED_APPS", "DEBUG", "SECRET_KEY"}:
        return
    if _named_dispatcher.cache_info().currsize:
        _named_dispatcher().stop()
    for made in (_project_policy, _policy_at, _client, decrypt, get_engine, _named_dispatcher):
        made.cache_clear()
