"""Enumerations of replying: notifications, sender actions, kinds of reply and of button."""

from __future__ import annotations

from djmessenger.utils.serializable import SerializableEnum, member


class NotificationType(SerializableEnum):
    """Kinds of notification on the person's device."""

    REGULAR: NotificationType = member("REGULAR", "sound and vibration")
    SILEN_PUSH: NotificationType = member(
        "SILEN_PUSH", "the documented spelling of SILENT_PUSH, sent as that"
    )
    SILENT_PUSH: NotificationType = member("SILENT_PUSH", "shown on the screen, without sound")
    NO_PUSH: NotificationType = member("NO_PUSH", "not shown until the conversation is opened")

    @property
    def wire(self) -> str:
        """The spelling that Meta uses."""
        return "SILENT_PUSH" if self is NotificationType.SILEN_PUSH else self.name


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


class ButtonType(SerializableEnum):
    """Kinds of button."""

    WEB_URL: ButtonType = member("web_url", "opens a page")
    POSTBACK: ButtonType = member("postback", "sends its payload back")
