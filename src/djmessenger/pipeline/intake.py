"""Bytes to rows: what a 200 promises, then the split into messagings."""

from __future__ import annotations

import datetime
import hashlib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import F, Q
from django.utils import timezone

from djmessenger import models, settings
from djmessenger.receiving import parsing
from djmessenger.receiving.events import Messaging

logger = logging.getLogger(__name__)

_PERSON_ID = re.compile(r"[0-9]{1,32}", re.ASCII)
_PAGE_ID = re.compile(r"[0-9]{1,32}", re.ASCII)
_SEEN_EVERY = datetime.timedelta(minutes=1)


def store(body: bytes, app_id: str = "") -> models.Callback:
    """Write a correctly signed body down and commit; the same bytes again give the row that is there.

    Raises ``DatabaseError`` when the database cannot take it; then it must not be answered 200.
    """
    digest = hashlib.sha256(body).hexdigest()
    try:
        with transaction.atomic():
            return models.Callback.objects.create(sha256=digest, body=body, app_id=app_id)
    except IntegrityError:
        models.Callback.objects.filter(sha256=digest).update(copies=F("copies") + 1)
        return models.Callback.objects.get(sha256=digest)


@dataclass(kw_only=True)
class Split:
    """What a split left to do: conversations with waiting events, and waiting events of nobody's."""

    conversations: list[int] = field(default_factory=list)
    loose: list[int] = field(default_factory=list)


def split(callback_id: int) -> Split:
    """Make one row of ``models.Messaging`` of each item of a stored callback; a second call makes none.

    An item that is no event, or that the database refuses, leaves the others alone and is kept in sight:
    as an ignored row where it can be one, else in the error of the callback, whose bytes stay.
    """
    with transaction.atomic():
        callback = models.Callback.objects.select_for_update().get(pk=callback_id)
        if callback.state != models.Callback.State.NEW:
            return Split()
        try:
            document = parsing.decode(bytes(callback.body))
        except ValueError as error:
            callback.state, callback.error = models.Callback.State.QUARANTINED, str(error)[:2000]
            callback.save(update_fields=["state", "error"])
            logger.warning(
                "A signed callback is no JSON; it is kept as callback %s",
                callback.pk,
                extra={"action": "callback_quarantined", "callback": callback.pk},
            )
            return Split()
        rows, errors = _rows(callback, list(parsing.split(document)))
        keys, refused = _insert(rows)
        errors += refused
        empty = not rows and not errors
        callback.state = models.Callback.State.QUARANTINED if empty else models.Callback.State.SPLIT
        callback.error = "No event in it" if empty else "\n".join(errors)[:10_000]
        callback.save(update_fields=["state", "error"])
        return _waiting(callback, keys)


def _rows(callback: models.Callback, items: list[parsing.Item]) -> tuple[list[models.Messaging], list[str]]:
    conversations = _conversations(item.messaging for item in items if item.messaging is not None)
    rows: list[models.Messaging] = []
    errors: list[str] = []
    for number, item in enumerate(items):
        try:
            rows.append(_row(callback, item, conversations))
        except Exception as error:
            # Whatever one item does to us, its neighbours are still to be answered.
            logger.exception(
                "Item %s of callback %s could not become a row",
                number,
                callback.pk,
                extra={"action": "item_refused", "callback": callback.pk, "item": number},
            )
            errors.append(f"item {number}: {type(error).__name__}: {error}")
    return rows, errors


def _row(
    callback: models.Callback, item: parsing.Item, conversations: dict[tuple[str, str], models.Conversation]
) -> models.Messaging:
    messaging = item.messaging
    if messaging is None:
        raw = item.raw if isinstance(item.raw, (dict, list)) else {"value": item.raw}
        return models.Messaging(
            type="UNKNOWN",
            body=raw,
            key=f"broken:{callback.sha256}:{_digest(raw)}",
            callback=callback,
            timestamp=_milliseconds(callback.date_received),
            state=models.Messaging.State.IGNORED,
            reason=f"not understood: {item.error}"[:255],
        )
    page_id, psid = messaging.get_page_id(), messaging.get_psid()
    conversation = conversations.get((page_id, psid))
    page = conversation.page if conversation else _pages([page_id]).get(page_id)
    row = models.Messaging(
        type=messaging.type.name,
        body=messaging.envelope(),
        key=messaging.key(),
        mid=messaging.mid[:255],
        callback=callback,
        page=page,
        conversation=conversation,
        is_standby=messaging.is_standby,
        timestamp=messaging.timestamp,
    )
    oldest = timezone.now() - settings.DJM_MAX_EVENT_AGE
    if messaging.timestamp < _milliseconds(oldest):
        row.state = models.Messaging.State.IGNORED
        row.reason = f"older than {settings.DJM_MAX_EVENT_AGE}"
    return row


def _conversations(messagings: Iterable[Messaging]) -> dict[tuple[str, str], models.Conversation]:
    """Give the conversation for each (page id, person id), made where it is new.

    All are made in sorted order, so that two callbacks with the same people never wait for each other.
    """
    wanted = sorted({(messaging.get_page_id(), messaging.get_psid()) for messaging in messagings})
    pages = _pages(sorted({page_id for page_id, _ in wanted}))
    pairs = [pair for pair in wanted if pair[0] in pages and _PERSON_ID.fullmatch(pair[1])]
    people = models.FBUserProfile.objects
    known = people.in_bulk([psid for _, psid in pairs])
    people.bulk_create(
        [
            models.FBUserProfile(psid=psid, page=pages[page_id])
            for page_id, psid in pairs
            if psid not in known
        ],
        ignore_conflicts=True,
    )
    found = _find_conversations(pairs)
    missing = [pair for pair in pairs if pair not in found]
    if missing:
        models.Conversation.objects.bulk_create(
            [models.Conversation(page=pages[page_id], person_id=psid) for page_id, psid in missing],
            ignore_conflicts=True,
        )
        found |= _find_conversations(missing)
    return found


def _find_conversations(pairs: list[tuple[str, str]]) -> dict[tuple[str, str], models.Conversation]:
    rows = models.Conversation.objects.filter(person_id__in=[psid for _, psid in pairs]).select_related(
        "page"
    )
    return {(row.page.page_id, row.person_id): row for row in rows}


def _pages(page_ids: Iterable[str]) -> dict[str, models.Page]:
    wanted = [page_id for page_id in page_ids if _PAGE_ID.fullmatch(page_id)]
    pages = models.Page.objects
    found = {page.page_id: page for page in pages.filter(page_id__in=wanted)}
    missing = [page_id for page_id in wanted if page_id not in found]
    if missing:
        pages.bulk_create([models.Page(page_id=page_id) for page_id in missing], ignore_conflicts=True)
        found |= {page.page_id: page for page in pages.filter(page_id__in=missing)}
    now = timezone.now()
    # One write a minute says as much as one a callback, and does not make all callbacks queue for one row.
    pages.filter(Q(date_last_callback=None) | Q(date_last_callback__lt=now - _SEEN_EVERY)).filter(
        page_id__in=wanted
    ).update(date_last_callback=now)
    return found


def _insert(rows: list[models.Messaging]) -> tuple[list[str], list[str]]:
    """Insert what is not there yet; give the keys that are there now, and what was refused."""
    keys = [row.key for row in rows if row.key]
    try:
        with transaction.atomic():
            models.Messaging.objects.bulk_create(rows, ignore_conflicts=True)
    except (DatabaseError, ValueError, OverflowError):
        return _insert_singly(rows)
    return keys, []


def _insert_singly(rows: list[models.Messaging]) -> tuple[list[str], list[str]]:
    keys: list[str] = []
    errors: list[str] = []
    for number, row in enumerate(rows):
        row.pk = None
        try:
            with transaction.atomic():
                models.Messaging.objects.bulk_create([row], ignore_conflicts=True)
        except (DatabaseError, ValueError, OverflowError) as error:
            logger.exception(
                "The database refused event %s of callback %s",
                number,
                row.callback_id,
                extra={"action": "event_refused", "callback": row.callback_id, "item": number},
            )
            errors.append(f"event {number}: {type(error).__name__}: {error}")
        else:
            keys.append(row.key or "")
    return keys, errors


def _waiting(callback: models.Callback, keys: list[str]) -> Split:
    waiting = (
        models.Messaging.objects.filter(key__in=keys, callback=callback, state=models.Messaging.State.NEW)
        .order_by("timestamp", "id")
        .values_list("id", "conversation_id")
    )
    todo = Split()
    for row_id, conversation_id in waiting:
        if conversation_id is None:
            todo.loose.append(row_id)
        elif conversation_id not in todo.conversations:
            todo.conversations.append(conversation_id)
    return todo


def _digest(raw: Any) -> str:
    return hashlib.sha256(repr(raw).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _milliseconds(moment: datetime.datetime) -> int:
    return int(moment.timestamp() * 1000)
