"""Bot of the coffee shop. Each text is in the language of the person; the translations are in ``locale/``."""

from __future__ import annotations

import os
from collections.abc import Iterator

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from djmessenger.demo.models import Order
from djmessenger.outgoing import (
    ButtonTemplate,
    Element,
    GenericTemplate,
    OutgoingMessage,
    PostbackButton,
    QuickReply,
    ReceiptItem,
    ReceiptTemplate,
    Text,
    UrlButton,
)
from djmessenger.rules import (
    Messaging,
    fallback,
    image,
    include,
    location,
    on,
    pattern,
    rule,
    tapped,
    text,
    thumb_up,
)

DRINKS = {"ESPRESSO": _("Espresso"), "FLAT_WHITE": _("Flat white"), "CHAI": _("Chai")}
PRICES = {"ESPRESSO": 2.4, "FLAT_WHITE": 3.6, "CHAI": 4.2}
ABOUT = {
    "ESPRESSO": _("Short, dark, gone in a minute"),
    "FLAT_WHITE": _("Two shots under silky milk"),
    "CHAI": _("Black tea, cardamom, ginger"),
}

# Rules can be data or functions. This rule, as data, stores the location of a person.
include(
    {
        "rules": [
            {
                "type": "LOCATION",
                "name": "keep the place",
                "handlers": [{"name": "djmessenger.handling.LocationHandler"}],
            }
        ]
    }
)


@rule(text(_("hi"), _("hello"), _("good morning")) | on("GET_STARTED_BUTTON", "REFERRAL"))
def greet(event: Messaging) -> OutgoingMessage:
    choices = [QuickReply(name, drink) for drink, name in DRINKS.items()]
    name = event.person.first_name or _("friend")
    return Text(
        _("Welcome, %(name)s! What may it be?") % {"name": name},
        quick_replies=[*choices, QuickReply(_("Show me"), "CARDS")],
    )


@rule(tapped("CARDS") | text(_("menu"), _("cards")))
def cards(event: Messaging) -> OutgoingMessage:
    return GenericTemplate([card(drink) for drink in DRINKS])


def card(drink: str) -> Element:
    return Element(
        DRINKS[drink],
        ABOUT[drink],
        image_url=picture(drink),
        buttons=[PostbackButton(_("Order"), drink)],
    )


def picture(drink: str) -> str:
    return f"{os.environ.get('SHOP_ADDRESS', 'https://example.com')}/static/shop/{drink.lower()}.jpg"


@rule(tapped(*DRINKS))
def order(event: Messaging) -> Iterator[OutgoingMessage | str]:
    placed = Order.objects.create(person=event.person, drink=event.payload)
    name, price = DRINKS[event.payload], PRICES[event.payload]
    yield _("%(drink)s, coming up. Your number is %(number)s.") % {"drink": name, "number": placed.pk}
    yield ReceiptTemplate(
        event.person.get_full_name() or str(_("Guest")),
        str(placed.pk),
        "EUR",
        _("At the counter"),
        price,
        merchant_name=_("Coffee shop"),
        elements=[ReceiptItem(name, price, quantity=1, image_url=picture(event.payload))],
    )
    yield ButtonTemplate(
        _("Anything else?"),
        [
            PostbackButton(_("Cancel it"), f"CANCEL {placed.pk}"),
            UrlButton(_("Our menu"), "https://example.com/menu"),
        ],
    )


@rule(pattern(r"(?i)(order|bestellung|訂單) *(?P<number>\d{1,9})\b"))
def status(event: Messaging, number: str) -> str:
    placed = Order.objects.filter(pk=number, person=event.person).first()
    if placed is None:
        return _("There is no order %(number)s of yours.") % {"number": number}
    return _("Order %(number)s, %(drink)s, is on the bar.") % {
        "number": number,
        "drink": DRINKS[placed.drink],
    }


@rule(on("POSTBACK") & (lambda event: event.payload.startswith("CANCEL ")))
def cancel(event: Messaging) -> Promise:
    deleted, _rows = Order.objects.filter(pk=event.payload.split()[1], person=event.person).delete()
    return _("Cancelled. Till next time!") if deleted else _("That one is already in your hand.")


@rule(thumb_up())
def thanks(event: Messaging) -> Promise:
    return _("Thank you for the thumb!")


@rule(location())
def near(event: Messaging) -> Promise:
    return _("Then you are nearly here. Follow the smell of coffee.")


@rule(image())
def admire(event: Messaging) -> Promise:
    return _("What a picture! It goes on our wall.")


@rule(tapped("HELP"))
def explain(event: Messaging) -> Promise:
    return _("Say hello, choose a drink, or ask for your order by its number.")


@fallback()
def sorry(event: Messaging) -> Text:
    return Text(_("I only know about coffee."), quick_replies=[QuickReply(_("Flat white"), "FLAT_WHITE")])
