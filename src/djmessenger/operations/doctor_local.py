"""Examination of the links that need no network: settings, version, database, dispatcher, queues, last callbacks."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core import checks as system_checks
from django.db import DatabaseError
from django.db.migrations.exceptions import NodeNotFoundError
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from djmessenger import bot, models, rulebook, sql
from djmessenger.exceptions import DJMException
from djmessenger.operations.doctor import FAIL, OK, WARN, Finding, span
from djmessenger.pipeline.dispatch import InlineDispatcher, WorkerDispatcher
from djmessenger.settings import app_settings

LAG_WARN, LAG_FAIL = 60.0, 600.0
"""Seconds of waiting in a queue that are worth a warning, and that are a failure."""
QUIET = datetime.timedelta(days=7)
"""Time without a callback that is worth a warning."""


@dataclass
class LocalDoctor:
    """The examination of this installation, without the network."""

    now: Callable[[], datetime.datetime] = timezone.now

    def findings(self) -> Iterator[Finding]:
        """Examine the links one after the other and yield the findings."""
        yield from self._settings()
        yield self._version()
        yield self._rulebook()
        database = self._database()
        yield database
        if database.status != FAIL:
            yield self._dispatcher()
            yield from self._queues()
            yield from self._pages()

    def _settings(self) -> Iterator[Finding]:
        messages = [
            item
            for item in system_checks.run_checks()
            if str(item.id).startswith("djmessenger.") and not item.is_silenced()
        ]
        for item in sorted(messages, key=lambda item: -item.level):
            status = FAIL if item.level >= system_checks.ERROR else WARN
            yield Finding(status, "settings", f"{item.id}: {item.msg}", item.hint or "")
        if not messages:
            yield Finding(OK, "settings", "the system checks find no problem")
        if settings.DEBUG:
            yield Finding(
                WARN, "settings", "DEBUG is on: generated secrets are used if none are set",
                "Set DEBUG = False on a server to which people write.",
            )  # fmt: skip

    def _version(self) -> Finding:
        version = app_settings.DJM_GRAPH_VERSION
        row = rulebook.rows().get(f"graph.{version}")
        cure = "Set DJM_GRAPH_VERSION; docs/graph-versions.md describes the steps."
        if row is None:
            return Finding(
                WARN, "version", f"{version} is not in the rulebook, so its end date is unknown", cure
            )
        if row.until is None:
            return Finding(OK, "version", f"{version}; Meta had announced no end date on {row.date}")
        days = (row.until - self.now().date()).days
        if days <= 0:
            return Finding(FAIL, "version", f"{version} ended on {row.until}", cure)
        return Finding(
            WARN if days <= 90 else OK, "version", f"{version} ends on {row.until}, in {days} days", cure
        )

    def _rulebook(self) -> Finding:
        days = rulebook.days_since_reading(self.now().date())
        detail = f"the newest row of the rulebook was read {max(days, 0)} days ago"
        if days <= rulebook.STALE_DAYS:
            return Finding(OK, "rulebook", detail)
        return Finding(
            WARN, "rulebook", detail, "Update djmessenger, or set what Meta changed in DJM_RULEBOOK."
        )

    def _database(self) -> Finding:
        try:
            executor = MigrationExecutor(sql.connection())
            waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
        except DatabaseError as error:
            return Finding(FAIL, "database", f"no connection: {type(error).__name__}", "Check DATABASES.")
        except NodeNotFoundError:
            return Finding(
                FAIL,
                "database",
                "its records of migrations do not fit those of the installed apps",
                "Run manage.py migrate, which names them.",
            )
        mine = [migration for migration, _back in waiting if migration.app_label == "djmessenger"]
        if mine:
            return Finding(
                FAIL,
                "database",
                "migrations of djmessenger are missing",
                f"Run manage.py migrate --database={sql.alias()}.",
            )
        return Finding(OK, "database", "connected, and all migrations are applied")

    def _dispatcher(self) -> Finding:
        name = app_settings.DJM_DISPATCHER
        try:
            kind = bot.get_dispatcher_class()
        except DJMException as error:
            return Finding(FAIL, "dispatcher", str(error), "Set DJM_DISPATCHER.")
        if issubclass(kind, InlineDispatcher):
            return Finding(
                WARN, "dispatcher", f"{name}: events are handled inside the request, while Meta waits for the answer",
                "On a server set DJM_DISPATCHER to embedded or worker.",
            )  # fmt: skip
        if issubclass(kind, WorkerDispatcher):
            return Finding(
                OK,
                "dispatcher",
                f"{name}: manage.py djmessenger worker does the work; the queues below show if it runs",
            )
        return Finding(OK, "dispatcher", name)

    def _queues(self) -> Iterator[Finding]:
        new = models.Callback.objects.filter(state=models.Callback.State.NEW)
        yield self._lag(
            "stored callbacks", new.order_by("date_received").values_list("date_received", flat=True)
        )
        for kind, name in (
            (models.ConversationQueue.Kind.IN, "events"),
            (models.ConversationQueue.Kind.OUT, "replies"),
        ):
            due = models.ConversationQueue.objects.filter(kind=kind, ready_at__lte=self.now(), is_slow=False)
            yield self._lag(name, due.order_by("ready_at").values_list("ready_at", flat=True))
        slow = models.ConversationQueue.objects.filter(is_slow=True, ready_at__lte=self.now()).order_by(
            "ready_at"
        )
        if slow.exists():
            yield self._lag(
                "events for slow rules",
                slow.values_list("ready_at", flat=True),
                "Start manage.py djmessenger worker with more --slow-threads; give rules that hang a timeout.",
            )

    def _lag(
        self,
        name: str,
        moments: Any,
        advice: str = "Start manage.py djmessenger worker, or one more; the log shows failures.",
    ) -> Finding:
        first = moments.first()
        if first is None:
            return Finding(OK, "queue", f"no {name} wait")
        lag = (self.now() - first).total_seconds()
        status = FAIL if lag > LAG_FAIL else WARN if lag > LAG_WARN else OK
        return Finding(
            status,
            "queue",
            f"{name} wait: {moments.count()}, the oldest for {span(lag)}",
            advice if status != OK else "",
        )

    def _pages(self) -> Iterator[Finding]:
        pages = models.Page.objects.order_by("pk")
        if not pages:
            yield Finding(
                WARN, "callbacks", "none has come yet",
                "Write to the Page. If nothing comes, the findings below show the reason.",
            )  # fmt: skip
        for page in pages:
            if page.paused_until is not None and page.paused_until > self.now():
                yield Finding(
                    FAIL, "page", f"{page}: nothing is sent before {page.paused_until:%Y-%m-%d %H:%M %Z}",
                    page.pause_reason or "The log contains the reason.",
                )  # fmt: skip
            last = page.date_last_callback
            if last is None:
                yield Finding(WARN, "callbacks", f"{page}: none has come yet", "Write to the Page.")
                continue
            since = self.now() - last
            yield Finding(
                WARN if since > QUIET else OK,
                "callbacks",
                f"{page}: the last came {span(since.total_seconds())} ago",
                "Write to the Page. After an hour of failures Meta ends the subscription; "
                "manage.py djmessenger subscribe starts it again."
                if since > QUIET
                else "",
            )
