"""Split: insert one row for each event of a stored callback.

States of an event after the split: ``new`` if it is to be handled, ``ignored`` with a reason otherwise.

Order of the steps of a split, all in one transaction:

1. Lock the callbacks and parse their bytes.
2. Drop events of erased persons.
3. Read or insert Pages, persons, conversations and queues, in sorted order.
4. Lock the incoming queues of the events. If a row is locked already, roll back and begin again without the callbacks
   that need it (``held.py``).
5. Claim idle queues for the caller, up to its limit.
6. Insert the events; the dedup key makes a repeated event insert nothing.
7. Mark the callbacks as split, note the activity of persons and Pages, and wake the queues that were not claimed.

Claim at the split: the worker usually handles an event directly after the split. A claim in the transaction of the
split saves the wake-up, a second claim and a query for the event. The row of the event is passed on in memory. This is
safe only if no other worker had the queue after the conversation was read and before the queue was claimed.
``is_unchanged_since_read`` checks that by the fencing token.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import Any

from django.db import DataError, IntegrityError, OperationalError
from django.utils import timezone

from djmessenger import models, receiving
from djmessenger.database_errors import is_lock_timeout
from djmessenger.logs import hidden
from djmessenger.pipeline import claims, reads
from djmessenger.pipeline.claims import Lease
from djmessenger.pipeline.connections import atomic_without_flush
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.pipeline.held import FIRST_PAUSE, Held, RowsLocked, Understood
from djmessenger.pipeline.participants import (
    Participants,
    ensure_participants,
    is_unchanged_since_read,
    keys_of_erased,
    known_rows_of,
    milliseconds,
    note_activity,
)
from djmessenger.pipeline.positions import WaitingByCallback, new_rows, set_positions, waiting_by_callback
from djmessenger.pipeline.queue_locks import lock_queues
from djmessenger.pipeline.send_tokens import split_token
from djmessenger.receiving import ReceivingType
from djmessenger.receiving.decoding import decode, has_more_values
from djmessenger.receiving.keys import subject_of
from djmessenger.receiving.parsing import Item
from djmessenger.receiving.parsing import split as split_document
from djmessenger.secret import without_frames
from djmessenger.settings import app_settings
from djmessenger.sql import atomic, insert_each, update_each

logger = logging.getLogger(__name__)

_LONGEST_ERROR = 4000
VALUES_PER_ITEM = 100
"""Values of JSON in one item, on average of a body. Items of Meta have about 20."""
_ROW_ERRORS = (DataError, IntegrityError, ValueError, OverflowError)
"""Exceptions that a single row can cause. Other database errors concern the whole transaction and propagate."""


@dataclass(kw_only=True)
class Split:
    """Result of splitting a batch of callbacks; true if any callback was split or quarantined."""

    queues: dict[int, int | None] = field(default_factory=dict)
    """Conversation id of each queue that was woken, by queue id. It is None for the queue of a subject."""
    leases: list[Lease] = field(default_factory=list)
    """Queues that were claimed for the caller, and therefore not woken."""
    next_rows: dict[int, models.Messaging] = field(default_factory=dict)
    """First waiting event of each claimed queue, by queue id.

    A queue has no entry if its event must be read again under the lease.
    """
    callbacks: int = 0
    """Number of callbacks that were split or quarantined."""
    more: bool = False
    """True if more callbacks may wait for a split."""

    def add(self, other: Split) -> None:
        self.queues |= other.queues
        self.leases += other.leases
        self.next_rows |= other.next_rows
        self.callbacks += other.callbacks
        self.more |= other.more

    def __bool__(self) -> bool:
        return self.callbacks > 0


def split(callback_id: int) -> Split:
    """Insert one ``models.Messaging`` for each item of a stored callback; a second call inserts nothing.

    A bad item does not spoil the other items. It becomes an ignored row if possible. Otherwise its error is stored in
    the callback, whose bytes are kept. If another process is splitting the callback, this call waits for its end, and
    inserts nothing if that split was committed. It also waits while another transaction has locked a row of the
    callback.
    """
    # A wait for the lock inside the transaction would keep the callback locked, and with it the splits of all others.
    # Test (PostgreSQL): tests/test_held.py, test_a_split_that_waits_delays_no_other_person.
    while True:
        held = Held()
        todo = split_many([callback_id], held=held)
        if not held.callback_ids:
            return todo
        time.sleep(FIRST_PAUSE)


def split_many(callback_ids: Sequence[int], claim_limit: int = 0, *, held: Held | None = None) -> Split:
    """Split several callbacks in one transaction, or none if an exception propagates.

    Callbacks with another ``app_id`` than the oldest one stay ``new``. Those in ``held`` stay ``new`` too. Those for
    which another transaction has locked a row are added to it, and so are those that would overtake one of them.
    Claims up to ``claim_limit`` idle queues of those that get work, for ``DJM_LEASE`` seconds. The caller must handle
    or release them. If the database refuses a row, the rows are inserted one by one and no queue is claimed.
    """
    held = Held() if held is None else held
    try:
        return _split_free(callback_ids, _insert, claim_limit, held)
    except OperationalError as error:
        if not is_lock_timeout(error):
            raise
        # An insertion waits for a person, Page or queue that another transaction has inserted and not committed.
        # Test (PostgreSQL): tests/test_held.py, test_a_locked_row_delays_no_other_person.
        return _split_apart(callback_ids, held)
    except _ROW_ERRORS:
        # One row that no column can store would make the whole batch fail at each try. Insert row by row instead.
        # test_a_refused_event_leaves_its_neighbours_and_their_repeats_alone
        return _split_free(callback_ids, _insert_singly, 0, held)


def _split_apart(callback_ids: Sequence[int], held: Held) -> Split:
    """Split callbacks one by one after a wait for a lock was too long. Add the one that waits again to ``held``."""
    if len(callback_ids) > 1:
        todo = Split()
        for callback_id in callback_ids:
            todo.add(split_many([callback_id], held=held))
        return todo
    with atomic():
        callbacks = reads.new_callbacks(callback_ids)
        understood, _ = _parsed(callbacks)
        held.add(understood, callback_ids)
    return Split(callbacks=len(callbacks) - len(understood))


Insert = Callable[[list[models.Messaging]], list[tuple[int, str]]]


def _split_free(callback_ids: Sequence[int], insert: Insert, claim_limit: int, held: Held) -> Split:
    """Split those of the callbacks for which no row is locked; add the others to ``held``."""
    while True:
        try:
            return _split_many(callback_ids, insert, claim_limit, held)
        except RowsLocked:
            # Each repetition holds at least one callback more.
            continue


def _split_many(callback_ids: Sequence[int], insert: Insert, claim_limit: int, held: Held) -> Split:
    # The callbacks are on the disk already. If this commit is lost with the host of SQLite, the next split repeats it.
    # No reply of these events is sent before a later commit, which also makes this one durable.
    # tests/test_intake.py, test_only_sqlite_splits_without_waiting_for_the_disk
    with atomic_without_flush():
        callbacks = reads.new_callbacks([pk for pk in callback_ids if pk not in held.callback_ids])
        # The signer decides which Pages a callback may concern, so one batch has one signer. The callbacks of
        # other signers stay ``new`` for the next call.
        callbacks = [callback for callback in callbacks if callback.app_id == callbacks[0].app_id]
        understood, rest = _parsed(callbacks)
        count = len(callbacks) - rest
        if held.queues:
            held.add(understood)
            count -= len(understood)
            understood = held.without(understood)
            count += len(understood)
        if not understood:
            return Split(callbacks=count, more=rest > 0)
        all_items = [item for _, items in understood for item in items]
        known_rows = known_rows_of(all_items)
        if erased := keys_of_erased(all_items, known_rows.people):
            understood = [
                (callback, _without_erased(callback, items, erased)) for callback, items in understood
            ]
        participants = ensure_participants(
            understood[0][0],
            [
                item.messaging
                for _, items in understood
                for item in items
                if item.messaging is not None and not item.messaging.is_dashboard_test
            ],
            known_rows,
        )
        rows: list[models.Messaging] = []
        errors: dict[int, list[str]] = {}
        for callback, items in understood:
            callback_rows, errors[callback.pk] = _rows(callback, items, participants)
            rows += callback_rows
        # A second split with events of the same people or subjects ends here, before it inserts an event. Without the
        # locks, each split could wait for a dedup key that the other has inserted: a deadlock.
        if locked := lock_queues(rows, participants):
            # The rollback gives up all locks and undoes the insertions for these callbacks. A foreign key to a locked
            # row would make the commit wait.
            held.add(understood, locked)
            raise RowsLocked
        # Ignored events may have no queue lock. Insert them in key order: two splits that insert the same keys in
        # different order would deadlock. The sort is stable; the events of a queue keep their order.
        # Test (PostgreSQL): test_batches_with_the_same_people_and_events_in_any_order_never_deadlock. It fails, in some
        # runs, only if three guards are removed: this sort, the locks above, the order in ``ensure_participants``.
        rows.sort(key=lambda row: (not row.conversation_id, "" if row.waits_in else str(row.key)))
        leases = _claim_idle_queues(rows, claim_limit)
        waiting = waiting_by_callback(rows, leases)
        _ignore_over_limit(rows, waiting)
        set_positions(rows, waiting)
        for callback_id, error in insert(rows):
            errors[callback_id].append(error)
        failpoint("intake_splitting")
        _mark_split(errors)
        # If one dedup key came twice in the batch, both objects have the primary key of the one row. The first object
        # is the inserted one. test_of_one_key_twice_the_row_that_is_stored_is_the_one_that_is_woken
        inserted = list({row.pk: row for row in reversed(rows) if row.pk is not None}.values())[::-1]
        note_activity(inserted, participants)
        todo = _wake_queues(inserted, leases)
        for row in inserted:
            if row.state == models.Messaging.State.IGNORED:
                _log_ignored(row)
        todo.callbacks, todo.more = count, rest > 0
        return todo


def _parsed(callbacks: Sequence[models.Callback]) -> tuple[Understood, int]:
    """Return callbacks with their items, and the number of callbacks behind ``DJM_MAX_ITEMS`` items that stay ``new``.

    Callbacks without any event are quarantined.
    """
    # A hundred small callbacks have up to a hundred thousand items. All at once would take all memory.
    # test_items_of_many_callbacks_are_taken_in_portions
    understood: Understood = []
    total = 0
    for number, callback in enumerate(callbacks):
        if total >= app_settings.DJM_MAX_ITEMS:
            return understood, len(callbacks) - number
        items = _items(callback)
        if items is not None:
            understood.append((callback, items))
            total += len(items)
    return understood, 0


def _items(callback: models.Callback) -> list[Item] | None:
    """Return the items of a callback, or None after quarantining a callback without any event."""
    limit = app_settings.DJM_MAX_ITEMS
    # Guard: 8 MiB of empty objects are 2.8 million items, which took gigabytes and minutes. The values are counted
    # before the body is decoded, and the items before each becomes an event.
    # Test: tests/faults/test_crashes.py, test_a_body_takes_time_and_memory_in_proportion_to_its_size.
    if has_more_values(bytes(callback.body), limit * VALUES_PER_ITEM):
        _quarantine(callback, f"over {limit * VALUES_PER_ITEM} values, {VALUES_PER_ITEM} times DJM_MAX_ITEMS")
        return None
    problem: Exception | None = None
    items: list[Item] = []
    try:
        items = list(islice(split_document(decode(bytes(callback.body))), limit + 1))
    except Exception as error:  # noqa: BLE001 - raised again below, without the frames that hold the body
        problem = without_frames(error)
    if isinstance(problem, ValueError):
        _quarantine(callback, f"no JSON: {problem}")
        return None
    if problem is not None:
        raise problem
    if len(items) > limit:
        _quarantine(callback, f"over {limit} items (DJM_MAX_ITEMS)")
        return None
    if all(item.messaging is None for item in items):
        _quarantine(callback, "; ".join(item.error for item in items) or "no event in it")
        return None
    return items


def _without_erased(callback: models.Callback, items: list[Item], erased: Collection[str]) -> list[Item]:
    """Return the items without events of erased persons. If one is left out, empty the stored body of the callback.

    ``erased`` contains the dedup keys of these events.
    """
    remaining = [item for item in items if item.messaging is None or item.messaging.key() not in erased]
    if len(remaining) < len(items):
        models.Callback.objects.filter(pk=callback.pk).update(body=b"")
    return remaining


def _mark_split(errors: Mapping[int, list[str]]) -> None:
    """Mark callbacks as split and store their errors.

    ``errors`` maps the id of each callback to a list of error texts, which is usually empty.
    """
    state = models.Callback.State.SPLIT
    texts = {pk: _storable_error("\n".join(messages)) for pk, messages in errors.items()}
    rows = [(pk, state, text) for pk, text in texts.items()]
    update_each(models.Callback, ["state", "error"], rows)


def _storable_error(text: str) -> str:
    """Return the text of an error, cut, and in ASCII. The error may quote what the database has just refused."""
    return (
        text[:_LONGEST_ERROR].replace("\0", "").encode("ascii", "backslashreplace").decode()[:_LONGEST_ERROR]
    )


def quarantine(callback_id: int, error: str) -> None:
    """Mark a callback as quarantined because its split raised ``error``.

    Does nothing if the callback is no longer ``new``. Its bytes are kept, so that staff can have it split again.
    """
    with atomic():
        # Another worker may have split the callback after this one failed; the state is checked under the lock.
        waiting = models.Callback.objects.select_for_update()
        callback = waiting.filter(pk=callback_id, state=models.Callback.State.NEW).first()
        if callback is not None:
            _quarantine(callback, error)


def _quarantine(callback: models.Callback, error: str) -> None:
    callback.state = models.Callback.State.QUARANTINED
    callback.error = _storable_error(error)
    callback.save(update_fields=["state", "error"])
    logger.warning(
        "Callback %s is quarantined: it cannot be split; its error is in the admin, and its bytes are kept for replay",
        callback.pk,
        extra={"action": "callback_quarantined", "callback": callback.pk},
    )


def _rows(
    callback: models.Callback, items: list[Item], participants: Participants
) -> tuple[list[models.Messaging], list[str]]:
    rows: list[models.Messaging] = []
    errors: list[str] = []
    for number, item in enumerate(items):
        try:
            row = _row(callback, item, participants)
            if item.messaging is not None and item.messaging.is_dashboard_test:
                _ignore_dashboard_test(callback, row)
            elif item.messaging is not None and item.messaging.get_page_id() in participants.foreign_pages:
                _ignore_foreign(callback, item.messaging, row)
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


def _ignore_dashboard_test(callback: models.Callback, row: models.Messaging) -> None:
    """Set the state of a row to ignored, because the App Dashboard's test button sent it."""
    row.state = models.Messaging.State.IGNORED
    row.reason = "a test of the App Dashboard; it belongs to no Page"
    row.queue = None
    logger.info(
        "The test button of the App Dashboard was pressed: callback %s arrived with a valid signature. Its sample is "
        "not answered, because it names no Page. Write to the Page to see an answer.",
        callback.pk,
        extra={"action": "dashboard_test", "callback": callback.pk},
    )


def _ignore_foreign(callback: models.Callback, messaging: receiving.Messaging, row: models.Messaging) -> None:
    """Set the state of a row to ignored, because another app than the Page's signed the callback.

    The row loses its send token. It gets a dedup key of its own, so that the genuine event is no repeat of it.
    """
    # With the usual dedup key, this row would make the genuine event of the Page's own app look like a repeat.
    # TestTwoApps.test_takes_nothing_from_the_true_one; for the token: test_its_echo_settles_nothing.
    row.state = models.Messaging.State.IGNORED
    row.reason = f"the signature is of another app ({callback.app_id}) than the Page's"[:255]
    remedy = "check the app secrets"
    if row.page is None:
        row.reason = f"the signature is of app {callback.app_id}, and no setting or row names the Page"[:255]
        remedy = "if the Page is yours, name it in DJM_PAGES or in the admin and replay the callback"
    row.key = f"foreign:{_digest((callback.app_id, row.key))}"
    row.echo_token = row.queue = None
    logger.warning(
        "An event of page %s is ignored because its callback was signed by another app; %s",
        hidden(messaging.get_page_id()),
        remedy,
        extra={
            "action": "foreign_signature",
            "callback": callback.pk,
            "page": hidden(messaging.get_page_id()),
        },
    )


def _row(callback: models.Callback, item: Item, participants: Participants) -> models.Messaging:
    messaging = item.messaging
    if messaging is None:
        return models.Messaging(
            type="UNKNOWN",
            body=item.body,
            key=f"broken:{callback.sha256}:{_digest(item.body)}",
            callback=callback,
            timestamp=milliseconds(callback.date_received),
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
    row.window = messaging.window
    oldest = timezone.now() - app_settings.DJM_MAX_EVENT_AGE
    if messaging.timestamp < milliseconds(oldest):
        row.state = models.Messaging.State.IGNORED
        row.reason = f"older than {app_settings.DJM_MAX_EVENT_AGE}"
    elif conversation is None:
        row.queue = models.ConversationQueue(subject=subject_of(messaging))
    return row


def _ignore_over_limit(rows: Sequence[models.Messaging], waiting: WaitingByCallback) -> None:
    """Ignore new events of queues in which ``DJM_MAX_PENDING`` events wait already.

    The queues are locked by the caller, so two splits cannot both count the same free places.
    """
    limit = app_settings.DJM_MAX_PENDING
    counts = Counter({pk: sum(count for _, count, _ in parts) for pk, parts in waiting.items()})
    for row in new_rows(rows):
        counts[row.waits_in] += 1
        if counts[row.waits_in] > limit:
            row.state = models.Messaging.State.IGNORED
            row.reason = f"over {limit} events of the conversation queue are waiting"


def _insert(rows: list[models.Messaging]) -> list[tuple[int, str]]:
    """Insert rows whose dedup key is new, and return an empty list of errors. Raises if the database refuses a row."""
    # The same event comes in two callbacks, or twice after a lost 200. The unique key inserts it once.
    # test_without_the_dedup_key_two_deliveries_are_two_events
    insert_each(rows, "key", unless_there=True)
    return []


def _insert_singly(rows: list[models.Messaging]) -> list[tuple[int, str]]:
    """Insert rows one by one, each in a savepoint; return callback and error of each row that was refused.

    An ignored row without content is inserted in place of each refused one, so that it is counted.
    """
    errors: list[tuple[int, str]] = []
    refused: list[models.Messaging] = []
    for number, row in enumerate(rows):
        try:
            with atomic():
                insert_each([row], "key", unless_there=True)
        except _ROW_ERRORS as error:
            logger.exception(
                "The database refused event %s of callback %s; the error is stored in the callback",
                number,
                row.callback_id,
                extra={"action": "event_refused", "callback": row.callback_id, "item": number},
            )
            errors.append((row.callback_id or 0, f"event {number}: {type(error).__name__}: {error}"))
            if row.callback is not None:
                refused.append(_refused(row.callback, number, error))
    insert_each(refused, "key", unless_there=True)
    return errors


def _refused(callback: models.Callback, number: int, error: Exception) -> models.Messaging:
    """Return an ignored row in place of one that the database refuses. Its content is in the callback alone."""
    return models.Messaging(
        type="UNKNOWN",
        body={},
        key=f"refused:{callback.sha256}:{number}",
        callback=callback,
        timestamp=milliseconds(callback.date_received),
        state=models.Messaging.State.IGNORED,
        reason=f"not understood: the database refused it ({type(error).__name__})",
    )


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
    """Claim up to ``limit`` idle queues of conversations that are about to get an event; return the leases by queue.

    The caller has locked the queues, and inserts the events in the same transaction.
    """
    # A claimed queue must not contain an older event, or the new one would be handled first. ``claim_idle`` skips
    # such queues. test_an_event_that_waits_without_a_wake_up_is_handled_before_a_new_one
    fresh = (row.conversation_id for row in new_rows(rows))
    conversation_ids = [pk for pk in dict.fromkeys(fresh) if pk is not None][:limit]
    if not conversation_ids:
        return {}
    leases = claims.claim_idle(
        models.ConversationQueue.Kind.IN, conversation_ids, seconds=app_settings.DJM_LEASE
    )
    return {lease.queue_id: lease for lease in leases}


def _wake_queues(inserted: Iterable[models.Messaging], leases: Mapping[int, Lease]) -> Split:
    """Wake the queues of inserted events, except the claimed ones, and return the work that now waits.

    Claimed queues whose events all turned out to be repeats are released.
    """
    firsts: dict[int, models.Messaging] = {}
    for row in sorted(new_rows(inserted), key=attrgetter(*models.Messaging.ORDER)):
        if row.waits_in is not None:
            firsts.setdefault(row.waits_in, row)
    todo = Split(queues={pk: row.conversation_id for pk, row in firsts.items() if pk not in leases})
    models.ConversationQueue.objects.wake_locked(todo.queues)
    for queue_id, lease in leases.items():
        if queue_id in firsts:
            todo.leases.append(lease)
            next_row = firsts[queue_id]
            if is_unchanged_since_read(next_row, lease):
                # Threads handle the events of one Page at the same time: each event gets the Page object of its own
                # conversation. The cached callback is dropped because its body would stay in memory.
                next_row.page = next_row.conversation.page if next_row.conversation else None
                callback_id, next_row.callback = next_row.callback_id, None
                next_row.callback_id = callback_id
                todo.next_rows[lease.queue_id] = next_row
    # A queue was claimed for events that turned out to be repeats. Without a release it would stay leased, and its
    # next event would wait for the end of the lease. test_repeats_leave_the_conversation_idle
    claims.release_many(models.ConversationQueue.Kind.IN, leases.keys() - firsts.keys())
    return todo


def _echo_token(messaging: receiving.Messaging, page: models.Page | None) -> str | None:
    """Return the send token of an echo of a message that the Page's own app sent from the Page, otherwise None.

    If the app of the Page is unknown, the app of the echo is not checked. The echo of another app proves nothing about
    an attempt of this one (test_only_an_echo_of_our_app_from_the_page_proves_an_attempt).
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
