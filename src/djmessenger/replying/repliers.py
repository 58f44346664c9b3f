"""The parent of repliers, and the repliers for texts, media, sender actions and whole messages."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.outgoing import Audio, File, Image, OutgoingMessage, Text, Video
from djmessenger.outgoing.attachments import MediaMessage
from djmessenger.outgoing.data import as_messages
from djmessenger.outgoing.rendering import Words
from djmessenger.receiving import Messaging
from djmessenger.replying.sending import act, queue, queue_body, render_for, use_language_of
from djmessenger.replying.types import NotificationType, ReplyAction, ReplyingType
from djmessenger.settings import app_settings
from djmessenger.utils.serializable import Serializable
from djmessenger.utils.utils import LocalizedString

MEDIA: Mapping[str, type[MediaMessage]] = {cls.kind: cls for cls in (Image, Audio, Video, File)}


class CommonReplier(Serializable, abc.ABC):
    """Parent of repliers. A subclass implements ``get_message`` and ``get_reply_type``.

    All threads share an instance, so it must not keep anything about one event.
    """

    strict: ClassVar[bool] = True

    notification_type: NotificationType | str = NotificationType.REGULAR
    """Kind of notification on the person's device; also an argument in a policy."""
    sender_action: ReplyAction | str | None = None
    """Sender action before the message, in a call of its own because Meta accepts no call with both."""

    @abc.abstractmethod
    def get_message(self, messaging: Messaging) -> dict[str, Any]:
        """Return the message part of the call as a JSON-ready dict.

        Call ``preprocess_outgoing_string`` for text that has translations.
        """

    @abc.abstractmethod
    def get_reply_type(self) -> ReplyingType:
        """Return the kind of the reply."""

    def reply(self, messaging: Messaging) -> None:
        """Insert the reply to the sender of the event, inside the caller's transaction.

        While the engine handles the event, the row may wait until the first query of its rules, or until its commit. A
        text that is too long becomes several rows. Raises the exceptions of ``get_message``, and
        ``DJMInvalidConfigException`` if the result is no message or is over a limit of Meta.
        """
        if self.sender_action is not None:
            act(messaging, {"sender_action": _member(ReplyAction, self.sender_action).name})
        with use_language_of(messaging.person, messaging.page):
            message: Any = self.get_message(messaging)
        if not isinstance(message, Mapping) or not message:
            raise DJMInvalidConfigException(
                f"{type(self).__name__}.get_message returned {message!r}; it must return a dict with the message"
            )
        notification = _member(NotificationType, self.notification_type)
        fields = {} if notification is NotificationType.REGULAR else {"notification_type": notification.wire}
        for part in _parts(dict(message), messaging.channel):
            body = {"messaging_type": "RESPONSE", **fields, "message": part}
            queue_body(messaging, body, str(self.get_reply_type()))

    @staticmethod
    def preprocess_outgoing_string(psid: str, localized_text: Words, add_prefix: bool = True) -> str:
        """Return the text after ``DJM_BOT_PREFIX``, in the person's language if there is a translation."""
        return render_for(psid, localized_text, add_prefix)


def _member(enumeration: Any, value: Any) -> Any:
    """Return the member of an enumeration for its spelling in a policy."""
    try:
        return enumeration.deserialize(value)
    except KeyError as error:
        raise DJMInvalidConfigException(str(error.args[0])) from error


def _parts(message: dict[str, Any], channel: str) -> list[dict[str, Any]]:
    """Split a message whose text is too long. Its other fields are in the last part."""
    text = message.get("text")
    if not isinstance(text, str) or "attachment" in message:
        return [message]
    bodies = Text(text).requests(channel=channel)
    parts: list[dict[str, Any]] = [body["message"] for body in bodies]
    parts[-1] = {**message, **parts[-1]}
    return parts


class SimpleMessageReplier(CommonReplier):
    """A replier that sends a text: a ``LocalizedString``, a gettext-lazy text, or a plain text."""

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
    """A replier that sends ``DJM_DEFAULT_SENDER_TEXT``."""

    custom_obj_map: ClassVar[Mapping[str, Any]] = {}

    def __init__(self) -> None:
        """Do nothing. The text is that of the setting, read at each reply."""

    @property
    def localized_string(self) -> Words:  # type: ignore[override]
        text: Words = app_settings.DJM_DEFAULT_SENDER_TEXT
        return text


class MultimediaReplier(CommonReplier):
    """Parent of repliers that send the file at a url as ``sending_type``."""

    sending_type: ClassVar[ReplyingType | None] = None
    url: str

    def __init__(self, url: str) -> None:
        self.url = url
        if self.sending_type is not None:
            self._media()

    def _media(self) -> MediaMessage:
        """Return the message. Raises ``DJMInvalidConfigException`` for a wrong ``sending_type`` or url."""
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
            raise DJMInvalidConfigException(f"{type(self).__name__} must define sending_type")
        return self.sending_type


class ImageReplier(MultimediaReplier):
    """A replier that sends the picture at a url."""

    sending_type = ReplyingType.IMAGE


class AudioReplier(MultimediaReplier):
    """A replier that sends the audio file at a url."""

    sending_type = ReplyingType.AUDIO


class VideoReplier(MultimediaReplier):
    """A replier that sends the video at a url."""

    sending_type = ReplyingType.VIDEO


class FileReplier(MultimediaReplier):
    """A replier that sends the file at a url."""

    sending_type = ReplyingType.FILE


class ReplyActionReplier(CommonReplier):
    """A replier that sends a sender action, such as the typing indicator. It is sent once and never queued."""

    action: ReplyAction

    def __init__(self, action: ReplyAction | str) -> None:
        self.action = _member(ReplyAction, action)

    def get_message(self, messaging: Messaging) -> dict[str, Any]:
        """Return the body of the call, because a sender action has no message."""
        return {"sender_action": self.action.name}

    def get_reply_type(self) -> ReplyingType:
        return ReplyingType.SENDER_ACTION

    def reply(self, messaging: Messaging) -> None:
        """Send the action when the open transaction commits, or at once if none is open. Log a failure."""
        act(messaging, self.get_message(messaging))


class MessageReplier(CommonReplier):
    """A replier that sends any message of ``djmessenger.outgoing``, given as an object or as plain data.

    In Python ``MessageReplier(Text("Hello!", quick_replies=[QuickReply("Order", "ORDER")]))``, in a policy
    ``{"name": "djmessenger.replying.MessageReplier", "args": {"message": {"type": "simple_text", "text": "Hi"}}}``.
    """

    message: Any

    def __init__(self, message: Any) -> None:
        self.message = message
        self._messages: list[OutgoingMessage] = as_messages(message, with_files=True)
        if not self._messages:
            raise DJMInvalidConfigException("MessageReplier needs a message")

    @property
    def messages(self) -> tuple[OutgoingMessage, ...]:
        """The messages that it sends."""
        return tuple(self._messages)

    def json_unordered(self) -> dict[str, Any]:
        """Return the plain data; if the message is an object, its ``repr``."""
        try:
            return super().json_unordered()
        except TypeError:
            return {"message": repr(self.message)}

    def get_message(self, messaging: Messaging) -> dict[str, Any]:
        """Return the message part of the first call; for a sender action, the whole body of the call."""
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
