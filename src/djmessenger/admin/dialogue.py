"""The dialogue of a conversation: messages of both sides in order, with the rule of each reply."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q
from django.utils.translation import gettext as _

from djmessenger.admin.base import admin_url, is_https
from djmessenger.admin.outcome import in_short
from djmessenger.models import Conversation, Messaging, Reply

PER_PAGE = 100

_QUIET = ("DELIVERED", "READ")
"""Types of receipts, which are shown as the state of the replies."""
_LONGEST = 4_000
_MOST = 30


@dataclass
class Content:
    """The readable content of a message of any kind."""

    text: str = ""
    links: list[tuple[str, str]] = field(default_factory=list)
    """Label and address of each attachment. The addresses are https, and the page does not load them."""
    choices: list[str] = field(default_factory=list)
    """Titles of buttons and quick replies."""
    notes: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (self.text or self.links or self.choices or self.notes)


@dataclass
class Bubble:
    """One message as the page shows it."""

    side: str
    """``person``, ``page``, or ``note`` for an event without content."""
    content: Content
    date: datetime.datetime
    row: Messaging | Reply
    rule: str = ""
    outcome: str = ""
    is_trouble: bool = False

    @property
    def url(self) -> str:
        return admin_url(type(self.row), self.row.pk)


@dataclass(frozen=True)
class Cursor:
    """The oldest event and the oldest reply that were shown. Each of the two may be missing."""

    timestamp: int | None = None
    messaging: int = 0
    reply: int | None = None

    def __str__(self) -> str:
        event = "" if self.timestamp is None else f"{self.timestamp}.{self.messaging}"
        return f"{event}~{'' if self.reply is None else self.reply}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor of a query string. A malformed text is the cursor of the newest page."""
        event, _tilde, reply = text[:80].partition("~")
        timestamp, _dot, messaging = event.partition(".")
        try:
            numbers = [int(part) if part else None for part in (timestamp, messaging, reply)]
        except ValueError:
            return cls()
        if any(number is not None and not -(2**63) <= number < 2**63 for number in numbers):
            return cls()
        return cls(numbers[0], 0 if numbers[0] is None else numbers[1] or 0, numbers[2])


@dataclass
class Dialogue:
    """One page of a conversation, oldest bubble first."""

    bubbles: list[Bubble]
    older: str = ""
    """Cursor of the page with older messages; empty on the page with the first message."""


def read_dialogue(conversation: Conversation, cursor: Cursor, size: int = PER_PAGE) -> Dialogue:
    """Return the newest messages before a cursor, in three queries for any size.

    Events are ordered by Meta's timestamp, replies by the time of sending, but never before the event that they answer.
    """
    events = Messaging.objects.filter(conversation=conversation).exclude(type__in=_QUIET)
    if cursor.timestamp is not None:
        events = events.filter(
            Q(timestamp__lt=cursor.timestamp) | Q(timestamp=cursor.timestamp, id__lt=cursor.messaging),
            timestamp__lte=cursor.timestamp,
        )
    replies = (
        Reply.objects.filter(conversation=conversation).select_related("messaging").defer("messaging__error")
    )
    if cursor.reply is not None:
        replies = replies.filter(id__lt=cursor.reply)
    rows = _newest_first(
        list(events.defer("error").order_by("-timestamp", "-id")[: size + 1]),
        list(replies.order_by("-id")[: size + 1]),
    )
    shown = [row for row, _number in zip(rows, range(size), strict=False)]
    older = next(rows, None) is not None
    dialogue = Dialogue(list(_bubbles(reversed(shown))))
    if older:
        dialogue.older = str(_beyond(shown, cursor))
    return dialogue


def _newest_first(events: list[Messaging], replies: list[Reply]) -> Iterator[Messaging | Reply]:
    """Yield the rows of both lists, newest first. The order inside each list does not change."""
    while events or replies:
        if not replies or (events and events[0].timestamp > _reply_time(replies[0])):
            yield events.pop(0)
        else:
            yield replies.pop(0)


def _reply_time(reply: Reply) -> int:
    sent = int(reply.date_sent.timestamp() * 1000)
    return sent if reply.messaging is None else max(sent, reply.messaging.timestamp)


def _beyond(shown: Iterable[Messaging | Reply], cursor: Cursor) -> Cursor:
    timestamp, messaging, reply = cursor.timestamp, cursor.messaging, cursor.reply
    for row in shown:
        if isinstance(row, Reply):
            reply = row.pk
        else:
            timestamp, messaging = row.timestamp, row.pk
    return Cursor(timestamp, messaging, reply)


def _bubbles(rows: Iterable[Messaging | Reply]) -> Iterator[Bubble]:
    rows = list(rows)
    echoed_mids = [row.mid for row in rows if isinstance(row, Messaging) and row.type == "ECHO" and row.mid]
    our_mids = (
        set(Reply.objects.filter(mid__in=echoed_mids).values_list("mid", flat=True)) if echoed_mids else set()
    )
    for row in rows:
        if isinstance(row, Reply):
            yield _reply_bubble(row)
        elif row.mid not in our_mids:
            yield _event_bubble(row)


def _reply_bubble(reply: Reply) -> Bubble:
    trouble = reply.state not in {Reply.State.QUEUED, Reply.State.SENDING, Reply.State.SENT}
    outcome = str(reply.get_state_display())
    if reply.date_read:
        outcome = _("read")
    elif reply.date_delivered:
        outcome = _("delivered")
    elif trouble and reply.error:
        outcome += f": {reply.error.strip().splitlines()[-1][:200]}"
    return Bubble("page", read_reply(reply.data), reply.date_sent, reply, reply.rule, outcome, trouble)


def _event_bubble(row: Messaging) -> Bubble:
    content = read_event(row.body)
    side = "person"
    if row.type == "ECHO":
        side = "page"
        content.notes.append(_("sent from the Page's inbox or by another app"))
    elif content.is_empty:
        side = "note"
        content.notes.append(row.type)
    if row.is_standby:
        content.notes.append(_("another app has the conversation"))
    outcome = in_short(row.outcome)
    if row.state != Messaging.State.DONE:
        outcome = f"{row.get_state_display()}{f': {row.reason}' if row.reason else ''}"
    return Bubble(side, content, row.date_event, row, "", outcome, row.state == Messaging.State.FAILED)


def read_event(body: object) -> Content:
    """Return the readable content of a stored event. Unknown parts are left out."""
    item = _item(body)
    postback = _mapping(item.get("postback"))
    message = _mapping(item.get("message")) or _mapping(item.get("message_edit"))
    content = _read_message(message)
    if postback:
        content.text = _text(postback.get("title")) or _text(postback.get("payload"))
        content.notes.append(_("tapped"))
        content.notes.append(_text(postback.get("payload"))[:200])
    if quick_reply := _mapping(message.get("quick_reply")):
        content.notes.append(_("tapped %s") % _text(quick_reply.get("payload"))[:200])
    if reaction := _mapping(item.get("reaction")):
        sign = _text(reaction.get("emoji")) or _text(reaction.get("reaction"))
        is_removed = reaction.get("action") == "unreact"
        content.notes.append(_("removed a reaction") if is_removed else _("reacted with %s") % sign[:80])
    if "message_edit" in item:
        content.notes.append(_("edited"))
    if message.get("is_deleted"):
        content.notes.append(_("deleted by the person"))
    if referral := (_mapping(item.get("referral")) or _mapping(postback.get("referral"))):
        content.notes.append(
            _("came by %s") % (_text(referral.get("ref")) or _text(referral.get("source")))[:200]
        )
    content.notes = [note for note in content.notes if note]
    return content


def read_reply(data: object) -> Content:
    """Return the readable content of a reply from the body of its call."""
    body = _mapping(data)
    content = _read_message(_mapping(body.get("message")))
    if action := body.get("sender_action"):
        content.notes.append(_text(action))
    return content


def _read_message(message: Mapping[str, Any]) -> Content:
    content = Content(text=_text(message.get("text"))[:_LONGEST])
    attachments = [_mapping(message.get("attachment")), *_mappings(message.get("attachments"))]
    for attachment in attachments:
        if attachment:
            _read_attachment(attachment, content)
    content.choices += [_title(reply) for reply in _mappings(message.get("quick_replies"))]
    return content


def _read_attachment(attachment: Mapping[str, Any], content: Content) -> None:
    kind = _text(attachment.get("type")) or "attachment"
    payload = _mapping(attachment.get("payload"))
    if payload.get("sticker_id"):
        kind = "sticker"
    if kind == "template":
        _read_template(payload, content)
        return
    if place := _mapping(payload.get("coordinates")):
        content.notes.append(f"{kind} {place.get('lat')}, {place.get('long')}")
    elif not _add_link(
        content, _text(payload.get("title")) or kind, payload.get("url") or attachment.get("url")
    ):
        content.notes.append(kind)


def _read_template(payload: Mapping[str, Any], content: Content) -> None:
    content.notes.append(_text(payload.get("template_type")) or "template")
    content.text = content.text or _text(payload.get("text"))[:_LONGEST]
    content.choices += [_title(button) for button in _mappings(payload.get("buttons"))]
    for element in _mappings(payload.get("elements")):
        lines = (_text(element.get("title")), _text(element.get("subtitle")))
        content.text = "\n".join(filter(None, (content.text, *lines)))[:_LONGEST]
        content.choices += [_title(button) for button in _mappings(element.get("buttons"))]
        _add_link(content, "image", element.get("image_url"))


def _add_link(content: Content, label: str, url: object) -> bool:
    if not is_https(url):
        return False
    content.links.append((label[:100], str(url)))
    return True


def _title(choice: Mapping[str, Any]) -> str:
    return (_text(choice.get("title")) or _text(choice.get("content_type")) or _text(choice.get("type")))[:80]


def _item(body: object) -> Mapping[str, Any]:
    """Return the event inside a stored callback. A body that is only an event is returned as it is."""
    data = _mapping(body)
    for entry in _mappings(data.get("entry")):
        for container in ("messaging", "standby", "calls", "changes"):
            for item in _mappings(entry.get(container)):
                return _mapping(item.get("value")) if container == "changes" else item
        return entry
    return data


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value[:_MOST] if isinstance(item, Mapping)] if isinstance(value, list) else []


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False, default=str)[:_LONGEST]
