"""Which kind of event a messaging is."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Any, TypeVar

from djmessenger import payload
from djmessenger.receiving.attachments import Attachment
from djmessenger.receiving.messages import EventParts
from djmessenger.receiving.types import KEYS_OF_TYPES, AttachmentType, ReceivingType

logger = logging.getLogger(__name__)


class MessagingChecker(ABC):
    """Parent of what recognises one family of events. One of a project's own joins by ``@checker``."""

    def __init__(self, messaging: EventParts) -> None:
        self.messaging = messaging

    @abstractmethod
    def check(self) -> ReceivingType | None:
        """Give the type, or ``None`` when the event is none of this family."""


C = TypeVar("C", bound=type[MessagingChecker])

own_checkers: list[type[MessagingChecker]] = []
"""Those of projects, asked in the order they joined, before the built-in ones; the first answer stands."""


def checker(cls: C) -> C:
    """Let a ``MessagingChecker`` take part: ``@checker class SurveyChecker(MessagingChecker): ...``.

    It is asked before the built-in ones, but never about what the page itself sent. A checker that raises is
    logged and passed over.
    """
    if not issubclass(cls, MessagingChecker):
        raise TypeError(f"{cls!r} is no subclass of MessagingChecker")
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
    """Recognises every kind of received message, echoes included (and first)."""

    def check(self) -> ReceivingType | None:
        """Give the type of the message, or ``None`` when there is none."""
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
        """A text says more than the share it comes with, but less than a picture or a place."""
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
        return shared or ReceivingType.UNKNOWN


_BY_PAYLOAD: tuple[tuple[type[payload.Payload], ReceivingType], ...] = (
    (payload.GetStartedPayload, ReceivingType.GET_STARTED_BUTTON),
    (payload.PersistentMenuOnePayload, ReceivingType.PERSISTENT_MENU_ONE),
    (payload.PersistentMenuTwoPayload, ReceivingType.PERSISTENT_MENU_TWO),
    (payload.PersistentMenuThreePayload, ReceivingType.PERSISTENT_MENU_THREE),
    (payload.PersistentMenuFourPayload, ReceivingType.PERSISTENT_MENU_FOUR),
    (payload.PersistentMenuFivePayload, ReceivingType.PERSISTENT_MENU_FIVE),
)


class PostbackReceivedChecker(MessagingChecker):
    """Recognises postbacks, and the menu and get-started payloads among them.

    Nothing on the wire tells a tap on the menu from one on a button, so only the documented payload classes
    do.
    """

    def check(self) -> ReceivingType | None:
        """Give the type of the tap, or ``None`` when there is none."""
        postback = self.messaging.postback
        if postback is None:
            return None
        named = payload.find_payload_class(postback.payload)
        if named is not None:
            for known, receiving_type in _BY_PAYLOAD:
                if issubclass(named, known):
                    return receiving_type
        return ReceivingType.POSTBACK


class AuthenticationChecker(MessagingChecker):
    """Recognises opt-in events."""

    def check(self) -> ReceivingType | None:
        """Give the kind of opt-in, or ``None`` when there is none."""
        optin = self.messaging.optin
        if optin is None:
            return None
        if optin.type == "one_time_notif_req":
            return ReceivingType.ONE_TIME_NOTIFICATION
        if optin.type == "notification_messages":
            return ReceivingType.NOTIFICATION_MESSAGES
        return ReceivingType.AUTHENTICATION


class AccountLinkingChecker(MessagingChecker):
    """Recognises account-linking events."""

    def check(self) -> ReceivingType | None:
        """Give ``ACCOUNT_LINKING``, or ``None``."""
        return ReceivingType.ACCOUNT_LINKING if self.messaging.account_linking is not None else None


class MessageDeliveredChecker(MessagingChecker):
    """Recognises delivery receipts."""

    def check(self) -> ReceivingType | None:
        """Give ``DELIVERED``, or ``None``."""
        return ReceivingType.DELIVERED if self.messaging.delivery is not None else None


class MessageReadChecker(MessagingChecker):
    """Recognises read receipts."""

    def check(self) -> ReceivingType | None:
        """Give ``READ``, or ``None``."""
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
"""Keys one of which an item has that is an event."""


CONTAINERS = ("messaging", "standby", "changes", "calls")
"""Keys of an entry that hold items."""
ENTRY = "entry"
"""Where there is no container: the page "Calling" prints ``call_permission_reply`` right in the entry."""

_PLAIN_FIELDS = frozenset({"messages", "message_echoes", "standby", "send_cart", "response_feedback"})


def unwrap(item: dict[str, Any], container: str) -> tuple[dict[str, Any], str, str]:
    """Give the event, its container and its field; takes an event out of an item of ``changes``.

    The test button of the App Dashboard delivers events so.
    """
    if container == "changes":
        field, value = item.get("field"), item.get("value")
        if isinstance(field, str) and isinstance(value, dict) and _is_messaging(field, value):
            return (value, "standby", "") if field == "standby" else (value, container, field)
    return item, container, ""


def _is_messaging(field: str, value: dict[str, Any]) -> bool:
    named = field in _PLAIN_FIELDS or field.startswith(("messaging_", "message_"))
    return named and not EVENT_KEYS.isdisjoint(value)


class EventKeyChecker(MessagingChecker):
    """Recognises the events that the key alone gives away, and those that have no key."""

    def check(self) -> ReceivingType | None:
        """Give the type, or ``None``."""
        raw = self.messaging.raw
        for key, receiving_type in KEYS_OF_TYPES.items():
            if isinstance(raw.get(key), dict):
                return receiving_type
        if raw.get("field") == "group_feed":
            return ReceivingType.GROUP_FEED
        if "field" in raw and "value" in raw:
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
    """Work out the type; the first checker that recognises the event decides. Never raises."""
    if messaging.is_echo:
        return ReceivingType.ECHO
    if messaging.is_standby:
        return ReceivingType.STANDBY
    return find_inner_type(messaging)


def find_inner_type(messaging: EventParts) -> ReceivingType:
    """Work out the type without regard to standby."""
    for cls in own_checkers:
        try:
            found = cls(messaging).check()
        except Exception:
            logger.exception("checker %s failed", cls.__name__)
            continue
        if found is not None:
            return found
    for cls in BUILT_IN:
        found = cls(messaging).check()
        if found is not None:
            return found
    return ReceivingType.UNKNOWN
