"""Texts, and how a long one is split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import regex

from djmessenger.outgoing.base import INSTAGRAM, TextLike, Writer, limit_of
from djmessenger.outgoing.message import ContentMessage

_GRAPHEME = regex.compile(r"\X")
_LONGEST_GRAPHEME = 64
"""Code points looked at for one character as a person sees it; longer ones are cut."""


@dataclass(frozen=True)
class Text(ContentMessage):
    """A text: ``Text("Hello!", quick_replies=[QuickReply("Order", "ORDER")])``.

    A text over 2,000 characters (Instagram: 1,000 bytes) becomes several messages, split between words; the
    quick replies stand below the last.
    """

    kind: ClassVar[str] = "simple_text"

    text: TextLike

    def contents(self, out: Writer) -> list[dict[str, Any]]:
        text = out.said("text", self.text)
        instagram = out.channel == INSTAGRAM
        most = limit_of(out.row("text.bytes.instagram" if instagram else "text.length"))
        return [{"text": part} for part in split_text(text, most, "utf-8" if instagram else "utf-16-le")]


def split_text(text: str, most: int, encoding: str = "utf-16-le") -> list[str]:
    """Split a text into parts of at most ``most`` units: UTF-16 units, or bytes with ``encoding="utf-8"``.

    Cuts between words, where only white space is lost; inside a word only when the word alone is too long,
    and then between characters as a person sees them. A text that fits comes back as it is.
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
    """Count the code points at the start that fit; at least one, for something has to go out."""
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
    """Give the last place not after ``fits`` where no character as a person sees it is cut."""
    start = max(0, fits - _LONGEST_GRAPHEME)
    window = text[start : fits + 1]
    boundary = 0
    for match in _GRAPHEME.finditer(window):
        if match.end() > fits - start:
            break
        boundary = match.end()
    return start + boundary if boundary else fits
