"""Details of a message for the side panel: callback, outcome, Graph calls, rows and times."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterable
from typing import Any

from django.urls import NoReverseMatch, reverse

from djmessenger import models
from djmessenger.admin.outcome import Node, as_tree
from djmessenger.bot.pages import app_secrets
from djmessenger.receiving.decoding import cleaned
from djmessenger.simulator.identity import is_simulated_id, without_signatures
from djmessenger.simulator.session import Session, digest, mid_of
from messenger_emulator.calls import LoggedCall
from messenger_emulator.webhook import Delivery

_AUTHORED = ("message", "postback", "referral", "optin", "reaction")
_MOST = 40


def of_message(session: Session, person_id: str, mid: str, *, sees_all: bool) -> dict[str, Any]:
    """Return the details of a message. For a message of the Page, include those of the event that it answers.

    Rows of persons who are not simulated are included only if the visitor ``sees_all``.
    """
    mid = cleaned(mid)
    reply = models.Reply.objects.filter(mid=mid).select_related("messaging__callback").first()
    event = _shown(reply.messaging if reply is not None else _event(mid), sees_all=sees_all)
    body = bytes(event.callback.body) if event is not None and event.callback is not None else None
    deliveries = [one for one in session.emulator.deliveries if _contains(one, body, mid)]
    return _details(session, person_id, mid, event, deliveries)


def of_delivery(session: Session, number: int, *, sees_all: bool) -> dict[str, Any]:
    """Return the details of one POST to the bot; ``number`` counts from the oldest stored one.

    Rows are included as in ``of_message``.
    """
    delivery = session.emulator.deliveries[number]
    callback = models.Callback.objects.filter(sha256__in=_digests(delivery.body)).first()
    event = callback.messagings.order_by("id").first() if callback is not None else None
    event = _shown(event, sees_all=sees_all)
    person = next((one for item in delivery.items for one in _persons(item)), "")
    details = _details(session, person, "", event, [delivery])
    if callback is not None:
        details["callback_state"] = {"state": callback.get_state_display(), "error": callback.error}
    return details


def traffic(session: Session) -> list[dict[str, Any]]:
    """Return the newest callbacks and Graph calls in one list, newest first."""
    lines: list[dict[str, Any]] = []
    for number, delivery in enumerate(session.emulator.deliveries):
        fields = ", ".join(sorted({_item_kind(item) for item in delivery.items if item})) or "raw"
        lines.append(
            {
                "time": delivery.time,
                "way": "callback",
                "number": number,
                "what": fields,
                "status": delivery.status,
                "ok": delivery.accepted,
                "note": delivery.error or (f"try {delivery.attempt}" if delivery.attempt > 1 else ""),
            }
        )
    for number, call in enumerate(session.emulator.calls):
        error = call.error
        lines.append(
            {
                "time": call.time,
                "way": "call",
                "number": number,
                "what": f"{call.method} {call.path}",
                "status": call.status or None,
                "ok": call.status == 200,
                "note": call.fault or (str(error.get("message", "")) if error else ""),
            }
        )
    return sorted(lines, key=lambda line: line["time"], reverse=True)[:150]


def of_call(session: Session, number: int) -> dict[str, Any]:
    """Return the details of one Graph call; ``number`` counts from the oldest stored one."""
    return {"calls": [_call(session.emulator.calls[number], is_this=True)]}


def _details(
    session: Session, person_id: str, mid: str, event: models.Messaging | None, deliveries: list[Delivery]
) -> dict[str, Any]:
    replies = list(event.replies.prefetch_related("attempts").order_by("id")[:_MOST]) if event else []
    calls = _calls(session, person_id, mid, deliveries, replies)
    details: dict[str, Any] = {
        "mid": mid,
        "deliveries": [_delivery(session, one) for one in deliveries[-5:]],
        "calls": [_call(one, is_this=bool(mid) and _message_id_of(one) == mid) for one in calls[:_MOST]],
        "rows": _rows(event, replies),
        "times": _times(session, event, replies, deliveries),
        "event": None,
    }
    if event is not None:
        tree = as_tree(event.outcome)
        details["event"] = {
            "type": event.type,
            "state": event.get_state_display(),
            "reason": event.reason,
            "error": event.error[-4000:],
            "summary": tree.summary,
            "nodes": [_node(node) for node in tree.nodes],
            "notes": tree.notes,
            "suggestion": tree.suggestion,
            "troubles": [_trouble(reply) for reply in replies if reply.error],
        }
    return details


def _digests(body: bytes) -> list[str]:
    """Return each hash that the callback of a body can have: of the body alone, or with the id of an app."""
    return [digest(body), *(digest(f"{app_id}\n".encode() + body) for app_id in app_secrets() if app_id)]


def _event(mid: str) -> models.Messaging | None:
    events = models.Messaging.objects.filter(mid=mid).exclude(type="ECHO").select_related("callback")
    return events.order_by("id").first()


def _shown(event: models.Messaging | None, *, sees_all: bool) -> models.Messaging | None:
    """Return the event if the visitor may see its rows, otherwise None."""
    if event is None or sees_all:
        return event
    conversation = event.conversation
    return event if conversation is not None and is_simulated_id(conversation.person_id) else None


def _contains(delivery: Delivery, body: bytes | None, mid: str) -> bool:
    if body is not None:
        return delivery.body == body
    return any(mid_of(item) == mid for item in delivery.items)


def _persons(item: Any) -> Iterable[str]:
    for side in ("sender", "recipient"):
        part = item.get(side) if isinstance(item, dict) else None
        if isinstance(part, dict) and is_simulated_id(str(part.get("id", ""))):
            yield str(part["id"])


def _item_kind(item: Any) -> str:
    if not isinstance(item, dict):
        return "?"
    if (item.get("message") or {}).get("is_echo"):
        return "echo"
    common = {"sender", "recipient", "timestamp", "field", "value"}
    return str(item.get("field") or next((key for key in item if key not in common), "?"))


def _calls(
    session: Session, person_id: str, mid: str, deliveries: list[Delivery], replies: list[models.Reply]
) -> list[LoggedCall]:
    tokens = {attempt.token for reply in replies for attempt in reply.attempts.all()}
    begin = deliveries[0].time if deliveries else None
    later = [
        one.time
        for one in session.emulator.deliveries
        if begin is not None
        and one.time > begin
        and any(
            any(key in item for key in _AUTHORED)
            and not (item.get("message") or {}).get("is_echo")
            and person_id in _persons(item)
            for item in one.items
        )
    ]
    end = min(later, default=float("inf"))
    calls = []
    for call in session.emulator.calls:
        message = call.body.get("message")
        metadata = str(message.get("metadata") or "") if isinstance(message, dict) else ""
        is_reply = any(token and token in metadata for token in tokens) or bool(
            mid and _message_id_of(call) == mid
        )
        is_near = begin is not None and begin <= call.time < end
        if is_reply or (is_near and not metadata and _names_person(call, person_id)):
            calls.append(call)
    return calls


def _names_person(call: LoggedCall, person_id: str) -> bool:
    recipient = call.body.get("recipient")
    named = recipient.get("id") if isinstance(recipient, dict) else ""
    return bool(person_id) and (person_id in call.path or named == person_id)


def _message_id_of(call: LoggedCall) -> str:
    return str(call.answer.get("message_id", "")) if isinstance(call.answer, dict) else ""


def _delivery(session: Session, delivery: Delivery) -> dict[str, Any]:
    text = delivery.body.decode("utf-8", "replace")
    shown = without_signatures(delivery.headers) if session.has_real_secret else delivery.headers
    try:
        pretty = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        pretty = text
    headers = " ".join(f"-H {shlex.quote(f'{name}: {value}')}" for name, value in sorted(shown.items()))
    return {
        "time": delivery.time,
        "body": pretty,
        "headers": shown,
        "attempt": delivery.attempt,
        "status": delivery.status,
        "error": delivery.error,
        "curl": f"curl -X POST {shlex.quote(session.callback_url)} {headers} --data-binary {shlex.quote(text)}",
    }


def _call(call: LoggedCall, *, is_this: bool) -> dict[str, Any]:
    body = json.dumps(call.body, indent=2, ensure_ascii=False, default=str)
    url = f"https://graph.facebook.com{call.path}"
    data = "" if call.method == "GET" else f" -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    return {
        "method": call.method,
        "path": call.path,
        "body": body,
        "status": call.status,
        "answer": json.dumps(call.answer, indent=2, ensure_ascii=False, default=str),
        "headers": call.headers,
        "fault": call.fault,
        "warnings": call.warnings,
        "error": _in_words(call.error),
        "is_this": is_this,
        "curl": f'curl -X {call.method} {url} -H "Authorization: Bearer $DJM_PAGE_ACCESS_TOKEN"{data}',
    }


def _in_words(error: dict[str, Any] | None) -> str:
    if error is None:
        return ""
    numbers = "/".join(str(error[key]) for key in ("code", "error_subcode") if error.get(key))
    return f"{error.get('message', '')} ({numbers})"


def _node(node: Node) -> dict[str, Any]:
    return {
        **{key: value for key, value in dataclasses.asdict(node).items() if key != "children"},
        "sign": node.sign,
        "children": [_node(child) for child in node.children],
    }


def _rows(event: models.Messaging | None, replies: list[models.Reply]) -> list[dict[str, str]]:
    if event is None:
        return []
    rows: list[dict[str, str]] = []
    if event.callback is not None:
        callback = event.callback
        copies = f", {callback.copies} copies" if callback.copies > 1 else ""
        rows.append(_row(callback, f"{callback.get_state_display()}{copies}"))
    rows.append(_row(event, f"{event.type}, {event.get_state_display()}"))
    for reply in replies:
        rows.append(_row(reply, f"{reply.type}, {reply.get_state_display()}", reply.error))
        rows += [
            _row(attempt, f"try {attempt.number}: {attempt.get_outcome_display()}")
            for attempt in reply.attempts.all()
        ]
    if event.conversation is not None:
        state = json.dumps(event.conversation.state, ensure_ascii=False)
        rows.append(_row(event.conversation, f"state {state[:200]}"))
        rows.append(_row(event.conversation.person, str(event.conversation.person)))
    return rows


def _trouble(reply: models.Reply) -> str:
    return f"Reply {reply.pk} is {reply.get_state_display()}: {reply.error.strip().splitlines()[-1][:400]}"


def _row(row: Any, says: str, note: str = "") -> dict[str, str]:
    meta = row._meta
    try:
        url = reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])
    except NoReverseMatch:
        url = ""
    name = f"{meta.verbose_name} {row.pk}"
    return {"name": name[:60], "says": says, "note": note.splitlines()[-1][:300] if note else "", "url": url}


def _times(
    session: Session,
    event: models.Messaging | None,
    replies: list[models.Reply],
    deliveries: list[Delivery],
) -> list[dict[str, Any]]:
    posted = next(
        (session.posted[key] for one in deliveries if (key := digest(one.body)) in session.posted), None
    )
    if posted is None:
        return []
    times = [_time("callback posted", 0.0), _time("answered 200 to Meta", posted.took)]
    if event is not None:
        if event.callback is not None:
            times.append(_time("callback stored", event.callback.date_received.timestamp() - posted.at))
        times.append(_time("split into events", event.date_received.timestamp() - posted.at))
        if event.date_handled is not None:
            times.append(_time("rules applied, committed", event.date_handled.timestamp() - posted.at))
    for reply in replies:
        for attempt in reply.attempts.all():
            if attempt.date_ended is not None:
                at = attempt.date_ended.timestamp() - posted.at
                took = (attempt.date_ended - attempt.date_started).total_seconds()
                times.append(_time(f"reply {reply.pk} sent (call of {took * 1000:.0f} ms)", at))
    return sorted(times, key=lambda one: one["at"])


def _time(what: str, seconds: float) -> dict[str, Any]:
    return {"what": what, "at": round(max(0.0, seconds) * 1000, 1)}
