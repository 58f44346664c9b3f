"""Repliers build messages of the Send API and queue them for the person."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

from django.utils.functional import Promise

from djmessenger import models
from djmessenger.outgoing import OutgoingMessage
from djmessenger.receiving import Messaging
from djmessenger.utils.serializable import Serializable, SerializableEnum, member
from djmessenger.utils.utils import LocalizedString


class NotificationType(SerializableEnum):
    """How the person is told of a message."""

    REGULAR: NotificationType = member("REGULAR", "sound and vibration")
    SILEN_PUSH: NotificationType = member("SILEN_PUSH", "the documented spelling; sent as SILENT_PUSH")
    SILENT_PUSH: NotificationType = member("SILENT_PUSH", "shown on the screen, without sound")
    NO_PUSH: NotificationType = member("NO_PUSH", "not shown until the conversation is opened")


class ReplyAction(SerializableEnum):
    """Sender actions."""

    MARK_SEEN: ReplyAction = member("mark_seen", "the person sees that the message was seen")
    TYPING_ON: ReplyAction = member("typing_on", "the bot seems to type, for about 20 seconds")
    TYPING_OFF: ReplyAction = member("typing_off", "the bot stops typing")


class ReplyingType(SerializableEnum):
    """Kinds of reply."""

    SIMPLE_TEXT: ReplyingType = member("simple_text", "a text")
    IMAGE: ReplyingType = member("image", "a picture")
    AUDIO: ReplyingType = member("audio", "a sound")
    VIDEO: ReplyingType = member("video", "a film")
    FILE: ReplyingType = member("file", "a file")
    SENDER_ACTION: ReplyingType = member("sender_action", "seen, or typing")
    BUTTON: ReplyingType = member("button", "a text with buttons")
    QUICK_REPLY: ReplyingType = member("quick_reply", "a text with quick replies")


class CommonReplier(Serializable, abc.ABC):
    """Parent of repliers; a subclass says in ``get_message`` and ``get_reply_type`` what it sends."""

    notification_type: NotificationType = NotificationType.REGULAR
    sender_action: ClassVar[ReplyAction | None] = None

    @abc.abstractmethod
    def get_message(self, messaging: Messaging) -> dict[str, Any]:
        """Give the message part of the call as a JSON-ready dict."""

    @abc.abstractmethod
    def get_reply_type(self) -> ReplyingType:
        """Give the kind of reply."""

    def reply(self, messaging: Messaging) -> None:
        """Queue the reply to the sender of the messaging."""
        raise NotImplementedError

    @staticmethod
    def preprocess_outgoing_string(
        psid: str, localized_text: str | Promise | LocalizedString, add_prefix: bool = True
    ) -> str:
        """Give the text in the person's language, with ``DJM_BOT_PREFIX`` in front unless told otherwise."""
        raise NotImplementedError


def queue(messaging: Messaging, message: OutgoingMessage, *, rule: str = "") -> list[models.Reply]:
    """Queue one message as an answer to the messaging: a row for each call that it makes."""
    raise NotImplementedError
