"""Internal: system checks of the database: its kind, its router, its pool, its times and a pooler in front of it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.db import router
from django.utils import timezone

from djmessenger import bot, sql
from djmessenger.checks import are_right, new_error, new_warning
from djmessenger.exceptions import DJMException
from djmessenger.pipeline.connections import pool_size, sessions_are_shared
from djmessenger.pipeline.dispatch import (
    EMBEDDED_THREADS,
    WORKER_THREADS,
    EmbeddedDispatcher,
    WorkerDispatcher,
)
from djmessenger.pipeline.worker import connections_needed

VENDORS = ("postgresql", "sqlite")
"""Databases whose SQL the engine speaks, by Django's name."""


@checks.register("djmessenger")
def check_database(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Report a database, a router, schemas or a pool that are unfit for the engine, and local times with gaps."""
    return [*_vendor(), *_router(), *_tenants(), *_pool(), *_clock_changes()]


def _vendor() -> Iterator[CheckMessage]:
    connection = sql.connection()
    if connection.vendor not in VENDORS:
        yield new_error(
            "E054",
            f"The database is {connection.display_name}: no callback can be stored, and each is answered 503.",
            "Use PostgreSQL, or SQLite on one host.",
            "deployment",
        )


def _router() -> Iterator[CheckMessage]:
    aliases = {
        alias
        for model in apps.get_app_config("djmessenger").get_models()
        for alias in (router.db_for_read(model), router.db_for_write(model))
    }
    if len(aliases) > 1:
        yield new_error(
            "E051",
            f"A router divides the models of djmessenger between {', '.join(sorted(aliases))}: a step of the engine is "
            "one transaction, which covers one database only.",
            "Let DATABASE_ROUTERS read and write all models of this app in one database.",
            "deployment",
        )


def _tenants() -> Iterator[CheckMessage]:
    """Report tables of the app in the schemas of tenants, by the settings of django-tenants and its predecessor."""
    config = apps.get_app_config("djmessenger")
    names = {config.name, f"{type(config).__module__}.{type(config).__qualname__}"}
    public = getattr(settings, "PUBLIC_SCHEMA_NAME", "public")
    of_types = [
        name
        for schema, kind in getattr(settings, "TENANT_TYPES", {}).items()
        if schema != public
        for name in kind.get("APPS", ())
    ]
    if names.intersection([*getattr(settings, "TENANT_APPS", ()), *of_types]):
        yield new_error(
            "E056",
            "djmessenger is an app of tenants, with tables in the schema of each. Workers and commands read the public "
            "schema only, so no callback of a tenant would be handled.",
            "Move djmessenger from TENANT_APPS to SHARED_APPS. All tenants then share its tables in the public schema.",
            "deployment",
        )


def _pool() -> Iterator[CheckMessage]:
    size = pool_size(sql.connection().settings_dict["OPTIONS"])
    if size is None or not are_right("DJM_DISPATCHER"):
        return
    try:
        kind = bot.get_dispatcher_class()
    except DJMException:
        return
    if issubclass(kind, EmbeddedDispatcher):
        needed, what = connections_needed(EMBEDDED_THREADS), "the threads of the engine in each web process"
        more = ", and one more for each thread that answers requests"
    elif issubclass(kind, WorkerDispatcher):
        needed, what = connections_needed(WORKER_THREADS), f"a worker of {WORKER_THREADS} threads"
        more = f": --threads and {connections_needed(0)}"
    else:
        return
    if size < needed:
        yield new_warning(
            "W053",
            f"The pool of the database has {size} connections, and {what} use {needed} at once: threads wait for "
            "each other.",
            f'Set OPTIONS["pool"] = {{"max_size": {needed}}} at least{more}. Slow rules that read the database need '
            "one more each.",
            "deployment",
        )


def _clock_changes() -> Iterator[CheckMessage]:
    if settings.USE_TZ or sql.connection().vendor != "sqlite":
        return
    zone, year = timezone.get_default_timezone(), timezone.now().year
    offsets = {datetime.datetime(year, month, 1, tzinfo=zone).utcoffset() for month in range(1, 13)}
    if len(offsets) > 1:
        yield new_warning(
            "W055",
            f"USE_TZ is False, SQLite stores local times, and the clocks of {settings.TIME_ZONE} change twice a year: "
            "in those nights work that waits is up to an hour late, and leases end up to an hour early.",
            "Set USE_TZ = True or TIME_ZONE = 'UTC', or use PostgreSQL.",
            "deployment",
        )


@checks.register(checks.Tags.database, "djmessenger")
def check_pooler(
    app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report a pooler in transaction mode of which Django does not know. Needs a connection."""
    connection = sql.connection()
    if (
        sql.alias() not in (databases or ())
        or connection.vendor != "postgresql"
        or connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
        or not sessions_are_shared()
    ):
        return []
    return [
        new_warning(
            "W052",
            "A pooler in front of PostgreSQL shares sessions between transactions: iterator() of the project fails "
            "outside of transactions, and a worker is not notified of work but looks for it every DJM_POLL seconds.",
            f'Set DATABASES["{sql.alias()}"]["DISABLE_SERVER_SIDE_CURSORS"] = True, or connect the worker to '
            "PostgreSQL itself.",
            "deployment",
        )
    ]


@checks.register(checks.Tags.database, "djmessenger")
def check_encoding(
    app_configs: Any = None, databases: Iterable[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report a database of PostgreSQL that cannot store each text. ``migrate`` runs this check."""
    alias, connection = sql.alias(), sql.connection()
    if alias not in (databases or ()) or connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_encoding")
        (encoding,) = cursor.fetchone()
    if encoding == "UTF8":
        return []
    return [
        new_error(
            "E080",
            f"The database {alias!r} has the encoding {encoding}: it refuses messages of persons or counts their "
            "characters wrongly.",
            "Make a database with: createdb --encoding UTF8 --template template0. Copy the data by pg_dump.",
            "deployment",
        )
    ]
