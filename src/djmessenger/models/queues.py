"""Conversation queues with their leases, and the sweep that finds forgotten work."""

from __future__ import annotations

import datetime
import os
import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db import connections, models, router, transaction
from django.db.models import Q
from django.db.models.expressions import Combinable
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from djmessenger.exceptions import DJMException
from djmessenger.sql import Among, Given, Prepared, Several, dialect, execute, fetch


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to work on a queue for a while; ``fencing_token`` is the fencing number that every commit checks."""

    queue_id: int
    conversation_id: int
    kind: str
    fencing_token: int


class LeaseLost(DJMException):
    """Somebody else holds the queue by now; nothing of what was done under the old lease may be committed."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(
            f"queue {lease.queue_id} was let go of or claimed by another after fencing_token {lease.fencing_token}"
        )
        self.lease = lease


_TAKE = (
    "UPDATE {table} SET fencing_token = fencing_token + 1, owner = %s, leased_until = {later}, ready_at = {later}, "
    "is_slow = false WHERE id IN (SELECT id FROM chosen) RETURNING id, conversation_id, fencing_token"
)
"""The end of a claim: with its name, and twice the seconds."""


def _leases(kind: str, rows: Iterable[tuple[Any, ...]]) -> list[Lease]:
    return [
        Lease(queue_id=pk, conversation_id=owner, kind=kind, fencing_token=fencing_token)
        for pk, owner, fencing_token in rows
    ]


def in_seconds(seconds: float) -> Combinable:
    """Give a moment by the clock of the database, which is the same for all hosts."""
    # SQLite compares times as text, and a sum has more digits than the clock: now would come after now.
    return Now() + datetime.timedelta(seconds=seconds) if seconds else Now()


def process_name() -> str:
    """Name this process in leases, for those who look at the table."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}"


class ConversationQueueManager(models.Manager["ConversationQueue"]):
    """All claims and releases of queues; the same on SQLite and PostgreSQL, by the clock of the database."""

    def ensure(self, conversation_ids: Iterable[int]) -> None:
        """Make both queues of new conversations, in sorted order."""
        self.bulk_create(
            [
                ConversationQueue(conversation_id=conversation_id, kind=kind)
                for conversation_id in sorted(conversation_ids)
                for kind in ConversationQueue.Kind.values
            ],
            ignore_conflicts=True,
        )

    def wake(self, conversation_ids: Iterable[int], kind: str, *, after: float = 0.0) -> None:
        """Say, inside the caller's transaction, that something waits, from ``after`` seconds on.

        A queue that is leased stays with its holder, who looks again under the same lock before letting go.
        Queues that are not there are made: what is queued into a conversation made by hand is not forgotten.
        """
        wanted = set(conversation_ids)
        with transaction.atomic(using=router.db_for_write(ConversationQueue), savepoint=False):
            if len(wanted) > 1:
                # For a single one nobody can wait crosswise.
                self.lock(wanted, kind)
            self.wake_locked(wanted, kind, after=after)

    def wake_locked(self, conversation_ids: Collection[int], kind: str, *, after: float = 0.0) -> None:
        """Wake queues that the caller has locked; in plain SQL, for each reply does it."""
        if not conversation_ids:
            return
        alias = router.db_for_write(ConversationQueue)
        due = "{greatest}({later}, COALESCE(leased_until, {later}))"
        text = (
            f"UPDATE {{table}} SET ready_at = {{least}}(COALESCE(ready_at, {due}), {due}), "  # noqa: S608 - no input
            # A process of the version before may have left the mark where nothing waited any more.
            "is_slow = (is_slow AND ready_at IS NOT NULL) "
            f"WHERE kind = %s AND conversation_id IN ({', '.join(['%s'] * len(conversation_ids))})"
        ).format_map(dialect(ConversationQueue, alias))
        values = [*[after] * 4, kind, *conversation_ids]
        if execute(alias, text, values) < len(conversation_ids):
            self.ensure(conversation_ids)
            execute(alias, text, values)

    def lock(self, conversation_ids: Iterable[int], kind: str) -> list[int]:
        """Lock queues to the end of the transaction and give their keys; those that are not there are made.

        In sorted order, so that two batches with the same people never wait for each other.
        """
        wanted = set(conversation_ids)
        found = _LOCKED.rows(conversations=wanted, kind=kind)
        if len(found) < len(wanted):
            self.ensure(wanted)
            found = _LOCKED.rows(conversations=wanted, kind=kind)
        return [pk for (pk,) in found]

    def claim(
        self,
        kind: str,
        *,
        seconds: float,
        limit: int = 1,
        conversation_id: int | None = None,
        is_slow: bool = False,
    ) -> list[Lease]:
        """Take up to ``limit`` queues in which something waits, the longest waiting first, for ``seconds``.

        Those that wait for a thread for slow work are taken with ``is_slow``, and by whoever names a conversation.
        """
        alias = router.db_for_write(ConversationQueue)
        waiting = "FROM {table} WHERE kind = %s AND ready_at <= {now}"
        values: list[Any] = [kind]
        if conversation_id is not None:
            waiting += " AND conversation_id = %s"
            values.append(conversation_id)
        else:
            waiting += " AND is_slow = %s"
            values.append(is_slow)
        known = dialect(ConversationQueue, alias)
        if not known["skip_locked"]:
            # One writer at a time: whoever finds nothing should not have kept the others waiting.
            text = f"SELECT 1 {waiting} LIMIT 1"
            if not fetch(alias, text.format_map(known), values):
                return []
        # Moved to the lease's end, an abandoned queue comes back by itself.
        text = f"WITH chosen AS (SELECT id {waiting} ORDER BY ready_at, id LIMIT %s {{skip_locked}}) {_TAKE}"
        rows = fetch(alias, text.format_map(known), [*values, limit, process_name(), seconds, seconds])
        return _leases(kind, rows)

    def claim_idle(
        self,
        kind: str,
        conversation_ids: Collection[int],
        rows: type[models.Model],
        *,
        where: str,
        seconds: float,
    ) -> list[Lease]:
        """Take, in the caller's transaction, those of these queues that nobody holds and in which nothing waits.

        ``where`` is SQL of the caller's own: which of ``rows`` wait. A queue that somebody is at is passed over.
        """
        alias = router.db_for_write(ConversationQueue)
        known = dialect(ConversationQueue, alias) | {"rows": dialect(rows, alias)["table"]}
        text = (
            "WITH chosen AS (SELECT id FROM {table} queue_ WHERE kind = %s AND ready_at IS NULL "  # noqa: S608 - no input
            f"AND leased_until IS NULL AND conversation_id IN ({', '.join(['%s'] * len(conversation_ids))}) AND NOT "
            f"EXISTS (SELECT 1 FROM {{rows}} WHERE conversation_id = queue_.conversation_id AND {where}) "
            "ORDER BY conversation_id {skip_locked}) "
            f"{_TAKE}"
        )
        values = [kind, *conversation_ids, process_name(), seconds, seconds]
        return _leases(kind, fetch(alias, text.format_map(known), values))

    def due(self, limit: int) -> list[tuple[str, int]]:
        """Give direction and conversation of queues that could be claimed now, the longest waiting first."""
        waiting = self.filter(ready_at__lte=Now()).order_by("ready_at", "pk")
        return list(waiting.values_list("kind", "conversation_id")[:limit])

    def seconds_until_due(self, conversation_id: int, kind: str) -> float | None:
        """Give how long it is until a queue can be claimed; None where nothing waits in it."""
        queues = self.filter(conversation_id=conversation_id, kind=kind, ready_at__isnull=False)
        found = queues.annotate(now=Now()).values_list("ready_at", "now").first()
        if found is None or found[0] is None:
            return None
        return float((found[0] - found[1]).total_seconds())

    def fence(self, lease: Lease) -> ConversationQueue:
        """Lock the queue to the end of the transaction; ``LeaseLost`` when somebody claimed it since."""
        queue = self.select_for_update().filter(pk=lease.queue_id, fencing_token=lease.fencing_token).first()
        if queue is None:
            raise LeaseLost(lease)
        return queue

    def fence_many(self, leases: Iterable[Lease]) -> set[int]:
        """Lock queues to the end of the transaction, in sorted order; give the keys of those that are still held."""
        fencing_tokens = {lease.queue_id: lease.fencing_token for lease in leases}
        return {
            pk
            for pk, fencing_token in _FENCED.rows(queues=fencing_tokens)
            if fencing_tokens[pk] == fencing_token
        }

    def check_leased(self, lease: Lease) -> None:
        """Raise ``LeaseLost`` when somebody claimed the queue since."""
        if not self.filter(pk=lease.queue_id, fencing_token=lease.fencing_token).exists():
            raise LeaseLost(lease)

    def renew(self, lease: Lease, seconds: float) -> None:
        """Hold on to a queue for ``seconds`` from now; ``LeaseLost`` when somebody claimed it since.

        One that was let go of stays free: who renews may be behind who releases.
        """
        until = in_seconds(seconds)
        mine = self.filter(pk=lease.queue_id, fencing_token=lease.fencing_token, leased_until__isnull=False)
        if not mine.update(leased_until=until, ready_at=until):
            raise LeaseLost(lease)

    def give_back(self, lease: Lease, *, after: float = 0.0, is_slow: bool = False) -> None:
        """Let go of a queue whose work broke off, to be looked at again; nothing where it is another's by now.

        With ``is_slow`` by whoever has a thread for slow work.
        """
        mine = self.filter(pk=lease.queue_id, fencing_token=lease.fencing_token, leased_until__isnull=False)
        mine.update(ready_at=in_seconds(after), leased_until=None, owner="", is_slow=is_slow)

    def release(self, queue: ConversationQueue, *, after: float | None) -> None:
        """Let go of a queue that ``fence`` locked; ``after`` seconds something waits in it, None: nothing does."""
        ready = None if after is None else in_seconds(after)
        self.filter(pk=queue.pk).update(ready_at=ready, leased_until=None, owner="")

    def release_many(
        self, queue_ids: Collection[int], rows: type[models.Model], *, where: str, order: str
    ) -> None:
        """Let go of queues that are locked: each is due when the first of its ``rows`` is, if there is one.

        ``where`` and ``order`` are SQL of the caller's own: which of them wait, and which of these is first.
        """
        if not queue_ids:
            return
        alias = router.db_for_write(ConversationQueue)
        text = (
            "UPDATE {queues} SET leased_until = NULL, owner = '', ready_at = "  # noqa: S608 - no input
            "(SELECT {greatest}({now}, COALESCE(not_before, {now})) FROM {table} "
            f"WHERE conversation_id = {{queues}}.conversation_id AND {where} ORDER BY {order} LIMIT 1) "
            f"WHERE id IN ({', '.join(['%s'] * len(queue_ids))})"
        ).format_map(dialect(rows, alias) | {"queues": dialect(ConversationQueue, alias)["table"]})
        execute(alias, text, list(queue_ids))


class ConversationQueue(models.Model):
    """One direction of a conversation: its inbox or its outbox; held by one worker at a time."""

    class Kind(models.TextChoices):
        IN = "in", _("incoming")
        OUT = "out", _("outgoing")

    conversation = models.ForeignKey(
        "djmessenger.Conversation",
        verbose_name=_("conversation"),
        on_delete=models.CASCADE,
        related_name="queues",
    )
    kind = models.CharField(_("direction"), max_length=3, choices=Kind)
    ready_at = models.DateTimeField(
        _("waiting since"), null=True, blank=True, help_text=_("Or due, where it lies ahead.")
    )
    leased_until = models.DateTimeField(_("held until"), null=True, blank=True)
    fencing_token = models.BigIntegerField(_("fencing token"), default=0)
    owner = models.CharField(_("held by"), max_length=64, blank=True)
    is_slow = models.BooleanField(
        _("slow"),
        default=False,
        # Processes of the version before make queues too while a site is brought up to date.
        db_default=False,
        help_text=_("Waits for a thread for slow work."),
    )

    objects: ClassVar[ConversationQueueManager] = ConversationQueueManager()

    class Meta:
        verbose_name = _("conversation queue")
        verbose_name_plural = _("conversation queues")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["conversation", "kind"], name="djm_queue_conversation_kind")
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["kind", "is_slow", "ready_at"],
                name="djm_queue_due",
                condition=Q(ready_at__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"{self.conversation_id} {self.get_kind_display()}"


def _locked(*names: Among, **conditions: Any) -> models.QuerySet[ConversationQueue, Any]:
    """Queues in the order in which all lock them, locked to the end of the transaction where rows can be."""
    queues = ConversationQueue.objects.filter(*names, **conditions).order_by("conversation_id")
    can = connections[router.db_for_write(ConversationQueue)].features.has_select_for_update
    return queues.select_for_update() if can else queues


_LOCKED = Prepared(
    ConversationQueue,
    lambda: _locked(Among("conversation", Several("conversations")), kind=Given("kind")).values_list("pk"),
)
_FENCED = Prepared(
    ConversationQueue, lambda: _locked(Among("pk", Several("queues"))).values_list("pk", "fencing_token")
)


class SweepManager(models.Manager["Sweep"]):
    """Gives the turn to one process at a time, by the clock of the database."""

    def claim(self, seconds: float) -> bool:
        """Take the turn for so many seconds; false when another has it.

        It is not given back: when its holder dies, the others wait no longer than they do anyway.
        """
        if self.filter(pk=Sweep.ONLY, date_free__lte=Now()).update(date_free=in_seconds(seconds)):
            return True
        return self.get_or_create(pk=Sweep.ONLY, defaults={"date_free": in_seconds(seconds)})[1]


class Sweep(models.Model):
    """The one row that says until when nobody else needs to sweep: many processes do, and once is enough."""

    ONLY = 1

    date_free = models.DateTimeField(_("free from"))

    objects: ClassVar[SweepManager] = SweepManager()

    class Meta:
        verbose_name = _("sweep")
        verbose_name_plural = _("sweeps")

    def __str__(self) -> str:
        return f"{self.date_free:%Y-%m-%d %H:%M:%S}"
