"""What every replier shares, and those that send texts, media, sender actions and whole messages."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.outgoing import Audio, File, Image, MediaMessage, OutgoingMessage, Text, Video, as_messages
from djmessenger.outgoing.rendering import Words
from djmessenger.receiving import Messaging
from djmessenger.replying.sending import act, queue, queue_body, render_for, use_language_of
from djmessenger.replying.types import NotificationType, ReplyAction, ReplyingType
from djmessenger.settings import app_settings
from djmessenger.utils.serializable import Serializable
from djmessenger.utils.utils import LocalizedString

MEDIA: Mapping[str, type[MediaMessage]] = {cls.kind: cls for cls in (Image, Audio, Video, File)}


class CommonReplier(Serializable, abc.ABC):
    """Parent of repliers; a subclass says in ``get_message`` and ``get_reply_type`` what it sends.

    Repliers are shared by all threads and hold nothing of one messaging.
    """

    strict: ClassVar[bool] = True

    notification_type: NotificationType | str = NotificationType.REGULAR
    """How the person is told; also an argument in a policy."""
    sender_action: ReplyAction | str | None = None
    """Sent before the message: Meta takes no call that holds both."""

    @abc.abstractmethod
    def get_message(self, messaging: Messaging) -> dict[str, Any]:
        """Give the message part of the call as a JSON-ready dict.

        Text that has translations goes through ``preprocess_outgoing_string``.
        """

    @abc.abstractmethod
    def get_reply_type(self) -> ReplyingType:
        """Give the kind of reply."""

    def reply(self, messaging: Messaging) -> None:
        """Queue the reply to the sender of the messaging, inside the caller's transaction.

        A text that is too long becomes several rows. Raises what ``get_message`` raises, and
        ``DJMInvalidConfigException`` for a message that Meta would refuse.
        """
        if self.sender_action is not None:
            act(messaging, {"sender_action": _member(ReplyAction, self.sender_action).name})
        with use_language_of(messaging.person, messaging.page):
            message: Any = self.get_message(messaging)
        if not isinstance(message, Mapping) or not message:
            raise DJMInvalidConfigException(
                f"{type(self).__name__}.get_message gave {message!r}, not a message"
            )
        told = _member(NotificationType, self.notification_type)
        beside = {} if told is NotificationType.REGULAR else {"notification_type": told.wire}
        for part in _parts(dict(message), messaging.channel):
            body = {"messaging_type": "RESPONSE", **beside, "message": part}
            queue_body(messaging, body, str(self.get_reply_type()))

    @staticmethod
    def preprocess_outgoing_string(psid: str, localized_text: Words, add_prefix: bool = True) -> str:
        """Give the text in the person's language where there is a translation, after ``DJM_BOT_PREFIX``."""
        return render_for(psid, localized_text, add_prefix)


def _member(enumeration: Any, given: Any) -> Any:
    """Give the member for a spelling in a policy."""
    try:
        return enumeration.deserialize(given)
    except KeyError as error:
        raise DJMInvalidConfigException(str(error.args[0])) from error


def _parts(message: dict[str, Any], channel: str) -> list[dict[str, Any]]:
    """Split a message whose text is too long; what else it holds stands with the last part."""
    text = message.get("text")
    if not isinstance(text, str) or "attachment" in message:
        return [message]
    bodies = Text(text).requests(channel=channel)
    parts: list[dict[str, Any]] = [body["message"] for body in bodies]
    parts[-1] = {**message, **parts[-1]}
    return parts


class SimpleMessageReplier(CommonReplier):
    """Replies with a text: a ``LocalizedString``, a gettext-lazy text, or a plain one."""

    custom_obj_map: ClassVar[Mapping[str, Any]] = {"localized_string": (LocalizedString, object)}
    localized_string: Words

    def __init__(self, localized_string: Words) -> None:
        self.localized_string = localized_string

    @classmethod
    def _value_from_json(cls, key: str, value: Any) -> Any:
        return value if isinstance(value, str) else super()._value_from_json(key, value)

    def get_message(self, messaging: Messaging) -> dict[str, Any]:
        return {"text": self.preprocess_outgoing_string(messaging.get_psid(), self.localized_string)}

    def get_reply_type(self) -> ReplyingType:
        return ReplyingType.SIMPLE_TEXT


class DefaultMessageReplier(SimpleMessageReplier):
    """Replies with ``DJM_DEFAULT_SENDER_TEXT``."""

    custom_obj_map: ClassVar[Mapping[str, Any]] = {}

    def __init__(self) -> None:
        """Take nothing: the text is the setting's."""

    @property
    def localized_string(self) -> Words:  # type: ignore[override]
        text: Words = app_settings.DJM_DEFAULT_SENDER_TEXT
        return text


class MultimediaReplier(CommonReplier):
    """Replies with what is found at a url; the kind is ``sending_type``."""

    sending_type: ClassVar[ReplyingType | None] = None
    url: str

    def __init__(self, url: str) -> None:
        self.url = url
        if self.sending_type is not None:
            self._media()

    def _media(self) -> MediaMessage:
        """Give the message; ``DJMInvalidConfigException`` for a kind or a url that is none."""
        cls = MEDIA.get(str(self.sending_type))
        if cls is None:
            raise DJMInvalidConfigException(
                f"{type(self).__name__}.sending_type is {self.sending_type}, not one of {', '.join(MEDIA)}"
            )
        return cls(self.url)

    def get_message(self, messaging: Messaging) -> dict[str, Any]:
        message: dict[str, Any] = self._media().requests(channel=messaging.channel)[0]["message"]
        return message

    def get_reply_type(self) -> ReplyingType:
        if self.sending_type is None:
            raise DJMInvalidConfigException(f"{type(self).__name__} says no sending_type")
        return self.sending_type


class ImageReplier(MultimediaReplier):
    """Replies with a picture at a url."""

    sending_type = ReplyingType.IMAGE


class AudioReplier(MultimediaReplier):
    """Replies with a sound at a url."""

    sending_type = ReplyingType.AUDIO


class VideoReplier(MultimediaReplier):
    """Replies with a film at a url."""

    sending_type = ReplyingType.VIDEO


class FileReplier(MultimediaReplier):
    """Replies with a file at a url."""

    sending_type = ReplyingType.FILE


class ReplyActionReplier(CommonReplier):
    """Sends a sender action such as the typing indicator: once, best effort, never queued."""

    action: ReplyAction

    def __init__(self, action: ReplyAction | str) -> None:
        self.action = _member(ReplyAction, action)

    def get_message(self, messaging: Messaging) -> dict[str, Any]:
        """Give the body of the call: a sender action has no message."""
        return {"sender_action": self.action.name}

    def get_reply_type(self) -> ReplyingType:
        return ReplyingType.SENDER_ACTION

    def reply(self, messaging: Messaging) -> None:
        """Send the action after the commit of the transaction that is open, or at once; a failure is logged."""
        act(messaging, self.get_message(messaging))


class MessageReplier(CommonReplier):
    """Replies with any message of ``djmessenger.outgoing``, or with its plain data.

    In Python ``MessageReplier(Text("Hello!", quick_replies=[QuickReply("Order", "ORDER")]))``, in a policy
    ``{"name": "djmessenger.replying.MessageReplier", "args": {"message": {"type": "simple_text", "text": "Hi"}}}``.
    """

    message: Any

    def __init__(self, message: Any) -> None:
        self.message = message
        self._messages: list[OutgoingMessage] = as_messages(message)
        if not self._messages:
            raise DJMInvalidConfigException("MessageReplier needs a message")

    @property
    def messages(self) -> tuple[OutgoingMessage, ...]:
        """What it replies with."""
        return tuple(self._messages)

    def json_unordered(self) -> dict[str, Any]:
        """Give the plain data; where the message is an object, how it is typed."""
        try:
            return super().json_unordered()
        except TypeError:
            return {"message": repr(self.message)}

    def get_message(self, messaging: Messaging) -> dict[str, Any]:
        """Give the message part of the first call; a sender action's whole call."""
        psid = messaging.get_psid()
        body = self._messages[0].requests(
            lambda text: render_for(psid, text, add_prefix=False),
            channel=messaging.channel,
            prefix=render_for(psid, "", add_prefix=True),
        )[0]
        message: dict[str, Any] = body.get("message", body)
        return message

    def get_reply_type(self) -> ReplyingType:
        return ReplyingType(self._messages[0].kind)

    def reply(self, messaging: Messaging) -> None:
        queue(messaging, self._messages)
