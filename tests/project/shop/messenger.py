"""Rules as an author types them; ``mypy --strict`` checks them against the types of djmessenger.rules."""

from __future__ import annotations

from collections.abc import Iterator

from djmessenger.rules import (
    Messaging,
    at_time,
    attachment,
    default,
    fallback,
    image,
    include,
    language,
    location,
    on,
    page,
    pattern,
    reaction,
    referral,
    rule,
    state,
    sticker,
    tapped,
    text,
    thumb_up,
)


def is_regular(event: Messaging) -> bool:
    return bool(event.conversation.state.get("orders"))


@default()
def count(event: Messaging) -> None:
    seen = event.conversation.state.get("seen", 0)
    event.conversation.state["seen"] = seen + 1


@rule(text("hi", "hello") | tapped("GET_STARTED"))
def greet(event: Messaging) -> str:
    return "Hello!"


@rule(text("hi", "hello") & is_regular)
def greet_again(event: Messaging) -> list[str]:
    return ["Nice to see you again.", "The usual?"]


@rule(pattern(r"^order (?P<number>\d+)$"), stop=True)
def order(event: Messaging, number: str) -> Iterator[str]:
    yield f"Looking for order {number}."
    yield "It is on its way."


@rule(image() | attachment("video") | sticker() | location(), types=["IMAGE", "VIDEO", "STICKER", "LOCATION"])
def look(event: Messaging) -> str:
    return f"A nice {event.type}."


@rule(referral(source="ADS") | reaction("love") | thumb_up())
def thank(event: Messaging) -> None:
    event.conversation.state["thanked"] = True


@rule(text("open?") & ~at_time("08:00", "18:00"))
def closed(event: Messaging) -> str:
    return "We are closed."


@rule(text("hallo") & language("de") & page("2002") & state(seen=1))
def greet_in_german(event: Messaging) -> str:
    return "Hallo!"


@rule(on("READ"))
def note_reading(event: Messaging) -> None:
    event.conversation.state["read"] = event.timestamp


include(
    {
        "rules": [
            {
                "type": "SIMPLE_TEXT",
                "name": "help",
                "filters": [{"name": "djmessenger.filtering.TextFilter", "args": {"words": ["help"]}}],
                "handlers": [{"name": "shop.messenger.greet"}],
            }
        ]
    }
)


@fallback(slow=True, typing=True)
def ask(event: Messaging) -> str:
    return "I shall ask somebody."
