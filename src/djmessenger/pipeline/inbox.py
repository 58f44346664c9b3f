"""Waiting events to decisions: the policy applied to each, in order, with its effects in one transaction."""

from __future__ import annotations

import contextlib
import copy
import datetime
import enum
import logging
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from django.db import connections, router, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Now
from django.utils import timezone, translation

from djmessenger import graph, models, receiving
from djmessenger.clock import Deadline
from djmessenger.exceptions import DJMException
from djmessenger.facebook_locales import language_code
from djmessenger.logs import hidden
from djmessenger.models.conversations import ReplyBuffer
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.pipeline.leases import give_back, log_lost
from djmessenger.receiving import ReceivingType, cleaned
from djmessenger.routing import Decision, Policy
from djmessenger.settings import app_settings
from djmessenger.signals import messaging_failed
from djmessenger.sql import Among, Prepared, Several, update_each

logger = logging.getLogger(__name__)

State = models.Messaging.State

_LEAST_LEASE_SHARE = 6
"""The part of a lease that must be left before another event is begun under it."""
_LONGEST_PAUSE = 300.0
_MOST_GATHERED = 50
_TYPING_INTERVAL = 15.0
"""Seconds between two typing marks; one lasts for 20 (Messenger Platform, "Sender actions", 2026)."""


@dataclass(frozen=True, kw_only=True)
class Slow:
    """Slow work for one event."""

    work: Callable[[], object]
    prepare: Callable[[], None] = lambda: None
    """Reads what ``work`` needs, right before it."""
    release: Callable[[], None]
    """Lets go of the queue afterwards."""
    timeout: float | None = None
    """Seconds that ``work`` may take."""
    give_up: Callable[[], None] = lambda: None
    """Counts a failed try and frees the queue; what ``work`` still comes to has no effect."""


@dataclass(frozen=True, kw_only=True)
class Handled:
    """An event whose rules have run, and what is to be written down of it."""

    row: models.Messaging
    lease: models.Lease | None
    messaging: receiving.Messaging
    decision: Decision
    replies: Sequence[models.Reply]
    """Answers that are not inserted yet."""
    state_before: Any
    """The conversation's state before the rules."""


def _waiting() -> QuerySet[models.Messaging]:
    return models.Messaging.objects.filter(state=State.NEW).order_by("timestamp", "id")


def _waiting_with_relations() -> QuerySet[models.Messaging]:
    return _waiting().select_related("page", "conversation__person")


def _due() -> Q:
    return Q(not_before=None) | Q(not_before__lte=Now())


def _next_rows() -> QuerySet[models.Messaging]:
    """The first waiting event of each of ``queues``, where it is due."""
    first = _waiting().filter(conversation=OuterRef("conversation"))
    queues = models.ConversationQueue.objects.filter(Among("pk", Several("queues")))
    next_rows = queues.annotate(next_row=Subquery(first.values("pk")[:1])).values("next_row")
    return _waiting_with_relations().filter(_due(), Among("pk", next_rows))


_NEXT_ROWS = Prepared(models.Messaging, _next_rows)


InsertReplies = Callable[[Sequence[models.Reply]], Callable[[], None]]
"""Inserts answers in the caller's transaction; gives what is to be called once that is committed."""


def _do_nothing() -> None:
    pass


def _insert(replies: Sequence[models.Reply]) -> Callable[[], None]:
    models.Reply.objects.insert(replies)
    return _do_nothing


class NoRoom(Exception):
    """All threads for slow work are busy."""


class SlowPool(Protocol):
    """Where slow handlers run while the queue stays leased."""

    def run(self, lease: models.Lease, job: Slow) -> bool:
        """Run the job now and give true, or in a thread of its own, that releases the queue, and give false.

        Raises ``NoRoom`` where others are to be waited for.
        """


class RunHere:
    """Runs slow handlers in the caller's thread: for tests, shells and events of nobody's."""

    def run(self, lease: models.Lease, job: Slow) -> bool:
        job.prepare()
        job.work()
        return True


class Inbox:
    """Handles what waits in a leased queue; ``policy_for`` and ``client_for`` give what belongs to a Page.

    A failing event is tried ``tries`` times with growing pauses, while its queue waits so that nothing overtakes;
    on the last try each rule has a savepoint of its own, so that the broken one does not silence the others.
    """

    def __init__(
        self,
        policy_for: Callable[[models.Page | None], Policy],
        client_for: Callable[[models.Page | None], graph.Client],
        *,
        tries: int,
    ) -> None:
        self._policy_for = policy_for
        self._client_for = client_for
        self._tries = tries

    def work(self, lease: models.Lease, deadline: Deadline, slow: SlowPool) -> None:
        """Handle the queue's events in order until none can be handled now, then let go of the queue.

        Raises ``LeaseLost`` when somebody took the queue; what was not committed by then has no effect.
        """
        while _has_time(deadline) and self._pause(lease) == 0:
            row = _waiting_with_relations().filter(conversation_id=lease.conversation_id).first()
            if row is not None and self._handle(row, lease, slow) is Fate.RELEASED:
                return
        self.release(lease)

    def handle(
        self, lease: models.Lease, deadline: Deadline, slow: SlowPool, next_row: models.Messaging | None
    ) -> Handled | None:
        """Handle the first event of a queue, if it is due, and let go of the queue.

        Where its rules had nothing to do with the database, what is to be written down is given, for ``write_down``.
        """
        if next_row is not None and _has_time(deadline):
            done = self._handle(next_row, lease, slow, only_first=True)
            if isinstance(done, Handled):
                return done
            if done is Fate.RELEASED:
                return None
        self.release(lease)
        return None

    def next_rows(self, leases: Sequence[models.Lease]) -> dict[int, models.Messaging]:
        """Give the first waiting event of each queue where it is due, by the queue's key."""
        rows = _NEXT_ROWS(queues=[lease.queue_id for lease in leases])
        rows_by_conversation = {row.conversation_id: row for row in rows}
        return {
            lease.queue_id: rows_by_conversation[lease.conversation_id]
            for lease in leases
            if lease.conversation_id in rows_by_conversation
        }

    def handle_event_without_conversation(self, row_id: int) -> None:
        """Handle a waiting event that belongs to no conversation, and so to no queue."""
        row = _waiting_with_relations().filter(_due(), pk=row_id, conversation=None).first()
        if row is not None:
            self._handle(row, None, RunHere())

    def release(self, lease: models.Lease) -> None:
        """Let go of the queue, looking again under its lock for what came meanwhile."""
        with transaction.atomic():
            models.ConversationQueue.objects.fence(lease)
            self._release([lease])

    @staticmethod
    def _release(leases: Collection[models.Lease]) -> None:
        failpoint("inbox_before_release")
        models.Messaging.objects.release([lease.queue_id for lease in leases])

    def _pause(self, lease: models.Lease) -> float | None:
        """Seconds before the queue's next_row may be tried again, None when nothing waits."""
        next_row = _waiting().filter(conversation_id=lease.conversation_id).annotate(now=Now())
        for not_before, now in next_row.values_list("not_before", "now")[:1]:
            return 0.0 if not_before is None else max(0.0, (not_before - now).total_seconds())
        return None

    def _handle(
        self,
        row: models.Messaging,
        lease: models.Lease | None,
        slow: SlowPool,
        *,
        only_first: bool = False,
    ) -> Handled | Fate:
        """Apply the policy to one row; with ``only_first`` the queue is let go of in the event's transaction."""
        failpoint("inbox_claimed")
        try:
            messaging = _read_event(row)
            client = self._client_for(row.page)
            with use_language_of(row, client):
                decision = self._policy_for(row.page).decide(messaging)
                is_slow = decision.is_slow(messaging)
        except Exception:  # noqa: BLE001 - what authors write may raise anything
            self._count_failed_try(row, lease)
            return Fate.LEASED
        if is_slow and lease is not None:
            timeouts = [rule.timeout for rule in decision.applied if rule.slow and rule.timeout]
            gathered: list[models.Messaging] = []
            job = Slow(
                prepare=lambda: gathered.extend(self._gather(row, messaging, decision)),
                work=lambda: self._act(row, lease, messaging, decision, client, gathered),
                release=lambda: self.release(lease),
                timeout=min(timeouts, default=None),
                give_up=lambda: self._give_up(row, lease, min(timeouts), self._tries_for(decision)),
            )
            try:
                return Fate.LEASED if slow.run(lease, job) else Fate.RELEASED
            except NoRoom:
                # Kept here it would fill the memory, and no other process could have it.
                models.ConversationQueue.objects.give_back(lease, is_slow=True)
                return Fate.RELEASED
        return self._act(row, lease, messaging, decision, client, only_first=only_first)

    def _tries_for(self, decision: Decision) -> int:
        """How many tries there are: a slow rule may have a number of its own."""
        return min((rule.tries for rule in decision.applied if rule.slow and rule.tries), default=self._tries)

    def _give_up(self, row: models.Messaging, lease: models.Lease, timeout: float, tries: int) -> None:
        """Count a try that takes too long as failed, and take the queue from the thread that is still at it."""
        self._count_failed_try(row, lease, tries, error=f"a slow rule took longer than its {timeout} seconds")
        with transaction.atomic():
            queue = models.ConversationQueue.objects.fence(lease)
            pause = self._pause(lease)
            models.ConversationQueue.objects.filter(pk=queue.pk).update(fencing_token=F("fencing_token") + 1)
            models.ConversationQueue.objects.release(queue, after=pause)

    def _gather(
        self, row: models.Messaging, messaging: receiving.Messaging, decision: Decision
    ) -> list[models.Messaging]:
        """Give the rows that wait behind this one and go to the same gathering rules; one call serves them all."""
        if not any(rule.gather for rule in decision.applied):
            return []
        messaging.context["gathered"] = [messaging]
        followers = []
        for follower in (
            _waiting_with_relations()
            .filter(conversation=row.conversation)
            .exclude(pk=row.pk)[:_MOST_GATHERED]
        ):
            event = _read_event(follower)
            if (
                not event.authored
                or self._policy_for(follower.page).decide(event).applied != decision.applied
            ):
                break
            followers.append(follower)
            messaging.context["gathered"].append(event)
        return followers

    def _act(
        self,
        row: models.Messaging,
        lease: models.Lease | None,
        messaging: receiving.Messaging,
        decision: Decision,
        client: graph.Client,
        gathered: Sequence[models.Messaging] = (),
        *,
        only_first: bool = False,
    ) -> Handled | Fate:
        """Run the slow handlers with no transaction open, then all others in one with the done mark."""
        tries = self._tries_for(decision)
        last = row.tries + 1 >= tries
        state_before = copy.deepcopy(row.conversation.state) if row.conversation else None
        event_transaction = _Transaction(lambda: self._lock_and_verify(row, lease))
        try:
            with use_language_of(row, client):
                with self._typing(messaging, decision):
                    decision.run_slow(messaging, savepoints=last)
                failpoint("inbox_in_handler")
                with transaction.atomic():
                    with (
                        event_transaction.begun_by_the_first_query()
                        if only_first
                        else event_transaction.begun()
                    ):
                        decision.act(messaging, savepoints=last, buffer=event_transaction.buffer)
                    handled = Handled(
                        row=row,
                        lease=lease,
                        messaging=messaging,
                        decision=decision,
                        replies=event_transaction.buffer.replies,
                        state_before=state_before,
                    )
                    if event_transaction.is_begun:
                        _insert(handled.replies)
                        self._finish([handled], release=only_first)
                        self._finish_gathered(row, gathered)
        except models.LeaseLost:
            raise
        except _HandledAlready:
            return Fate.LEASED
        except Exception:  # noqa: BLE001 - what authors write may raise anything
            self._count_failed_try(row, lease, tries)
            return Fate.LEASED
        if not event_transaction.is_begun:
            return handled
        decision.outcome.log(**_log_fields(row))
        return Fate.RELEASED if only_first else Fate.LEASED

    def write_down(self, handled: Sequence[Handled], insert: InsertReplies = _insert) -> None:
        """Write down what became of events and let go of their queues, all in one transaction, or each in its own."""
        if len(handled) > 1:
            try:
                self._write_down(handled, insert)
                return
            except Exception:
                logger.exception("Events are written down one by one", extra={"action": "events_singly"})
        for one in handled:
            try:
                self._write_down([one], insert)
            except Exception:  # noqa: BLE001 - by driver
                self._count_failed_commit(one)

    def _write_down(self, handled: Sequence[Handled], insert: InsertReplies) -> None:
        leases = {one.row.pk: one.lease for one in handled if one.lease is not None}
        afterwards = _do_nothing
        with transaction.atomic():
            still_leased = models.Messaging.objects.lock_and_verify(leases)
            valid = [one for one in handled if one.row.pk in still_leased]
            if valid:
                afterwards = insert([reply for one in valid for reply in one.replies])
                self._finish(valid, release=True)
        afterwards()
        for one in valid:
            one.decision.outcome.log(**_log_fields(one.row))
        for pk in leases.keys() - still_leased:
            # Another has the queue, or had it and handled the event.
            try:
                self.release(leases[pk])
            except models.LeaseLost as lost:
                log_lost(lost)

    def _count_failed_commit(self, one: Handled) -> None:
        """Count a failed try, as where the rules failed; what cannot be counted is found when the lease ends."""
        if one.lease is None:
            return
        try:
            self._count_failed_try(one.row, one.lease, self._tries_for(one.decision))
            self.release(one.lease)
        except models.LeaseLost as lost:
            log_lost(lost)
        except Exception:
            logger.exception("An event could not be written down", extra={"action": "event_waits"})
            give_back(one.lease)

    @staticmethod
    def _lock_and_verify(row: models.Messaging, lease: models.Lease | None) -> bool:
        """Check the lease, then lock the row to the end of the transaction; false when it is handled already."""
        if lease is None:
            return models.Messaging.objects.select_for_update().filter(pk=row.pk, state=State.NEW).exists()
        if models.Messaging.objects.lock_and_verify({row.pk: lease}):
            return True
        models.ConversationQueue.objects.fence(lease)
        return False

    def _finish(self, handled: Sequence[Handled], *, release: bool) -> None:
        """Write down what became of events that are still_leased."""
        for one in handled:
            _note_receipts(one.row, one.messaging)
            row, outcome = one.row, one.decision.outcome
            row.outcome = cleaned(outcome.json())
            row.error = cleaned(outcome.error)
            row.state = State.FAILED if outcome.error else State.DONE
            row.date_handled = timezone.now()
            if outcome.error:
                _signal_failed(row)
            conversation = row.conversation
            if conversation is not None and conversation.state != one.state_before:
                # Unchanged it is not written: somebody else may have changed it meanwhile.
                conversation.save(update_fields=["state"])
        names = ["outcome", "error", "state", "date_handled", "is_kept"]
        rows = (one.row for one in handled)
        update_each(
            models.Messaging, names, [(row.pk, *(getattr(row, name) for name in names)) for row in rows]
        )
        if release:
            self._release([one.lease for one in handled if one.lease is not None])
        failpoint("inbox_before_commit")

    @staticmethod
    def _finish_gathered(row: models.Messaging, gathered: Sequence[models.Messaging]) -> None:
        if gathered:
            models.Messaging.objects.filter(
                pk__in=[follower.pk for follower in gathered], state=State.NEW
            ).update(
                state=State.DONE,
                reason=f"gathered into event {row.pk}",
                outcome={"gathered_into": row.pk},
                date_handled=row.date_handled,
            )

    @contextlib.contextmanager
    def _typing(self, messaging: receiving.Messaging, decision: Decision) -> Iterator[None]:
        """Show typing for as long as slow work takes; Meta takes the mark away after a while."""
        if not any(rule.typing and rule.slow for rule in decision.applied):
            yield
            return
        ended = threading.Event()
        client, psid = graph.current(), messaging.get_psid()

        def refresh() -> None:
            while not ended.wait(_TYPING_INTERVAL):
                try:
                    client.send({"id": psid}, {"sender_action": "typing_on"})
                except (DJMException, OSError):
                    return

        threading.Thread(target=refresh, name="djmessenger-typing", daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _count_failed_try(
        self, row: models.Messaging, lease: models.Lease | None, tries: int | None = None, error: str = ""
    ) -> None:
        """Write a failed try down: the event waits for the next, or is failed for good after the last."""
        row.tries += 1
        row.error = error or cleaned(traceback.format_exc())
        tries = tries or self._tries
        last = row.tries >= tries
        logger.exception(  # noqa: LOG004 - called while one is handled
            "Try %s of %s to handle event %s failed",
            row.tries,
            tries,
            row.pk,
            extra={"action": "event_failed", **_log_fields(row), "last": last},
        )
        pause = datetime.timedelta(seconds=min(2.0**row.tries, _LONGEST_PAUSE))
        with transaction.atomic():
            if not self._lock_and_verify(row, lease):
                return
            models.Messaging.objects.filter(pk=row.pk).update(
                tries=row.tries,
                error=row.error,
                not_before=None if last else Now() + pause,
                state=State.FAILED if last else State.NEW,
                date_handled=timezone.now() if last else None,
            )
            if last:
                row.state = State.FAILED
                _signal_failed(row)


@contextlib.contextmanager
def use_language_of(row: models.Messaging, client: graph.Client) -> Iterator[None]:
    """The Page's client, and the person's language and time zone, for all that runs for this event."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(graph.bound(client))
        if row.conversation is not None:
            person = row.conversation.person
            stack.enter_context(timezone.override(person.get_tzinfo()))
            language = language_code(person.locale) if person.locale else None
            if language is None and row.page is not None:
                language = row.page.configured("language")
            if language:
                stack.enter_context(translation.override(language))
        yield


class Fate(enum.Enum):
    """Who has the queue after an event was handled."""

    LEASED = enum.auto()
    """Its holder still, who goes on with it or lets go of it."""
    RELEASED = enum.auto()
    """It was let go of with the event, or its slow handler has it."""


class _HandledAlready(Exception):
    """Somebody handled the event before."""


class _Transaction:
    """The transaction of one event: begun in earnest when something has to do with the database, if ever.

    What never begins can be written down later, with others: that is as if its rules had run at that moment.
    """

    def __init__(self, lock_and_verify: Callable[[], bool]) -> None:
        self._lock_and_verify = lock_and_verify
        self._refusal: Exception | None = None
        self.is_begun = False
        self.buffer = ReplyBuffer()

    def begin(self) -> None:
        """Lock the rows of the event and insert its buffered replies; raise if the lease is lost.."""
        if self._refusal is not None:
            raise self._refusal
        if self.is_begun:
            return
        self.is_begun = True
        self.buffer.is_open = False
        try:
            if not self._lock_and_verify():
                raise _HandledAlready
        except Exception as error:
            # Whoever made the first query may have swallowed this.
            self._refusal = error
            raise
        if self.buffer.replies:
            models.Reply.objects.insert(self.buffer.replies)
            self.buffer.replies = []

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        self.begin()
        yield

    @contextlib.contextmanager
    def begun_by_the_first_query(self) -> Iterator[None]:
        """Begin before the first query in the block, or after it where it left something to do on commit."""
        connection = connections[router.db_for_write(models.Messaging)]
        waiting = len(connection.run_on_commit)

        def query(execute: Callable[..., Any], *query: Any) -> Any:
            self.begin()
            return execute(*query)

        with connection.execute_wrapper(query):
            yield
        if self.is_begun or len(connection.run_on_commit) > waiting:
            self.begin()


def _has_time(deadline: Deadline) -> bool:
    return deadline.remaining() > app_settings.DJM_LEASE / _LEAST_LEASE_SHARE


def _log_fields(row: models.Messaging) -> dict[str, Any]:
    """What every log line about an event says of it."""
    return {
        "event": row.pk,
        "page": hidden(row.page.page_id if row.page else ""),
        "person": hidden(row.conversation.person_id if row.conversation else ""),
        "tries": row.tries,
        "waited": round((timezone.now() - row.date_received).total_seconds(), 3),
    }


def _read_event(row: models.Messaging) -> receiving.Messaging:
    """Read the event back from its row, with what the engine knows about it."""
    messaging = receiving.Messaging.from_row(row.body, row)
    row.is_at_hand = True
    conversation = row.conversation
    if conversation is not None and row.page is not None:
        conversation.page = row.page
    messaging.bind(
        row=row,
        page=row.page,
        conversation=conversation,
        person=conversation.person if conversation else None,
    )
    return messaging


def _signal_failed(row: models.Messaging) -> None:
    # What a receiver of the signal raises is logged, and is no business of the engine.
    transaction.on_commit(lambda: messaging_failed.send_robust(models.Messaging, messaging=row))


def _note_receipts(row: models.Messaging, messaging: receiving.Messaging) -> None:
    """Keep on each reply when it was delivered and read; a person who writes can be reached."""
    if row.echo_token:
        _reopen_parked(row)
    if messaging.type is ReceivingType.DELIVERED and messaging.delivery is not None:
        mids, until = messaging.delivery.mids or [], _moment(messaging.delivery.watermark)
        _sent(row).filter(Q(mid__in=mids) | _started_by(until), date_delivered=None).update(
            date_delivered=row.date_event
        )
    elif messaging.type is ReceivingType.READ:
        read = messaging.read
        sent = _sent(row)
        started = sent.filter(_started_by(_moment(read.watermark if read else None)))
        if read is not None and read.mid:
            named = sent.filter(mid=read.mid).values("pk")[:1]
            started = sent.filter(pk__lte=named)
        started.filter(date_delivered=None).update(date_delivered=row.date_event)
        started.filter(date_read=None).update(date_read=row.date_event)
    elif messaging.authored and row.conversation is not None and row.conversation.person.date_unreachable:
        models.FBUserProfile.objects.filter(pk=row.conversation.person_id).exclude(
            date_unreachable=None
        ).update(date_unreachable=None)


def _sent(row: models.Messaging) -> QuerySet[models.Reply]:
    return models.Reply.objects.filter(conversation=row.conversation, state=models.Reply.State.SENT)


def _reopen_parked(row: models.Messaging) -> None:
    """Have the outbox look again at a reply that was set aside unsure: the echo of an attempt came after all."""
    attempt = Exists(models.Attempt.objects.filter(reply=OuterRef("pk"), token=row.echo_token))
    parked = models.Reply.objects.filter(
        attempt, conversation=row.conversation, state=models.Reply.State.PARKED
    )
    if row.conversation_id is not None and parked.update(state=models.Reply.State.UNKNOWN):
        models.ConversationQueue.objects.wake([row.conversation_id], models.ConversationQueue.Kind.OUT)


def _started_by(moment: datetime.datetime | None) -> Q:
    """Select replies that were under way at a watermark; it is Meta's clock, and ours is read after the answer."""
    if moment is None:
        return Q(pk=None)
    return Q(Exists(models.Attempt.objects.filter(reply=OuterRef("pk"), date_started__lte=moment)))


def _moment(milliseconds: Any) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromtimestamp(milliseconds / 1000, tz=datetime.UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
