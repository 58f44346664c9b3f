"""Repliers that offer something to tap: buttons, and quick replies."""

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
"""Stands for a text whose language is not known yet, while what stands below it is checked."""


class _Choice:
    """One thing to tap, as the documented nested classes hold it."""

    def __init__(self, title: Words, payload: Payload | str | None) -> None:
        if payload is not None and not isinstance(payload, (Payload, str)):
            raise DJMInvalidConfigException(
                f"the payload of {str(title)!r} must be an instance of a Payload subclass, "
                f"not {type(payload).__name__}"
            )
        self.title = title
        self.payload = payload


class _ChoiceReplier(SimpleMessageReplier):
    """Parent of the two: what is added to the ones that the class lists, and how many there may be."""

    LIMIT: int

    def __init__(self, localized_string: Words) -> None:
        super().__init__(localized_string)
        self._check()

    @abc.abstractmethod
    def _choices(self) -> list[Any]:
        """Give what the class lists, then what was added."""

    @abc.abstractmethod
    def _message(self, text: str, titles: list[str], channel: str) -> dict[str, Any]:
        """Give the message; raises for what Meta would refuse."""

    def _added(self) -> list[Any]:
        # Not from the constructor: a subclass of 2016 may not call it.
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
        """Refuse too many, too long a payload, a wrong address, as soon as they are known."""
        if self._counted():
            titles = [
                choice.title if isinstance(choice.title, str) else SOME_TEXT for choice in self._choices()
            ]
            self._message(SOME_TEXT, titles, "messenger")

    def _counted(self) -> int:
        count = len(self._choices())
        if count > self.LIMIT:
            raise DJMInvalidConfigException(f"{type(self).__name__} offers {count}, at most {self.LIMIT}")
        return count

    def get_message(self, messaging: Messaging) -> dict[str, Any]:
        if not self._counted():
            raise DJMInvalidConfigException(f"{type(self).__name__} offers nothing to tap")
        psid = messaging.get_psid()
        text = self.preprocess_outgoing_string(psid, self.localized_string)
        titles = [
            self.preprocess_outgoing_string(psid, choice.title, add_prefix=False)
            for choice in self._choices()
        ]
        return self._message(text, titles, messaging.channel)


class BaseButtonReplier(_ChoiceReplier):
    """Parent of repliers that send up to three buttons below a text.

    A subclass lists title to url, or title to ``Payload`` instance, in ``BUTTONS``. A url button opens the page, a
    payload comes back as a postback. Raises ``DJMInvalidConfigException`` for more than ``LIMIT`` buttons (a subclass
    may lower it, or raise it to what Meta takes), for a payload over 1,000 characters, and for a url that is none.
    """

    BUTTONS: Mapping[Words, str | Payload] = {}
    LIMIT: int = 3

    class Button(_Choice):
        """One button; either opens a url or sends a payload."""

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

    A subclass lists title to ``Payload`` instance in ``QUICK_REPLIES``. Raises ``DJMInvalidConfigException`` for
    more than ``LIMIT`` (a subclass may lower it, or raise it to the 13 that Meta takes) and for a payload over 1,000
    characters.
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
