"""Parts of an event: a message, a tap, a receipt and others.

Keys: Messenger Platform, "Webhook Events" and its pages, Instagram Platform, "Webhooks" (state of September
2026). ``seq`` belongs to 2016; Meta stopped sending it in 2019.
"""

from __future__ import annotations

from typing import Any

from djmessenger.channels import MESSENGER, channel_of
from djmessenger.receiving.attachments import Attachment, Coordinates
from djmessenger.receiving.parts import (
    Part,
    part,
    read_data,
    read_flag,
    read_id,
    read_int,
    read_milliseconds,
    read_optional_id,
    read_optional_text,
    read_text,
    read_texts,
    wire,
    wire_part,
    wire_parts,
)
from djmessenger.receiving.types import KEYS_OF_META

DASHBOARD_TEST_PAGE = "0"
"""Id of the entry in the samples of the App Dashboard's test button; their sender is 12334, their time is of 2018."""


class Sender(Part):
    """Sender of the event; ``user_ref`` identifies a person from the checkbox plugin, who has no id yet."""

    id: str = wire(read_id, "")
    user_ref: str = wire(read_id, "")

    def __init__(self, iid: str | int) -> None:
        self.id = read_id(iid)


class Recipient(Part):
    """Recipient of the event."""

    id: str = wire(read_id, "")
    user_ref: str = wire(read_id, "")

    def __init__(self, iid: str | int) -> None:
        self.id = read_id(iid)


class QuickReply(Part):
    """Tapped quick reply of a message."""

    payload: str = wire(read_text, "")

    def __init__(self, payload: str) -> None:
        self.payload = payload


class Referral(Part):
    """Way by which a person opened the conversation: an m.me link, an ad, a code, a product."""

    ref: str = wire(read_text, "")
    source: str = wire(read_text, "")
    type: str = wire(read_text, "")
    ad_id: str = wire(read_id, "")
    referer_uri: str = wire(read_text, "")
    ads_context_data: Any = wire(read_data)
    product: Any = wire(read_data)

    def __init__(self, ref: str = "", source: str = "", ttype: str = "", ad_id: str = "") -> None:
        self.ref = ref
        self.source = source
        self.type = ttype
        self.ad_id = ad_id


class Message(Part):
    """Message of an event; ``text`` may be ``None``. ``commands`` and ``nlp`` are in ``raw``."""

    text: str | None = wire(read_optional_text)
    mid: str = wire(read_id, "")
    seq: int | None = wire(read_int)
    sticker_id: str | None = wire(read_optional_id)
    quick_reply: QuickReply | None = wire_part(QuickReply)
    attachments: list[Attachment] = wire_parts(Attachment)
    is_echo: bool = wire(read_flag, default=False)
    app_id: str = wire(read_id, "")
    metadata: str = wire(read_text, "")
    is_deleted: bool = wire(read_flag, default=False)
    is_unsupported: bool = wire(read_flag, default=False)
    reply_to: Any = wire(read_data)
    referral: Referral | None = wire_part(Referral)

    def __init__(
        self,
        text: str | None,
        mid: str,
        seq: int | None,
        sticker_id: str | int | None = None,
        quick_reply: QuickReply | None = None,
        attachments: list[Attachment] | None = None,
        is_echo: bool = False,
        app_id: str | int = "",
        metadata: str = "",
    ) -> None:
        self.text = text
        self.mid = mid
        self.seq = seq
        self.sticker_id = read_optional_id(sticker_id)
        self.quick_reply = quick_reply
        self.attachments = list(attachments or ())
        self.is_echo = is_echo
        self.app_id = read_id(app_id)
        self.metadata = metadata


class Postback(Part):
    """Tap on a button, the menu, an ice breaker or the get-started button; without payload in standby."""

    payload: str = wire(read_text, "")
    title: str = wire(read_text, "")
    mid: str = wire(read_id, "")
    referral: Referral | None = wire_part(Referral)

    def __init__(self, payload: str) -> None:
        self.payload = payload


class Optin(Part):
    """Opt-in of an event; its tokens are in ``raw``."""

    ref: str = wire(read_text, "")
    user_ref: str = wire(read_id, "")
    type: str = wire(read_text, "")
    payload: str = wire(read_text, "")
    source: str = wire(read_text, "")

    def __init__(self, ref: str) -> None:
        self.ref = ref


class AccountLinking(Part):
    """Account linking; ``status`` is ``linked`` (with an authorization code) or ``unlinked``."""

    status: str = wire(read_text, "")
    authorization_code: str = wire(read_text, "")

    def __init__(self, status: str, authorization_code: str = "") -> None:
        self.status = status
        self.authorization_code = authorization_code


class Delivery(Part):
    """Delivery receipt: all messages up to ``watermark`` (milliseconds) were delivered."""

    watermark: int | None = wire(read_milliseconds)
    seq: int | None = wire(read_int)
    mids: list[str] = wire(read_texts, list)

    def __init__(self, watermark: int | None, seq: int | None, mids: list[str] | None = None) -> None:
        self.watermark = watermark
        self.seq = seq
        self.mids = list(mids or ())


class Read(Part):
    """Read receipt: all messages up to ``watermark`` (milliseconds) were read; on Instagram ``mid`` instead."""

    watermark: int | None = wire(read_milliseconds)
    seq: int | None = wire(read_int)
    mid: str = wire(read_id, "")

    def __init__(self, watermark: int | None, seq: int | None) -> None:
        self.watermark = watermark
        self.seq = seq


class Reaction(Part):
    """Reaction to the message ``mid``; ``action`` is ``react`` or ``unreact``."""

    reaction: str = wire(read_text, "")
    emoji: str = wire(read_text, "")
    action: str = wire(read_text, "")
    mid: str = wire(read_id, "")

    def __init__(self, reaction: str = "", emoji: str = "", action: str = "react", mid: str = "") -> None:
        self.reaction = reaction
        self.emoji = emoji
        self.action = action
        self.mid = mid


class MessageEdit(Part):
    """New text of an edited message; ``num_edit`` counts from 1."""

    mid: str = wire(read_id, "")
    text: str = wire(read_text, "")
    num_edit: int | None = wire(read_int)

    def __init__(self, mid: str, text: str, num_edit: int | None = None) -> None:
        self.mid = mid
        self.text = text
        self.num_edit = num_edit


class ThreadControl(Part):
    """Previous, new or requested owner of the conversation; ``""`` if there is none."""

    previous_owner_app_id: str = wire(read_id, "")
    new_owner_app_id: str = wire(read_id, "")
    requested_owner_app_id: str = wire(read_id, "")
    metadata: str = wire(read_text, "")

    def __init__(
        self, new_owner_app_id: str = "", previous_owner_app_id: str = "", metadata: str = ""
    ) -> None:
        self.new_owner_app_id = new_owner_app_id
        self.previous_owner_app_id = previous_owner_app_id
        self.metadata = metadata


_RECEIPTS = frozenset({"delivery", "read"})

_read_referral = part(Referral)


class EventParts(Part):
    """Parts of an event, its place in the callback, and values read from both.

    ``djmessenger.receiving.Messaging`` adds type, key and rows. The modules that ``Messaging`` imports need this class
    alone, so that there is no import loop.
    """

    sender: Sender | None = wire_part(Sender)
    recipient: Recipient | None = wire_part(Recipient)
    timestamp: int = wire(read_milliseconds)
    message: Message | None = wire_part(Message)
    postback: Postback | None = wire_part(Postback)
    optin: Optin | None = wire_part(Optin)
    account_linking: AccountLinking | None = wire_part(AccountLinking)
    delivery: Delivery | None = wire_part(Delivery)
    read: Read | None = wire_part(Read)
    reaction: Reaction | None = wire_part(Reaction)
    message_edit: MessageEdit | None = wire_part(MessageEdit)
    pass_thread_control: ThreadControl | None = wire_part(ThreadControl)
    take_thread_control: ThreadControl | None = wire_part(ThreadControl)
    request_thread_control: ThreadControl | None = wire_part(ThreadControl)

    _entry_id: str = ""
    _entry_time: int | None = None
    _channel: str = MESSENGER
    _container: str = "messaging"
    _field: str = ""
    _is_standby: bool = False

    # Place in the callback

    @property
    def entry_id(self) -> str:
        """Id of the Page or Instagram account in the entry; ``""`` for an event built in code."""
        return self._entry_id

    @property
    def entry_time(self) -> int | None:
        """Time in milliseconds at which Meta built the callback."""
        return self._entry_time

    @property
    def channel(self) -> str:
        """Channel of the event: ``"messenger"`` or ``"instagram"``."""
        return self._channel

    @property
    def container(self) -> str:
        """Key of the list with the event: ``messaging``, ``standby``, ``changes``, ``calls``; ``entry`` for none."""
        return self._container

    @property
    def is_dashboard_test(self) -> bool:
        """True for the sample that the test button of the App Dashboard sends; it belongs to no Page."""
        return self._entry_id == DASHBOARD_TEST_PAGE

    @property
    def is_standby(self) -> bool:
        """True if another app has the conversation."""
        return self._is_standby

    # Sender and receiver

    @property
    def is_echo(self) -> bool:
        """True if the Page itself sent the event: Meta marks it as an echo, or the sender is the Page."""
        return (self.message is not None and self.message.is_echo) or self._is_from_page

    @property
    def _is_from_page(self) -> bool:
        """True if the Page itself is the sender; an answer to such an event would cause an endless exchange."""
        if not self._entry_id or self.sender is None or self.sender.id != self._entry_id:
            return False
        # Some receipts name the Page as sender, although the person received or read the message.
        return KEYS_OF_META.isdisjoint(self.raw) and _RECEIPTS.isdisjoint(self.raw)

    def get_psid(self) -> str:
        """Return the page-scoped id of the person, also if the Page is the sender; ``""`` if there is none."""
        if self.sender is None and self.recipient is None:
            return self._person_of_call()
        person = self.recipient if self.is_echo else self.sender
        if person is None or person.id == self._entry_id:
            person = self._other(person)
        return person.id if person is not None else ""

    def _other(self, person: Sender | Recipient | None) -> Sender | Recipient | None:
        """Return the other side of the event: Meta's samples of handovers have the Page as sender."""
        other = self.sender if person is self.recipient else self.recipient
        if person is None or other is None or other.id == self._entry_id or not self._entry_id:
            return None
        return other

    def _person_of_call(self) -> str:
        raw = self.raw
        for key in ("from", "to", "recipient_id"):
            person_id = read_id(raw.get(key))
            if person_id and person_id != self._entry_id:
                return person_id
        return ""

    @property
    def user_ref(self) -> str:
        """Reference of a person from the checkbox plugin, who has no id yet, otherwise ``""``."""
        sender = self.sender.user_ref if self.sender is not None else ""
        return sender or (self.optin.user_ref if self.optin is not None else "")

    def get_page_id(self) -> str:
        """Return the id of the Page: that of the entry, otherwise that of the side that is not the person."""
        if self._entry_id:
            return self._entry_id
        page = self.sender if self.is_echo else self.recipient
        return page.id if page is not None else ""

    # Content

    @property
    def mid(self) -> str:
        """Id of the message or tap to which the event refers, otherwise ``""``."""
        for content in (self.message, self.postback, self.message_edit, self.reaction, self.read):
            if content is not None and content.mid:
                return content.mid
        return ""

    @property
    def text(self) -> str:
        """Text of the message, or new text of an edited one, otherwise ``""``."""
        if self.message is not None:
            return self.message.text or ""
        return self.message_edit.text if self.message_edit is not None else ""

    @property
    def payload(self) -> str:
        """Payload of the quick reply, postback or opt-in, otherwise ``""``."""
        if self.message is not None and self.message.quick_reply is not None:
            return self.message.quick_reply.payload
        if self.postback is not None:
            return self.postback.payload
        return self.optin.payload if self.optin is not None else ""

    @property
    def referral(self) -> Referral | None:
        """Referral of the event; it arrives alone, with a message, with a tap or with an opt-in."""
        for content in (self.message, self.postback):
            if content is not None and content.referral is not None:
                return content.referral
        referral = _read_referral(self.raw.get("referral"))
        if referral is None and self.optin is not None and self.optin.ref:
            referral = Referral(self.optin.ref, self.optin.source)
        return referral if isinstance(referral, Referral) else None

    @property
    def attachments(self) -> list[Attachment]:
        return self.message.attachments if self.message is not None else []

    def get_text(self) -> str:
        """Return the text of the message, or ``""``."""
        return (self.message.text or "") if self.message is not None else ""

    def get_postback_payload(self) -> str:
        """Return the payload of the postback, or ``""``."""
        return self.postback.payload if self.postback is not None else ""

    def get_quick_reply_payload(self) -> str:
        """Return the payload of the quick reply, or ``""``."""
        if self.message is None or self.message.quick_reply is None:
            return ""
        return self.message.quick_reply.payload

    def get_sticker_id(self) -> str | None:
        """Return the sticker id from the attachment or from the message, its older place, or ``None``."""
        if self.message is None:
            return None
        for attachment in self.message.attachments:
            if attachment.sticker_id:
                return attachment.sticker_id
        return self.message.sticker_id

    def get_coordinates(self) -> Coordinates | None:
        """Return the coordinates of a shared location, or ``None``."""
        return next((item.coordinates for item in self.attachments if item.coordinates is not None), None)

    def get_url(self) -> str:
        """Return the url of the first attachment that has one, otherwise ``""``.

        A url that begins with one slash gets the website of the channel. Shared reels were seen with such urls.
        """
        url = next((item.best_url for item in self.attachments if item.best_url), "")
        if url.startswith("/") and not url.startswith("//"):
            return channel_of(self._channel).website + url
        return url

    def get_watermark(self) -> int | None:
        """Return the watermark of a delivery or read receipt in milliseconds; ``None`` for other events."""
        receipt = self.delivery if self.delivery is not None else self.read
        return receipt.watermark if receipt is not None else None
