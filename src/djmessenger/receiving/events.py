"""The events in a callback: the documented ``Messaging``."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from djmessenger.receiving.attachments import Attachment, Coordinates
from djmessenger.receiving.classify import (
    CONTAINERS,
    ENTRY,
    find_inner_type,
    find_type,
    is_from_page,
    unwrap,
)
from djmessenger.receiving.keys import dedup_key
from djmessenger.receiving.messages import (
    AccountLinking,
    Delivery,
    Message,
    MessageEdit,
    Optin,
    Postback,
    Reaction,
    Read,
    Recipient,
    Referral,
    Sender,
    ThreadControl,
)
from djmessenger.receiving.parts import (
    Field,
    Part,
    part,
    read_id,
    read_milliseconds,
)
from djmessenger.receiving.types import ReceivingType

MESSENGER = "messenger"
INSTAGRAM = "instagram"

_read_referral = part(Referral)


class Messaging(Part):
    """One event: who, to whom, when, and exactly one of the parts that say what happened.

    ``raw`` is the item as it came. Times are milliseconds since 1970, UTC. What the engine knows (``person``,
    ``conversation``, ``page``, ``row``) is ``None`` until ``bind``.
    """

    custom_obj_map: ClassVar[Mapping[str, Any]] = {
        "sender": [Sender, object],
        "recipient": [Recipient, object],
        "message": [Message, object],
        "postback": [Postback, object],
        "optin": [Optin, object],
        "account_linking": [AccountLinking, object],
        "delivery": [Delivery, object],
        "read": [Read, object],
    }
    fields: ClassVar = {
        "sender": Field(part(Sender)),
        "recipient": Field(part(Recipient)),
        "timestamp": Field(read_milliseconds),
        "message": Field(part(Message)),
        "postback": Field(part(Postback)),
        "optin": Field(part(Optin)),
        "account_linking": Field(part(AccountLinking)),
        "delivery": Field(part(Delivery)),
        "read": Field(part(Read)),
        "reaction": Field(part(Reaction)),
        "message_edit": Field(part(MessageEdit)),
        "pass_thread_control": Field(part(ThreadControl)),
        "take_thread_control": Field(part(ThreadControl)),
        "request_thread_control": Field(part(ThreadControl)),
    }
    sender: Sender | None
    recipient: Recipient | None
    timestamp: int
    message: Message | None
    postback: Postback | None
    optin: Optin | None
    account_linking: AccountLinking | None
    delivery: Delivery | None
    read: Read | None
    reaction: Reaction | None
    message_edit: MessageEdit | None
    pass_thread_control: ThreadControl | None
    take_thread_control: ThreadControl | None
    request_thread_control: ThreadControl | None

    _entry_id: str = ""
    _entry_time: int | None = None
    _channel: str = MESSENGER
    _container: str = "messaging"
    _field: str = ""
    _is_standby: bool = False
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
        self.reaction = None
        self.message_edit = None
        self.pass_thread_control = None
        self.take_thread_control = None
        self.request_thread_control = None

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
        """Build an event from its dict and what stood around it (``field``: of an item of ``changes``)."""
        instance = cls._from_json(raw)
        instance._place(entry_id, entry_time, channel, container)
        instance._is_standby = is_standby or container == "standby"
        instance._field = field
        return instance

    @classmethod
    def from_row(cls, body: Mapping[str, Any], row: Any) -> Self:
        """Build an event from what ``envelope`` gave, or from a bare item and what its row says around it."""
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
            channel=INSTAGRAM if body.get("object") == INSTAGRAM else MESSENGER,
            container=container,
            field=field,
        )

    def envelope(self) -> dict[str, Any]:
        """Give the callback that holds this event alone: what a row keeps, what can be delivered again."""
        item: Any = self.raw
        if self._container == ENTRY:
            entry = item
        else:
            if self._field:
                item = {"field": self._field, "value": item}
            entry = {"id": self.get_page_id(), self._container: [item]}
            if self._entry_time is not None:
                entry["time"] = self._entry_time
        return {"object": INSTAGRAM if self._channel == INSTAGRAM else "page", "entry": [entry]}

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

    # Where it stood

    @property
    def entry_id(self) -> str:
        """The id of the page (or Instagram account) by the entry; ``""`` for an event made by hand."""
        return self._entry_id

    @property
    def entry_time(self) -> int | None:
        """When Meta built the callback, in ms."""
        return self._entry_time

    @property
    def channel(self) -> str:
        """``"messenger"`` or ``"instagram"``."""
        return self._channel

    @property
    def container(self) -> str:
        """The key that held it: ``messaging``, ``standby``, ``changes``, ``calls``; ``entry`` for none."""
        return self._container

    @property
    def is_standby(self) -> bool:
        """Whether another app has the conversation."""
        return self._is_standby

    # What it is

    def get_receiving_type(self) -> ReceivingType:
        """Work out, once, which ``ReceivingType`` the event is. Never raises."""
        if self._type is None:
            self._type = find_type(self)
        return self._type

    @property
    def type(self) -> ReceivingType:
        return self.get_receiving_type()

    @property
    def inner_type(self) -> ReceivingType:
        """What the event would be if this app had the conversation: the same as ``type`` but in standby."""
        return find_inner_type(self) if self.type is ReceivingType.STANDBY else self.type

    @property
    def authored(self) -> bool:
        """Whether a person wrote, tapped or sent it, so that an answer is expected."""
        return self.type.authored

    @property
    def is_echo(self) -> bool:
        """Whether the page itself sent it: Meta says so, or the sender is the page."""
        return (self.message is not None and self.message.is_echo) or is_from_page(self)

    def key(self) -> str:
        """The same text for the same event, however often it is delivered; at most 128 characters."""
        return dedup_key(self)

    @property
    def date(self) -> datetime.datetime:
        """The time of the event, aware, UTC."""
        try:
            return datetime.datetime.fromtimestamp(self.timestamp / 1000, tz=datetime.UTC)
        except (OverflowError, OSError, ValueError):
            return datetime.datetime.now(tz=datetime.UTC)

    # Who

    def get_psid(self) -> str:
        """Give the person's page-scoped id, also where the page is the sender; ``""`` when there is none."""
        if self.sender is None and self.recipient is None:
            return self._person_of_call()
        person = self.recipient if self.is_echo else self.sender
        if person is None or person.id == self._entry_id:
            person = self._other(person)
        return person.id if person is not None else ""

    def _other(self, person: Sender | Recipient | None) -> Sender | Recipient | None:
        """Handover samples of Meta name the page as the sender; the other one is the person then."""
        other = self.sender if person is self.recipient else self.recipient
        if person is None or other is None or other.id == self._entry_id or not self._entry_id:
            return None
        return other

    def _person_of_call(self) -> str:
        raw = self.raw
        for key in ("from", "to", "recipient_id"):
            found = read_id(raw.get(key))
            if found and found != self._entry_id:
                return found
        return ""

    @property
    def user_ref(self) -> str:
        """The reference of a person whom the checkbox plugin has not made known yet, else ``""``."""
        sender = self.sender.user_ref if self.sender is not None else ""
        return sender or (self.optin.user_ref if self.optin is not None else "")

    def get_page_id(self) -> str:
        """Give the page's id: the entry's; for an event made by hand, the one who is not the person."""
        if self._entry_id:
            return self._entry_id
        page = self.sender if self.is_echo else self.recipient
        return page.id if page is not None else ""

    # What it says

    @property
    def mid(self) -> str:
        """The id of the message or tap it is about, else ``""``."""
        for holder in (self.message, self.postback, self.message_edit, self.reaction, self.read):
            if holder is not None and holder.mid:
                return holder.mid
        return ""

    @property
    def text(self) -> str:
        """The text of the message, or the new text of an edited one, else ``""``."""
        if self.message is not None:
            return self.message.text or ""
        return self.message_edit.text if self.message_edit is not None else ""

    @property
    def payload(self) -> str:
        """The payload of the quick reply, postback or opt-in, else ``""``."""
        if self.message is not None and self.message.quick_reply is not None:
            return self.message.quick_reply.payload
        if self.postback is not None:
            return self.postback.payload
        return self.optin.payload if self.optin is not None else ""

    @property
    def referral(self) -> Referral | None:
        """How the person came, wherever it arrived: by itself, with a message, a tap or an opt-in."""
        for holder in (self.message, self.postback):
            if holder is not None and holder.referral is not None:
                return holder.referral
        own = _read_referral(self.raw.get("referral"))
        if own is None and self.optin is not None and self.optin.ref:
            own = Referral(self.optin.ref, self.optin.source)
        return own if isinstance(own, Referral) else None

    @property
    def attachments(self) -> list[Attachment]:
        return self.message.attachments if self.message is not None else []

    def get_text(self) -> str:
        """Give the text of the message, ``""`` when there is none."""
        return (self.message.text or "") if self.message is not None else ""

    def get_postback_payload(self) -> str:
        """Give the payload text of the postback, ``""`` when there is none."""
        return self.postback.payload if self.postback is not None else ""

    def get_quick_reply_payload(self) -> str:
        """Give the payload text of the quick reply, ``""`` when there is none."""
        if self.message is None or self.message.quick_reply is None:
            return ""
        return self.message.quick_reply.payload

    def get_sticker_id(self) -> str | None:
        """Give the sticker id, wherever Meta put it over the years, or ``None``."""
        if self.message is None:
            return None
        for attachment in self.message.attachments:
            if attachment.sticker_id:
                return attachment.sticker_id
        return self.message.sticker_id

    def get_coordinates(self) -> Coordinates | None:
        """Give the coordinates of a shared location, or ``None``."""
        return next((item.coordinates for item in self.attachments if item.coordinates is not None), None)

    def get_url(self) -> str:
        """Give the url of the first attachment that has one, else ``""``."""
        return next((item.best_url for item in self.attachments if item.best_url), "")

    def get_watermark(self) -> int | None:
        """Give the time, in ms, up to which everything has arrived or was read; ``None`` for other events."""
        receipt = self.delivery if self.delivery is not None else self.read
        return receipt.watermark if receipt is not None else None

    # What the engine adds

    def bind(
        self, *, person: Any = None, conversation: Any = None, page: Any = None, row: Any = None
    ) -> None:
        """Attach the rows that belong to the event; what is not given stays as it was."""
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
        """What filters, handlers and repliers of this event share."""
        if self._context is None:
            self._context = {}
        return self._context


def _now() -> int:
    return time.time_ns() // 1_000_000
