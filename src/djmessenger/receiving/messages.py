"""The parts an event may consist of: a message, a tap, a receipt and so on.

Keys: Messenger Platform, "Webhook Events" and its pages, Instagram Platform, "Webhooks" (state of September
2026). ``seq`` belongs to 2016; Meta stopped sending it in 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from djmessenger.receiving.attachments import Attachment, Coordinates
from djmessenger.receiving.parts import (
    Field,
    Part,
    part,
    parts,
    read_data,
    read_flag,
    read_id,
    read_int,
    read_milliseconds,
    read_optional_id,
    read_optional_text,
    read_text,
    read_texts,
)


class Sender(Part):
    """The person who sent the event; ``user_ref`` names one who came by the checkbox plugin."""

    fields: ClassVar = {"id": Field(read_id, ""), "user_ref": Field(read_id, "")}
    id: str
    user_ref: str

    def __init__(self, iid: str | int) -> None:
        self.id = read_id(iid)
        self.user_ref = ""


class Recipient(Part):
    """The page that received the event."""

    fields: ClassVar = {"id": Field(read_id, ""), "user_ref": Field(read_id, "")}
    id: str
    user_ref: str

    def __init__(self, iid: str | int) -> None:
        self.id = read_id(iid)
        self.user_ref = ""


class QuickReply(Part):
    """The quick-reply part of a message."""

    fields: ClassVar = {"payload": Field(read_text, "")}
    payload: str

    def __init__(self, payload: str) -> None:
        self.payload = payload


class Referral(Part):
    """How a person came: by an m.me link, an ad, a code, a product."""

    fields: ClassVar = {
        "ref": Field(read_text, ""),
        "source": Field(read_text, ""),
        "type": Field(read_text, ""),
        "ad_id": Field(read_id, ""),
        "referer_uri": Field(read_text, ""),
        "ads_context_data": Field(read_data),
        "product": Field(read_data),
    }
    ref: str
    source: str
    type: str
    ad_id: str
    referer_uri: str
    ads_context_data: Any
    product: Any

    def __init__(self, ref: str = "", source: str = "", ttype: str = "", ad_id: str = "") -> None:
        self.ref = ref
        self.source = source
        self.type = ttype
        self.ad_id = ad_id
        self.referer_uri = ""
        self.ads_context_data = None
        self.product = None


class Message(Part):
    """The message part of an event; ``text`` may be ``None``. ``commands`` and ``nlp`` are in ``raw``."""

    custom_obj_map: ClassVar[Mapping[str, Any]] = {
        "attachments": [Attachment, list],
        "quick_reply": [QuickReply, object],
    }
    fields: ClassVar = {
        "text": Field(read_optional_text),
        "mid": Field(read_id, ""),
        "seq": Field(read_int),
        "sticker_id": Field(read_optional_id),
        "quick_reply": Field(part(QuickReply)),
        "attachments": Field(parts(Attachment), list),
        "is_echo": Field(read_flag, default=False),
        "app_id": Field(read_id, ""),
        "metadata": Field(read_text, ""),
        "is_deleted": Field(read_flag, default=False),
        "is_unsupported": Field(read_flag, default=False),
        "reply_to": Field(read_data),
        "referral": Field(part(Referral)),
    }
    text: str | None
    mid: str
    seq: int | None
    sticker_id: str | None
    quick_reply: QuickReply | None
    attachments: list[Attachment]
    is_echo: bool
    app_id: str
    metadata: str
    is_deleted: bool
    is_unsupported: bool
    reply_to: Any
    referral: Referral | None

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
        self.is_deleted = False
        self.is_unsupported = False
        self.reply_to = None
        self.referral = None


class Postback(Part):
    """A tap on a button, the menu, an ice breaker or get started. In standby it has no payload."""

    fields: ClassVar = {
        "payload": Field(read_text, ""),
        "title": Field(read_text, ""),
        "mid": Field(read_id, ""),
        "referral": Field(part(Referral)),
    }
    payload: str
    title: str
    mid: str
    referral: Referral | None

    def __init__(self, payload: str) -> None:
        self.payload = payload
        self.title = ""
        self.mid = ""
        self.referral = None


class Optin(Part):
    """The opt-in part of an event; tokens and the like are in ``raw``."""

    fields: ClassVar = {
        "ref": Field(read_text, ""),
        "user_ref": Field(read_id, ""),
        "type": Field(read_text, ""),
        "payload": Field(read_text, ""),
        "source": Field(read_text, ""),
    }
    ref: str
    user_ref: str
    type: str
    payload: str
    source: str

    def __init__(self, ref: str) -> None:
        self.ref = ref
        self.user_ref = ""
        self.type = ""
        self.payload = ""
        self.source = ""


class AccountLinking(Part):
    """``status`` is ``linked`` (with an authorization code) or ``unlinked``."""

    fields: ClassVar = {"status": Field(read_text, ""), "authorization_code": Field(read_text, "")}
    status: str
    authorization_code: str

    def __init__(self, status: str, authorization_code: str = "") -> None:
        self.status = status
        self.authorization_code = authorization_code


class Delivery(Part):
    """Everything sent up to ``watermark`` (ms) has arrived."""

    fields: ClassVar = {
        "watermark": Field(read_milliseconds),
        "seq": Field(read_int),
        "mids": Field(read_texts, list),
    }
    watermark: int | None
    seq: int | None
    mids: list[str]

    def __init__(self, watermark: int | None, seq: int | None, mids: list[str] | None = None) -> None:
        self.watermark = watermark
        self.seq = seq
        self.mids = list(mids or ())


class Read(Part):
    """Everything sent up to ``watermark`` (ms) was read; Instagram names the message (``mid``) instead."""

    fields: ClassVar = {
        "watermark": Field(read_milliseconds),
        "seq": Field(read_int),
        "mid": Field(read_id, ""),
    }
    watermark: int | None
    seq: int | None
    mid: str

    def __init__(self, watermark: int | None, seq: int | None) -> None:
        self.watermark = watermark
        self.seq = seq
        self.mid = ""


class Reaction(Part):
    """``action`` is ``react`` or ``unreact``; ``mid`` is the message it is about."""

    fields: ClassVar = {
        "reaction": Field(read_text, ""),
        "emoji": Field(read_text, ""),
        "action": Field(read_text, ""),
        "mid": Field(read_id, ""),
    }
    reaction: str
    emoji: str
    action: str
    mid: str

    def __init__(self, reaction: str = "", emoji: str = "", action: str = "react", mid: str = "") -> None:
        self.reaction = reaction
        self.emoji = emoji
        self.action = action
        self.mid = mid


class MessageEdit(Part):
    """The new text of a message; ``num_edit`` counts from 1."""

    fields: ClassVar = {"mid": Field(read_id, ""), "text": Field(read_text, ""), "num_edit": Field(read_int)}
    mid: str
    text: str
    num_edit: int | None

    def __init__(self, mid: str, text: str, num_edit: int | None = None) -> None:
        self.mid = mid
        self.text = text
        self.num_edit = num_edit


class ThreadControl(Part):
    """Who had, has or wants the conversation; an owner is ``""`` when there is none."""

    fields: ClassVar = {
        "previous_owner_app_id": Field(read_id, ""),
        "new_owner_app_id": Field(read_id, ""),
        "requested_owner_app_id": Field(read_id, ""),
        "metadata": Field(read_text, ""),
    }
    previous_owner_app_id: str
    new_owner_app_id: str
    requested_owner_app_id: str
    metadata: str

    def __init__(
        self, new_owner_app_id: str = "", previous_owner_app_id: str = "", metadata: str = ""
    ) -> None:
        self.new_owner_app_id = new_owner_app_id
        self.previous_owner_app_id = previous_owner_app_id
        self.requested_owner_app_id = ""
        self.metadata = metadata


class MessagingLike(Protocol):
    """An event as checkers and keys see it: its parts, its surroundings and the values read from them.

    ``djmessenger.receiving.Messaging`` has all of it. The modules that ``Messaging`` calls need this class alone, so
    that no import leads back.
    """

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

    @property
    def raw(self) -> dict[str, Any]: ...

    @property
    def entry_id(self) -> str: ...

    @property
    def channel(self) -> str: ...

    @property
    def container(self) -> str: ...

    @property
    def is_standby(self) -> bool: ...

    @property
    def is_echo(self) -> bool: ...

    @property
    def mid(self) -> str: ...

    @property
    def text(self) -> str: ...

    @property
    def payload(self) -> str: ...

    @property
    def referral(self) -> Referral | None: ...

    @property
    def attachments(self) -> list[Attachment]: ...

    @property
    def user_ref(self) -> str: ...

    def get_psid(self) -> str: ...

    def get_page_id(self) -> str: ...

    def get_text(self) -> str: ...

    def get_postback_payload(self) -> str: ...

    def get_quick_reply_payload(self) -> str: ...

    def get_sticker_id(self) -> str | None: ...

    def get_coordinates(self) -> Coordinates | None: ...

    def get_url(self) -> str: ...

    def get_watermark(self) -> int | None: ...
