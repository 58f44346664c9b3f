"""Conversation queues, and the row by which one process at a time sweeps."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, ClassVar, TypeVar

from django.db import models
from django.db.models import Q
from django.db.models.expressions import Combinable
from django.utils.translation import gettext_lazy as _

from djmessenger.sql import Now, atomic, dialect, execute, fetch, many, require_transaction


def seconds_from_now(seconds: float) -> Combinable:
    """Return an SQL expression for the time ``seconds`` from now, by the database's clock, which all hosts share."""
    # Guard: SQLite compares times as text, and a sum has more digits than Now(). A queue that is due now would
    # come after Now() in the same millisecond and could not be claimed.
    return Now() + datetime.timedelta(seconds=seconds) if seconds else Now()


_LOCK = """
    SELECT queue.conversation_id, queue.id FROM {given} {table} queue
    WHERE queue.conversation_id {is_given_id} AND queue.kind = %s
    ORDER BY queue.conversation_id, queue.id {for_update}
"""
"""Lock of the queues of conversations, as SQL. Parameters: the conversations, the kind."""
_LOCK_SUBJECTS = """
    SELECT queue.subject, queue.id FROM {given} {table} queue
    WHERE queue.subject {is_given_text} AND queue.conversation_id IS NULL
    ORDER BY queue.id {for_update}
"""
"""Lock of the queues of subjects, as SQL. Parameter: the subjects."""

Key = TypeVar("Key", int, str)


# Guard: two transactions that insert the same keys in different order would deadlock; hence the ORDER BY.
# Test (PostgreSQL): tests/test_intake.py,
# test_batches_with_the_same_people_and_events_in_any_order_never_deadlock.
_ENSURE = """
    INSERT INTO {table} (conversation_id, kind, fencing_token, owner, is_slow)
    SELECT given.value, kinds.kind, 0, '', false
    FROM {given_ids} CROSS JOIN (SELECT 'in' AS kind UNION ALL SELECT 'out') kinds
    WHERE true ORDER BY given.value, kinds.kind ON CONFLICT DO NOTHING
"""
"""Insertion of the queues of conversations, as SQL. Parameter: the conversations."""


class ConversationQueueManager(models.Manager["ConversationQueue"]):
    """Wake-ups and locks of queues, on SQLite and PostgreSQL, by the database's clock.

    Claims and releases are in ``pipeline/claims.py``.
    """

    def ensure(self, conversation_ids: Iterable[int]) -> None:
        """Insert both queues of conversations if they are missing."""
        text = _ENSURE.format_map(dialect(ConversationQueue))
        execute(text, [many(conversation_ids)])

    def ensure_subjects(self, subjects: Iterable[str]) -> None:
        """Insert the queues of subjects if they are missing."""
        wanted = dict.fromkeys(subjects)
        known = self.filter(conversation=None, subject__in=wanted).values_list("subject", flat=True)
        # Guard: two transactions that insert the same keys in different order would deadlock; hence the sort.
        # Test (PostgreSQL): tests/test_queues.py, test_subjects_that_are_inserted_in_any_order_never_deadlock.
        self.bulk_create(
            [
                ConversationQueue(subject=subject, kind=ConversationQueue.Kind.IN)
                for subject in sorted(wanted.keys() - set(known))
            ],
            ignore_conflicts=True,
        )

    def wake(self, conversation_ids: Iterable[int], kind: str, *, after: float = 0.0) -> None:
        """Make queues due in ``after`` seconds, in the caller's transaction or in one of its own.

        A queue that is due earlier stays so. A leased queue stays leased; its holder reads the waiting rows again
        under the same lock before the release. Missing queues are inserted.
        """
        wanted = set(conversation_ids)
        with atomic(savepoint=False):
            # Guard: an UPDATE locks rows in any order, so two wake-ups of the same two queues could deadlock. Hence the
            # ordered lock before it. A single queue cannot deadlock, and is locked only if it must be inserted.
            # Test (PostgreSQL): tests/test_queues.py, test_wake_ups_of_the_same_queues_never_deadlock.
            if len(wanted) != 1 or not self._wake("kind = %s AND conversation_id", [kind], wanted, after):
                self.wake_locked(self.lock(wanted, kind).values(), after=after)

    def wake_locked(self, queue_ids: Collection[int], *, after: float = 0.0) -> None:
        """Make queues due as ``wake`` does. The caller has locked the queues."""
        if queue_ids:
            self._wake("id", [], queue_ids, after)

    @staticmethod
    def _wake(column: str, values: Sequence[Any], keys: Collection[int], after: float) -> int:
        # Guard: not before the end of a lease, otherwise the wake-up would let a second worker claim the queue.
        # Test: tests/test_queues.py, test_a_wake_up_of_a_leased_queue_does_not_end_its_lease.
        due = "{greatest}({later}, COALESCE(leased_until, {later}))"
        text = (
            f"UPDATE {{table}} SET ready_at = {{least}}(COALESCE(ready_at, {due}), {due}), "  # noqa: S608 - no input
            # Guard: a process of the version before may leave the mark on a queue without work. The next event
            # would then wait for a slow thread.
            # Test: tests/test_queues.py, test_a_slow_mark_of_an_older_version_is_removed_by_a_wake_up.
            "is_slow = (is_slow AND ready_at IS NOT NULL) "
            f"WHERE {column} IN ({', '.join(['%s'] * len(keys))})"
        ).format_map(dialect(ConversationQueue))
        return execute(text, [*[after] * 4, *values, *keys])

    def lock(self, conversation_ids: Iterable[int], kind: str) -> dict[int, int]:
        """Lock queues until the end of the caller's transaction. Missing queues are inserted.

        Returns a dict of conversation id to queue id.
        """
        return self._lock(_LOCK, set(conversation_ids), [kind], self.ensure)

    def lock_subjects(self, subjects: Iterable[str]) -> dict[str, int]:
        """Lock queues as ``lock`` does, and return a dict of subject to queue id."""
        return self._lock(_LOCK_SUBJECTS, set(subjects), [], self.ensure_subjects)

    @staticmethod
    def _lock(
        text: str, keys: set[Key], values: Sequence[Any], ensure: Callable[[Iterable[Key]], None]
    ) -> dict[Key, int]:
        # Guard: two batches with the same people in different order would deadlock; hence the ORDER BY.
        # Test (PostgreSQL): tests/test_intake.py,
        # test_batches_with_the_same_people_and_events_in_any_order_never_deadlock.
        require_transaction()
        if not keys:
            return {}
        text = text.format_map(dialect(ConversationQueue))
        given = [many(keys), *values]
        found = fetch(text, given)
        if len(found) < len(keys):
            ensure(keys)
            found = fetch(text, given)
        return dict(found)


class ConversationQueue(models.Model):
    """One direction of a conversation, its inbox or its outbox. One worker at a time works on it, under a lease.

    A queue without a conversation is the inbox of a subject: the events of one post, comment, sender or Page in order.
    """

    class Kind(models.TextChoices):
        IN = "in", _("incoming")
        OUT = "out", _("outgoing")

    conversation = models.ForeignKey(
        "djmessenger.Conversation",
        verbose_name=_("conversation"),
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="queues",
        db_index=False,  # ``djm_queue_conversation_kind`` begins with it.
    )
    subject = models.CharField(
        _("subject"),
        max_length=128,
        blank=True,
        # Processes of the version before insert queues, without this column, while a site is upgraded.
        db_default="",
        default="",
        help_text=_(
            "Page and post, comment or sender, if the events of the queue belong to no conversation."
        ),
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
    is_taken_over = models.BooleanField(
        _("taken over"),
        default=False,
        db_default=False,
        editable=False,
        help_text=_("The holder before the last one did not release its lease."),
    )
    alone_under = models.BigIntegerField(
        _("alone under"),
        null=True,
        editable=False,
        help_text=_("Fencing token of the last lease under which an event was handled alone after a crash."),
    )

    objects: ClassVar[ConversationQueueManager] = ConversationQueueManager()

    class Meta:
        verbose_name = _("conversation queue")
        verbose_name_plural = _("conversation queues")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["conversation", "kind"], name="djm_queue_conversation_kind"),
            models.UniqueConstraint(
                fields=["subject"], condition=Q(conversation=None), name="djm_queue_subject"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["kind", "is_slow", "ready_at"],
                name="djm_queue_due",
                condition=Q(ready_at__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"{self.conversation_id or self.subject} {self.get_kind_display()}"


class SweepManager(models.Manager["Sweep"]):
    """Manager of the sweep's turn: one process at a time has it, by the database's clock."""

    def claim(self, seconds: float) -> bool:
        """Take the turn for ``seconds``. Return False if another process has it.

        The turn ends by time only. If its holder dies, the next sweep is not later than it would be anyway.
        """
        # Guard: two processes may find the turn free at the same moment. The condition is part of the UPDATE, and
        # the key is fixed, so only one of them changes or inserts the row.
        # Test: tests/test_worker.py, test_of_many_claims_at_one_moment_one_gets_the_turn.
        # Guard: after the clock of the database was set back by an hour, no process would sweep for an hour. So a turn
        # that ends more than `2 * seconds` from now counts as free. A real turn ends within `seconds`; the factor 2
        # allows for a statement that has read the clock slightly earlier.
        # Test: tests/test_worker.py, test_the_sweep_goes_on_after_the_clock_of_the_database_was_set_back.
        is_free = Q(date_free__lte=Now()) | Q(date_free__gt=seconds_from_now(2 * seconds))
        if self.filter(is_free, pk=Sweep.ONLY).update(date_free=seconds_from_now(seconds)):
            return True
        return self.get_or_create(pk=Sweep.ONLY, defaults={"date_free": seconds_from_now(seconds)})[1]


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
