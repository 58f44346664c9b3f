"""Bytes to rows: what a 200 promises, then the split into messagings."""

from __future__ import annotations

import datetime
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import Count, F, OuterRef, QuerySet, Subquery, TextField
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from djmessenger import models, receiving
from djmessenger.logs import hidden
from djmessenger.pipeline.erased_keys import erased_among
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.pipeline.send_tokens import split_token
from djmessenger.receiving import Item, ReceivingType, decode
from djmessenger.receiving import split as split_document
from djmessenger.settings import app_settings
from djmessenger.sql import Among, Prepared, Several, insert_each, update_each

logger = logging.getLogger(__name__)

_PERSON_ID = re.compile(r"[0-9]{1,32}", re.ASCII)
_PAGE_ID = re.compile(r"[0-9]{1,32}", re.ASCII)
_LONGEST_ERROR = 4000
_ROW_ERRORS = (DataError, IntegrityError, ValueError, OverflowError)
"""What a row may be refused with; all else is no row's fault, and passes."""
_PAGE_WRITE_INTERVAL = datetime.timedelta(minutes=1)


def store(body: bytes, app_id: str = "") -> int:
    """Write a correctly signed body down, commit, and give its row's key; the same bytes again give the one there.

    Two apps of one Page may post the same bytes: what one of them signed does not stand for the other's.

    Raises ``DatabaseError`` when the database cannot take it; then it must not be answered 200.
    """
    failpoint("intake_body_read")
    digest = hashlib.sha256(f"{app_id}\n".encode() + body if app_id else body).hexdigest()
    callback_id = models.Callback.objects.put(body, digest, app_id)
    failpoint("intake_stored")
    return callback_id


@dataclass(kw_only=True)
class Split:
    """What a split did, and left to do: conversations whose queues it woke, and waiting events of nobody's."""

    conversations: list[int] = field(default_factory=list)
    leases: list[models.Lease] = field(default_factory=list)
    """Queues it took for its caller, instead of waking them."""
    next_rows: dict[int, models.Messaging] = field(default_factory=dict)
    """The first waiting event of each such queue, by the queue's key, unless it is to be read anew."""
    events_without_conversation: list[int] = field(default_factory=list)
    callbacks: int = 0
    """How many were split or set aside; false stands for none."""
    more: bool = False
    """Whether more of them waited than were taken."""

    def add(self, other: Split) -> None:
        self.conversations += other.conversations
        self.leases += other.leases
        self.next_rows |= other.next_rows
        self.events_without_conversation += other.events_without_conversation
        self.callbacks += other.callbacks
        self.more |= other.more

    def __bool__(self) -> bool:
        return self.callbacks > 0


def split(callback_id: int) -> Split:
    """Make one row of ``models.Messaging`` of each item of a stored callback; a second call makes none.

    An item that is no event, or that the database refuses, leaves the others alone and is kept in sight:
    as an ignored row where it can be one, else in the error of the callback, whose bytes stay. One that
    another process is splitting is left to it.
    """
    return split_many([callback_id])


def split_many(callback_ids: Sequence[int], take: int = 0) -> Split:
    """Split several callbacks in one transaction: all of them, or, when an exception propagates, none.

    Of the queues that get work, up to ``take`` that are idle are claimed for the caller, from now on.
    """
    try:
        return _split_many(callback_ids, _insert, take)
    except _ROW_ERRORS:
        # Where the database refuses a row, its neighbours are still to be answered.
        return _split_many(callback_ids, _insert_singly, 0)


def _split_many(
    callback_ids: Sequence[int],
    insert: Callable[[list[models.Messaging]], list[tuple[int, str]]],
    take: int,
) -> Split:
    with transaction.atomic():
        callbacks = _CALLBACKS(callbacks=callback_ids)
        # Which Pages an app may speak of is its own; what others signed waits for the next call.
        callbacks = [callback for callback in callbacks if callback.app_id == callbacks[0].app_id]
        parsed = [(callback, _items(callback)) for callback in callbacks]
        understood = [(callback, items) for callback, items in parsed if items is not None]
        if not understood:
            return Split(callbacks=len(callbacks))
        all_items = [item for _, items in understood for item in items]
        known_rows = _known_rows(all_items)
        if erased := _erased(all_items, known_rows.people):
            understood = [
                (callback, _without_erased(callback, items, erased)) for callback, items in understood
            ]
        participants = _participants(
            understood[0][0],
            [item.messaging for _, items in understood for item in items if item.messaging is not None],
            known_rows,
        )
        rows: list[models.Messaging] = []
        errors: dict[int, list[str]] = {}
        for callback, items in understood:
            callback_rows, errors[callback.pk] = _rows(callback, items, participants)
            rows += callback_rows
        # No queue is locked for what is nobody's: there the order keeps two inserts from waiting for each other.
        rows.sort(key=lambda row: "" if row.conversation_id else row.key or "")
        # Whoever has an event of the same people waits here, so that no two inserts wait for each other.
        models.ConversationQueue.objects.lock(
            participants.conversation_ids(), models.ConversationQueue.Kind.IN
        )
        leases = _claim_idle_queues(rows, take)
        _drop_over_limit(rows, leases)
        for callback_id, error in insert(rows):
            errors[callback_id].append(error)
        failpoint("intake_splitting")
        _mark_split(errors)
        # Where one came twice in here, its first row is the one that is there.
        inserted = list({row.pk: row for row in reversed(rows) if row.pk is not None}.values())[::-1]
        _note_activity(inserted, participants)
        todo = _wake_queues(inserted, leases)
        for row in inserted:
            if row.state == models.Messaging.State.IGNORED:
                _log_ignored(row)
        todo.callbacks = len(callbacks)
        return todo


def _callbacks() -> QuerySet[models.Callback]:
    """Those of ``callbacks`` that are to be split and that nobody is splitting; locked, where rows can be."""
    waiting = models.Callback.objects.filter(
        Among("pk", Several("callbacks")), state=models.Callback.State.NEW
    ).order_by("pk")
    can = connection.features.has_select_for_update_skip_locked
    return waiting.select_for_update(skip_locked=True) if can else waiting


_CALLBACKS = Prepared(models.Callback, _callbacks)


def _conversations() -> QuerySet[models.Conversation]:
    """Those of ``persons``, with the number of claims of their incoming queue where nobody holds it now."""
    idle_queues = models.ConversationQueue.objects.filter(
        conversation=OuterRef("pk"), kind=models.ConversationQueue.Kind.IN, leased_until=None
    )
    conversations = models.Conversation.objects.filter(Among("person", Several("persons", TextField())))
    return conversations.select_related("page", "person").annotate(
        idle_fencing_token=Subquery(idle_queues.values("fencing_token"))
    )


_CONVERSATIONS = Prepared(models.Conversation, _conversations)
_PAGES = Prepared(
    models.Page,
    lambda: models.Page.objects.filter(Among("page_id", Several("pages", TextField()))),
)
_WAITING = Prepared(
    models.Messaging,
    lambda: (
        models.Messaging.objects.filter(
            Among("conversation", Several("conversations")), state=models.Messaging.State.NEW
        )
        .values_list("conversation")
        .annotate(Count("id"))
    ),
)


def _items(callback: models.Callback) -> list[Item] | None:
    """Read a callback; None when there is nothing in it, and it is set aside."""
    try:
        items = list(split_document(decode(bytes(callback.body))))
    except ValueError as error:
        _quarantine(callback, f"no JSON: {error}")
        return None
    if all(item.messaging is None for item in items):
        _quarantine(callback, "; ".join(item.error for item in items) or "no event in it")
        return None
    return items


def _without_erased(callback: models.Callback, items: list[Item], erased: Collection[str]) -> list[Item]:
    """Give the items whose persons were not erased; where one was, the bytes of all go too."""
    remaining = [item for item in items if item.messaging is None or item.messaging.key() not in erased]
    if len(remaining) < len(items):
        models.Callback.objects.filter(pk=callback.pk).update(body=b"")
    return remaining


def _mark_split(errors: Mapping[int, list[str]]) -> None:
    """Write down what could not be split of each callback, mostly nothing."""
    state = models.Callback.State.SPLIT
    texts = {pk: "\n".join(messages).replace("\0", "")[:_LONGEST_ERROR] for pk, messages in errors.items()}
    rows = [(pk, state, text) for pk, text in texts.items()]
    update_each(models.Callback, ["state", "error"], rows)


def quarantine(callback_id: int, error: str) -> None:
    """Set a callback aside whose split breaks: its bytes stay, and a later version may understand them."""
    with transaction.atomic():
        waiting = models.Callback.objects.select_for_update()
        callback = waiting.filter(pk=callback_id, state=models.Callback.State.NEW).first()
        if callback is not None:
            _quarantine(callback, error)


def _quarantine(callback: models.Callback, error: str) -> None:
    callback.state = models.Callback.State.QUARANTINED
    callback.error = error.replace("\0", "")[:_LONGEST_ERROR]
    callback.save(update_fields=["state", "error"])
    logger.warning(
        "Nothing in signed callback %s is understood; it is kept",
        callback.pk,
        extra={"action": "callback_quarantined", "callback": callback.pk},
    )


@dataclass(kw_only=True)
class _Participants:
    """The Pages and conversations of a callback, by their ids at Meta."""

    pages: dict[str, models.Page]
    foreign_pages: frozenset[str]
    """Page ids for which the app that signed this callback has no say."""
    conversations: dict[tuple[str, str], models.Conversation]

    def conversation_ids(self) -> list[int]:
        return [conversation.pk for conversation in self.conversations.values()]


def _rows(
    callback: models.Callback, items: list[Item], participants: _Participants
) -> tuple[list[models.Messaging], list[str]]:
    rows: list[models.Messaging] = []
    errors: list[str] = []
    for number, item in enumerate(items):
        try:
            row = _row(callback, item, participants)
            if item.messaging is not None and item.messaging.get_page_id() in participants.foreign_pages:
                _ignore_foreign(callback, row)
            rows.append(row)
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


def _is_of_another_app(callback: models.Callback, page: models.Page) -> bool:
    """Whether one app's secret signed what only another may say; false where either is not known."""
    is_signer_known = callback.app_id and not callback.app_id.startswith("#")
    return bool(is_signer_known and page.get_app_id() and page.get_app_id() != callback.app_id)


def _ignore_foreign(callback: models.Callback, row: models.Messaging) -> None:
    """Keep an event of a foreign signature in sight; it proves nothing and takes no other event's key."""
    row.state = models.Messaging.State.IGNORED
    row.reason = f"the signature is of another app ({callback.app_id}) than the Page's"[:255]
    row.key = f"foreign:{_digest((callback.app_id, row.key))}"
    row.echo_token = None
    logger.warning(
        "An event of page %s is ignored: the signature is of another app",
        row.page_id,
        extra={"action": "foreign_signature", "callback": callback.pk, "page": row.page_id},
    )


def _row(callback: models.Callback, item: Item, participants: _Participants) -> models.Messaging:
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
    conversation = participants.conversations.get((page_id, psid))
    page = participants.pages.get(page_id)
    row = models.Messaging(
        type=messaging.type.name,
        body=messaging.envelope(),
        key=messaging.key(),
        mid=messaging.mid[:255],
        echo_token=_echo_token(messaging, page),
        callback=callback,
        page=page,
        conversation=conversation,
        is_standby=messaging.is_standby,
        timestamp=messaging.timestamp,
    )
    oldest = timezone.now() - app_settings.DJM_MAX_EVENT_AGE
    if messaging.timestamp < _milliseconds(oldest):
        row.state = models.Messaging.State.IGNORED
        row.reason = f"older than {app_settings.DJM_MAX_EVENT_AGE}"
    return row


@dataclass(frozen=True, kw_only=True)
class _KnownRows:
    """Who is known already of those that a batch is about, by their ids at Meta."""

    people: dict[str, models.FBUserProfile]
    conversations: list[models.Conversation]


def _known_rows(items: Iterable[Item]) -> _KnownRows:
    psids = {item.messaging.get_psid() for item in items if item.messaging is not None}
    psids = {psid for psid in psids if _PERSON_ID.fullmatch(psid)}
    conversations = _CONVERSATIONS(persons=psids)
    people = {row.person_id: row.person for row in conversations}
    if strangers := psids - people.keys():
        people |= models.FBUserProfile.objects.in_bulk(strangers)
    return _KnownRows(people=people, conversations=conversations)


def _erased(items: Iterable[Item], people: Mapping[str, models.FBUserProfile]) -> Collection[str]:
    """Give the keys of events whose person was erased after them; they leave no trace, nor do the bytes.

    Only what is older than its person can be one, so that a person who is known costs no query.
    """
    suspects = set()
    for item in items:
        if item.messaging is not None:
            person = people.get(item.messaging.get_psid())
            if person is None or item.messaging.timestamp <= _milliseconds(person.date_joined):
                suspects.add(item.messaging.key())
    return erased_among(suspects)


def _participants(
    callback: models.Callback, messagings: Sequence[receiving.Messaging], known_rows: _KnownRows
) -> _Participants:
    """Give the Page for each page id and the conversation for each (page id, person id), made where it is new.

    Where another app signed, no conversation is looked for: what it says is nobody's.

    All are made in sorted order, so that two callbacks with the same people never wait for each other.
    """
    id_pairs = sorted({(messaging.get_page_id(), messaging.get_psid()) for messaging in messagings})
    channels = {messaging.get_page_id(): messaging.channel for messaging in messagings}
    pages = _pages(channels, {row.page.page_id: row.page for row in known_rows.conversations})
    foreign_pages = {page_id for page_id, page in pages.items() if _is_of_another_app(callback, page)}
    own_page_ids = pages.keys() - foreign_pages
    pairs = [pair for pair in id_pairs if pair[0] in own_page_ids and _PERSON_ID.fullmatch(pair[1])]
    conversations = _conversations_by_ids(known_rows.conversations, pairs, pages)
    missing = [pair for pair in pairs if pair not in conversations]
    if missing:
        new_people = [(page_id, psid) for page_id, psid in missing if psid not in known_rows.people]
        models.FBUserProfile.objects.bulk_create(
            [models.FBUserProfile(psid=psid, page=pages[page_id]) for page_id, psid in new_people],
            ignore_conflicts=True,
        )
        models.Conversation.objects.bulk_create(
            [models.Conversation(page=pages[page_id], person_id=psid) for page_id, psid in missing],
            ignore_conflicts=True,
        )
        new_conversations = _conversations_by_ids(
            _CONVERSATIONS(persons=[psid for _, psid in missing]), missing, pages
        )
        models.ConversationQueue.objects.ensure(
            conversation.pk for conversation in new_conversations.values()
        )
        conversations |= new_conversations
    return _Participants(pages=pages, foreign_pages=frozenset(foreign_pages), conversations=conversations)


def _conversations_by_ids(
    conversations: Iterable[models.Conversation],
    pairs: Iterable[tuple[str, str]],
    pages: Mapping[str, models.Page],
) -> dict[tuple[str, str], models.Conversation]:
    """Give the conversation of each (page id, person id) that has one."""
    rows = {(row.page_id, row.person_id): row for row in conversations}
    keys = {pair: (pages[pair[0]].pk, pair[1]) for pair in pairs}
    return {pair: rows[key] for pair, key in keys.items() if key in rows}


def _pages(channels: Mapping[str, str], known_pages: Mapping[str, models.Page]) -> dict[str, models.Page]:
    """Give the row of each Page by its id; a new one learns its channel from the callback."""
    page_ids = sorted(page_id for page_id in channels if _PAGE_ID.fullmatch(page_id))
    pages = {page_id: known_pages[page_id] for page_id in page_ids if page_id in known_pages}
    if len(pages) < len(page_ids):
        pages |= {page.page_id: page for page in _PAGES(pages=page_ids)}
    missing = [page_id for page_id in page_ids if page_id not in pages]
    if missing:
        models.Page.objects.bulk_create(
            [models.Page(page_id=page_id, channel=channels[page_id]) for page_id in missing],
            ignore_conflicts=True,
        )
        pages |= {page.page_id: page for page in _PAGES(pages=missing)}
    return pages


def _drop_over_limit(rows: Sequence[models.Messaging], idle: Collection[int]) -> None:
    """Ignore what comes on top of a full inbox: one who floods is answered slowly, and nobody else is.

    Nothing waits in the inbox of ``idle`` conversations.
    """
    limit = app_settings.DJM_MAX_PENDING
    fresh = [row for row in rows if row.conversation_id and row.state == models.Messaging.State.NEW]
    waiting: Counter[int | None] = Counter()
    if busy := {row.conversation_id for row in fresh} - set(idle):
        waiting.update(dict(_WAITING.rows(conversations=busy)))
    for row in fresh:
        waiting[row.conversation_id] += 1
        if waiting[row.conversation_id] > limit:
            row.state = models.Messaging.State.IGNORED
            row.reason = f"over {limit} events of the conversation are waiting"


def _insert(rows: list[models.Messaging]) -> list[tuple[int, str]]:
    """Insert what is not there yet; give what was refused, by callback: nothing."""
    insert_each(rows, "key", unless_there=True)
    return []


def _insert_singly(rows: list[models.Messaging]) -> list[tuple[int, str]]:
    errors: list[tuple[int, str]] = []
    for number, row in enumerate(rows):
        try:
            with transaction.atomic():
                insert_each([row], "key", unless_there=True)
        except _ROW_ERRORS as error:
            logger.exception(
                "The database refused event %s of callback %s",
                number,
                row.callback_id,
                extra={"action": "event_refused", "callback": row.callback_id, "item": number},
            )
            errors.append((row.callback_id or 0, f"event {number}: {type(error).__name__}: {error}"))
    return errors


def _log_ignored(row: models.Messaging) -> None:
    # What could not be understood is quoted in the row, and stays there.
    reason = "not understood" if row.reason.startswith("not understood") else row.reason
    logger.info(
        "An event is ignored: %s",
        reason,
        extra={
            "action": "event_ignored",
            "type": row.type,
            "reason": reason,
            "callback": row.callback_id,
            "page": hidden(row.page.page_id if row.page else ""),
            "person": hidden(row.conversation.person_id if row.conversation else ""),
        },
    )


def _claim_idle_queues(rows: Iterable[models.Messaging], limit: int) -> dict[int, models.Lease]:
    """Claim up to ``limit`` idle queues of locked ones that are to get a row; give the leases by conversation."""
    fresh = (row.conversation_id for row in rows if row.state == models.Messaging.State.NEW)
    conversation_ids = [pk for pk in dict.fromkeys(fresh) if pk is not None][:limit]
    if not conversation_ids:
        return {}
    leases = models.Messaging.objects.claim_idle(conversation_ids, app_settings.DJM_LEASE)
    return {lease.conversation_id: lease for lease in leases}


def _wake_queues(inserted: Iterable[models.Messaging], leases: Mapping[int, models.Lease]) -> Split:
    """Wake the queues of what is new, but for those that were taken; give what waits."""
    waiting = [row for row in inserted if row.state == models.Messaging.State.NEW]
    waiting.sort(key=lambda row: (row.timestamp, row.pk))
    todo = Split(events_without_conversation=[row.pk for row in waiting if row.conversation_id is None])
    firsts: dict[int, models.Messaging] = {}
    for row in waiting:
        if row.conversation_id is not None:
            firsts.setdefault(row.conversation_id, row)
    todo.conversations = [pk for pk in firsts if pk not in leases]
    models.ConversationQueue.objects.wake_locked(todo.conversations, models.ConversationQueue.Kind.IN)
    for conversation_id, lease in leases.items():
        if conversation_id in firsts:
            todo.leases.append(lease)
            next_row = firsts[conversation_id]
            if _is_as_read_now(next_row, lease):
                # Each event has its Page to itself, and does not keep the bytes of its callback in memory.
                next_row.page = next_row.conversation.page if next_row.conversation else None
                next_row._state.fields_cache.pop("callback", None)
                todo.next_rows[lease.queue_id] = next_row
    # Of some all that came was there already.
    unneeded = [lease.queue_id for lease in leases.values() if lease.conversation_id not in firsts]
    models.Messaging.objects.release(unneeded)
    return todo


def _is_as_read_now(row: models.Messaging, lease: models.Lease) -> bool:
    """Whether a row is as one read under its lease would be: since its conversation was read, nobody had the queue."""
    conversation: Any = row.conversation
    return bool(conversation.idle_fencing_token == lease.fencing_token - 1)


def _note_activity(rows: list[models.Messaging], participants: _Participants) -> None:
    """Note when persons last wrote, which opens Meta's window, and that callbacks and echoes reach us.

    A repeat says nothing about either: Meta may send it hours later.
    """
    newest: dict[int, datetime.datetime] = {}
    lags: dict[int, float] = {}
    for row in rows:
        if row.conversation_id is None:
            continue
        if ReceivingType.value_of(row.type).authored and not row.is_standby:
            newest[row.conversation_id] = max(newest.get(row.conversation_id, row.date_event), row.date_event)
        if row.echo_token and row.page_id is not None:
            lag = (row.date_received - row.date_event).total_seconds()
            lags[row.page_id] = max(lags.get(row.page_id, 0.0), lag)
    now = timezone.now()
    # Their queues are locked, so no other split waits for these rows crosswise.
    update_each(
        models.Conversation,
        ["date_last_inbound", "date_last_activity"],
        [(conversation_id, moment, now) for conversation_id, moment in sorted(newest.items())],
        where="(date_last_inbound IS NULL OR date_last_inbound < fresh.v0)",
    )
    for conversation in participants.conversations.values():
        moment = newest.get(conversation.pk)
        last = conversation.date_last_inbound
        if moment is not None and (last is None or last < moment):
            conversation.date_last_inbound, conversation.date_last_activity = moment, now
    own_pages = (
        page for page_id, page in participants.pages.items() if page_id not in participants.foreign_pages
    )
    for page in sorted(own_pages, key=lambda page: page.pk):
        changes: dict[str, Any] = {}
        if page.pk in lags:
            # A maximum that fades by a tenth an echo: near the 99th percentile, without a table of its own.
            lag = lags[page.pk]
            changes = {"date_last_echo": now, "echo_lag": Greatest(Coalesce(F("echo_lag"), lag) * 0.9, lag)}
        # One write a minute says as much as one a callback, and does not make all callbacks queue for one row.
        if page.date_last_callback is None or page.date_last_callback < now - _PAGE_WRITE_INTERVAL:
            changes["date_last_callback"] = now
        if changes:
            models.Page.objects.filter(pk=page.pk).update(**changes)


def _echo_token(messaging: receiving.Messaging, page: models.Page | None) -> str | None:
    """Give the token of an echo that this app sent to this person; another app's proves nothing."""
    message, sender = messaging.message, messaging.sender
    if messaging.type is not ReceivingType.ECHO or message is None:
        return None
    if sender is None or sender.id != messaging.get_page_id():
        return None
    app_id = page.get_app_id() if page is not None else ""
    if app_id and message.app_id != app_id:
        return None
    return split_token(message.metadata)[0] or None


def _digest(raw: Any) -> str:
    return hashlib.sha256(repr(raw).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _milliseconds(moment: datetime.datetime) -> int:
    return int(moment.timestamp() * 1000)
