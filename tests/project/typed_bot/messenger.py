"""Rules of the README with annotations, and one use of each typed attribute of the event."""

from __future__ import annotations

import logging

from django.utils.translation import gettext_lazy as _

from djmessenger.models import FBUserProfile, Reply
from djmessenger.outgoing import OutgoingMessage, QuickReply, Text
from djmessenger.rules import Messaging, fallback, rule, state, tapped, text
from typed_bot.models import Order

logger = logging.getLogger(__name__)


def is_german(event: Messaging) -> bool:
    return event.person.locale.startswith("de")


@rule(text("hi", "hello") | tapped("GET_STARTED"))
def greet(event: Messaging) -> Text:
    return Text(_("Hello! What can I do for you?"), quick_replies=[QuickReply(_("Order"), "ORDER")])


@rule(tapped("ORDER"))
def order(event: Messaging) -> str:
    event.conversation.state["step"] = "address"
    return f"Order {Order.objects.create(person=event.person).pk} is yours."


@rule(text("name") & is_german)
def name(event: Messaging) -> list[str | OutgoingMessage]:
    return [event.person.get_full_name(), Text("?")]


@rule(is_german)
def note(event: Messaging) -> None:
    replies: list[Reply] = event.person.send(event.text)
    logger.info("%s %s %d", event.page.page_id, event.row.key, len(replies))


@rule(text("late") & ~state(step="address") & (lambda event: event.conversation.page.page_id == "1"))
def late(event: Messaging) -> list[Text]:
    return [Text(line.text) for line in event.person.history(20)]


@fallback(slow=True)
def ask(event: Messaging) -> str:
    return announce(event.person, event.text)


def announce(person: FBUserProfile, words: str) -> str:
    person.send(Text(words), rule="announce")
    return person.first_name.upper()
