"""Waiting events to decisions: the policy applied to each, in order, with its effects in one transaction."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from django.db import transaction
from django.utils import timezone, translation

from djmessenger import graph, models
from djmessenger.facebook_locales import language_code
from djmessenger.receiving.events import Messaging
from djmessenger.receiving.types import ReceivingType
from djmessenger.routing import Outcome, Policy

logger = logging.getLogger(__name__)

State = models.Messaging.State


class Inbox:
    """Handles what waits; ``policy_for`` and ``client_for`` give what belongs to a Page."""

    def __init__(
        self,
        policy_for: Callable[[models.Page | None], Policy],
        client_for: Callable[[models.Page | None], graph.Client],
    ) -> None:
        self._policy_for = policy_for
        self._client_for = client_for

    def drain(self, conversation_id: int) -> int:
        """Handle the waiting events of a conversation, oldest first; give how many there were."""
        handled = 0
        while row := self._waiting().filter(conversation_id=conversation_id).first():
            self.handle(row)
            handled += 1
        return handled

    def handle_loose(self, row_id: int) -> None:
        """Handle a waiting event that belongs to no conversation."""
        if row := self._waiting().filter(pk=row_id).first():
            self.handle(row)

    @staticmethod
    def _waiting() -> Any:
        return (
            models.Messaging.objects.filter(state=State.NEW)
            .select_related("page", "conversation__person", "conversation__page")
            .order_by("timestamp", "id")
        )

    def handle(self, row: models.Messaging) -> Outcome | None:
        """Apply the policy to one row and write down what came of it.

        A rule that fails takes back its own effects and leaves the others theirs; the row is then failed,
        with the traceback, and can be handled again.
        """
        messaging = _bound(row)
        try:
            with _speaking_to(row), graph.bound(self._client_for(row.page)):
                decision = self._policy_for(row.page).decide(messaging)
                decision.run_slow(messaging, savepoints=True)
                with transaction.atomic():
                    if not self._claim(row):
                        return None
                    decision.act(messaging, savepoints=True)
                    self._note_receipts(row, messaging)
                    self._finish(row, decision.outcome)
        except Exception:
            logger.exception("Event %s failed", row.pk, extra={"action": "event_failed", "messaging": row.pk})
            models.Messaging.objects.filter(pk=row.pk, state=State.NEW).update(
                state=State.FAILED, error=traceback.format_exc(), date_handled=timezone.now()
            )
            return None
        decision.outcome.log()
        return decision.outcome

    @staticmethod
    def _claim(row: models.Messaging) -> bool:
        """Lock the row to the end of the transaction; false when somebody else has handled it meanwhile."""
        return models.Messaging.objects.select_for_update().filter(pk=row.pk, state=State.NEW).exists()

    @staticmethod
    def _finish(row: models.Messaging, outcome: Outcome) -> None:
        row.outcome = outcome.json()
        row.error = outcome.error
        row.state = State.FAILED if outcome.error else State.DONE
        row.date_handled = timezone.now()
        row.save(update_fields=["outcome", "error", "state", "date_handled", "is_kept"])
        conversation = row.conversation
        if conversation is None:
            return
        conversation.date_last_activity = row.date_handled
        if outcome.authored and (
            conversation.date_last_inbound is None or conversation.date_last_inbound < row.date_event
        ):
            conversation.date_last_inbound = row.date_event
        conversation.save(update_fields=["state", "date_last_activity", "date_last_inbound"])

    @staticmethod
    def _note_receipts(row: models.Messaging, messaging: Messaging) -> None:
        """Keep on each reply when it was delivered and read."""
        replies = models.Reply.objects.filter(conversation=row.conversation, state=models.Reply.State.SENT)
        if messaging.type is ReceivingType.DELIVERED and messaging.delivery is not None:
            replies.filter(mid__in=messaging.delivery.mids or [], date_delivered=None).update(
                date_delivered=row.date_event
            )
        elif messaging.type is ReceivingType.READ:
            replies.filter(date_sent__lte=row.date_event, date_read=None).update(date_read=row.date_event)
        elif messaging.authored and row.conversation is not None:
            models.FBUserProfile.objects.filter(pk=row.conversation.person_id).exclude(
                date_unreachable=None
            ).update(date_unreachable=None)


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


@contextlib.contextmanager
def _speaking_to(row: models.Messaging) -> Iterator[None]:
    """Language and time zone of the person, for everything that runs for this event."""
    if row.conversation is None:
        yield
        return
    person = row.conversation.person
    language = language_code(person.locale) if person.locale else None
    with timezone.override(person.get_tzinfo()):
        if language is None:
            yield
        else:
            with translation.override(language):
                yield
