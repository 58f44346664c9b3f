"""Repliers with buttons or quick replies."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.outgoing import Button, ButtonTemplate, PostbackButton, Text, UrlButton
from djmessenger.outgoing import QuickReply as OutgoingQuickReply
from djmessenger.outgoing.quick_replies import AnyQuickReply
from djmessenger.outgoing.rendering import Words
from djmessenger.payload import Payload
from djmessenger.receiving import Messaging
from djmessenger.replying.repliers import SimpleMessageReplier
from djmessenger.replying.types import ButtonType, ReplyingType

SOME_TEXT = "."
"""Placeholder of a text whose language is not known yet, for the check of its buttons or quick replies."""


class _Choice:
    """One button or quick reply: parent of the documented nested classes."""

    def __init__(self, title: Words, payload: Payload | str | None) -> None:
        if payload is not None and not isinstance(payload, (Payload, str)):
            raise DJMInvalidConfigException(
                f"the payload of {str(title)!r} must be an instance of a Payload subclass, "
                f"not {type(payload).__name__}"
            )
        self.title = title
        self.payload = payload


class _ChoiceReplier(SimpleMessageReplier):
    """Parent of repliers with choices: those of the class and those that were added, up to ``LIMIT``."""

    LIMIT: int

    def __init__(self, localized_string: Words) -> None:
        super().__init__(localized_string)
        self._check()

    @abc.abstractmethod
    def _choices(self) -> list[Any]:
        """Return the choices of the class, then those that were added."""

    @abc.abstractmethod
    def _message(self, text: str, titles: list[str], channel: str) -> dict[str, Any]:
        """Return the message. Raises ``DJMInvalidConfigException`` if it is over a limit of Meta."""

    def _added(self) -> list[Any]:
        # The list is not made in the constructor, because a subclass in the style of 2016 may not call it.
        added: list[Any] = self.__dict__.setdefault("_more", [])
        return added

    def _add(self, choice: Any) -> None:
        self._added().append(choice)
        try:
            self._check()
        except DJMInvalidConfigException:
            self._added().pop()
            raise

    def _check(self) -> None:
        """Raise ``DJMInvalidConfigException`` for too many choices, a payload that is too long, or a wrong url."""
        if self._counted():
            titles = [
                choice.title if isinstance(choice.title, str) else SOME_TEXT for choice in self._choices()
            ]
            self._message(SOME_TEXT, titles, "messenger")

    def _counted(self) -> int:
        count = len(self._choices())
        if count > self.LIMIT:
            raise DJMInvalidConfigException(
                f"{type(self).__name__} has {count} choices; at most {self.LIMIT} are allowed"
            )
        return count

    def get_message(self, messaging: Messaging) -> dict[str, Any]:
        if not self._counted():
            raise DJMInvalidConfigException(f"{type(self).__name__} has no choices; add at least one")
        psid = messaging.get_psid()
        text = self.preprocess_outgoing_string(psid, self.localized_string)
        titles = [
            self.preprocess_outgoing_string(psid, choice.title, add_prefix=False)
            for choice in self._choices()
        ]
        return self._message(text, titles, messaging.channel)


class BaseButtonReplier(_ChoiceReplier):
    """Parent of repliers that send up to three buttons below a text.

    A subclass maps titles to urls or ``Payload`` instances in ``BUTTONS``. A url button opens the page; a payload comes
    back as a postback. A subclass may change ``LIMIT``, up to the limit of Meta. Raises ``DJMInvalidConfigException``
    for more than ``LIMIT`` buttons, for a payload over 1,000 characters, and for a wrong url.
    """

    BUTTONS: Mapping[Words, str | Payload] = {}
    LIMIT: int = 3

    class Button(_Choice):
        """One button, which either opens a url or sends a payload."""

        def __init__(self, title: Words, url: str = "", payload: Payload | str | None = None) -> None:
            super().__init__(title, payload)
            if bool(url) == (payload is not None):
                raise DJMInvalidConfigException(
                    f"button {str(title)!r} needs a url or a payload, and not both"
                )
            self.url = url

        @property
        def type(self) -> ButtonType:
            return ButtonType.WEB_URL if self.url else ButtonType.POSTBACK

    def add_button(self, title: Words, url: str = "", payload: Payload | str | None = None) -> None:
        """Add one button, which opens the url or sends the payload."""
        self._add(self.Button(title, url, payload))

    def _choices(self) -> list[BaseButtonReplier.Button]:
        listed = [
            self.Button(title, url=target) if isinstance(target, str) else self.Button(title, payload=target)
            for title, target in self.BUTTONS.items()
        ]
        return [*listed, *self._added()]

    def _message(self, text: str, titles: list[str], channel: str) -> dict[str, Any]:
        buttons: list[Button] = [
            UrlButton(title, choice.url) if choice.payload is None else PostbackButton(title, choice.payload)
            for title, choice in zip(titles, self._choices(), strict=True)
        ]
        message: dict[str, Any] = ButtonTemplate(text, buttons).requests(channel=channel)[0]["message"]
        return message

    def get_reply_type(self) -> ReplyingType:
        return ReplyingType.BUTTON


class BaseQuickReplyReplier(_ChoiceReplier):
    """Parent of repliers that send up to ten quick replies below a text.

    A subclass maps titles to ``Payload`` instances in ``QUICK_REPLIES``. A subclass may change ``LIMIT``, up to the 13
    that Meta accepts. Raises ``DJMInvalidConfigException`` for more than ``LIMIT`` choices, and for a payload over
    1,000 characters.
    """

    QUICK_REPLIES: Mapping[Words, Payload] = {}
    LIMIT: int = 10

    class QuickReply(_Choice):
        """One quick reply."""

        def __init__(self, title: Words = "", payload: Payload | str | None = None) -> None:
            super().__init__(title, payload)

    def add_quick_reply(self, title: Words, payload: Payload | str) -> None:
        """Add one quick reply of content type text."""
        if payload is None:
            raise DJMInvalidConfigException(f"quick reply {str(title)!r} needs a payload")
        self._add(self.QuickReply(title, payload))

    def _choices(self) -> list[BaseQuickReplyReplier.QuickReply]:
        listed = [self.QuickReply(title, payload) for title, payload in self.QUICK_REPLIES.items()]
        return [*listed, *self._added()]

    def _message(self, text: str, titles: list[str], channel: str) -> dict[str, Any]:
        quick_replies: list[AnyQuickReply] = [
            OutgoingQuickReply(title, choice.payload or "")
            for title, choice in zip(titles, self._choices(), strict=True)
        ]
        bodies = Text(SOME_TEXT, quick_replies=quick_replies).requests(channel=channel)
        return {**bodies[0]["message"], "text": text}

    def get_reply_type(self) -> ReplyingType:
        return ReplyingType.QUICK_REPLY
