"""Node of the Page: personas, labels, subscriptions, stickers, conversations.

Messenger Platform, "Personas", "Custom labels", "Conversations", "Sticker API" (2026); Graph API, "Page
subscribed_apps" (v26.0).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection
from typing import Any

from messenger_emulator.endpoints.context import Context
from messenger_emulator.person import Person
from messenger_emulator.refusals import Refusal, bad, no_such_object, not_one_of
from messenger_emulator.state import FIELDS, INSTAGRAM_FIELDS, Bubble
from messenger_emulator.validation import as_number, as_url, required, required_text


def page_node(context: Context) -> dict[str, Any]:
    """Answer ``GET /{page}``."""
    page = context.page
    if page.has_instagram_login:
        return _instagram_account(context)
    values = {
        "id": page.id,
        "name": page.name,
        "messaging_feature_status": {"hop_v2": True, "msgr_multi_app": True, "ig_multi_app": False},
    }
    if page.is_instagram:
        values["instagram_business_account"] = {"id": page.account_id}
    fields = context.params.get("fields")
    names = [name.strip() for name in str(fields).split(",") if name.strip()] if fields else ["name", "id"]
    for name in names:
        if name not in values and name != "instagram_business_account":
            raise bad(f"Tried accessing nonexisting field ({name}) on node type (Page)")
    return {**{name: values[name] for name in names if name in values}, "id": page.id}


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
    fields = context.params.get("fields")
    names = [name.strip() for name in str(fields).split(",") if name.strip()] if fields else ["id"]
    for name in names:
        if name not in values:
            raise bad(f"Tried accessing nonexisting field ({name}) on node type (IGUser)")
    return {**{name: values[name] for name in names}, "id": page.id}


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
    wanted = str(context.params.get("fields") or "id").split(",")
    return {key: label[key] for key in ("page_label_name", "id") if key == "id" or key in wanted}


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
_MESSAGES = re.compile(r"messages(?:\.limit\((\d{1,3})\))?\{([a-z_,]+)\}", re.ASCII)
"""The field ``messages`` of conversations: their number, and their own fields."""


def conversations(context: Context) -> dict[str, Any]:
    """Answer ``GET /{page}/conversations``, with the newest messages if ``fields`` contains them."""
    context.need("pages_messaging")
    context.need("pages_read_engagement")
    persons = [person for person in context.world.persons.values() if person.page is context.page]
    user_id = context.params.get("user_id")
    field = _MESSAGES.search(str(context.params.get("fields") or ""))
    data: list[dict[str, Any]] = []
    for person in persons:
        if not person.thread or user_id not in {None, person.id}:
            continue
        entry: dict[str, Any] = {"id": f"t_{person.id}", "updated_time": _moment(person.thread[-1].time)}
        if field is not None:
            most = min(int(field[1] or 25), context.limits["conversation.messages"])
            names = field[2].split(",")
            newest = [_message(context, person, bubble, names) for bubble in person.thread[: -most - 1 : -1]]
            entry["messages"] = {"data": newest}
        data.append(entry)
    return paged(context, data)


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
