"""Documented class of an event in a callback: ``Messaging``."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from djmessenger.channels import MESSENGER, channel_of, channel_of_object
from djmessenger.receiving.classify import (
    CONTAINERS,
    ENTRY,
    find_inner_type,
    find_type,
    unwrap,
)
from djmessenger.receiving.keys import dedup_key
from djmessenger.receiving.messages import (
    AccountLinking,
    Delivery,
    EventParts,
    Message,
    Optin,
    Postback,
    Read,
    Recipient,
    Sender,
)
from djmessenger.receiving.parts import read_id, read_milliseconds
from djmessenger.receiving.types import ReceivingType
from djmessenger.rulebook import limit


class Messaging(EventParts):
    """One event: sender, recipient, time, and exactly one part with its content.

    ``raw`` is the item of the callback, unchanged. Times are milliseconds since 1970, UTC. The rows ``person``,
    ``conversation``, ``page`` and ``row`` are ``None`` until the engine calls ``bind``.
    """

    _foreign_init: ClassVar[bool] = False
    _type: ReceivingType | None = None
    _assumed_timestamp: int | None = None
    _context: dict[str, Any] | None = None
    _person: Any = None
    _conversation: Any = None
    _page: Any = None
    _row: Any = None

    def __init__(
        self,
        sender: Sender | None,
        recipient: Recipient | None,
        timestamp: int | None = None,
        message: Message | None = None,
        postback: Postback | None = None,
        optin: Optin | None = None,
        account_linking: AccountLinking | None = None,
        delivery: Delivery | None = None,
        read: Read | None = None,
    ) -> None:
        self.sender = sender
        self.recipient = recipient
        self.timestamp = _now() if timestamp is None else (read_milliseconds(timestamp) or timestamp)
        self.message = message
        self.postback = postback
        self.optin = optin
        self.account_linking = account_linking
        self.delivery = delivery
        self.read = read

    @classmethod
    def _from_json(cls, data: Mapping[str, Any]) -> Self:
        instance = super()._from_json(data)
        if read_milliseconds(data.get("timestamp")) is None:
            instance._assume_timestamp()
        return instance

    @classmethod
    def from_item(
        cls,
        raw: Mapping[str, Any],
        *,
        entry_id: str = "",
        entry_time: int | None = None,
        channel: str = MESSENGER,
        is_standby: bool = False,
        container: str = "messaging",
        field: str = "",
    ) -> Self:
        """Build an event from its dict and its place in the callback; ``field`` is that of an item of ``changes``."""
        instance = cls._from_json(raw)
        instance._place(entry_id, entry_time, channel, container)
        instance._is_standby = is_standby or container == "standby"
        instance._field = field
        return instance

    @classmethod
    def from_row(cls, body: Mapping[str, Any], row: Any) -> Self:
        """Build an event from the result of ``envelope``, or from an item alone with the place stored in ``row``."""
        entries = body.get("entry")
        if isinstance(entries, list) and len(entries) == 1 and isinstance(entries[0], dict):
            instance = cls._from_envelope(body, entries[0])
        else:
            page_id = row.page.page_id if row.page is not None else ""
            instance = cls.from_item(body, entry_id=page_id, is_standby=row.is_standby)
            instance._type = ReceivingType.members.get(row.type)
        if instance._assumed_timestamp is not None:
            instance._assumed_timestamp = instance.timestamp = row.timestamp
        return instance

    @classmethod
    def _from_envelope(cls, body: Mapping[str, Any], entry: dict[str, Any]) -> Self:
        container = next((name for name in CONTAINERS if name in entry), ENTRY)
        item = entry if container == ENTRY else entry[container][0]
        item, container, field = unwrap(item, container)
        return cls.from_item(
            item,
            entry_id=read_id(entry.get("id")),
            entry_time=read_milliseconds(entry.get("time")),
            channel=channel_of_object(body.get("object")).name,
            container=container,
            field=field,
        )

    def envelope(self) -> dict[str, Any]:
        """Return a callback with this event alone; it is stored in the row and can be delivered again."""
        item: Any = self.raw
        if self._container == ENTRY:
            entry = item
        else:
            if self._field:
                item = {"field": self._field, "value": item}
            entry = {"id": self.get_page_id(), self._container: [item]}
            if self._entry_time is not None:
                entry["time"] = self._entry_time
        return {"object": channel_of(self._channel).object_name, "entry": [entry]}

    def _place(self, entry_id: str, entry_time: int | None, channel: str, container: str) -> None:
        self._entry_id = entry_id
        self._entry_time = entry_time
        self._channel = channel
        self._container = container
        self._is_standby = container == "standby"
        self._type = None
        if self._assumed_timestamp is not None and entry_time is not None:
            self._assume_timestamp()

    def _assume_timestamp(self) -> None:
        watermark = None
        for receipt in (self.delivery, self.read):
            watermark = watermark or (receipt.watermark if receipt is not None else None)
        self._assumed_timestamp = self.timestamp = self._entry_time or watermark or _now()

    def _is_assumed(self, key: str, value: Any) -> bool:
        return key == "timestamp" and value == self._assumed_timestamp

    def __repr__(self) -> str:
        return f"<Messaging {self.type} of {self.date:%Y-%m-%d %H:%M:%S}>"

    # Type and time

    def get_receiving_type(self) -> ReceivingType:
        """Return the type of the event; it is computed once. Never raise."""
        if self._type is None:
            self._type = find_type(self)
        return self._type

    @property
    def type(self) -> ReceivingType:
        return self.get_receiving_type()

    @property
    def inner_type(self) -> ReceivingType:
        """Type of the event regardless of standby; equal to ``type`` for all other events."""
        return find_inner_type(self) if self.type is ReceivingType.STANDBY else self.type

    @property
    def authored(self) -> bool:
        """True if a person wrote, tapped or sent it and expects an answer."""
        return self.type.authored

    @property
    def is_consent(self) -> bool:
        """True if Graph returns the profile of the person after this event."""
        # The checkbox plugin, whose events have a ``user_ref``, is none.
        return self._is_written or (self.inner_type.is_consent and not self.user_ref)

    @property
    def window(self) -> datetime.timedelta | None:
        """Time from this event on in which a bot may write, by the rulebook; ``None`` if it opens no window.

        After a click on an ad it is the longest time that Meta allows, because only Graph knows the exact one.
        """
        if self.is_echo or not (self._is_written or self.inner_type.opens_window):
            return None
        if self.reaction is not None and self.reaction.action == "unreact":
            return None
        if self.referral is not None and self.referral.source.upper() == "ADS":
            return datetime.timedelta(days=limit("window.ad"))
        return datetime.timedelta(hours=limit("window.standard"))

    @property
    def _is_written(self) -> bool:
        """True for a message or a tap of a person, also if a checker of the project gives it a type of its own."""
        if self.is_echo:
            return False
        return self.postback is not None or (self.message is not None and not self.message.is_deleted)

    def key(self) -> str:
        """Return the dedup key, the same in each delivery of the event; at most 128 characters."""
        return dedup_key(self)

    @property
    def date(self) -> datetime.datetime:
        """Time of the event, aware, in UTC."""
        try:
            return datetime.datetime.fromtimestamp(self.timestamp / 1000, tz=datetime.UTC)
        except (OverflowError, OSError, ValueError):
            return datetime.datetime.now(tz=datetime.UTC)

    # Rows

    def bind(
        self, *, person: Any = None, conversation: Any = None, page: Any = None, row: Any = None
    ) -> None:
        """Attach the rows of the event; an argument of ``None`` leaves the row as it was."""
        self._person = self._person if person is None else person
        self._conversation = self._conversation if conversation is None else conversation
        self._page = self._page if page is None else page
        self._row = self._row if row is None else row

    @property
    def person(self) -> Any:
        return self._person

    @property
    def conversation(self) -> Any:
        return self._conversation

    @property
    def page(self) -> Any:
        return self._page

    @property
    def row(self) -> Any:
        return self._row

    @property
    def context(self) -> dict[str, Any]:
        """Dict that filters, handlers and repliers of this event share."""
        if self._context is None:
            self._context = {}
        return self._context


def _now() -> int:
    return time.time_ns() // 1_000_000
