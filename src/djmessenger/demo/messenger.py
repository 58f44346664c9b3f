"""The bot of the coffee shop: its rules below the default policy."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext_lazy as _

from djmessenger.demo.models import Order
from djmessenger.outgoing import ButtonTemplate, OutgoingMessage, PostbackButton, QuickReply, Text, UrlButton
from djmessenger.rules import Messaging, fallback, image, include, on, pattern, rule, tapped, text
from djmessenger.utils.default_routing_policy import RUNNABLE_ROUTING_POLICY

DRINKS = {"ESPRESSO": _("Espresso"), "FLAT_WHITE": _("Flat white"), "CHAI": _("Chai")}

include(RUNNABLE_ROUTING_POLICY)


@rule(text("hello", "good morning") | on("GET_STARTED_BUTTON"))
def greet(event: Messaging) -> OutgoingMessage:
    choices = [QuickReply(name, drink) for drink, name in DRINKS.items()]
    name = event.person.first_name or _("friend")
    return Text(_("Welcome, %(name)s! What may it be?") % {"name": name}, quick_replies=choices)


@rule(tapped(*DRINKS))
def order(event: Messaging) -> Iterator[OutgoingMessage | str]:
    made = Order.objects.create(person=event.person, drink=event.payload)
    yield _("%(drink)s, coming up. Your number is %(number)s.") % {
        "drink": DRINKS[event.payload],
        "number": made.pk,
    }
    yield ButtonTemplate(
        _("Anything else?"),
        [
            PostbackButton(_("Cancel it"), f"CANCEL {made.pk}"),
            UrlButton(_("Our menu"), "https://example.com/menu"),
        ],
    )


@rule(pattern(r"(?i)^(where|how).*\border (?P<number>\d{1,9})\b"))
def status(event: Messaging, number: str) -> str:
    found = Order.objects.filter(pk=number, person=event.person).first()
    return f"Order {number} is on the bar." if found else f"There is no order {number} of yours."


@rule(on("POSTBACK") & (lambda event: event.payload.startswith("CANCEL ")))
def cancel(event: Messaging) -> str:
    gone, _rows = Order.objects.filter(pk=event.payload.split()[1], person=event.person).delete()
    return "Cancelled. Till next time!" if gone else "That one is already in your hand."


@rule(image())
def admire(event: Messaging) -> str:
    return "What a picture! It goes on our wall."


@fallback()
def sorry(event: Messaging) -> Text:
    return Text(_("I only know about coffee."), quick_replies=[QuickReply(_("Flat white"), "FLAT_WHITE")])
