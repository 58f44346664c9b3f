"""Store and split: from the bytes of a callback to one row for each event.

States of a callback: ``new`` until its split commits. Then ``split``, or ``quarantined`` if it contains no event.
States of an event after the split: ``new`` if it is to be handled, ``ignored`` with a reason otherwise.

Order of the steps of a split, all in one transaction:

1. Lock the callbacks and parse their bytes.
2. Drop events of erased persons.
3. Read or insert Pages, persons and conversations, in sorted order.
4. Lock the incoming queues of these conversations.
5. Claim idle queues for the caller, up to its limit.
6. Insert the events; the dedup key makes a repeated event insert nothing.
7. Mark the callbacks as split, note the activity of persons and Pages, and wake the queues that were not claimed.

Claim at the split: the worker usually splits an event and handles it at once. A claim in the transaction of the split
saves the wake-up, a second claim and a query for the event. The row of the event is passed on in memory. This is safe
only if no other worker had the queue between the read of the conversation and its lock; ``_is_as_read_now`` checks
that by the fencing token.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any

from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import Count, F, Max, OuterRef, QuerySet, Subquery, TextField
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from djmessenger import models, receiving
from djmessenger.logs import hidden
from djmessenger.models.queues import Lease
from djmessenger.pipeline.erased_keys import erased_among
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.pipeline.send_tokens import split_token
from djmessenger.receiving import ReceivingType
from djmessenger.receiving.decoding import decode
from djmessenger.receiving.parsing import Item
from djmessenger.receiving.parsing import split as split_document
from djmessenger.settings import app_settings
from djmessenger.sql import Among, Prepared, Several, insert_each, update_each

logger = logging.getLogger(__name__)

_PERSON_ID = re.compile(r"[0-9]{1,32}", re.ASCII)
_PAGE_ID = re.compile(r"[0-9]{1,32}", re.ASCII)
_LONGEST_ERROR = 4000
_ROW_ERRORS = (DataError, IntegrityError, ValueError, OverflowError)
"""Exceptions that a single row can cause. Other database errors concern the whole transaction and propagate."""
_PAGE_WRITE_INTERVAL = datetime.timedelta(minutes=1)
"""Time between two writes of ``Page.date_last_callback``."""


def store(body: bytes, app_id: str = "") -> int:
    """Insert the body of a callback and return the key of its row. The same bytes of the same app have one row.

    The caller has checked the signature. Commits, unless a transaction is open.

    Raises ``DatabaseError`` if the row could not be inserted. The view must not answer 200 then.
    """
    failpoint("intake_body_read")
    # Two apps of one Page may post the same bytes. App A's signature must not stand for app B's callback:
    # A's copy is ignored, and B's copy would be taken for a repeat. tests/test_pages.py TestTwoApps.
    digest = hashlib.sha256(f"{app_id}\n".encode() + body if app_id else body).hexdigest()
    # The view answers 200 after this commit. A crash before it sends no 200, and Meta posts the callback again.
    # test_without_the_row_a_callback_answered_with_200_is_lost
    callback_id = models.Callback.objects.put(body, digest, app_id)
    failpoint("intake_stored")
    return callback_id


@dataclass(kw_only=True)
class Split:
    """Result of splitting a batch of callbacks; true if any callback was split or quarantined."""

    conversations: list[int] = field(default_factory=list)
    """Conversations whose incoming queue was woken."""
    leases: list[Lease] = field(default_factory=list)
    """Queues that were claimed for the caller, and therefore not woken."""
    next_rows: dict[int, models.Messaging] = field(default_factory=dict)
    """First waiting event of each claimed queue, by queue. Missing if the event must be read again under the lease."""
    events_without_conversation: list[int] = field(default_factory=list)
    """Waiting events that belong to no conversation queue."""
    callbacks: int = 0
    """Number of callbacks that were split or quarantined."""
    more: bool = False
    """Set if more callbacks waited than one split takes."""

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
    """Insert one ``models.Messaging`` for each item of a stored callback; a second call inserts nothing.

    A bad item does not spoil the other items. It becomes an ignored row if possible. Otherwise its error is stored in
    the callback, whose bytes are kept. A callback that another process is splitting is skipped.
    """
    return split_many([callback_id])


def split_many(callback_ids: Sequence[int], take: int = 0) -> Split:
    """Split several callbacks in one transaction: all of them, or none if an exception propagates.

    Claims up to ``take`` idle queues of those that get work, for ``DJM_LEASE`` seconds. The caller must handle or
    release them.
    """
    try:
        return _split_many(callback_ids, _insert, take)
    except _ROW_ERRORS:
        # One row that no column can store would make the whole batch fail at each try. Insert row by row instead.
        # test_a_refused_event_leaves_its_neighbours_and_their_repeats_alone
        return _split_many(callback_ids, _insert_singly, 0)


def _split_many(
    callback_ids: Sequence[int],
    insert: Callable[[list[models.Messaging]], list[tuple[int, str]]],
    take: int,
) -> Split:
    with transaction.atomic():
        callbacks = _CALLBACKS(callbacks=callback_ids)
        # The signer decides which Pages a callback may concern, so one batch has one signer. The callbacks of
        # other signers stay ``new`` for the next call.
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
        # Events without a conversation have no queue lock. Insert them in key order: two splits that insert the same
        # keys in different order would deadlock. The sort is stable; events of conversations keep their order.
        # test_batches_with_the_same_people_and_events_in_any_order_never_deadlock is red in some runs
        # on PostgreSQL without this sort, the lock below and the order in ``_participants`` together.
        rows.sort(key=lambda row: "" if row.conversation_id else row.key or "")
        # A second split with events of the same people waits here, before its first insert. Without the lock, each
        # split could wait for a dedup key that the other has inserted: a deadlock.
        models.ConversationQueue.objects.lock(
            participants.conversation_ids(), models.ConversationQueue.Kind.IN
        )
        leases = _claim_idle_queues(rows, take)
        waiting = _waiting_callbacks(rows, leases)
        _drop_over_limit(rows, waiting)
        _place(rows, waiting)
        for callback_id, error in insert(rows):
            errors[callback_id].append(error)
        failpoint("intake_splitting")
        _mark_split(errors)
        # If one dedup key came twice in the batch, both objects have the primary key of the one row. The first object
        # is the inserted one. test_of_one_key_twice_the_row_that_is_stored_is_the_one_that_is_woken
        inserted = list({row.pk: row for row in reversed(rows) if row.pk is not None}.values())[::-1]
        _note_activity(inserted, participants)
        todo = _wake_queues(inserted, leases)
        for row in inserted:
            if row.state == models.Messaging.State.IGNORED:
                _log_ignored(row)
        todo.callbacks = len(callbacks)
        return todo


def _callbacks() -> QuerySet[models.Callback]:
    """Select those of ``callbacks`` that are new, oldest first; lock them if the database can."""
    # The split waits for rows that another process is splitting. With SKIP LOCKED it would go on with later callbacks
    # and commit first, and their events would be handled before those of a callback that was answered 200 earlier.
    # test_without_the_wait_a_later_callback_overtakes_one_that_is_being_split
    waiting = models.Callback.objects.filter(
        Among("pk", Several("callbacks")), state=models.Callback.State.NEW
    ).order_by("pk")
    return waiting.select_for_update() if connection.features.has_select_for_update else waiting


_CALLBACKS = Prepared(models.Callback, _callbacks)


def _conversations() -> QuerySet[models.Conversation]:
    """Select the conversations of ``persons``; annotate the fencing token of the incoming queue if it is idle.

    ``_is_as_read_now`` compares this token with that of a later claim.
    """
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
        .values_list("conversation", "callback")
        .annotate(Count("id"), Max("position"))
    ),
)


def _items(callback: models.Callback) -> list[Item] | None:
    """Return the items of a callback, or None after quarantining a callback without any event."""
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
    """Return the items whose persons were not erased. If one was, empty the body of the callback."""
    remaining = [item for item in items if item.messaging is None or item.messaging.key() not in erased]
    if len(remaining) < len(items):
        models.Callback.objects.filter(pk=callback.pk).update(body=b"")
    return remaining


def _mark_split(errors: Mapping[int, list[str]]) -> None:
    """Mark callbacks as split; ``errors`` contains each of them, usually with no error."""
    state = models.Callback.State.SPLIT
    texts = {pk: "\n".join(messages).replace("\0", "")[:_LONGEST_ERROR] for pk, messages in errors.items()}
    rows = [(pk, state, text) for pk, text in texts.items()]
    update_each(models.Callback, ["state", "error"], rows)


def quarantine(callback_id: int, error: str) -> None:
    """Mark a callback as not understood because its split raises. Its bytes are kept for ``replay``."""
    with transaction.atomic():
        # Another worker may have split the callback after this one failed; the state is checked under the lock.
        waiting = models.Callback.objects.select_for_update()
        callback = waiting.filter(pk=callback_id, state=models.Callback.State.NEW).first()
        if callback is not None:
            _quarantine(callback, error)


def _quarantine(callback: models.Callback, error: str) -> None:
    callback.state = models.Callback.State.QUARANTINED
    callback.error = error.replace("\0", "")[:_LONGEST_ERROR]
    callback.save(update_fields=["state", "error"])
    logger.warning(
        "Callback %s is quarantined: no event in it could be read; its bytes are kept for replay",
        callback.pk,
        extra={"action": "callback_quarantined", "callback": callback.pk},
    )


@dataclass(kw_only=True)
class _Participants:
    """Pages and conversations of a batch of callbacks, by their ids at Meta."""

    pages: dict[str, models.Page]
    foreign_pages: frozenset[str]
    """Ids of Pages that belong to another app than the one that signed the callbacks."""
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
            # One item that breaks its parser would leave the whole callback unsplit, and its persons unanswered.
            # test_one_bad_item_does_not_spoil_the_other_items_of_its_callback
            logger.exception(
                "Item %s of callback %s could not become an event; the other items are split",
                number,
                callback.pk,
                extra={"action": "item_refused", "callback": callback.pk, "item": number},
            )
            errors.append(f"item {number}: {type(error).__name__}: {error}")
    return rows, errors


def _is_of_another_app(callback: models.Callback, page: models.Page) -> bool:
    """Return whether the callback was signed by another app than the Page's; false if either app is unknown."""
    # A signer without an id is stored as "#" and a number.
    is_signer_known = callback.app_id and not callback.app_id.startswith("#")
    return bool(is_signer_known and page.get_app_id() and page.get_app_id() != callback.app_id)


def _ignore_foreign(callback: models.Callback, row: models.Messaging) -> None:
    """Make the row of a foreign signature an ignored row without a send token, under a dedup key of its own."""
    # With the usual dedup key, this row would make the genuine event of the Page's own app look like a repeat.
    # TestTwoApps.test_takes_nothing_from_the_true_one; for the token: test_its_echo_settles_nothing.
    row.state = models.Messaging.State.IGNORED
    row.reason = f"the signature is of another app ({callback.app_id}) than the Page's"[:255]
    row.key = f"foreign:{_digest((callback.app_id, row.key))}"
    row.echo_token = None
    logger.warning(
        "An event of page %s is ignored because its callback was signed by another app; check the app secrets",
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
    """Persons and conversations of a batch that exist already."""

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
    """Return the dedup keys of events whose person was erased later than the event.

    Only events without a person's row, or older than that row, can be such events. A known person costs no query.
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
    """Return the Page of each page id and the conversation of each pair of page id and person id.

    Inserts missing rows. Pages of another app than the signer get no conversations.
    """
    # Two splits insert the same new people. In different order each would wait for a row of the other: a deadlock.
    # Pages, persons, conversations and queues are all inserted in sorted order.
    # See the sort in ``_split_many`` for the test.
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
    """Return the conversation of each pair of page id and person id that has one."""
    rows = {(row.page_id, row.person_id): row for row in conversations}
    keys = {pair: (pages[pair[0]].pk, pair[1]) for pair in pairs}
    return {pair: rows[key] for pair, key in keys.items() if key in rows}


def _pages(channels: Mapping[str, str], known_pages: Mapping[str, models.Page]) -> dict[str, models.Page]:
    """Return the row of each Page by page id. Inserts missing Pages with the channel of the callback."""
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


_Waiting = dict[int | None, list[tuple[int, int, int]]]
"""Waiting events of each conversation by callback: id of the callback, number of events, highest position."""


def _waiting_callbacks(rows: Sequence[models.Messaging], idle: Collection[int]) -> _Waiting:
    """Return the waiting events of the conversations of ``rows``. ``idle`` conversations have none."""
    waiting: _Waiting = defaultdict(list)
    if busy := {row.conversation_id for row in _fresh(rows)} - set(idle):
        for conversation_id, callback_id, count, position in _WAITING.rows(conversations=busy):
            waiting[conversation_id].append((callback_id or 0, count, position))
    return waiting


def _fresh(rows: Iterable[models.Messaging]) -> list[models.Messaging]:
    """Return the rows that are to be handled in a conversation."""
    return [row for row in rows if row.conversation_id and row.state == models.Messaging.State.NEW]


def _drop_over_limit(rows: Sequence[models.Messaging], waiting: _Waiting) -> None:
    """Ignore new events of conversations with ``DJM_MAX_PENDING`` waiting events: a flood delays only its sender.

    The queues are locked by the caller, so two splits cannot both count the same free places.
    """
    limit = app_settings.DJM_MAX_PENDING
    counts = Counter({pk: sum(count for _, count, _ in parts) for pk, parts in waiting.items()})
    for row in _fresh(rows):
        counts[row.conversation_id] += 1
        if counts[row.conversation_id] > limit:
            row.state = models.Messaging.State.IGNORED
            row.reason = f"over {limit} events of the conversation are waiting"


def _place(rows: Sequence[models.Messaging], waiting: _Waiting) -> None:
    """Set the position of each event in its conversation queue.

    The position is Meta's timestamp, limited to the time of arrival. Events of a callback that was answered before this
    POST began come first, whatever their timestamps: this event gets a position after theirs.
    """
    # Without the floor a message with an earlier timestamp would be handled before one that was answered 200 earlier.
    # test_an_event_with_an_earlier_timestamp_does_not_overtake_a_callback_that_was_answered_before
    placed = {pk: [(callback_id, top) for callback_id, _, top in parts] for pk, parts in waiting.items()}
    for (conversation_id, callback), events in _by_callback(_fresh(rows)):
        earlier = placed.setdefault(conversation_id, [])
        floor = max((top for callback_id, top in earlier if callback_id <= callback.after_id), default=None)
        arrival = _milliseconds(callback.date_received)
        for row in events:
            position = min(row.timestamp, arrival)
            row.position = position if floor is None else max(position, floor + 1)
        earlier.append((callback.pk, max(row.position for row in events)))


def _by_callback(
    rows: Iterable[models.Messaging],
) -> Iterator[tuple[tuple[int, models.Callback], list[models.Messaging]]]:
    """Yield the events of each conversation and callback, in the order in which the callbacks were stored."""
    groups: dict[tuple[int, int], list[models.Messaging]] = defaultdict(list)
    callbacks: dict[int, models.Callback] = {}
    for row in rows:
        if row.callback is not None and row.conversation_id is not None:
            callbacks[row.callback.pk] = row.callback
            groups[row.callback.pk, row.conversation_id].append(row)
    for (callback_id, conversation_id), events in sorted(groups.items(), key=itemgetter(0)):
        yield (conversation_id, callbacks[callback_id]), events


def _insert(rows: list[models.Messaging]) -> list[tuple[int, str]]:
    """Insert rows whose dedup key is new. Raises if the database refuses one, and so never returns an error."""
    # The same event comes in two callbacks, or twice after a lost 200. The unique key inserts it once.
    # test_without_the_dedup_key_two_deliveries_are_two_events
    insert_each(rows, "key", unless_there=True)
    return []


def _insert_singly(rows: list[models.Messaging]) -> list[tuple[int, str]]:
    """Insert rows one by one, each in a savepoint; return callback and error of each row that was refused."""
    errors: list[tuple[int, str]] = []
    for number, row in enumerate(rows):
        try:
            with transaction.atomic():
                insert_each([row], "key", unless_there=True)
        except _ROW_ERRORS as error:
            logger.exception(
                "The database refused event %s of callback %s; the error is stored in the callback",
                number,
                row.callback_id,
                extra={"action": "event_refused", "callback": row.callback_id, "item": number},
            )
            errors.append((row.callback_id or 0, f"event {number}: {type(error).__name__}: {error}"))
    return errors


def _log_ignored(row: models.Messaging) -> None:
    # The reason may quote content of the event. That stays in the row and out of the log.
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


def _claim_idle_queues(rows: Iterable[models.Messaging], limit: int) -> dict[int, Lease]:
    """Claim up to ``limit`` idle queues that are about to get an event; return the leases by conversation.

    The caller has locked the queues, and inserts the events in the same transaction.
    """
    # A claimed queue must not contain an older event, or the new one would be handled first. ``claim_idle`` skips
    # such queues. test_an_event_that_waits_without_a_wake_up_is_handled_before_a_new_one
    fresh = (row.conversation_id for row in rows if row.state == models.Messaging.State.NEW)
    conversation_ids = [pk for pk in dict.fromkeys(fresh) if pk is not None][:limit]
    if not conversation_ids:
        return {}
    leases = models.Messaging.objects.claim_idle(conversation_ids, app_settings.DJM_LEASE)
    return {lease.conversation_id: lease for lease in leases}


def _wake_queues(inserted: Iterable[models.Messaging], leases: Mapping[int, Lease]) -> Split:
    """Wake the queues of new events except the claimed ones; return the work that now waits."""
    waiting = [row for row in inserted if row.state == models.Messaging.State.NEW]
    waiting.sort(key=attrgetter(*models.Messaging.ORDER))
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
                # Threads handle the events of one Page at the same time: each event gets the Page object of its own
                # conversation. The cached callback is dropped because its body would stay in memory.
                next_row.page = next_row.conversation.page if next_row.conversation else None
                next_row._state.fields_cache.pop("callback", None)
                todo.next_rows[lease.queue_id] = next_row
    # A queue was claimed for events that turned out to be repeats. Without a release it would stay leased, and its
    # next event would wait for the end of the lease. test_repeats_leave_the_conversation_idle
    unneeded = [lease.queue_id for lease in leases.values() if lease.conversation_id not in firsts]
    models.Messaging.objects.release(unneeded)
    return todo


def _is_as_read_now(row: models.Messaging, lease: Lease) -> bool:
    """Return whether the conversation of a row is unchanged since it was read, at the start of the split."""
    # The split reads the conversation; another worker claims the queue, commits a new state and releases; the split
    # claims the idle queue. The stale state would overwrite the new one. Each claim increments the fencing token, so
    # the token before this claim must be the one that was read while the queue was idle.
    # test_an_event_handled_between_read_and_lock_makes_the_split_read_again
    # test_a_queue_released_between_read_and_lock_makes_the_split_read_again
    conversation: Any = row.conversation
    return bool(conversation.idle_fencing_token == lease.fencing_token - 1)


def _note_activity(rows: list[models.Messaging], participants: _Participants) -> None:
    """Store when persons last wrote, which opens Meta's window, and when callbacks and echoes last came.

    ``rows`` excludes repeats: Meta may repeat an event hours later. That would make a normal echo look slow
    (test_a_repeated_echo_does_not_change_the_lag_of_echoes).
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
    # The incoming queues are locked, so no second split updates these conversations at the same time. The condition
    # keeps an event that was delayed at Meta from moving the window back.
    # test_an_older_event_does_not_move_the_window_back
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
            # The maximum decays by a tenth with each echo. It stays near the 99th percentile, without a table of lags.
            lag = lags[page.pk]
            changes = {"date_last_echo": now, "echo_lag": Greatest(Coalesce(F("echo_lag"), lag) * 0.9, lag)}
        # All splits of a Page would wait for the lock of its one row. One write a minute is precise enough.
        # test_the_time_of_the_last_callback_is_written_once_a_minute
        if page.date_last_callback is None or page.date_last_callback < now - _PAGE_WRITE_INTERVAL:
            changes["date_last_callback"] = now
        if changes:
            models.Page.objects.filter(pk=page.pk).update(**changes)


def _echo_token(messaging: receiving.Messaging, page: models.Page | None) -> str | None:
    """Return the send token of an echo of this app's own message to this person, otherwise None.

    The echo of another app proves nothing about an attempt of this one
    (test_only_an_echo_of_our_app_from_the_page_proves_an_attempt).
    """
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
