"""Keys of an event: its dedup key, and the subject whose queue orders events without a conversation.

Two deliveries of one event have the same dedup key. Meta sends no delivery id and may deliver an event twice
("Webhooks", set-up page of the Messenger Platform, May 2026).
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import msgspec

from djmessenger.receiving.messages import EventParts
from djmessenger.receiving.parts import read_id, read_milliseconds

LONGEST = 128
"""Length of the column ``Messaging.key``."""

_PLAIN_SUBJECT = re.compile(r"[\w./-]{1,128}", re.ASCII)

_encode = msgspec.json.Encoder(order="deterministic").encode


def dedup_key(messaging: EventParts) -> str:
    """Return the dedup key: Page, container, kind and ids of the event.

    A hash replaces ids that are missing, too long or contain the separator. The kind is part of the key, because
    an echo, an edit and a deletion have the ``mid`` of the message that they refer to.
    """
    identity = _identity(messaging)
    if identity is None:
        identity = ("item", hashlib.sha256(_canonical(messaging.raw)).hexdigest())
    words = (messaging.get_page_id(), messaging.container, *identity)
    key = "|".join(words)
    if len(key) > LONGEST or "|" in "".join(words):
        digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()
        key = f"{words[0][:32]}|{words[1]}|{words[2]}|{digest}"
    return key


def _identity(messaging: EventParts) -> tuple[str, ...] | None:
    message = messaging.message
    if message is not None:
        if not message.mid:
            return None
        kind = "deleted" if message.is_deleted else "echo" if messaging.is_echo else "message"
        return (kind, message.mid)
    if messaging.postback is not None:
        postback = messaging.postback
        return ("postback", postback.mid, postback.payload) if postback.mid else None
    if messaging.message_edit is not None:
        edit = messaging.message_edit
        return ("edit", edit.mid, str(edit.num_edit)) if edit.mid and edit.num_edit is not None else None
    if messaging.reaction is not None:
        reaction = messaging.reaction
        at = read_milliseconds(messaging.raw.get("timestamp"))
        if not reaction.mid or at is None:
            return None
        return ("reaction", reaction.mid, messaging.get_psid(), reaction.action, reaction.emoji, str(at))
    if messaging.read is not None:
        upto = messaging.read.mid or messaging.read.watermark
        return ("read", messaging.get_psid(), str(upto)) if upto else None
    return None


def subject_of(messaging: EventParts) -> str:
    """Return the subject of an event without a conversation: its Page, and the first of post, comment and sender in it.

    The subject has at most 128 characters. A hash replaces a subject that is longer, or that contains a character which
    no id has.
    """
    item = messaging.raw.get("value", messaging.raw)
    item = item if isinstance(item, dict) else {}
    subject = messaging.get_page_id()
    for kind, known in (
        ("post", item.get("post_id")),
        ("post", item.get("media_id")),
        ("post", _id_in(item.get("media"))),
        ("comment", item.get("parent_id")),
        ("comment", item.get("comment_id")),
        ("person", messaging.get_psid()),
        ("person", _id_in(item.get("from"))),
    ):
        if found := read_id(known):
            subject += f"/{kind}/{found}"
            break
    if _PLAIN_SUBJECT.fullmatch(subject):
        return subject
    return hashlib.sha256(subject.encode("utf-8", "backslashreplace")).hexdigest()


def _id_in(part: Any) -> Any:
    return part.get("id") if isinstance(part, dict) else None


def _canonical(raw: dict[str, Any]) -> bytes:
    try:
        return _encode(raw)
    except (TypeError, ValueError, OverflowError):
        return json.dumps(raw, sort_keys=True, default=repr).encode()
