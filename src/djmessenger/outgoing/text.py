"""Text messages, and the split of a long text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import regex

from djmessenger.channels import channel_of
from djmessenger.outgoing.base import TextLike, Writer, limit_of
from djmessenger.outgoing.message import ContentMessage

_GRAPHEME = regex.compile(r"\X")
_LONGEST_GRAPHEME = 64
"""Longest visible character in code points; a longer one may be cut."""


@dataclass(frozen=True)
class Text(ContentMessage):
    """A text: ``Text("Hello!", quick_replies=[QuickReply("Order", "ORDER")])``.

    A text over 2,000 characters (Instagram: 1,000 bytes) becomes several messages, split between words. The
    quick replies are below the last one.
    """

    kind: ClassVar[str] = "simple_text"
    type_name: ClassVar[str] = "text"

    text: TextLike

    def contents(self, out: Writer) -> list[dict[str, Any]]:
        text = out.bot_text("text", self.text)
        channel = channel_of(out.channel)
        longest = limit_of(out.row(channel.text_limit))
        return [{"text": part} for part in split_text(text, longest, channel.text_encoding)]


def split_text(text: str, most: int, encoding: str = "utf-16-le") -> list[str]:
    """Split a text into parts of at most ``most`` units: UTF-16 units, or bytes with ``encoding="utf-8"``.

    A cut between words loses white space only. A word that is too long alone is cut between visible characters. A
    text that fits is returned unchanged.
    """
    unit = 2 if encoding == "utf-16-le" else 1
    parts: list[str] = []
    rest = text
    while len(rest) > most or len(rest.encode(encoding)) // unit > most:
        fits = _fitting(rest, most, encoding, unit)
        part, rest = _cut(rest, fits)
        if part:
            parts.append(part)
    if rest or not parts:
        parts.append(rest)
    return parts


def _fitting(text: str, most: int, encoding: str, unit: int) -> int:
    """Return the number of code points that fit, at least one: with 0 the split would never end."""
    units = 0
    for index, character in enumerate(text[: most + 1]):
        units += len(character.encode(encoding)) // unit
        if units > most:
            return max(index, 1)
    return max(min(len(text), most), 1)


def _cut(text: str, fits: int) -> tuple[str, str]:
    end = fits
    if not text[fits].isspace():
        end = next((index for index in range(fits - 1, -1, -1) if text[index].isspace()), -1)
    head = text[:end].rstrip() if end >= 0 else ""
    if head or end >= 0:
        return head, text[end:].lstrip()
    end = _grapheme_boundary(text, fits)
    return text[:end], text[end:]


def _grapheme_boundary(text: str, fits: int) -> int:
    """Return the last index up to ``fits`` that cuts no visible character, or ``fits`` if there is none."""
    start = max(0, fits - _LONGEST_GRAPHEME)
    window = text[start : fits + 1]
    boundary = 0
    for match in _GRAPHEME.finditer(window):
        if match.end() > fits - start:
            break
        boundary = match.end()
    return start + boundary if boundary else fits
