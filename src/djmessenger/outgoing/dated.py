"""Which rows of the rulebook that have a day a message depends on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from djmessenger import rulebook
from djmessenger.outgoing.attachments import Sticker
from djmessenger.outgoing.base import Part
from djmessenger.outgoing.data import BUTTONS, QUICK_REPLIES
from djmessenger.outgoing.templates import Template

_OF_PARTS: dict[type, str] = {
    **{kind: f"button.{name}" for name, kind in BUTTONS.items()},
    **{kind: f"quick_reply.{name}" for name, kind in QUICK_REPLIES.items()},
}


def dated_keys(message: Any) -> frozenset[str]:
    """Give the keys of the rows that a message, or a class of messages, depends on: tag, template, kind of button."""
    return frozenset(key for key in _keys(message) if key in rulebook.table)


def _keys(value: Any) -> Iterator[str]:
    kind = value if isinstance(value, type) else type(value)
    if issubclass(kind, Template):
        yield f"template.{kind.template_type}"
    if issubclass(kind, Sticker):
        yield "sticker"
    if kind in _OF_PARTS:
        yield _OF_PARTS[kind]
    if isinstance(value, Part):
        if tag := getattr(value, "tag", ""):
            yield f"tag.{tag}"
        for field in fields(value):  # type: ignore[arg-type]
            inner = getattr(value, field.name)
            for item in inner if isinstance(inner, tuple) else (inner,):
                if isinstance(item, Part):
                    yield from _keys(item)
