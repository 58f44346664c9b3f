"""Parent of messages with content, and their common fields: tag, metadata, quick replies and others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from djmessenger import rulebook
from djmessenger.channels import INSTAGRAM, MESSENGER, channel_of
from djmessenger.outgoing.base import OutgoingMessage, Part, Writer, present
from djmessenger.outgoing.quick_replies import AnyQuickReply

NOTIFICATION_TYPES = ("REGULAR", "SILENT_PUSH", "NO_PUSH")
MESSAGING_TYPES = ("RESPONSE", "UPDATE", "MESSAGE_TAG", "UTILITY")
SPELLINGS = {"SILEN_PUSH": "SILENT_PUSH"}
"""Documented misspellings of this project, with the spelling of Meta."""
HUMAN_AGENT = "HUMAN_AGENT"


@dataclass(frozen=True)
class ThreadControl(Part):
    """Change of thread control together with a message: ``pass`` it to an app, or ``release`` it.

    Source: Messenger Platform, "Conversation routing", 24 September 2025.
    """

    control_type: str = "release"
    app_id: str = ""

    def write(self, out: Writer) -> dict[str, Any]:
        return {
            "control_type": out.choice("control_type", self.control_type, ("pass", "release")) or "release",
            **present(app_id=out.plain("app_id", self.app_id, required=False)),
        }


@dataclass(frozen=True, kw_only=True)
class ContentMessage(OutgoingMessage):
    """A message with a text, an attachment or a template.

    At most 13 ``quick_replies`` are shown below the message. ``notification_type`` is REGULAR, SILENT_PUSH or
    NO_PUSH. An empty ``messaging_type`` is derived from the message. ``tag`` is for messages outside of Meta's
    window. The tag HUMAN_AGENT needs ``by_staff``, because Meta allows it only for texts that a human wrote.
    ``reply_to`` is the ``mid`` of the answered message. ``persona_id`` is not sent on Instagram, which has no
    personas. ``metadata`` comes back in the echo. It has at most 919 characters, because 80 of Meta's 999 are
    reserved for the send token.

    Source: Messenger Platform, "Send API", read November 2026.
    """

    content_type_tag: ClassVar[str] = ""
    """Tag that only this kind of message may have."""
    fixed_messaging_type: ClassVar[str] = ""
    channels: ClassVar[frozenset[str]] = frozenset({MESSENGER, INSTAGRAM})

    quick_replies: Sequence[AnyQuickReply] = ()
    notification_type: str = ""
    messaging_type: str = ""
    tag: str = ""
    by_staff: bool = False
    persona_id: str = ""
    reply_to: str = ""
    metadata: str = ""
    thread_control: ThreadControl | None = None

    def content(self, out: Writer) -> dict[str, Any]:
        """Return the value of ``message`` in the body."""
        raise NotImplementedError

    def contents(self, out: Writer) -> list[dict[str, Any]]:
        """Return the value of ``message`` for each call."""
        return [self.content(out)]

    def write(self, out: Writer) -> list[dict[str, Any]]:
        if out.channel not in self.channels and not out.making:
            out.refuse(self.kind, f"{out.channel} does not take this kind of message")
        fields = self._fields_beside_message(out)
        metadata = self._metadata(out)
        messages = self.contents(out)
        messages[-1].update(
            present(
                quick_replies=out.parts(
                    "quick_replies", self.quick_replies, AnyQuickReply, "quick_replies.count", least=0
                )
            )
        )
        bodies = [{**fields, "message": {**message, **metadata}} for message in messages]
        reply_to = out.plain("reply_to", self.reply_to, required=False)
        if reply_to:
            bodies[0]["reply_to"] = {"mid": reply_to}
        if self.thread_control is not None:
            bodies[-1]["thread_control"] = out.part("thread_control", self.thread_control, ThreadControl)
        return bodies

    def _fields_beside_message(self, out: Writer) -> dict[str, Any]:
        tag = self._tag(out)
        chosen = out.choice("messaging_type", self.messaging_type, MESSAGING_TYPES)
        needed = self.fixed_messaging_type or ("MESSAGE_TAG" if tag else "")
        if chosen and needed and chosen != needed:
            out.refuse("messaging_type", f"{chosen} does not fit this message, which needs {needed}")
        if chosen and chosen != needed and chosen in ("MESSAGE_TAG", "UTILITY"):
            out.refuse(
                "messaging_type", f"{chosen} needs {'a tag' if chosen == 'MESSAGE_TAG' else 'Utility'}"
            )
        notification = out.plain("notification_type", str(self.notification_type), required=False)
        persona_id = out.plain("persona_id", self.persona_id, required=False)
        return {
            "messaging_type": needed or chosen or "RESPONSE",
            **present(
                tag=tag,
                notification_type=out.choice(
                    "notification_type", SPELLINGS.get(notification, notification), NOTIFICATION_TYPES
                ),
                persona_id=persona_id if channel_of(out.channel).has_personas else "",
            ),
        }

    def _tag(self, out: Writer) -> str:
        tag = out.plain("tag", self.tag, required=False)
        by_staff = out.flag("by_staff", self.by_staff)
        if not tag:
            return ""
        if f"tag.{tag}" not in rulebook.table:
            out.refuse("tag", f"{tag!r} is not a message tag")
        out.ended("tag", f"tag.{tag}", tag)
        if tag == HUMAN_AGENT and not by_staff:
            out.refuse(
                "tag",
                "HUMAN_AGENT is for messages of staff (by_staff), never for a message of the bot itself",
            )
        if tag == "CUSTOMER_FEEDBACK" and self.content_type_tag != tag:
            out.refuse("tag", "CUSTOMER_FEEDBACK is for the customer feedback template only")
        if tag != HUMAN_AGENT:
            out.only_on(MESSENGER, f"tag {tag}")
        return tag

    def _metadata(self, out: Writer) -> dict[str, str]:
        metadata = out.plain("metadata", self.metadata, required=False)
        longest = rulebook.limit("metadata.length") - rulebook.limit("metadata.reserved")
        if len(metadata) > longest:
            out.over(
                "metadata", f"{len(metadata)} characters, at most {longest}", rulebook.row("metadata.length")
            )
        return present(metadata=metadata)
