"""Split of a decoded callback into its events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from djmessenger.channels import CHANNELS_BY_OBJECT, MESSENGER
from djmessenger.receiving.classify import CONTAINERS, ENTRY, EVENT_KEYS, unwrap
from djmessenger.receiving.events import Messaging
from djmessenger.receiving.parts import read_id, read_milliseconds

CHANNELS: dict[str | None, str] = {
    **{name: channel.name for name, channel in CHANNELS_BY_OBJECT.items()},
    None: MESSENGER,
}
"""Channel by ``object`` of the callback."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a callback: an event, or raw data with the reason why it is none."""

    messaging: Messaging | None
    raw: Any = field(repr=False)
    error: str = ""

    @property
    def body(self) -> Any:
        """The raw data for a JSON column."""
        return self.raw if isinstance(self.raw, (dict, list)) else {"value": self.raw}


def split(document: Any) -> Iterator[Item]:
    """Yield the items of a decoded callback; a broken item does not affect the others. Never raise.

    The body is an object or an array of objects. An item of ``changes`` with the name of a messaging field is an
    event; the test button of the App Dashboard sends such items.
    """
    if isinstance(document, list) and document:
        for callback in document:
            yield from _split_one(callback)
    else:
        yield from _split_one(document)


def _split_one(document: Any) -> Iterator[Item]:
    if not isinstance(document, dict):
        yield Item(None, document, f"a callback is a JSON object, not {_kind(document)}")
        return
    name = document.get("object")
    channel = CHANNELS.get(name) if name is None or isinstance(name, str) else None
    if channel is None:
        yield Item(None, document, f"a callback for the object {str(name)[:40]!r} is not for a bot")
        return
    entries = document.get("entry")
    if isinstance(entries, dict):
        entries = [entries]
    if not isinstance(entries, list):
        yield Item(None, document, f"'entry' of a callback is a list, not {_kind(entries)}")
        return
    for entry in entries:
        yield from _split_entry(entry, channel)


def _split_entry(entry: Any, channel: str) -> Iterator[Item]:
    if not isinstance(entry, dict):
        yield Item(None, entry, f"an entry is a JSON object, not {_kind(entry)}")
        return
    page_id = read_id(entry.get("id"))
    at = read_milliseconds(entry.get("time"))
    has_container = False
    for container in CONTAINERS:
        if container not in entry:
            continue
        has_container = True
        items = entry[container]
        if isinstance(items, dict):
            items = [items]
        if not isinstance(items, list):
            yield Item(None, entry, f"{container!r} of an entry is a list, not {_kind(items)}")
            continue
        for item in items:
            yield _item(item, page_id, at, channel, container)
    if not EVENT_KEYS.isdisjoint(entry):
        # The items of the containers are events of their own and are not repeated here.
        stray = {key: value for key, value in entry.items() if key not in CONTAINERS}
        yield _item(stray, page_id, at, channel, ENTRY)
    elif not has_container:
        yield Item(None, entry, f"an entry has one of {', '.join(CONTAINERS)}; this one has none")


def _item(raw: Any, page_id: str, at: int | None, channel: str, container: str) -> Item:
    if not isinstance(raw, dict):
        return Item(None, raw, f"an item of {container!r} is a JSON object, not {_kind(raw)}")
    try:
        body, container, field = unwrap(raw, container)
        messaging = Messaging.from_item(
            body,
            entry_id=page_id,
            entry_time=at,
            channel=channel,
            container=container,
            field=field,
        )
    except Exception as error:  # noqa: BLE001  # a broken item must not affect the others
        return Item(None, raw, f"{type(error).__name__}: {error}"[:500])
    return Item(messaging, body)


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__
