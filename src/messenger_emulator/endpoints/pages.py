"""Node of the Page: personas, labels, subscriptions, stickers, conversations.

Messenger Platform, "Personas", "Custom labels", "Conversations", "Sticker API" (2026); Graph API, "Page
subscribed_apps" (v26.0).
"""

from __future__ import annotations

import datetime
from collections.abc import Collection
from typing import Any

from messenger_emulator.endpoints.context import Context
from messenger_emulator.fields import Wanted, read_fields, select
from messenger_emulator.person import Person
from messenger_emulator.refusals import Refusal, bad, no_such_object, not_one_of
from messenger_emulator.state import FIELDS, INSTAGRAM_FIELDS, Bubble
from messenger_emulator.validation import as_number, as_url, one_of, required, required_text


def page_node(context: Context) -> dict[str, Any]:
    """Answer ``GET /{page}``."""
    page = context.page
    if page.has_instagram_login:
        return _instagram_account(context)
    values = {
        "id": page.id,
        "name": page.name,
        "messaging_feature_status": {"hop_v2": True, "msgr_multi_app": True, "ig_multi_app": False},
        "instagram_business_account": {"id": page.account_id} if page.is_instagram else None,
    }
    return select(values, read_fields(str(context.params.get("fields") or "name,id")), "Page")


def _instagram_account(context: Context) -> dict[str, Any]:
    """Return the node of an account with Instagram Login (Instagram Platform, "Get Started" and "IG User", 2026)."""
    page = context.page
    values = {
        "id": page.id,
        "user_id": page.account_id,
        "username": "".join(page.name.lower().split()),
        "name": page.name,
        "account_type": "BUSINESS",
    }
    return select(values, read_fields(str(context.params.get("fields") or "id")), "IGUser")


def personas(context: Context) -> dict[str, Any]:
    context.need("pages_messaging")
    page = context.page
    if context.method == "GET":
        data = [_persona(entry) for entry in page.personas.values() if not entry["deleted"]]
        return paged(context, data)
    if page.is_instagram:
        raise no_such_object(context.method, page.id)
    name = required_text(context.params, "name", "", most=context.limits["persona.name"])
    picture = as_url(required(context.params, "profile_picture_url", ""), "profile_picture_url")
    persona_id = context.world.number("persona")
    entry = {"id": persona_id, "name": name, "profile_picture_url": picture, "deleted": False}
    page.personas[persona_id] = entry
    return {"id": persona_id}


def persona_node(context: Context) -> dict[str, Any]:
    entry = context.page.personas[context.target]
    if entry["deleted"] or context.method == "POST":
        raise no_such_object(context.method, context.target)
    if context.method == "DELETE":
        entry["deleted"] = True
        return {"success": True}
    return _persona(entry)


def _persona(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in ("name", "profile_picture_url", "id")}


PAGE_SIZE = 25
"""Entries of one part of a list without ``limit``."""


def paged(context: Context, data: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the part of a list that ``after`` and ``limit`` select, with the cursors of its ends."""
    size = as_number(context.params.get("limit", PAGE_SIZE), "limit", least=1, most=1000)
    after = context.params.get("after")
    start = next((number + 1 for number, entry in enumerate(data) if entry["id"] == after), None)
    if after is not None and start is None:
        raise bad("Invalid cursor", path="after")
    part = data[start or 0 :][:size]
    if not part:
        return {"data": []}
    return {"data": part, "paging": {"cursors": {"before": part[0]["id"], "after": part[-1]["id"]}}}


def custom_labels(context: Context) -> dict[str, Any]:
    context.need("pages_messaging")
    page = context.page
    if context.method == "GET":
        return paged(context, [_label(label, context) for label in page.labels.values()])
    name = required_text(context.params, "page_label_name", "")
    label_id = context.world.number("label")
    page.labels[label_id] = {"id": label_id, "page_label_name": name, "users": set()}
    return {"id": label_id}


def _label(label: dict[str, Any], context: Context) -> dict[str, Any]:
    values = {key: label[key] for key in ("page_label_name", "id")}
    return select(
        values, read_fields(str(context.params.get("fields") or "id")), "PageUserMessageThreadLabel"
    )


def label_node(context: Context) -> dict[str, Any]:
    if context.method == "DELETE":
        del context.page.labels[context.target]
        return {"success": True}
    if context.method == "POST":
        raise no_such_object(context.method, context.target)
    return _label(context.page.labels[context.target], context)


def label_users(context: Context) -> dict[str, Any]:
    """Answer ``POST`` and ``DELETE /{label}/label``."""
    users = context.page.labels[context.target]["users"]
    person = context.person(required(context.params, "user", ""))
    if context.method == "POST":
        users.add(person.id)
    else:
        users.discard(person.id)
    return {"success": True}


def labels_of(context: Context, person: Person) -> dict[str, Any]:
    labels = [label for label in context.page.labels.values() if person.id in label["users"]]
    return paged(context, [_label(label, context) for label in labels])


def subscribed_apps(context: Context) -> dict[str, Any]:
    context.need("pages_manage_metadata")
    page = context.page
    if context.method == "GET":
        if not page.subscribed_fields:
            return {"data": []}
        app = {
            "category": "Business",
            "link": "https://www.example.com/",
            "name": "The bot",
            "id": page.app_id,
            "subscribed_fields": sorted(page.subscribed_fields),
        }
        return {"data": [app]}
    if context.method == "DELETE":
        page.subscribed_fields = set()
        return {"success": True}
    fields = required(context.params, "subscribed_fields", "")
    names = fields if isinstance(fields, list) else [name.strip() for name in str(fields).split(",")]
    known = INSTAGRAM_FIELDS if page.is_instagram else FIELDS
    for number, name in enumerate(names):
        if name not in known:
            allowed = ", ".join(sorted(known))
            raise bad(f"Param subscribed_fields[{number}] must be one of {{{allowed}}} - got {name!r}.")
    page.subscribed_fields = set(names)
    page.failing_since = None
    return {"success": True}


_MIME_TYPES = {"image": "image/jpeg", "video": "video/mp4", "audio": "audio/mpeg", "file": "application/pdf"}
CONVERSATION_FIELDS = "id,updated_time"
"""Fields of a conversation without ``fields``. Meta's page shows them for the list only; the node is our choice."""


def conversations(context: Context) -> dict[str, Any]:
    """Answer ``GET /{page}/conversations``, with the newest messages if ``fields`` contains them.

    ``platform`` selects the channel. A list of the other channel is empty.
    """
    context.need("pages_messaging")
    context.need("pages_read_engagement")
    platform = one_of(
        context.params.get("platform") or context.page.channel, {"messenger", "instagram"}, "platform"
    )
    if platform != context.page.channel:
        return {"data": []}
    user_id = context.params.get("user_id")
    persons = [
        person
        for person in context.world.persons.values()
        if person.page is context.page and person.thread and user_id in {None, person.id}
    ]
    return paged(context, [_conversation(context, person) for person in persons])


def conversation_node(context: Context) -> dict[str, Any]:
    """Answer ``GET /{conversation}`` (Graph API, "Conversation", v24.0)."""
    context.need("pages_messaging")
    context.need("pages_read_engagement")
    person = context.world.persons.get(context.target.removeprefix("t_"))
    if person is None or person.page is not context.page or not person.thread:
        raise no_such_object(context.method, context.target)
    return _conversation(context, person)


def _conversation(context: Context, person: Person) -> dict[str, Any]:
    page = context.page
    wanted = read_fields(str(context.params.get("fields") or CONVERSATION_FIELDS))
    values: dict[str, Any] = dict.fromkeys(("folder", "is_owner", "name"))
    if page.is_instagram:
        values["participants"] = {
            "data": [
                {"id": page.account_id, "username": page.name},
                {"id": person.id, "username": person.username},
            ]
        }
    else:
        # The addresses are those of public reports: each id at facebook.com.
        values["participants"] = {
            "data": [
                {"name": one.name, "email": f"{one.id}@facebook.com", "id": one.id} for one in (person, page)
            ]
        }
    values |= {
        "id": f"t_{person.id}",
        "can_reply": not person.blocked,
        "is_subscribed": True,
        "link": f"/{page.id}/inbox/{person.id}/",
        "message_count": len(person.thread),
        "messages": _newest(context, person, wanted["messages"]) if "messages" in wanted else None,
        "scoped_thread_key": f"t_{person.id}",
        "senders": values["participants"],
        "snippet": person.thread[-1].text,
        "unread_count": 0,
        "updated_time": _moment(person.thread[-1].time),
    }
    inner = {name: Wanted() if name == "messages" else one for name, one in wanted.items()}
    return select(values, inner, "UnifiedThread")


def _newest(context: Context, person: Person, wanted: Wanted) -> dict[str, Any]:
    """Return the newest messages; the argument ``limit`` and the limit of readable messages bound their number."""
    asked = as_number(wanted.arguments.get("limit", PAGE_SIZE), "limit", least=1)
    most = min(asked, context.limits["conversation.messages"])
    names = wanted.inner or ("id", "created_time")
    return {"data": [_message(context, person, bubble, names) for bubble in person.thread[: -most - 1 : -1]]}


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def conversation_messages(context: Context) -> dict[str, Any]:
    person = context.person(context.target.removeprefix("t_"))
    newest = list(reversed(person.thread))
    data = [{"id": bubble.mid, "created_time": _moment(bubble.time)} for bubble in newest]
    return paged(context, data)


def message_node(context: Context, person: Person, bubble: Bubble) -> dict[str, Any]:
    """Answer ``GET /{message}``. Only the 20 newest messages of a conversation can be read."""
    if bubble not in person.thread[-context.limits["conversation.messages"] :]:
        raise Refusal(9000001, "This message has been deleted", numbered=False)
    return _message(
        context, person, bubble, str(context.params.get("fields") or "id,created_time").split(",")
    )


def _message(context: Context, person: Person, bubble: Bubble, fields: Collection[str]) -> dict[str, Any]:
    page = context.page
    here, there = {"name": page.name, "id": page.id}, {"name": person.name, "id": person.id}
    sender, receiver = (here, there) if bubble.by_page else (there, here)
    values: dict[str, Any] = {
        "created_time": _moment(bubble.time),
        "from": sender,
        "to": {"data": [receiver]},
        "message": bubble.text,
        "id": bubble.mid,
    }
    if bubble.kind not in {"text", "postback"}:
        mime_type = {"mime_type": _MIME_TYPES[bubble.kind]} if bubble.kind in _MIME_TYPES else {}
        values["attachments"] = {"data": [{"id": bubble.mid, "name": bubble.kind, **mime_type}]}
    return {key: value for key, value in values.items() if key in fields or key == "id"}


_METRICS = {
    "page_messages_total_messaging_connections",
    "page_messages_new_conversations_unique",
    "page_messages_blocked_conversations_unique",
    "page_messages_reported_conversations_unique",
}


def insights(context: Context) -> dict[str, Any]:
    """Answer ``GET /{page}/insights`` with the metrics that the emulator can count."""
    metric = required(context.params, "metric", "")
    names = metric if isinstance(metric, list) else str(metric).split(",")
    persons = [person for person in context.world.persons.values() if person.page is context.page]
    counts = {
        "page_messages_total_messaging_connections": sum(1 for person in persons if person.thread),
        "page_messages_new_conversations_unique": sum(1 for person in persons if person.thread),
        "page_messages_blocked_conversations_unique": sum(1 for person in persons if person.blocked),
    }
    data = []
    for name in names:
        if name not in _METRICS:
            raise bad("The value must be a valid insights metric", path="metric")
        value = {"value": counts.get(name, 0), "end_time": _moment(context.world.clock())}
        metric_id = f"{context.page.id}/insights/{name}/day"
        data.append({"name": name, "period": "day", "values": [value], "title": name, "id": metric_id})
    return {"data": data}


def message_templates(context: Context) -> dict[str, Any]:
    """Answer the calls about templates of utility messages. Each new template is approved at once."""
    context.need("page_utility_messaging")
    page, params = context.page, context.params
    if context.method == "POST":
        name = required_text(params, "name", "")
        language = required_text(params, "language", "")
        if str(params.get("category", "UTILITY")).upper() != "UTILITY":
            raise not_one_of("category", {"utility"})
        entry = context.world.add_template(page, name, language, components=params.get("components") or [])
        return {key: entry[key] for key in ("id", "status", "category")}
    criteria = {
        key: str(params[key]) for key in ("name", "language", "status", "category") if params.get(key)
    }
    if context.method == "DELETE":
        required(params, "name", "")
        criteria = {"name": criteria["name"]}
        if params.get("template_id"):
            criteria["id"] = str(params["template_id"])
    templates = {
        key: entry
        for key, entry in page.templates.items()
        if all(str(entry.get(name)) == value for name, value in criteria.items())
    }
    if context.method == "GET":
        return paged(context, list(templates.values()))
    if not templates:
        raise no_such_object("delete", str(params.get("template_id") or params["name"]))
    for key in templates:
        del page.templates[key]
    return {"success": True}
