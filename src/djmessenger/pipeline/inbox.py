"""Waiting events to decisions: the policy applied to each, in order, with its effects in one transaction."""

from __future__ import annotations

import contextlib
import copy
import datetime
import logging
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Now
from django.utils import timezone, translation

from djmessenger import graph, models, settings
from djmessenger.exceptions import DJMException
from djmessenger.facebook_locales import language_code
from djmessenger.logs import hidden
from djmessenger.pipeline.clock import Deadline
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.receiving import Messaging, ReceivingType, cleaned
from djmessenger.routing import Decision, Outcome, Policy

logger = logging.getLogger(__name__)

State = models.Messaging.State

_LEAST_SHARE = 6
"""The part of a lease that must be left before another event is begun under it."""
_LONGEST_PAUSE = 300.0
_MOST_GATHERED = 50
_TYPING = 15.0
"""Seconds between two typing marks; one lasts for 20 (Messenger Platform, "Sender actions", 2026)."""


@dataclass(frozen=True, kw_only=True)
class Slow:
    """Slow work for one event."""

    work: Callable[[], object]
    prepare: Callable[[], None] = lambda: None
    """Reads what ``work`` needs, right before it."""
    release: Callable[[], None]
    """Lets go of the lane afterwards."""
    timeout: float | None = None
    """Seconds that ``work`` may take."""
    give_up: Callable[[], None] = lambda: None
    """Counts a failed try and frees the lane; what ``work`` still comes to has no effect."""


class SlowPool(Protocol):
    """Where slow handlers run while the lane stays leased."""

    def run(self, lease: models.Lease, job: Slow) -> bool:
        """Run the job now and give true, or in a thread of its own, that releases the lane, and give false."""


class RunHere:
    """Runs slow handlers in the caller's thread: for tests, shells and events of nobody's."""

    def run(self, lease: models.Lease, job: Slow) -> bool:
        job.prepare()
        job.work()
        return True


class Inbox:
    """Handles what waits in a leased lane; ``policy_for`` and ``client_for`` give what belongs to a Page.

    A failing event is tried ``tries`` times with growing pauses, while its lane waits so that nothing overtakes;
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

    def work(
        self,
        lease: models.Lease,
        deadline: Deadline,
        slow: SlowPool,
        head: models.Messaging | None = None,
    ) -> None:
        """Handle the lane's events in order until none can be handled now, then let go of the lane.

        With its ``head`` at hand that alone is handled: what comes next is claimed with other lanes' next.
        Raises ``LeaseLost`` when somebody took the lane; what was not committed by then has no effect.
        """
        if head is not None and deadline.remaining() > settings.DJM_LEASE / _LEAST_SHARE:
            if not self._handle(head, lease, slow, release=True):
                return
            self.release(lease)
            return
        while deadline.remaining() > settings.DJM_LEASE / _LEAST_SHARE and self._pause(lease) == 0:
            row = self._in_full().filter(conversation_id=lease.conversation_id).first()
            if row is not None and not self._handle(row, lease, slow):
                return
        self.release(lease)

    def heads(self, leases: Sequence[models.Lease]) -> dict[int, models.Messaging]:
        """Give the first waiting event of each lane where it is due, by the lane's key."""
        first = models.Messaging.objects.filter(
            conversation=OuterRef("conversation"), state=State.NEW
        ).order_by("timestamp", "id")
        lanes = models.Lane.objects.filter(pk__in=[lease.lane_id for lease in leases])
        heads = lanes.annotate(head=Subquery(first.values("pk")[:1])).values("head")
        due = Q(not_before=None) | Q(not_before__lte=Now())
        found = {row.conversation_id: row for row in self._in_full().filter(due, pk__in=heads)}
        return {
            lease.lane_id: found[lease.conversation_id] for lease in leases if lease.conversation_id in found
        }

    def handle_loose(self, row_id: int) -> None:
        """Handle a waiting event that belongs to no conversation, and so to no lane."""
        due = Q(not_before=None) | Q(not_before__lte=Now())
        row = self._in_full().filter(due, pk=row_id, conversation=None).first()
        if row is not None:
            self._handle(row, None, RunHere())

    def release(self, lease: models.Lease) -> None:
        """Let go of the lane, looking again under its lock for what came meanwhile."""
        with transaction.atomic():
            models.Lane.objects.fence(lease)
            self._release(lease)

    @staticmethod
    def _release(lease: models.Lease) -> None:
        failpoint("inbox_before_release")
        models.Messaging.objects.release(lease)

    @staticmethod
    def _waiting() -> QuerySet[models.Messaging]:
        return models.Messaging.objects.filter(state=State.NEW).order_by("timestamp", "id")

    def _in_full(self) -> QuerySet[models.Messaging]:
        return self._waiting().select_related("page", "conversation__person", "conversation__page")

    def _pause(self, lease: models.Lease) -> float | None:
        """Seconds before the lane's head may be tried again, None when nothing waits."""
        head = self._waiting().filter(conversation_id=lease.conversation_id).annotate(now=Now())
        for not_before, now in head.values_list("not_before", "now")[:1]:
            return 0.0 if not_before is None else max(0.0, (not_before - now).total_seconds())
        return None

    def _handle(
        self, row: models.Messaging, lease: models.Lease | None, slow: SlowPool, *, release: bool = False
    ) -> bool:
        """Apply the policy to one row; false when the lane is not held any more.

        Its slow handlers have it then, or, where that is wanted, it was let go of in the event's transaction.
        """
        try:
            messaging = _bound(row)
            with self._speaking_to(row):
                decision = self._policy_for(row.page).decide(messaging)
                is_slow = decision.is_slow(messaging)
        except Exception:  # noqa: BLE001 - what authors write may raise anything
            self._failed(row, lease)
            return True
        if is_slow and lease is not None:
            timeouts = [rule.timeout for rule in decision.applied if rule.slow and rule.timeout]
            gathered: list[models.Messaging] = []
            job = Slow(
                prepare=lambda: gathered.extend(self._gather(row, messaging, decision)),
                work=lambda: self._act(row, lease, messaging, decision, gathered),
                release=lambda: self.release(lease),
                timeout=min(timeouts, default=None),
                give_up=lambda: self._give_up(row, lease, min(timeouts), self._tries_for(decision)),
            )
            return slow.run(lease, job)
        return not self._act(row, lease, messaging, decision, release=release)

    def _tries_for(self, decision: Decision) -> int:
        """How many tries there are: a slow rule may have a number of its own."""
        return min((rule.tries for rule in decision.applied if rule.slow and rule.tries), default=self._tries)

    def _give_up(self, row: models.Messaging, lease: models.Lease, timeout: float, tries: int) -> None:
        """Count a try that takes too long as failed, and take the lane from the thread that is still at it."""
        self._failed(row, lease, tries, error=f"a slow rule took longer than its {timeout} seconds")
        with transaction.atomic():
            lane = models.Lane.objects.fence(lease)
            pause = self._pause(lease)
            models.Lane.objects.filter(pk=lane.pk).update(epoch=F("epoch") + 1)
            models.Lane.objects.release(lane, after=pause)

    def _gather(
        self, row: models.Messaging, messaging: Messaging, decision: Decision
    ) -> list[models.Messaging]:
        """Give the rows that wait behind this one and go to the same gathering rules; one call serves them all."""
        messaging.context["gathered"] = [messaging]
        if not any(rule.gather for rule in decision.applied):
            return []
        followers = []
        for other in (
            self._in_full().filter(conversation=row.conversation).exclude(pk=row.pk)[:_MOST_GATHERED]
        ):
            event = _bound(other)
            if not event.authored or self._policy_for(other.page).decide(event).applied != decision.applied:
                break
            followers.append(other)
            messaging.context["gathered"].append(event)
        return followers

    def _act(
        self,
        row: models.Messaging,
        lease: models.Lease | None,
        messaging: Messaging,
        decision: Decision,
        gathered: Sequence[models.Messaging] = (),
        *,
        release: bool = False,
    ) -> bool:
        """Run the slow handlers with no transaction open, then all others in one with the done mark.

        Gives whether the lane was let go of in it, too.
        """
        tries = self._tries_for(decision)
        last = row.tries + 1 >= tries
        state_before = copy.deepcopy(row.conversation.state) if row.conversation else None
        try:
            with self._speaking_to(row):
                with self._typing(messaging, decision):
                    decision.run_slow(messaging, savepoints=last)
                failpoint("inbox_in_handler")
                with transaction.atomic():
                    if not self._is_mine(row, lease):
                        return False
                    decision.act(messaging, savepoints=last)
                    _note_receipts(row, messaging)
                    self._finish(row, decision.outcome, state_before)
                    self._finish_gathered(row, gathered)
                    if release and lease is not None:
                        self._release(lease)
                    failpoint("inbox_before_commit")
        except models.LeaseLost:
            raise
        except Exception:  # noqa: BLE001 - what authors write may raise anything
            self._failed(row, lease, tries)
            return False
        decision.outcome.log(**_told(row))
        return release and lease is not None

    @staticmethod
    def _is_mine(row: models.Messaging, lease: models.Lease | None) -> bool:
        """Check the lease, then lock the row to the end of the transaction; false when it is handled already."""
        if lease is not None:
            return models.Messaging.objects.hold(row, lease)
        return models.Messaging.objects.select_for_update().filter(pk=row.pk, state=State.NEW).exists()

    @staticmethod
    def _finish(row: models.Messaging, outcome: Outcome, state_before: Any) -> None:
        row.outcome = cleaned(outcome.json())
        row.error = cleaned(outcome.error)
        row.state = State.FAILED if outcome.error else State.DONE
        row.date_handled = timezone.now()
        models.Messaging.objects.finish(row)
        if outcome.error:
            _tell_failed(row)
        conversation = row.conversation
        if conversation is not None and conversation.state != state_before:
            # Unchanged it is not written: somebody else may have changed it meanwhile.
            conversation.save(update_fields=["state"])

    @staticmethod
    def _finish_gathered(row: models.Messaging, gathered: Sequence[models.Messaging]) -> None:
        if gathered:
            models.Messaging.objects.filter(pk__in=[other.pk for other in gathered], state=State.NEW).update(
                state=State.DONE,
                reason=f"gathered into event {row.pk}",
                outcome={"gathered_into": row.pk},
                date_handled=row.date_handled,
            )

    @contextlib.contextmanager
    def _typing(self, messaging: Messaging, decision: Decision) -> Iterator[None]:
        """Show typing for as long as slow work takes; Meta takes the mark away after a while."""
        if not any(rule.typing and rule.slow for rule in decision.applied):
            yield
            return
        ended = threading.Event()
        client, psid = graph.current(), messaging.get_psid()

        def refresh() -> None:
            while not ended.wait(_TYPING):
                try:
                    client.send({"id": psid}, {"sender_action": "typing_on"})
                except (DJMException, OSError):
                    return

        threading.Thread(target=refresh, name="djmessenger-typing", daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _failed(
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
            extra={"action": "event_failed", **_told(row), "last": last},
        )
        pause = datetime.timedelta(seconds=min(2.0**row.tries, _LONGEST_PAUSE))
        with transaction.atomic():
            if not self._is_mine(row, lease):
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
                _tell_failed(row)

    @contextlib.contextmanager
    def _speaking_to(self, row: models.Messaging) -> Iterator[None]:
        """The Page's client, and the person's language and time zone, for all that runs for this event."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(graph.bound(self._client_for(row.page)))
            if row.conversation is not None:
                person = row.conversation.person
                stack.enter_context(timezone.override(person.get_tzinfo()))
                language = language_code(person.locale) if person.locale else None
                if language is None and row.page is not None:
                    language = row.page.configured("language")
                if language:
                    stack.enter_context(translation.override(language))
            yield


def _told(row: models.Messaging) -> dict[str, Any]:
    """What every log line about an event says of it."""
    return {
        "event": row.pk,
        "page": hidden(row.page.page_id if row.page else ""),
        "person": hidden(row.conversation.person_id if row.conversation else ""),
        "tries": row.tries,
        "waited": round((timezone.now() - row.date_received).total_seconds(), 3),
    }


def _bound(row: models.Messaging) -> Messaging:
    """Read the event back from its row, with what the road knows about it."""
    messaging = Messaging.from_row(row.body, row)
    conversation = row.conversation
    messaging.bind(
        row=row,
        page=row.page,
        conversation=conversation,
        person=conversation.person if conversation else None,
    )
    return messaging


def _tell_failed(row: models.Messaging) -> None:
    # What a receiver of the signal raises is logged, and is no business of the road.
    transaction.on_commit(lambda: models.messaging_failed.send_robust(models.Messaging, messaging=row))


def _note_receipts(row: models.Messaging, messaging: Messaging) -> None:
    """Keep on each reply when it was delivered and read; a person who writes can be reached."""
    if row.echo_token:
        _reopen_parked(row)
    sent = models.Reply.objects.filter(conversation=row.conversation, state=models.Reply.State.SENT)
    if messaging.type is ReceivingType.DELIVERED and messaging.delivery is not None:
        mids, until = messaging.delivery.mids or [], _moment(messaging.delivery.watermark)
        sent.filter(Q(mid__in=mids) | _begun_by(until), date_delivered=None).update(
            date_delivered=row.date_event
        )
    elif messaging.type is ReceivingType.READ:
        read = messaging.read
        begun = sent.filter(_begun_by(_moment(read.watermark if read else None)))
        if read is not None and read.mid:
            named = sent.filter(mid=read.mid).values("pk")[:1]
            begun = sent.filter(pk__lte=named)
        begun.filter(date_delivered=None).update(date_delivered=row.date_event)
        begun.filter(date_read=None).update(date_read=row.date_event)
    elif messaging.authored and row.conversation is not None and row.conversation.person.date_unreachable:
        models.FBUserProfile.objects.filter(pk=row.conversation.person_id).exclude(
            date_unreachable=None
        ).update(date_unreachable=None)


def _reopen_parked(row: models.Messaging) -> None:
    """Have the outbox look again at a reply that was set aside unsure: the echo of an attempt came after all."""
    attempt = Exists(models.Attempt.objects.filter(reply=OuterRef("pk"), token=row.echo_token))
    parked = models.Reply.objects.filter(
        attempt, conversation=row.conversation, state=models.Reply.State.PARKED
    )
    if row.conversation_id is not None and parked.update(state=models.Reply.State.UNKNOWN):
        models.Lane.objects.wake([row.conversation_id], models.Lane.Kind.OUT)


def _begun_by(moment: datetime.datetime | None) -> Q:
    """Select replies that were under way at a watermark; it is Meta's clock, and ours is read after the answer."""
    if moment is None:
        return Q(pk=None)
    return Q(Exists(models.Attempt.objects.filter(reply=OuterRef("pk"), date_started__lte=moment)))


def _moment(milliseconds: Any) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromtimestamp(milliseconds / 1000, tz=datetime.UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
