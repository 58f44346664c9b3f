"""Tables that the build of the documentation makes from the code, so they are always current."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from djmessenger import rulebook
from djmessenger.outgoing import OutgoingMessage
from djmessenger.outgoing.base import MESSAGES
from djmessenger.receiving import Messaging, ReceivingType
from djmessenger.receiving.classify import EVENT_KEYS
from djmessenger.receiving.parsing import split
from djmessenger.rulebook.facts import READ
from djmessenger.settings.declared import PAGE_KEYS, SETTINGS
from djmessenger.settings.setting import Setting
from djmessenger.utils.default_routing_policy import RUNNABLE_ROUTING_POLICY

WIRE = Path(__file__).parents[2] / "tests" / "wire"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def settings_table() -> str:
    return declarations_table("Setting", SETTINGS)


def page_keys_table() -> str:
    return declarations_table("Key", PAGE_KEYS)


def declarations_table(head: str, rows: Mapping[str, Setting[Any]]) -> str:
    """Return the declarations as a table; secret values are marked."""
    return table(
        [head, "Type", "Accepted", "Default", "Secret", "Meaning"],
        [
            [
                f"`{name}`",
                row.type_text,
                row.bounds_text or "–",
                default_text(row.default),
                "yes" if row.secret else "",
                row.meaning,
            ]
            for name, row in rows.items()
        ],
    )


def default_text(default: Any) -> str:
    if default is RUNNABLE_ROUTING_POLICY:
        return "the runnable part of the sample policy"
    if isinstance(default, datetime.timedelta):
        return f"{default.days} days"
    if isinstance(default, int) and not isinstance(default, bool) and default % 2**20 == 0 and default:
        return f"`{default}` ({default // 2**20} MiB)"
    return f"`{default!r}`"


def events_table() -> str:
    """Return the table of events: type, webhook field, key of the JSON, sample of the tests."""
    samples = samples_by_type()
    return table(
        [
            "Type",
            "Meaning",
            "Webhook field",
            "On Instagram",
            "Key",
            "Sample",
            "Authored",
            "Window",
            "Consent",
        ],
        [
            [
                f"`{name}`",
                one.description or "–",
                codes(field.messenger for field in one.webhook),
                codes(field.instagram for field in one.webhook),
                codes(samples[one][1:]) if one in samples else "–",
                f"`{samples[one][0]}`" if one in samples else "–",
                *("yes" if answer else "" for answer in (one.authored, one.opens_window, one.is_consent)),
            ]
            for name, one in ReceivingType.get_members().items()
        ],
    )


def codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names if name) or "–"


def samples_by_type() -> dict[ReceivingType, tuple[str, str]]:
    """Return the first sample of each type, with its key of the JSON."""
    found: dict[ReceivingType, tuple[str, str]] = {}
    # Samples of Messenger come first, and whole batches last.
    for path in sorted(
        WIRE.glob("*.json"), key=lambda path: (path.stem.startswith(("ig_", "batch_")), path.stem)
    ):
        if path.stem in {"MANIFEST", "signature_vectors"}:
            continue
        for item in split(json.loads(path.read_text(encoding="utf-8"))):
            if item.messaging is not None:
                found.setdefault(item.messaging.type, (path.stem, key_of(item.messaging)))
    return found


def key_of(messaging: Messaging) -> str:
    raw = messaging.raw
    if messaging.is_standby:
        return "standby"
    key = next((name for name in sorted(EVENT_KEYS) if name in raw), messaging.container)
    message = raw.get("message")
    if key != "message" or not isinstance(message, dict):
        return key
    inner = next(
        (name for name in ("is_echo", "is_deleted", "is_unsupported", "quick_reply") if message.get(name)), ""
    )
    if inner:
        return f"message.{inner}"
    kinds = [item.get("type") for item in message.get("attachments") or ()]
    return f"message.attachments[].type = {kinds[0]}" if kinds else "message.text"


def messages_table() -> str:
    """Return the table of messages: class, type as plain data, channels, limits."""
    by_class: dict[type[OutgoingMessage], str] = {}
    for name, cls in MESSAGES.items():
        by_class.setdefault(cls, name)
    return table(
        ["Class", "Type as data", "Messenger", "Instagram", "Limits"],
        [
            [
                f"`{cls.__name__}`",
                f"`{name}`",
                *("yes" if channel in channels_of(cls) else "" for channel in ("messenger", "instagram")),
                "; ".join(limits_of(cls, name)) or "–",
            ]
            for cls, name in by_class.items()
        ],
    )


def channels_of(cls: type[OutgoingMessage]) -> frozenset[str]:
    channels: frozenset[str] = getattr(cls, "channels", frozenset({"messenger", "instagram"}))
    return channels


LIMITS_OF = {
    "button": ("button_template", "buttons", "button"),
    "generic": ("generic", "buttons", "button"),
    "media": ("media", "buttons", "button"),
    "customer_feedback": ("feedback",),
    "customer_information": ("information",),
    "image": ("attachment",),
    "audio": ("attachment",),
    "video": ("attachment",),
    "file": ("attachment",),
    "text": ("text", "quick_replies", "quick_reply"),
}
"""Families of rows in the rulebook, by type of message; by default the family has the name of the type."""


def limits_of(cls: type[OutgoingMessage], name: str) -> list[str]:
    families = LIMITS_OF.get(name, (name,))
    others = {"image", "audio", "video", "file"} - {name}
    return [
        f"{row.value // 2**20} MiB {row.what.removeprefix('bytes ')}"
        if row.what.startswith("bytes ") and row.value % 2**20 == 0
        else f"{row.value} {row.what}"
        for family in families
        for key, row in rulebook.table.items()
        if key.partition(".")[0] == family
        and isinstance(row.value, int)
        and key.rpartition(".")[2] not in others
        and (not key.endswith(".instagram") or "instagram" in channels_of(cls))
    ]


def versions_table() -> str:
    rows = [row for key, row in reversed(rulebook.table.items()) if key.startswith("graph.")]
    return table(
        ["Version", "Since", "Usable until"],
        [
            [f"`{row.key.removeprefix('graph.')}`", str(row.since), str(row.until or "not announced")]
            for row in rows
        ],
    )


def endings_table() -> str:
    """Return the table of endings after the day on which Meta's pages were last read."""
    rows = sorted(
        (row for row in rulebook.table.values() if row.until is not None and row.until > READ),
        key=lambda row: str(row.until),
    )
    return table(
        ["Date", "Ending", "Instead", "Key"],
        [[str(row.until), row.what, row.instead or "–", f"`{row.key}`"] for row in rows],
    )


def limits_table() -> str:
    rows = getattr(rulebook, "rows", dict)()
    return table(
        ["Key", "Value", "Meaning", "Source", "Read"],
        [
            [f"`{row.key}`", value_text(row), str(row.what), str(row.source), str(row.date)]
            for row in rows.values()
        ],
    )


def value_text(row: Any) -> str:
    until = getattr(row, "until", None)
    shown = "" if row.value is None else str(row.value)
    return f"{shown} until {until}".strip() if until else shown or "–"


class GeneratedTable(SphinxDirective):
    tables: ClassVar[dict[str, Any]] = {
        "page-keys-table": page_keys_table,
        "settings-table": settings_table,
        "events-table": events_table,
        "endings-table": endings_table,
        "limits-table": limits_table,
        "messages-table": messages_table,
        "versions-table": versions_table,
    }

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(self.tables[self.name]())


def setup(app: Sphinx) -> dict[str, bool]:
    for name in GeneratedTable.tables:
        app.add_directive(name, GeneratedTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
