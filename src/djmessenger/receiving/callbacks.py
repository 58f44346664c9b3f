"""Documented classes of a callback and its entries: ``Callback`` and ``Entry``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from djmessenger.channels import MESSENGER, channel_of_object
from djmessenger.receiving.decoding import decode
from djmessenger.receiving.events import Messaging
from djmessenger.receiving.parts import Part, read_id, read_milliseconds, read_optional_text, wire, wire_parts

if TYPE_CHECKING:
    from django.http import HttpRequest


class Entry(Part):
    """One entry of a callback: the id of a Page, a time in milliseconds, and events."""

    id: str = wire(read_id, "")
    time: int | None = wire(read_milliseconds)
    messaging: list[Messaging] = wire_parts(Messaging)
    standby: list[Messaging] = wire_parts(Messaging)

    def __init__(self, iid: str | int, time: int | None, messaging: list[Messaging] | None = None) -> None:
        self.id = read_id(iid)
        self.time = time
        self.messaging = list(messaging or ())
        self.standby = []

    @classmethod
    def _from_json(cls, data: Mapping[str, Any]) -> Self:
        instance = super()._from_json(data)
        instance._place(MESSENGER)
        return instance

    def _place(self, channel: str) -> None:
        for container in ("messaging", "standby"):
            for messaging in getattr(self, container):
                messaging._place(self.id, self.time, channel, container)


class Callback(Part):
    """One complete callback."""

    object: str | None = wire(read_optional_text)
    entry: list[Entry] = wire_parts(Entry)

    def __init__(self, object: str = "page", entry: list[Entry] | None = None) -> None:  # noqa: A002
        self.object = object
        self.entry = list(entry or ())

    @classmethod
    def _from_json(cls, data: Mapping[str, Any]) -> Self:
        instance = super()._from_json(data)
        for entry in instance.entry:
            entry._place(channel_of_object(instance.object).name)
        return instance

    @classmethod
    def get_instance(cls, request: HttpRequest) -> Self:
        """Build the Callback from the body of a request; raise ``ValueError`` if it is no JSON object."""
        document = decode(request.body)
        if isinstance(document, list) and len(document) == 1:
            # Meta's page "Group feed" shows the whole body inside an array.
            document = document[0]
        return cls.deserialize(document)

    def messagings(self) -> Iterator[Messaging]:
        """Yield the events of all entries, standby included."""
        for entry in self.entry:
            yield from entry.messaging
            yield from entry.standby

    def get_sender_id(self) -> str:
        """Return the sender id of the first event that has one, otherwise ``""``."""
        return next((item.sender.id for item in self.messagings() if item.sender and item.sender.id), "")
