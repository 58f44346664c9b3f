"""Assembly: settings become policies, clients, secrets and the dispatcher, here and nowhere else."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.utils.module_loading import autodiscover_modules, import_string

from djmessenger import graph, models, routing, rules, settings
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.models import speaking
from djmessenger.pipeline.dispatch import (
    Dispatcher,
    EmbeddedDispatcher,
    InlineDispatcher,
    WorkerDispatcher,
)
from djmessenger.pipeline.inbox import Inbox
from djmessenger.pipeline.outbox import Outbox
from djmessenger.pipeline.road import Road

DISPATCHERS: Mapping[str, type[Dispatcher]] = {
    "inline": InlineDispatcher,
    "embedded": EmbeddedDispatcher,
    "worker": WorkerDispatcher,
}

OPTIONAL_DISPATCHERS: Mapping[str, str] = {"celery": "djmessenger.contrib.celery.CeleryDispatcher"}
"""Those that need an extra, by the path of their class."""


def app_secrets() -> dict[str, str]:
    """Give the app secrets that may sign a callback, by app id; the id is a running number where none is set.

    In DEBUG without a secret it is one made of ``SECRET_KEY``: the simulator signs with it, strangers cannot.
    """
    configured = settings.DJM_APP_SECRET
    if isinstance(configured, Mapping):
        found = {str(app_id): secret for app_id, secret in configured.items()}
    elif isinstance(configured, (list, tuple)):
        found = {f"#{number}": secret for number, secret in enumerate(configured, 1)}
    else:
        found = {settings.DJM_APP_ID: configured}
    found = {app_id: secret for app_id, secret in found.items() if secret}
    if not found and django_settings.DEBUG:
        return {settings.DJM_APP_ID: _made_up("app secret")}
    return found


def page_access_token() -> str:
    """Give the token of the Page; in DEBUG without one, a made-up one that only the emulator takes."""
    token = settings.DJM_PAGE_ACCESS_TOKEN
    if token or not django_settings.DEBUG:
        return token
    return _made_up("page access token")


def _made_up(purpose: str) -> str:
    key = django_settings.SECRET_KEY.encode()
    return hmac.new(key, f"djmessenger {purpose}".encode(), hashlib.sha256).hexdigest()[:32]


@functools.lru_cache(maxsize=1)
def get_policy() -> routing.Policy:
    """Give the policy: ``DJM_ROUTING_POLICY``, else the ``messenger.py`` modules, else the default.

    Built once for the process. Raises ``DJMInvalidConfigException`` with every mistake in it.
    """
    if settings.is_set("DJM_ROUTING_POLICY"):
        return routing.Policy.load(settings.DJM_ROUTING_POLICY)
    load_modules()
    written = rules.collect(config.name for config in apps.get_app_configs())
    if written is not None:
        return written
    return routing.Policy.load(settings.DJM_ROUTING_POLICY)


def get_policy_problems() -> list[routing.Problem]:
    """Give every mistake in the policy that would serve; building it is not needed."""
    load_modules()
    names = [config.name for config in apps.get_app_configs()]
    if settings.is_set("DJM_ROUTING_POLICY"):
        return [*routing.Policy.problems_of(settings.DJM_ROUTING_POLICY), *rules.overruled(names)]
    problems = rules.problems(names)
    return routing.Policy.problems_of(settings.DJM_ROUTING_POLICY) if problems is None else problems


def load_modules() -> None:
    """Import the ``messenger.py`` of every installed app, so that its rules and payloads are known."""
    autodiscover_modules("messenger")


_transport: graph.Transport | None = None


def use_transport(transport: graph.Transport | None) -> None:
    """Let every client made from now on speak through this transport; None: over the network."""
    global _transport  # noqa: PLW0603 - one process, one network
    _transport = transport
    _client.cache_clear()


@functools.lru_cache(maxsize=64)
def _client(page_id: str) -> graph.Client:
    token = page_access_token()
    if not token:
        raise DJMInvalidConfigException(
            "DJM_PAGE_ACCESS_TOKEN is empty: copy the Page's token from the App Dashboard "
            "(Messenger, API setup) into the environment of this process."
        )
    return graph.Client(
        token,
        app_secret=app_secrets().get(settings.DJM_APP_ID, ""),
        page_id=page_id or "me",
        base_url=settings.DJM_GRAPH_URL,
        version=settings.DJM_GRAPH_VERSION,
        transport=_transport,
        timeout=settings.DJM_GRAPH_TIMEOUT,
    )


def get_client(page: models.Page | None = None) -> graph.Client:
    """Give the Graph client of a Page, or of the one Page that the settings name."""
    return _client(settings.DJM_PAGE_ID if page is None else page.page_id)


@functools.lru_cache(maxsize=1)
def get_road() -> Road:
    """Give the road, with what the settings say about policies and clients."""
    # Who works inline sees a failure at once; a pause would leave the event to a worker that is not there.
    tries = 1 if settings.DJM_DISPATCHER == "inline" else settings.DJM_TRIES
    return Road(inbox=Inbox(lambda page: get_policy(), get_client, tries=tries), outbox=Outbox(get_client))


def get_dispatcher_class() -> type[Dispatcher]:
    """Give the class that ``DJM_DISPATCHER`` names; ``DJMInvalidConfigException`` says why there is none."""
    name = settings.DJM_DISPATCHER
    if name in DISPATCHERS:
        return DISPATCHERS[name]
    known = f"it must be {' or '.join([*DISPATCHERS, *OPTIONAL_DISPATCHERS])}, or the dotted path of a class"
    try:
        kind: type[Dispatcher] = import_string(OPTIONAL_DISPATCHERS.get(name, name))
    except ImportError as error:
        raise DJMInvalidConfigException(f"DJM_DISPATCHER is {name!r}: {known} ({error})") from error
    for method in ("callback_stored", "replies_queued"):
        if not isinstance(kind, type) or not hasattr(kind, method):
            raise DJMInvalidConfigException(
                f"DJM_DISPATCHER is {name!r}, which is no class with {method}: {known}"
            )
    return kind


@functools.lru_cache(maxsize=1)
def get_dispatcher() -> Dispatcher:
    """Give the dispatcher that ``DJM_DISPATCHER`` names, one for the process."""
    return get_dispatcher_class()(get_road)


def wake(row: models.Callback | models.Messaging | models.Reply) -> None:
    """Have a row worked on that was put back to where it waits; a hint, as all wake-ups are."""
    if isinstance(row, models.Callback):
        get_dispatcher().callback_stored(row.pk)
    elif row.conversation_id is not None:
        if settings.DJM_DISPATCHER == "inline":
            get_road().conversation(row.conversation_id)
        else:
            get_dispatcher().replies_queued(row.conversation_id)
    elif settings.DJM_DISPATCHER == "inline":
        get_road().inbox.handle_loose(row.pk)


def install() -> None:
    """Connect the parts that know each other only here; called once by the app config."""
    load_modules()
    if settings.DJM_DISPATCHER in OPTIONAL_DISPATCHERS:
        # So that a worker of Celery knows the tasks; what is not installed is the business of the check.
        with contextlib.suppress(DJMInvalidConfigException):
            get_dispatcher_class()
    graph.set_default(get_client)
    speaking.read_prefix_from(lambda: settings.DJM_BOT_PREFIX)
    models.reply_queued.connect(_replies_queued, dispatch_uid="djmessenger.bot")
    setting_changed.connect(_forget, dispatch_uid="djmessenger.bot")


def _replies_queued(conversation_id: int, **kwargs: Any) -> None:
    get_dispatcher().replies_queued(conversation_id)


def _forget(setting: str, **kwargs: Any) -> None:
    """Build anew what was made of settings that a test changes."""
    if not setting.startswith("DJM_") and setting not in {"INSTALLED_APPS", "DEBUG", "SECRET_KEY"}:
        return
    dispatcher = get_dispatcher() if get_dispatcher.cache_info().currsize else None
    if dispatcher is not None:
        dispatcher.stop()
    for made in (get_policy, _client, get_road, get_dispatcher):
        made.cache_clear()
