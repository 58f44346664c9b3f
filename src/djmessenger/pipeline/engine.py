"""The engine: split, handle and send, callable from any thread of any process.

Each step may run again at any time: after a crash, after a lost lease, or at the same time in another process. Drivers
(worker, request, Celery task, test kit) decide when a step runs. The engine starts no threads, except one that repeats
the typing mark of a slow rule.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from django.db import DatabaseError, Error
from django.db.models import Exists, F, OuterRef

from djmessenger import models, sql
from djmessenger.clock import Deadline
from djmessenger.database_errors import is_outage
from djmessenger.pipeline import claims, crashes, queue_locks, reads, store
from djmessenger.pipeline import split as splitting
from djmessenger.pipeline.claims import Lease
from djmessenger.pipeline.connections import lock_timeout_first, statement_timeout
from djmessenger.pipeline.crashes import LATE, Batch
from djmessenger.pipeline.event_results import Handled
from djmessenger.pipeline.handling import Inbox
from djmessenger.pipeline.held import FIRST_PAUSE, Held
from djmessenger.pipeline.notifications import CHANNEL
from djmessenger.pipeline.sending import Outbox
from djmessenger.pipeline.slow import RunHere, SlowPool
from djmessenger.pipeline.split import Split
from djmessenger.project_code import is_interruption
from djmessenger.settings import app_settings
from djmessenger.sql import atomic

logger = logging.getLogger(__name__)

Kind = models.ConversationQueue.Kind

Job = Callable[[], None]
Submit = Callable[[Job], object]
"""Function that runs a job now, or passes it to another thread."""

_STATEMENT_TIMEOUT = 2.0
"""Seconds for each statement of a split inside a request. Meta waits five seconds for the whole answer."""
MOST_CALLBACKS, _MOST_BYTES = 100, 256 * 1024
"""Limits of one split: number of callbacks, and bytes of all bodies together. One callback may be larger."""


def _run(job: Job) -> None:
    job()


def _renew_none(submit: Submit) -> None:
    pass


def callbacks_waiting(held: Held, until: int | None = None) -> tuple[Batch, bool]:
    """Return the oldest callbacks that are still ``new`` and not held, and whether more of them may wait.

    All have the same ``app_id`` and are within the limits ``MOST_CALLBACKS`` and ``_MOST_BYTES``. ``until`` is the
    id of the last callback to return. A callback that had a crash is returned alone.
    """
    batch = Batch()
    ids = batch.callback_ids
    total = 0
    signer = None
    oldest = reads.oldest_callbacks(MOST_CALLBACKS, LATE, held.callback_ids)
    for callback_id, size, app_id, crashed, is_late in oldest:
        if until is not None and callback_id > until:
            return batch, False
        total += size
        if ids and (total > _MOST_BYTES or app_id != signer or crashed or batch.crashes):
            return batch, True
        signer = app_id
        batch.crashes = crashed
        # A held callback is late without a crash, and each try would count one for a moment.
        # Test (PostgreSQL): tests/test_held.py, test_a_held_callback_costs_no_try_and_no_crash.
        batch.is_late |= bool(is_late) and callback_id not in held.read_ids
        ids.append(callback_id)
    return batch, len(ids) == MOST_CALLBACKS


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Public interface of the processing, for dispatchers: each step of a message, and ``drain`` for one thread.

    A message passes ``store``, ``split``, ``handle`` and ``send``. ``drain`` does the last three until nothing is due.
    A custom dispatcher calls ``drain``. To decide itself when a step runs, it calls ``split`` and ``run_once``.
    """

    inbox: Inbox
    """Handler of events."""
    outbox: Outbox
    """Sender of replies."""
    slow: SlowPool = field(default_factory=RunHere)
    """Runner of slow rules for ``handle``; by default the caller's thread."""
    renew_tokens: Callable[[Submit], object] = _renew_none
    """Function that passes the renewal of each token that is due to its argument."""

    @staticmethod
    def store(body: bytes, app_id: str = "") -> int:
        """Insert the verified body of a callback and return the id of its row. See ``pipeline/store.py``."""
        return store.store(body, app_id)

    def split(self, *, claim: int = 0, held: Held | None = None) -> Split:
        """Split one batch of the callbacks that are still ``new``; return the work that now waits.

        The result is false if no callback was split. Claims up to ``claim`` idle queues of those that get work, for
        ``DJM_LEASE`` seconds. The caller must handle or release them.

        Callbacks for which another transaction has locked a row stay ``new``, and so do those that would overtake them.
        They are added to ``held``, and those in it are not tried.
        """
        held = Held() if held is None else held
        while True:
            count = len(held.callback_ids)
            batch, more = callbacks_waiting(held)
            if not batch.callback_ids:
                return Split()
            with crashes.counted_split(batch) as callback_ids:
                todo = self._split_batch(callback_ids, held, claim)
            todo.callbacks += len(batch.callback_ids) - len(callback_ids)
            todo.more |= more
            # A person who writes a hundred times while a row is locked would otherwise delay all others.
            # Test (PostgreSQL): tests/test_held.py, test_more_held_callbacks_than_a_batch_delay_no_other_person.
            if todo or not todo.more or len(held.callback_ids) == count:
                return todo

    def handle(self, leases: Sequence[Lease], deadline: Deadline) -> None:
        """Handle the first event of each claimed incoming queue, if it is due, and release the queues.

        ``deadline`` is the end of the leases. A lost lease is logged. Any other exception propagates, and the queues
        that are still leased are released and due again in a second.
        """
        handled: list[Handled] = []
        with claims.released_on_error(leases):
            next_rows = self.inbox.next_rows(leases)
            for lease in leases:
                with claims.released_on_error([lease]):
                    done = self.inbox.handle(lease, deadline, self.slow, next_rows.get(lease.queue_id))
                    if done is not None:
                        handled.append(done)
            if handled:
                self.inbox.commit_handled(handled)

    def send(self, leases: Sequence[Lease], deadline: Deadline) -> None:
        """Send the first reply of each claimed outgoing queue, one after another, and release the queues.

        A reply of unknown fate has one step of its resolution instead. Errors are treated as in ``handle``.
        """
        with claims.released_on_error(leases):
            pending_sends, others = self.outbox.begin(leases, deadline)
            for pending in pending_sends:
                if self.outbox.end([self.outbox.call(pending)]):
                    claims.give_back(pending.lease)
            for lease in others:
                with claims.released_on_error([lease]):
                    self.outbox.process_next(lease, deadline)

    def run_once(
        self, kind: str, limit: int = 1, conversation_id: int | None = None, *, queue_id: int | None = None
    ) -> int:
        """Claim up to ``limit`` due queues of a direction and process the first row of each. Return their number.

        For incoming events, queues that wait for a slow thread are claimed in addition: one for each free slow thread,
        up to ``limit``. With ``conversation_id`` or ``queue_id`` only the queue of this conversation, or the queue with
        this id, is claimed. Errors are treated as in ``handle``.
        """
        deadline, leases = self._claim(kind, limit, conversation_id, queue_id)
        self._process(kind, leases, deadline)
        return len(leases)

    def _claim(
        self, kind: str, limit: int, conversation_id: int | None = None, queue_id: int | None = None
    ) -> tuple[Deadline, list[Lease]]:
        """Claim up to ``limit`` due queues; return the deadline of the leases, and the leases.

        For incoming events, unless one queue is named, queues that wait for a slow thread are claimed in addition.
        They are one for each free slow thread, up to ``limit``, and come first in the result.
        """
        # Guard: a deadline that is made after the claim would end after the leases.
        deadline = Deadline(app_settings.DJM_LEASE)
        leases = claims.claim(
            kind,
            seconds=app_settings.DJM_LEASE,
            limit=limit,
            conversation_id=conversation_id,
            queue_id=queue_id,
        )
        is_any = conversation_id is None and queue_id is None
        slots = min(limit, self.slow.free_slots()) if kind == Kind.IN and is_any else 0
        if slots:
            # Guard: if the database goes away between the two claims, the queues of the first would stay leased.
            # Test: tests/test_dispatch.py, test_queues_are_released_if_the_claim_of_slow_ones_fails.
            with claims.released_on_error(leases):
                waited = claims.claim(kind, seconds=app_settings.DJM_LEASE, limit=slots, is_slow=True)
            self.slow.reserve(waited, more=len(waited) == slots)
            # Slow queues first: they only go to another thread, which takes no time of this one.
            leases = waited + leases
        return deadline, leases

    def _process(self, kind: str, leases: Sequence[Lease], deadline: Deadline) -> None:
        if not leases:
            return
        if kind == Kind.OUT:
            self.send(leases, deadline)
            return
        try:
            self.handle(leases, deadline)
        finally:
            for lease in leases:
                self.slow.drop_reservation(lease)

    def drain(self, until: Callable[[], bool] | None = None) -> bool:
        """Split, handle and send in this thread until nothing is due, or until ``until`` returns True.

        ``until`` is called before each round. Returns False if nothing was due any more, and True if ``until`` ended
        the loop. Rows that are due later are not waited for. An exception in the work on a queue is logged, and the
        other queues go on. Raises ``DatabaseError`` if the database fails while due work is read or claimed.
        """
        is_over = until or (lambda: False)
        held = Held()
        while not is_over():
            held = held.again()
            is_busy = bool(self.split(held=held))
            for kind in (Kind.OUT, Kind.IN):
                deadline, leases = self._claim(kind, 1)
                is_busy |= bool(leases)
                try:
                    self._process(kind, leases, deadline)
                except Exception:
                    # Guard: an exception would end the drain, and the queues behind this one would wait for the sweep.
                    # Test: tests/test_contrib_celery.py, test_work_that_breaks_off_does_not_end_the_task.
                    logger.exception(
                        "Work on a queue failed; the queue was released and is due again",
                        extra={"action": "work_interrupted"},
                    )
            if not is_busy:
                return False
        return True

    def drain_queue(
        self, kind: str, conversation_id: int | None = None, *, queue_id: int | None = None
    ) -> None:
        """Process one queue until no row of it is due; do nothing if the queue is leased.

        Arguments are those of ``run_once``.
        """
        while self.run_once(kind, 1, conversation_id, queue_id=queue_id):
            pass

    def drain_conversation(self, conversation_id: int) -> None:
        """Handle the due events of a conversation, then send its replies; skip a queue that is leased."""
        for kind in (Kind.IN, Kind.OUT):
            self.drain_queue(kind, conversation_id)

    def drain_callback(self, callback_id: int) -> None:
        """Split the stored callbacks up to this one, handle their events and send the replies, in this thread.

        Raises ``DatabaseError`` if the split fails in the database, for example because a lock was not free for
        ``_STATEMENT_TIMEOUT`` seconds. The callback then stays ``new``, and a later split finds it. It also stays
        ``new`` if another transaction keeps a row of it locked for that time.
        """
        # The request of Meta waits for the answer. A lock that another process holds must not delay it.
        # test_a_callback_of_a_leased_queue_is_answered_and_left_to_the_sweep
        deadline = Deadline(_STATEMENT_TIMEOUT)
        held = Held()
        while True:
            todo = self._split_until(callback_id, held)
            for queue_id, conversation_id in todo.queues.items():
                self.drain_queue(Kind.IN, queue_id=queue_id)
                if conversation_id is not None:
                    self.drain_queue(Kind.OUT, conversation_id)
            if callback_id not in held.callback_ids or deadline.remaining() <= 0:
                return
            time.sleep(FIRST_PAUSE)
            held = held.again()

    def _split_until(self, callback_id: int, held: Held) -> Split:
        """Split the stored callbacks up to this one, without those of ``held``. Raise ``DatabaseError``."""
        todo = Split()
        # Callbacks that were stored before come first, even if the process that was to split them is gone.
        done: list[int] = []
        while (ids := (batch := callbacks_waiting(held, callback_id)[0]).callback_ids) and ids != done:
            with (
                crashes.counted_split(batch) as callback_ids,
                statement_timeout(_STATEMENT_TIMEOUT),
            ):
                todo.add(self._split_batch(callback_ids, held, raises=True))
            done = ids
        return todo

    def _split_batch(
        self, callback_ids: Sequence[int], held: Held, claim_limit: int = 0, *, raises: bool = False
    ) -> Split:
        """Split callbacks together, or one by one if that fails. With ``raises`` a ``DatabaseError`` propagates."""
        try:
            return splitting.split_many(callback_ids, claim_limit, held=held)
        except Exception as error:
            if (raises and isinstance(error, DatabaseError)) or is_interruption(error):
                raise
            # One callback that breaks its split would make the batch fail at each try, and delay all later callbacks.
            # test_a_callback_that_breaks_its_split_is_quarantined_and_later_ones_are_split
            logger.exception(
                "Split of %s callbacks failed; they are split one by one",
                len(callback_ids),
                extra={"action": "callbacks_singly"},
            )
            return self._split_singly(callback_ids, held)

    def _split_singly(self, callback_ids: Sequence[int], held: Held) -> Split:
        """Split callbacks one by one. Stop at the first that stays ``new`` after a ``DatabaseError``."""
        todo = Split()
        for callback_id in callback_ids:
            part = self._split_one(callback_id, held)
            if part is None:
                # If a later callback were split now, its events would be handled before those of this one.
                # test_a_callback_whose_split_fails_in_the_database_stays_new_and_later_ones_wait
                break
            todo.add(part)
        return todo

    @classmethod
    def _split_one(cls, callback_id: int, held: Held) -> Split | None:
        """Split one stored callback and return the work that now waits. An exception of the split is logged.

        After an outage of the database the callback stays ``new``, and None is returned. After any other
        ``DatabaseError`` the same happens, but the callback is quarantined after ``DJM_TRIES`` of them. After another
        exception it is quarantined at once. Raises only if the quarantine fails, or if the host interrupts the split.
        """
        try:
            with lock_timeout_first():
                return splitting.split_many([callback_id], held=held)
        except Error as error:
            # A deadlock or an outage is no fault of the callback.
            # test_a_callback_whose_split_fails_in_the_database_stays_new_and_later_ones_wait
            logger.exception(
                "Split of callback %s failed in the database; the next poll tries again",
                callback_id,
                extra={"action": "callback_waits"},
            )
            # A full disk lets the split fail at each poll. The callback was answered 200, so a count of its failures
            # would give up a callback that is sound. test_an_outage_of_the_database_quarantines_no_callback
            if is_outage(error) or not cls._count_failed_split(callback_id):
                return None
            splitting.quarantine(callback_id, traceback.format_exc())
        except Exception as error:
            # tests/test_contrib_celery.py, test_the_time_limit_of_a_task_quarantines_no_callback
            if is_interruption(error):
                raise
            logger.exception(
                "Split of callback %s failed; the callback is quarantined",
                callback_id,
                extra={"action": "callback_broken"},
            )
            splitting.quarantine(callback_id, traceback.format_exc())
        return Split(callbacks=1)

    @staticmethod
    def _count_failed_split(callback_id: int) -> bool:
        """Count a split that failed in the database; return whether ``DJM_TRIES`` splits of the callback failed.

        Returns False if the count fails too.
        """
        callbacks = models.Callback.objects.filter(pk=callback_id)
        try:
            callbacks.update(tries=F("tries") + 1)
            # Later callbacks wait for this one. A callback that fails each time would stop the bot.
            # test_a_callback_whose_split_always_fails_in_the_database_is_quarantined
            # test_a_callback_that_a_limit_of_the_database_refuses_is_quarantined
            return callbacks.filter(tries__gte=app_settings.DJM_TRIES).exists()
        except Error:
            return False

    def sweep(self, submit: Submit = _run) -> None:
        """Make queues due in which rows wait without a wake-up, and renew the tokens that are due.

        One call treats at most 1000 conversations in each direction, and 1000 events without a conversation. It finds
        the work of a lost wake-up, of an older version, or of rows that staff changed by SQL. It also ends the pauses
        that a missing or refused token caused, if the Page has another token now.

        ``submit`` runs the renewal of a token, which calls Graph; by default in this thread. Raises ``DatabaseError``.
        """
        # test_the_sweep_finds_work_without_a_wake_up
        waiting = models.Messaging.objects.filter(state=models.Messaging.State.NEW)
        events = waiting.exclude(conversation=None)
        replies = models.Reply.objects.filter(state__in=models.Reply.OPEN).exclude(conversation=None)
        for kind, rows in ((Kind.IN, events), (Kind.OUT, replies)):
            awake = models.ConversationQueue.objects.filter(
                kind=kind, conversation=OuterRef("conversation"), ready_at__isnull=False
            )
            without_wake_up = rows.filter(~Exists(awake)).order_by().values_list("conversation_id", flat=True)
            if conversation_ids := [pk for pk in without_wake_up.distinct()[:1000] if pk is not None]:
                with atomic():
                    models.ConversationQueue.objects.wake(conversation_ids, kind)
        # Processes of the version before insert events without a conversation and without a queue.
        # test_an_event_that_the_version_before_inserted_gets_a_queue
        awake = models.ConversationQueue.objects.filter(pk=OuterRef("queue"), ready_at__isnull=False)
        asleep = waiting.filter(~Exists(awake), conversation=None).order_by("pk").select_related("page")
        if without_conversation := list(asleep[:1000]):
            with atomic():
                queue_locks.assign_queues(without_conversation)
        self.outbox.resume_pages()
        self.renew_tokens(submit)

    def notify(self, payload: str) -> None:
        """Send a notification to worker processes at the commit of the transaction; does nothing without PostgreSQL.

        ``payload`` is ``CALLBACK`` or ``QUEUES`` of ``notifications.py``. A lost notification is harmless: the next
        poll finds the work.
        """
        if sql.connection().vendor == "postgresql":
            sql.fetch("SELECT pg_notify(%s, %s)", [CHANNEL, payload])
