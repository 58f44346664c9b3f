"""A callback and its entries: the documented ``Callback`` and ``Entry``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from djmessenger.receiving.decoding import decode
from djmessenger.receiving.events import INSTAGRAM, MESSENGER, Messaging
from djmessenger.receiving.parts import Field, Part, parts, read_id, read_milliseconds, read_optional_text

if TYPE_CHECKING:
    from django.http import HttpRequest


class Entry(Part):
    """One entry of a callback: a page, a time (ms) and its events."""

    custom_obj_map: ClassVar[Mapping[str, Any]] = {"messaging": [Messaging, list]}
    fields: ClassVar = {
        "id": Field(read_id, ""),
        "time": Field(read_milliseconds),
        "messaging": Field(parts(Messaging), list),
        "standby": Field(parts(Messaging), list),
    }
    id: str
    time: int | None
    messaging: list[Messaging]
    standby: list[Messaging]

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
    """One whole webhook request."""

    custom_obj_map: ClassVar[Mapping[str, Any]] = {"entry": [Entry, list]}
    fields: ClassVar = {"object": Field(read_optional_text), "entry": Field(parts(Entry), list)}
    object: str | None
    entry: list[Entry]

    def __init__(self, object: str = "page", entry: list[Entry] | None = None) -> None:  # noqa: A002
        self.object = object
        self.entry = list(entry or ())

    @classmethod
    def _from_json(cls, data: Mapping[str, Any]) -> Self:
        instance = super()._from_json(data)
        for entry in instance.entry:
            entry._place(INSTAGRAM if instance.object == INSTAGRAM else MESSENGER)
        return instance

    @classmethod
    def get_instance(cls, request: HttpRequest) -> Self:
        """Build the Callback from the body of a request; ``ValueError`` when that is no JSON object."""
        document = decode(request.body)
        if isinstance(document, list) and len(document) == 1:
            # The page "Group feed" prints the whole body in an array.
            document = document[0]
        return cls.deserialize(document)

    def messagings(self) -> Iterator[Messaging]:
        """Give the events of all entries, standby included."""
        for entry in self.entry:
            yield from entry.messaging
            yield from entry.standby

    def get_sender_id(self) -> str:
        """Give the sender id of the first event that has one, else ``""``."""
        return next((item.sender.id for item in self.messagings() if item.sender and item.sender.id), "")
