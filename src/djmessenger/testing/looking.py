"""Comparison of a message with the expectations of a test."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any, TypeAlias

from djmessenger.testing.explanation import quick_reply_titles, titles
from messenger_emulator.state import Bubble

Expected: TypeAlias = str | re.Pattern[str] | EllipsisType
"""Exact text, a pattern to search for, or ``...`` for any text."""


def containing(part: str) -> re.Pattern[str]:
    """Expect a text with this part in it."""
    return re.compile(re.escape(part))


def matches(expected: Expected, text: str) -> bool:
    """Return whether a text matches the expectation."""
    if isinstance(expected, EllipsisType):
        return bool(text)
    return bool(expected.search(text)) if isinstance(expected, re.Pattern) else text == expected


def shown(expected: Any) -> str:
    """Return an expectation as text for the message of a failure."""
    if isinstance(expected, EllipsisType):
        return "any text"
    return f"a text with {expected.pattern!r}" if isinstance(expected, re.Pattern) else repr(expected)


def differences(
    bubble: Bubble,
    text: Expected | None,
    *,
    buttons: Sequence[Expected] | None = None,
    quick_replies: Sequence[Expected] | None = None,
    cards: Sequence[Expected] | Mapping[str, Sequence[Expected]] | None = None,
    image: Expected | bool | None = None,
) -> Iterator[str]:
    """Yield each difference between a message and the expectations; None matches anything."""
    if text is not None and not matches(text, bubble.text):
        yield f"the text is {bubble.text!r}, not {shown(text)}"
    if buttons is not None:
        yield from _different("buttons", buttons, titles(bubble.buttons))
    if quick_replies is not None:
        yield from _different("quick replies", quick_replies, quick_reply_titles(bubble))
    if cards is not None:
        yield from _different("cards", list(cards), [str(card.get("title", "")) for card in bubble.elements])
        if isinstance(cards, Mapping):
            for card in bubble.elements:
                name = str(card.get("title", ""))
                if name in cards:
                    yield from _different(
                        f"buttons of {name!r}", cards[name], titles(card.get("buttons") or ())
                    )
    if image is not None and image is not False:
        url = str(bubble.message.get("url", ""))
        if bubble.kind != "image":
            yield f"it is no image but {bubble.kind}"
        elif image is not True and not matches(image, url):
            yield f"the image is {url!r}, not {shown(image)}"
    if image is False and bubble.kind == "image":
        yield "it is an image"


def _different(name: str, expected: Sequence[Expected], shown_titles: list[str]) -> Iterator[str]:
    same = len(expected) == len(shown_titles) and all(map(matches, expected, shown_titles))
    if not same:
        yield f"the {name} are {shown_titles}, not [{', '.join(map(shown, expected))}]"
