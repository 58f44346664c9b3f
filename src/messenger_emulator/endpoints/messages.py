"""Edges ``POST /{page}/messages`` and ``/{page}/message_attachments``.

Messenger Platform, "Send API" reference and "Send messages" (May 2026), "Sender actions" (Jan 2026), "Error codes"
(June 2026). Meta does not publish the order of its checks. The order here: parameters, recipient, block, thread
owner, tag, window, rate, files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from messenger_emulator.content import MEDIA, check_message
from messenger_emulator.drawing import draw, echo_of
from messenger_emulator.endpoints.context import Context, numeric_id
from messenger_emulator.person import Person
from messenger_emulator.refusals import (
    Refusal,
    bad,
    instagram_other_app_controls,
    instagram_window_closed,
    missing,
    no_such_object,
    other_app_controls,
    page_restricted,
    permission_missing,
    person_unavailable,
    retired_tag,
    window_closed,
)
from messenger_emulator.state import DAY, INSTAGRAM_INBOX, PAGE_INBOX, Bubble
from messenger_emulator.validation import as_object, inner, one_of, required, required_text

ACTIONS = frozenset({"typing_on", "typing_off", "mark_seen", "react", "unreact"})
RECIPIENTS = (
    "id",
    "user_ref",
    "comment_id",
    "post_id",
    "one_time_notif_token",
    "notification_messages_token",
    "notification_message_token",
    "phone_number",
)
TAGS = frozenset(
    {"confirmed_event_update", "account_update", "post_purchase_update", "human_agent", "customer_feedback"}
)


def send(context: Context) -> dict[str, Any]:
    """Answer a call of the Send API."""
    params = context.params
    context.need("pages_messaging")
    holder = as_object(required(params, "recipient", ""), "recipient")
    kind = _recipient_kind(holder)
    forget_old_attachments(context)
    message, action = _content(context)
    tag, messaging_type = _options(context, message)
    control = _thread_control(params.get("thread_control"), context)
    person = _resolve(context, kind, holder)
    _check_reachable(context, person)
    if tag and context.limits.has_ended(f"tag.{tag.upper()}", context.world.today()):
        raise retired_tag()
    if kind == "id":
        _check_window(context, person, tag, messaging_type, message)
    if message is None:
        return _act(context, person, action)
    if params.get("reply_to") is not None:
        _check_reply_to(params["reply_to"], person)
    persona = _persona(context)
    _check_rate(context, message)
    attachment_id = _fetch(context, message)
    _spend_recipient(context, kind, holder)
    mid = _deliver(context, person, message, persona, kind)
    if control is not None:
        context.world.give_control(person, control)
    answer: dict[str, Any] = {"recipient_id": person.id, "message_id": mid}
    if kind in {"user_ref", "phone_number"}:
        del answer["recipient_id"]
    if attachment_id:
        answer["attachment_id"] = attachment_id
    return answer


def _content(context: Context) -> tuple[dict[str, Any] | None, str]:
    """Return the message and an empty action, or None and the sender action."""
    message, action = context.params.get("message"), context.params.get("sender_action")
    if message is not None and action is not None:
        raise bad("message and sender_action may not be sent together", 2018014)
    if action is not None:
        return None, one_of(action, ACTIONS, "sender_action")
    if message is None:
        raise bad("Message cannot be empty, must provide valid attachment or text", 2018034, "message")
    checked = check_message(message, context.page, has_file=bool(context.files))
    if len(context.files) > 1:
        raise bad("An incorrect number of files uploaded. Must upload exactly one file")
    return checked, ""


def _check_reachable(context: Context, person: Person) -> None:
    page, world = context.page, context.world
    if person.blocked or world.faults.strike("blocked", context.path):
        raise person_unavailable()
    taken = world.owner(person) not in {"", page.app_id}
    if taken or world.faults.strike("other_app", context.path):
        raise instagram_other_app_controls() if page.is_instagram else other_app_controls()
    if page.restricted or world.faults.strike("page_restricted", context.path):
        raise page_restricted()


def _check_rate(context: Context, message: Mapping[str, Any]) -> None:
    slow = bool(_media_kinds(message) & {"audio", "video"})
    key = f"{context.page.id}:{'media' if slow else 'text'}"
    context.world.spend(key, context.limits["rate.media" if slow else "rate.text"], 1.0)


def _recipient_kind(holder: Mapping[str, Any]) -> str:
    given = [key for key in holder if key in RECIPIENTS]
    if len(given) != 1:
        raise bad(
            "Param recipient must hold exactly one of id, user_ref, comment_id, post_id", path="recipient"
        )
    return given[0]


def _options(context: Context, message: Mapping[str, Any] | None) -> tuple[str, str]:
    params = context.params
    messaging_type = ""
    if params.get("messaging_type") is not None:
        kinds = {"response", "update", "message_tag", "utility"}
        messaging_type = one_of(params["messaging_type"], kinds, "messaging_type")
    elif message is not None:
        context.warnings.append("messaging_type is missing; the reference calls it required")
    tag = params.get("tag")
    if tag is not None:
        tag = str(tag).lower()
        if tag not in TAGS:
            raise bad("Invalid tag.", path="tag")
        if messaging_type not in {"", "message_tag"}:
            raise bad("Param tag may only be used with messaging_type MESSAGE_TAG", path="tag")
    elif messaging_type == "message_tag":
        raise missing("tag")
    if params.get("notification_type") is not None:
        one_of(params["notification_type"], {"regular", "silent_push", "no_push"}, "notification_type")
    return tag or "", messaging_type


def _thread_control(value: Any, context: Context) -> str | None:
    if value is None:
        return None
    control = as_object(value, "thread_control")
    kind = one_of(control.get("control_type", "release"), {"pass", "release"}, "thread_control[control_type]")
    if kind == "release":
        return ""
    app_id = str(required(control, "app_id", "thread_control"))
    if not is_known_app(context, app_id):
        raise bad("Wrong app ID", 2018164, "thread_control")
    return app_id


def is_known_app(context: Context, app_id: str) -> bool:
    """Return whether a thread can be passed to an app."""
    page = context.page
    inbox = INSTAGRAM_INBOX if page.is_instagram else PAGE_INBOX
    return app_id in {page.app_id, inbox, *page.other_apps}


def _resolve(context: Context, kind: str, holder: Mapping[str, Any]) -> Person:
    page, world = context.page, context.world
    value = holder[kind]
    if kind == "id":
        return context.person(numeric_id(value))
    name = str(value)
    if kind == "user_ref":
        return context.person(page.user_refs.get(name))
    if kind in {"comment_id", "post_id"}:
        comment = page.comments.get(name)
        if comment is None or comment.is_post != (kind == "post_id"):
            raise no_such_object(context.method, name)
        if comment.answered:
            raise Refusal(10900, "Activity already replied to")
        if world.clock() - comment.time > context.limits["private_reply.days"] * DAY:
            raise Refusal(10903, "This user cannot reply to this activity")
        return context.person(comment.psid)
    if kind == "one_time_notif_token":
        psid, issued = page.one_time_tokens.get(name, ("", 0.0))
        if not psid or world.clock() - issued > 365 * DAY:
            raise bad("The token is invalid or has expired", path="recipient")
        return context.person(psid)
    if kind == "phone_number":
        raise Refusal(200, "Missing permission to match by phone number", subcode=2018027)
    raise bad("The token is invalid or has expired", path="recipient")


def _spend_recipient(context: Context, kind: str, holder: Mapping[str, Any]) -> None:
    if kind in {"comment_id", "post_id"}:
        context.page.comments[str(holder[kind])].answered = True
    elif kind == "one_time_notif_token":
        del context.page.one_time_tokens[str(holder[kind])]


def _check_window(
    context: Context, person: Person, tag: str, messaging_type: str, message: Mapping[str, Any] | None
) -> None:
    world, page = context.world, context.page
    if tag == "human_agent" and "human_agent" not in page.permissions:
        raise permission_missing("human_agent")
    if tag == "customer_feedback" and _template(message) != "customer_feedback":
        raise bad("The tag CUSTOMER_FEEDBACK needs the customer feedback template", path="tag")
    if messaging_type == "utility":
        context.need("page_utility_messaging")
        if not (message or {}).get("template"):
            raise missing("message[template]")
        return
    closed = instagram_window_closed if page.is_instagram else window_closed
    if world.faults.strike("window_closed", context.path):
        raise closed()
    if not world.enforce_window:
        return
    ends = person.window_ends
    if tag in {"human_agent", "customer_feedback"}:
        last = person.last_seen
        ends = None if last is None else last + context.limits[f"window.{tag}"] * DAY
    elif tag:
        return
    if ends is None or world.clock() > ends:
        raise closed()


def _template(message: Mapping[str, Any] | None) -> str:
    attachment = (message or {}).get("attachment") or {}
    if attachment.get("type") != "template":
        return ""
    return str(attachment["payload"]["template_type"]).lower()


def _check_reply_to(reply_to: Any, person: Person) -> None:
    mid = required_text(as_object(reply_to, "reply_to"), "mid", "reply_to")
    if not any(bubble.mid == mid for bubble in person.thread):
        raise bad("Param reply_to[mid] must be a message of this conversation", path="reply_to")


def _persona(context: Context) -> dict[str, Any] | None:
    persona_id = context.params.get("persona_id")
    if persona_id is None:
        return None
    persona = context.page.personas.get(str(persona_id))
    if persona is None or persona["deleted"]:
        raise bad("Param persona_id must be a valid persona of this Page", path="persona_id")
    return persona


def _act(context: Context, person: Person, action: str) -> dict[str, Any]:
    params = context.params
    extra = [
        key for key in ("message", "tag", "notification_type", "persona_id") if params.get(key) is not None
    ]
    if extra:
        context.warnings.append(
            f"a sender action takes nothing but the recipient; {', '.join(extra)} ignored"
        )
    if action == "typing_on":
        person.typing = True
    elif action == "typing_off":
        person.typing = False
    elif action == "mark_seen":
        person.seen_by_page = True
    else:
        payload = as_object(required(params, "payload", ""), "payload")
        mid = required_text(payload, "message_id", "payload")
        bubble = next((bubble for bubble in person.thread if bubble.mid == mid), None)
        if bubble is None:
            raise bad("Param payload[message_id] must be a message of this conversation", path="payload")
        if action == "unreact":
            bubble.reactions.pop("page", None)
        else:
            bubble.reactions["page"] = required_text(payload, "reaction", "payload")
    return {"recipient_id": person.id}


def _media_kinds(message: Mapping[str, Any] | None) -> set[str]:
    message = message or {}
    parts = [message.get("attachment") or {}, *(message.get("attachments") or ())]
    return {str(part.get("type")).lower() for part in parts if part} & MEDIA


def forget_old_attachments(context: Context) -> None:
    """Delete the stored attachments older than 90 days."""
    page = context.page
    oldest = context.world.clock() - context.limits["attachment.days"] * DAY
    page.attachments = {key: value for key, value in page.attachments.items() if value["time"] >= oldest}


def _fetch(context: Context, message: Mapping[str, Any] | None) -> str:
    """Check the files of a message; return the id of the stored file if the call requests ``is_reusable``."""
    attachment = (message or {}).get("attachment") or {}
    kind = str(attachment.get("type", "")).lower()
    payload = attachment.get("payload") or {}
    if kind not in MEDIA:
        for image in (message or {}).get("attachments") or ():
            check_file(context, "image", image.get("payload") or {})
        return ""
    check_file(context, kind, payload)
    is_reusable = str(payload.get("is_reusable", "")).lower() in {"true", "1"}
    return (
        store_attachment(context, kind, payload) if is_reusable and not payload.get("attachment_id") else ""
    )


def check_file(context: Context, kind: str, payload: Mapping[str, Any]) -> None:
    """Check type and size of the uploaded file, or of the file behind the URL."""
    if context.files:
        content_type, size = context.files[0].content_type, len(context.files[0].content)
    elif payload.get("url") and context.world.fetch is not None:
        fetched = context.world.fetch(str(payload["url"]))
        if fetched is None:
            message = "Failed to fetch the file from the url"
            raise bad(message, 2018008, inner("message", "attachment"))
        content_type, size = fetched.content_type, fetched.size
    else:
        return
    if kind != "file" and not content_type.startswith(f"{kind}/"):
        raise bad("Upload attachment failure: the type of the file does not match", 2018047)
    if size > context.limits["attachment.bytes.image" if kind == "image" else "attachment.bytes"]:
        raise bad("The attachment is too large", 2018109)


def store_attachment(context: Context, kind: str, payload: Mapping[str, Any]) -> str:
    """Store an attachment for later messages and return its id."""
    attachment_id = context.world.number("attachment")
    url = payload.get("url") or f"https://cdn.example.com/{kind}/{attachment_id}"
    context.page.attachments[attachment_id] = {"type": kind, "url": url, "time": context.world.clock()}
    return attachment_id


def upload(context: Context) -> dict[str, Any]:
    """Answer a call of the Attachment Upload API."""
    context.need("pages_messaging")
    message = as_object(required(context.params, "message", ""), "message")
    attachment = as_object(required(message, "attachment", "message"), "message[attachment]")
    kind = one_of(required(attachment, "type", "message[attachment]"), MEDIA, "message[attachment][type]")
    check_message({"attachment": attachment}, context.page, has_file=bool(context.files))
    if len(context.files) > 1:
        raise bad("An incorrect number of files uploaded. Must upload exactly one file")
    payload = attachment.get("payload") or {}
    check_file(context, kind, payload)
    return {"attachment_id": store_attachment(context, kind, payload)}


def _deliver(
    context: Context, person: Person, message: Any, persona: dict[str, Any] | None, kind: str
) -> str:
    world, page = context.world, context.page
    mid = world.mid_for(page)
    bubble = draw(mid, message, world.clock(), page.attachments)
    if page.is_instagram:
        most = context.limits["quick_reply.title"]
        bubble.quick_replies = [
            {**reply, "title": reply["title"][:most]} if "title" in reply else reply
            for reply in bubble.quick_replies
        ]
    bubble.persona = persona and {key: persona[key] for key in ("id", "name", "profile_picture_url")}
    bubble.app_id = page.app_id
    bubble.notification_type = str(context.params.get("notification_type") or "REGULAR").upper()
    bubble.reply_to = str((context.params.get("reply_to") or {}).get("mid", ""))
    if context.files and not bubble.message.get("url"):
        bubble.message["filename"] = context.files[0].filename
    person.thread.append(bubble)
    person.typing = False
    if kind != "user_ref":
        _queue_reports(context, person, bubble)
    return mid


def _queue_reports(context: Context, person: Person, bubble: Bubble) -> None:
    """Queue the echo, the delivery and the read event of a message."""
    world, page = context.world, context.page
    if world.echoes and not world.faults.strike("echo_lost"):
        late = world.faults.strike("echo_late")
        item = {
            "sender": {"id": page.account_id},
            "recipient": {"id": person.id},
            "timestamp": int(bubble.time * 1000),
            "message": echo_of(bubble, instagram=page.is_instagram),
        }
        subscription = "messages" if page.is_instagram else "message_echoes"
        delay = float(late.options.get("seconds", 30.0)) if late else 0.0
        world.emit(page, subscription, item, authored=False, delay=delay)
    if world.delivery_receipts and not page.is_instagram:
        person.gets_delivery(bubble.mid)
    if world.read_receipts and person.online:
        person.reads()
