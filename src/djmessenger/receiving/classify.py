"""Type of an event: checkers that recognise it, and their order."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Any, TypeVar

from djmessenger import payload
from djmessenger.receiving.attachments import Attachment
from djmessenger.receiving.messages import EventParts
from djmessenger.receiving.parts import read_text
from djmessenger.receiving.types import KEYS_OF_TYPES, AttachmentType, ReceivingType

logger = logging.getLogger(__name__)


class MessagingChecker(ABC):
    """Parent of classes that recognise one family of events; ``@checker`` registers one of a project."""

    def __init__(self, messaging: EventParts) -> None:
        self.messaging = messaging

    @abstractmethod
    def check(self) -> ReceivingType | None:
        """Return the type, or ``None`` if the event is not of this family."""


C = TypeVar("C", bound=type[MessagingChecker])

own_checkers: list[type[MessagingChecker]] = []
"""Registered checkers of projects; they run before the built-in ones, and the first result decides."""


def checker(cls: C) -> C:
    """Register a ``MessagingChecker``: ``@checker class SurveyChecker(MessagingChecker): ...``.

    It runs before the built-in checkers, but not for an event that the Page itself sent. If it raises, the error is
    logged and the next checker runs.
    """
    if not issubclass(cls, MessagingChecker):
        raise TypeError(f"{cls!r} is not a subclass of MessagingChecker; inherit from it to use @checker")
    if cls not in own_checkers:
        own_checkers.append(cls)
    return cls


_MEDIA: dict[str, ReceivingType] = {
    AttachmentType.IMAGE.name: ReceivingType.IMAGE,
    AttachmentType.AUDIO.name: ReceivingType.AUDIO,
    AttachmentType.VIDEO.name: ReceivingType.VIDEO,
    AttachmentType.FILE.name: ReceivingType.FILE,
    AttachmentType.LOCATION.name: ReceivingType.LOCATION,
    AttachmentType.APPOINTMENT_BOOKING.name: ReceivingType.APPOINTMENT,
}
_SHARED: dict[str, ReceivingType] = {
    AttachmentType.FALLBACK.name: ReceivingType.LINK,
    AttachmentType.TEMPLATE.name: ReceivingType.TEMPLATE,
    AttachmentType.REEL.name: ReceivingType.REEL,
    AttachmentType.IG_REEL.name: ReceivingType.REEL,
    AttachmentType.POST.name: ReceivingType.POST,
    AttachmentType.IG_POST.name: ReceivingType.POST,
    AttachmentType.SHARE.name: ReceivingType.POST,
    AttachmentType.STORY_MENTION.name: ReceivingType.STORY_MENTION,
    AttachmentType.IG_STORY.name: ReceivingType.POST,
    AttachmentType.EPHEMERAL.name: ReceivingType.EPHEMERAL,
    AttachmentType.LIKE_HEART.name: ReceivingType.LIKE_HEART,
}


class MessageReceivedChecker(MessagingChecker):
    """Checker of messages and echoes."""

    def check(self) -> ReceivingType | None:
        """Return the type of the message, or ``None`` if the event has no message."""
        message = self.messaging.message
        if message is None:
            return None
        if self.messaging.is_echo:
            return ReceivingType.ECHO
        if message.is_deleted:
            return ReceivingType.MESSAGE_DELETED
        if message.is_unsupported:
            return ReceivingType.UNSUPPORTED
        if message.quick_reply is not None:
            return ReceivingType.QUICK_REPLY
        return self._by_content(message.text, message.attachments)

    def _by_content(self, text: str | None, attachments: list[Attachment]) -> ReceivingType:
        """Return the type by content: a sticker or medium before the text, and the text before a shared post."""
        if self.messaging.get_sticker_id():
            return ReceivingType.STICKER
        shared: ReceivingType | None = None
        for attachment in attachments:
            if attachment.type == AttachmentType.STICKER.name:
                return ReceivingType.STICKER
            media = _MEDIA.get(attachment.type)
            if media is not None:
                return media
            shared = shared or _SHARED.get(attachment.type)
        if text:
            return ReceivingType.SIMPLE_TEXT
        message = self.messaging.message
        reply_to = message.reply_to if message is not None else None
        if isinstance(reply_to, dict) and "story" in reply_to:
            return ReceivingType.STORY_REPLY
        if shared is not None:
            return shared
        # A person who sent something waits for an answer, also if this version cannot read it.
        if attachments:
            return ReceivingType.UNSUPPORTED
        return ReceivingType.REFERRAL if self.messaging.referral is not None else ReceivingType.UNKNOWN


_BY_PAYLOAD: tuple[tuple[type[payload.Payload], ReceivingType], ...] = (
    (payload.GetStartedPayload, ReceivingType.GET_STARTED_BUTTON),
    (payload.PersistentMenuOnePayload, ReceivingType.PERSISTENT_MENU_ONE),
    (payload.PersistentMenuTwoPayload, ReceivingType.PERSISTENT_MENU_TWO),
    (payload.PersistentMenuThreePayload, ReceivingType.PERSISTENT_MENU_THREE),
    (payload.PersistentMenuFourPayload, ReceivingType.PERSISTENT_MENU_FOUR),
    (payload.PersistentMenuFivePayload, ReceivingType.PERSISTENT_MENU_FIVE),
)


class PostbackReceivedChecker(MessagingChecker):
    """Checker of postbacks, with the payloads of menu and get-started button among them.

    A tap on the menu and a tap on a button look the same in a callback. Only the documented payload classes
    distinguish them.
    """

    def check(self) -> ReceivingType | None:
        """Return the type of the tap, or ``None`` if the event has no postback."""
        postback = self.messaging.postback
        if postback is None:
            return None
        payload_class = payload.find_payload_class(postback.payload)
        if payload_class is not None:
            for documented, receiving_type in _BY_PAYLOAD:
                if issubclass(payload_class, documented):
                    return receiving_type
        return ReceivingType.POSTBACK


class AuthenticationChecker(MessagingChecker):
    """Checker of opt-ins."""

    def check(self) -> ReceivingType | None:
        """Return the type of the opt-in, or ``None`` if the event has none."""
        optin = self.messaging.optin
        if optin is None:
            return None
        if optin.type == "one_time_notif_req":
            return ReceivingType.ONE_TIME_NOTIFICATION
        if optin.type == "notification_messages":
            # "STOP NOTIFICATIONS" or "RESUME NOTIFICATIONS" (Messenger Platform, "messaging_optins", June 2023).
            status = read_text(optin.raw.get("notification_messages_status"))
            is_end = status.upper().startswith("STOP")
            return ReceivingType.NOTIFICATIONS_STOPPED if is_end else ReceivingType.NOTIFICATION_MESSAGES
        return ReceivingType.AUTHENTICATION


class AccountLinkingChecker(MessagingChecker):
    """Checker of account linking."""

    def check(self) -> ReceivingType | None:
        """Return ``ACCOUNT_LINKING``, or ``None``."""
        return ReceivingType.ACCOUNT_LINKING if self.messaging.account_linking is not None else None


class MessageDeliveredChecker(MessagingChecker):
    """Checker of delivery receipts."""

    def check(self) -> ReceivingType | None:
        """Return ``DELIVERED``, or ``None``."""
        return ReceivingType.DELIVERED if self.messaging.delivery is not None else None


class MessageReadChecker(MessagingChecker):
    """Checker of read receipts."""

    def check(self) -> ReceivingType | None:
        """Return ``READ``, or ``None``."""
        return ReceivingType.READ if self.messaging.read is not None else None


_CALL_EVENTS = frozenset({"connect", "terminate", "call_status", "media_update"})

EVENT_KEYS = frozenset(KEYS_OF_TYPES) | {
    "message",
    "postback",
    "optin",
    "account_linking",
    "delivery",
    "read",
}
"""Keys of an item that mark it as an event; each event has at least one of them."""


CONTAINERS = ("messaging", "standby", "changes", "calls")
"""Keys of an entry whose value is a list of items."""
ENTRY = "entry"
"""Container of an event that is the entry itself, as ``call_permission_reply`` on Meta's page "Calling"."""

_PLAIN_FIELDS = frozenset({"messages", "message_echoes", "standby", "send_cart", "response_feedback"})


def unwrap(item: dict[str, Any], container: str) -> tuple[dict[str, Any], str, str]:
    """Return the event, its container and its field.

    The test button of the App Dashboard sends an event inside an item of ``changes``; that event is unwrapped.
    """
    if container == "changes":
        field, value = item.get("field"), item.get("value")
        if isinstance(field, str) and isinstance(value, dict) and _is_messaging(field, value):
            return (value, "standby", "") if field == "standby" else (value, container, field)
    return item, container, ""


def _is_messaging(field: str, value: dict[str, Any]) -> bool:
    is_messaging_field = field in _PLAIN_FIELDS or field.startswith(("messaging_", "message_"))
    return is_messaging_field and not EVENT_KEYS.isdisjoint(value)


class EventKeyChecker(MessagingChecker):
    """Checker of the events with a key of their own, and of changes and calls, which have none."""

    def check(self) -> ReceivingType | None:
        """Return the type, or ``None``."""
        raw = self.messaging.raw
        for key, receiving_type in KEYS_OF_TYPES.items():
            if isinstance(raw.get(key), dict):
                return receiving_type
        if raw.get("field") == "group_feed":
            return ReceivingType.GROUP_FEED
        if "field" in raw and ("value" in raw or self.messaging.container == "changes"):
            return ReceivingType.CHANGE
        event = raw.get("event")
        if self.messaging.container == "calls" or (isinstance(event, str) and event in _CALL_EVENTS):
            return ReceivingType.CALL
        return None


BUILT_IN: tuple[type[MessagingChecker], ...] = (
    MessageReceivedChecker,
    PostbackReceivedChecker,
    AuthenticationChecker,
    AccountLinkingChecker,
    EventKeyChecker,
    MessageDeliveredChecker,
    MessageReadChecker,
)


def find_type(messaging: EventParts) -> ReceivingType:
    """Return the type of an event; echoes and standby come before the checkers. Never raise."""
    if messaging.is_echo:
        return ReceivingType.ECHO
    if messaging.is_standby and not EVENT_KEYS.isdisjoint(messaging.raw):
        return ReceivingType.STANDBY
    return find_inner_type(messaging)


def find_inner_type(messaging: EventParts) -> ReceivingType:
    """Return the type by the first checker that recognises the event, regardless of standby."""
    for cls in own_checkers:
        try:
            receiving_type = cls(messaging).check()
        except Exception:
            logger.exception(
                "Checker %s failed; the next checker decides the type of the event", cls.__name__
            )
            continue
        if receiving_type is not None:
            return receiving_type
    for cls in BUILT_IN:
        receiving_type = cls(messaging).check()
        if receiving_type is not None:
            return receiving_type
    return ReceivingType.UNKNOWN
