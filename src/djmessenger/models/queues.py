"""Conversation queues with their leases, and the row by which one process at a time sweeps."""

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
    """The right to work on a conversation queue until a time. Every commit of its holder checks ``fencing_token``."""

    queue_id: int
    conversation_id: int
    kind: str
    fencing_token: int


class LeaseLost(DJMException):
    """Error: another worker has claimed the queue, or it was released. The transaction must be rolled back."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(
            f"queue {lease.queue_id}: lease {lease.fencing_token} was released, or another worker has the queue"
        )
        self.lease = lease


# Guard: a holder that was frozen longer than its lease would commit beside the new holder. The token grows with each
# claim, so the commit finds another number and is refused.
# Test: tests/test_queues.py, test_a_worker_whose_lease_expired_can_commit_nothing.
_TAKE = (
    "UPDATE {table} SET fencing_token = fencing_token + 1, owner = %s, leased_until = {later}, ready_at = {later}, "
    "is_slow = false WHERE id IN (SELECT id FROM chosen) RETURNING id, conversation_id, fencing_token"
)
"""End of each claim, as SQL. Parameters: the name of the process, then twice the seconds of the lease."""


def _leases(kind: str, rows: Iterable[tuple[Any, ...]]) -> list[Lease]:
    return [
        Lease(queue_id=pk, conversation_id=owner, kind=kind, fencing_token=fencing_token)
        for pk, owner, fencing_token in rows
    ]


def in_seconds(seconds: float) -> Combinable:
    """Return an SQL expression for the time in ``seconds`` by the database's clock, which all hosts share."""
    # Guard: SQLite compares times as text, and a sum has more digits than Now(). A queue that is due now would
    # come after Now() in the same millisecond and could not be claimed.
    return Now() + datetime.timedelta(seconds=seconds) if seconds else Now()


def process_name() -> str:
    """Return the host name and process id: the owner that the admin shows for a lease."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}"


class ConversationQueueManager(models.Manager["ConversationQueue"]):
    """All claims, renewals and releases of queues, on SQLite and PostgreSQL, by the database's clock."""

    def ensure(self, conversation_ids: Iterable[int]) -> None:
        """Insert both queues of conversations if they are missing."""
        # Guard: two transactions that insert the same keys in different order would deadlock; hence the sort.
        self.bulk_create(
            [
                ConversationQueue(conversation_id=conversation_id, kind=kind)
                for conversation_id in sorted(conversation_ids)
                for kind in ConversationQueue.Kind.values
            ],
            ignore_conflicts=True,
        )

    def wake(self, conversation_ids: Iterable[int], kind: str, *, after: float = 0.0) -> None:
        """Make queues due in ``after`` seconds, in the caller's transaction or in one of its own.

        A queue that is due earlier stays so. A leased queue stays leased; its holder reads the waiting rows again
        under the same lock before the release. Missing queues are inserted.
        """
        wanted = set(conversation_ids)
        with transaction.atomic(using=router.db_for_write(ConversationQueue), savepoint=False):
            if len(wanted) > 1:
                # Guard: an UPDATE locks rows in any order, so two wake-ups of the same two queues could deadlock.
                # One queue alone cannot.
                self.lock(wanted, kind)
            self.wake_locked(wanted, kind, after=after)

    def wake_locked(self, conversation_ids: Collection[int], kind: str, *, after: float = 0.0) -> None:
        """Make queues due as ``wake`` does, without a lock of their order: for one queue, or for locked ones."""
        if not conversation_ids:
            return
        alias = router.db_for_write(ConversationQueue)
        # Guard: not before the end of a lease, otherwise the wake-up would let a second worker claim the queue.
        # Test: tests/test_queues.py, test_a_wake_up_of_a_leased_queue_does_not_end_its_lease.
        due = "{greatest}({later}, COALESCE(leased_until, {later}))"
        text = (
            f"UPDATE {{table}} SET ready_at = {{least}}(COALESCE(ready_at, {due}), {due}), "  # noqa: S608 - no input
            # Guard: a process of the version before may leave the mark on a queue without work. The next event
            # would then wait for a slow thread.
            # Test: tests/test_queues.py, test_a_slow_mark_of_an_older_version_is_removed_by_a_wake_up.
            "is_slow = (is_slow AND ready_at IS NOT NULL) "
            f"WHERE kind = %s AND conversation_id IN ({', '.join(['%s'] * len(conversation_ids))})"
        ).format_map(dialect(ConversationQueue, alias))
        values = [*[after] * 4, kind, *conversation_ids]
        if execute(alias, text, values) < len(conversation_ids):
            self.ensure(conversation_ids)
            execute(alias, text, values)

    def lock(self, conversation_ids: Iterable[int], kind: str) -> list[int]:
        """Lock queues until the end of the caller's transaction and return their ids. Missing queues are inserted."""
        # Guard: two batches with the same people in different order would deadlock. `_locked` sorts by conversation.
        # Test (PostgreSQL): tests/test_intake.py,
        # test_batches_with_the_same_people_and_events_in_any_order_never_deadlock.
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
        """Lease up to ``limit`` due queues, oldest first, for ``seconds``.

        Queues marked ``is_slow`` are claimed only with ``is_slow=True``, or when ``conversation_id`` names one queue.
        Returns the leases. Each claim increments the fencing token. Commits at once if no transaction is open.
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
            # SQLite has one writer at a time. A poll that finds nothing must not wait for the write lock.
            text = f"SELECT 1 {waiting} LIMIT 1"
            if not fetch(alias, text.format_map(known), values):
                return []
        # `skip_locked`: a poll leaves queues to the claim of another worker instead of waiting for its commit.
        # Guard: a holder that dies never releases the queue. The claim moves `ready_at` to the end of the lease, so
        # the queue is due again by itself.
        # Test: tests/test_queues.py, test_an_abandoned_queue_comes_back_with_a_higher_fencing_token.
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
        """Lease, in the caller's transaction, those of the given queues that are idle: not leased, not due, empty.

        A queue is empty if none of ``rows`` fulfils ``where``, a constant SQL condition of the caller. Queues that
        another transaction has locked are skipped. Returns the leases.
        """
        # Guard: a row can wait although `ready_at` is empty, when its wake-up was lost. The claimed new event would
        # be handled before the older one, so such a queue is not idle.
        # Test: tests/test_intake_taking.py, test_an_event_that_waits_without_a_wake_up_is_handled_before_a_new_one.
        # Guard: a claim sets both `ready_at` and `leased_until`. Without a condition on either of them the split would
        # claim a queue on which another worker works.
        # Test: tests/test_intake_taking.py, test_a_split_does_not_claim_a_leased_conversation.
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
        """Return kind and conversation id of up to ``limit`` due queues, oldest first, without a claim."""
        waiting = self.filter(ready_at__lte=Now()).order_by("ready_at", "pk")
        return list(waiting.values_list("kind", "conversation_id")[:limit])

    def seconds_until_due(self, conversation_id: int, kind: str) -> float | None:
        """Return the seconds until a queue is due, negative if it is due already; None if nothing waits in it."""
        queues = self.filter(conversation_id=conversation_id, kind=kind, ready_at__isnull=False)
        found = queues.annotate(now=Now()).values_list("ready_at", "now").first()
        if found is None or found[0] is None:
            return None
        return float((found[0] - found[1]).total_seconds())

    def fence(self, lease: Lease) -> ConversationQueue:
        """Lock the queue of a lease until the end of the caller's transaction, and return its row.

        Raises ``LeaseLost`` if the queue was claimed again; the transaction must then be rolled back.
        """
        # Guard: a worker that was frozen longer than its lease would settle a reply that another worker sends.
        # Test: tests/faults/test_guards.py,
        # test_without_the_fence_a_late_result_settles_the_reply_of_another_worker.
        queue = self.select_for_update().filter(pk=lease.queue_id, fencing_token=lease.fencing_token).first()
        if queue is None:
            raise LeaseLost(lease)
        return queue

    def fence_many(self, leases: Iterable[Lease]) -> set[int]:
        """Lock the queues of leases until the end of the caller's transaction, in conversation order.

        Returns the ids of the queues whose lease is still valid. A lost lease raises nothing.
        """
        fencing_tokens = {lease.queue_id: lease.fencing_token for lease in leases}
        return {
            pk
            for pk, fencing_token in _FENCED.rows(queues=fencing_tokens)
            if fencing_tokens[pk] == fencing_token
        }

    def check_leased(self, lease: Lease) -> None:
        """Raise ``LeaseLost`` if the queue was claimed again. Locks nothing, so the lease can end right after."""
        if not self.filter(pk=lease.queue_id, fencing_token=lease.fencing_token).exists():
            raise LeaseLost(lease)

    def renew(self, lease: Lease, seconds: float) -> None:
        """Extend a lease to ``seconds`` from now. Raise ``LeaseLost`` if the queue was released or claimed again."""
        # Guard: a renewal may run after the release by another thread of this process. Without the check for a
        # lease it would lease the queue again, and no thread would work on it.
        # Test: tests/test_worker.py, test_a_renewal_after_the_release_takes_no_lease.
        until = in_seconds(seconds)
        mine = self.filter(pk=lease.queue_id, fencing_token=lease.fencing_token, leased_until__isnull=False)
        if not mine.update(leased_until=until, ready_at=until):
            raise LeaseLost(lease)

    def give_back(self, lease: Lease, *, after: float = 0.0, is_slow: bool = False) -> None:
        """Release a queue whose work was interrupted; it is due in ``after`` seconds.

        Does nothing if the lease is lost. With ``is_slow`` the queue waits for a slow thread of any process.
        """
        mine = self.filter(pk=lease.queue_id, fencing_token=lease.fencing_token, leased_until__isnull=False)
        mine.update(ready_at=in_seconds(after), leased_until=None, owner="", is_slow=is_slow)

    def release(self, queue: ConversationQueue, *, after: float | None) -> None:
        """Release a queue that ``fence`` has locked. It is due in ``after`` seconds; with None it has no work."""
        ready = None if after is None else in_seconds(after)
        self.filter(pk=queue.pk).update(ready_at=ready, leased_until=None, owner="")

    def release_many(
        self, queue_ids: Collection[int], rows: type[models.Model], *, where: str, order: str
    ) -> None:
        """Release queues that the caller has locked. Each is due when its next row is; without one it has no work.

        ``where`` and ``order`` are constant SQL of the caller: which of ``rows`` wait, and which of these is next.
        """
        # Guard: an event can be committed while its queue is leased. The statement reads the waiting rows under the
        # lock that a wake-up needs, so the event is either seen here or wakes the queue after the release.
        # Test: tests/test_worker.py, test_an_event_that_arrives_during_the_release_of_its_queue_is_handled.
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
    """One direction of a conversation, its inbox or its outbox. One worker at a time works on it, under a lease."""

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
        _("due since"),
        null=True,
        blank=True,
        help_text=_("When the queue became due. In the future: when it will be due. Empty: no work waits."),
    )
    leased_until = models.DateTimeField(_("leased until"), null=True, blank=True)
    fencing_token = models.BigIntegerField(_("fencing token"), default=0)
    owner = models.CharField(
        _("leased by"), max_length=64, blank=True, help_text=_("Host name and process id of the worker.")
    )
    is_slow = models.BooleanField(
        _("slow"),
        default=False,
        # Processes of the version before insert queues, without this column, while a site is upgraded.
        db_default=False,
        help_text=_("The queue waits for a free thread for slow rules."),
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
    """Return a query of queues in conversation order, the order of all locks. It locks rows if the database can."""
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
    """Manager of the sweep's turn: one process at a time has it, by the database's clock."""

    def claim(self, seconds: float) -> bool:
        """Take the turn for ``seconds``. Return False if another process has it.

        The turn ends by time only. If its holder dies, the next sweep is not later than it would be anyway.
        """
        # Guard: two processes may find the turn free at the same moment. The condition is part of the UPDATE, and
        # the key is fixed, so only one of them changes or inserts the row.
        # Test: tests/test_worker.py, test_of_many_claims_at_one_moment_one_gets_the_turn.
        if self.filter(pk=Sweep.ONLY, date_free__lte=Now()).update(date_free=in_seconds(seconds)):
            return True
        return self.get_or_create(pk=Sweep.ONLY, defaults={"date_free": in_seconds(seconds)})[1]


class Sweep(models.Model):
    """The only row of its table: the time until which one process has the turn to sweep."""

    ONLY = 1

    date_free = models.DateTimeField(_("free from"))

    objects: ClassVar[SweepManager] = SweepManager()

    class Meta:
        verbose_name = _("sweep")
        verbose_name_plural = _("sweeps")

    def __str__(self) -> str:
        return f"{self.date_free:%Y-%m-%d %H:%M:%S}"
