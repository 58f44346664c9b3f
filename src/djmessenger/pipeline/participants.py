"""Participants of a batch of callbacks: its Pages, persons and conversations, read or inserted by the split.

All rows are inserted in sorted order, so that two splits cannot wait for each other's rows.
"""

from __future__ import annotations

import copy
import datetime
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import F
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from djmessenger import models, receiving, sql
from djmessenger.pipeline import reads
from djmessenger.pipeline.claims import Lease
from djmessenger.pipeline.connections import limit_lock_waits
from djmessenger.pipeline.erased_keys import erased_among
from djmessenger.pipeline.reply_limits import exchanges_after
from djmessenger.receiving import ReceivingType
from djmessenger.receiving.parsing import Item
from djmessenger.settings import app_settings
from djmessenger.sql import Now, insert_each, update_each

PERSON_ID = re.compile(r"[0-9]{1,32}", re.ASCII)


_PAGE_ID = re.compile(r"[0-9]{1,32}", re.ASCII)


_PAGE_WRITE_INTERVAL = datetime.timedelta(minutes=1)
"""Shortest time between two writes of ``date_last_callback`` of one Page."""


@dataclass(kw_only=True)
class Participants:
    """Pages and conversations of a batch of callbacks, by their ids at Meta."""

    pages: dict[str, models.Page]
    foreign_pages: frozenset[str]
    """Ids of Pages that belong to another app than the one that signed the callbacks, or to none of the project.

    ``pages`` contains those of them that have a row.
    """
    conversations: dict[tuple[str, str], models.Conversation]

    def conversation_ids(self) -> list[int]:
        return [conversation.pk for conversation in self.conversations.values()]


def _is_of_another_app(callback: models.Callback, page: models.Page) -> bool:
    """Return whether the callback was signed by another app than the Page's.

    If the Page names no app, each app of ``DJM_APP_SECRET`` may write to it. A Page that neither a row nor a setting
    names belongs to another app, unless the signer is unknown or the only app.
    """
    # A signer without an id is stored as "#" and a number.
    if not callback.app_id or callback.app_id.startswith("#"):
        return False
    if app_id := page.get_app_id():
        return app_id != callback.app_id
    is_known = (
        page.pk is not None
        or page.page_id in app_settings.DJM_PAGES
        or page.page_id == app_settings.DJM_PAGE_ID
    )
    return not is_known and len(app_settings.DJM_APP_SECRET) > 1


@dataclass(frozen=True, kw_only=True)
class KnownRows:
    """Persons and conversations of a batch that exist already."""

    people: dict[str, models.FBUserProfile]
    conversations: list[models.Conversation]


def known_rows_of(items: Iterable[Item]) -> KnownRows:
    psids = {item.messaging.get_psid() for item in items if item.messaging is not None}
    psids = {psid for psid in psids if PERSON_ID.fullmatch(psid)}
    conversations = reads.conversations_of(psids)
    people = {row.person_id: row.person for row in conversations}
    if strangers := psids - people.keys():
        people |= models.FBUserProfile.objects.in_bulk(strangers)
    return KnownRows(people=people, conversations=conversations)


def keys_of_erased(items: Iterable[Item], people: Mapping[str, models.FBUserProfile]) -> Collection[str]:
    """Return the dedup keys of those events that repeat an event of an erased person.

    Only events of an unknown person, and events not later than ``date_joined`` of their person, are looked up. Without
    such events no query is made.
    """
    suspects = set()
    for item in items:
        if item.messaging is not None:
            person = people.get(item.messaging.get_psid())
            if person is None or item.messaging.timestamp <= milliseconds(person.date_joined):
                suspects.add(item.messaging.key())
    return erased_among(suspects)


def ensure_participants(
    callback: models.Callback, messagings: Sequence[receiving.Messaging], known_rows: KnownRows
) -> Participants:
    """Return the Page of each page id and the conversation of each pair of page id and person id.

    Inserts missing rows. Pages of another app than the signer get neither a row nor conversations.
    """
    # Two splits insert the same new people. In different order each would wait for a row of the other: a deadlock.
    # Pages, persons, conversations and queues are all inserted in sorted order.
    # See the sort in ``split_many`` of ``split.py`` for the test.
    id_pairs = sorted({(messaging.get_page_id(), messaging.get_psid()) for messaging in messagings})
    channels = {messaging.get_page_id(): messaging.channel for messaging in messagings}
    pages, foreign_pages = _pages(
        callback, channels, {row.page.page_id: row.page for row in known_rows.conversations}
    )
    own_page_ids = pages.keys() - foreign_pages
    pairs = [pair for pair in id_pairs if pair[0] in own_page_ids and PERSON_ID.fullmatch(pair[1])]
    conversations = _conversations_by_ids(known_rows.conversations, pairs, pages)
    missing = [pair for pair in pairs if pair not in conversations]
    if missing:
        conversations |= _insert_conversations(missing, pages, known_rows.people)
    return Participants(pages=pages, foreign_pages=frozenset(foreign_pages), conversations=conversations)


def _insert_conversations(
    pairs: Sequence[tuple[str, str]],
    pages: Mapping[str, models.Page],
    people: Mapping[str, models.FBUserProfile],
) -> dict[tuple[str, str], models.Conversation]:
    """Insert a conversation for each pair of page id and person id, with its person and queues; return them.

    Rows that another split has inserted meanwhile are read instead.
    """
    limit_lock_waits()
    new_people = {
        psid: models.FBUserProfile(psid=psid, page=pages[page_id])
        for page_id, psid in pairs
        if psid not in people
    }
    insert_each(list(new_people.values()), "psid", unless_there=True)
    known = {**people, **{psid: person for psid, person in new_people.items() if person.pk is not None}}
    rows: dict[tuple[str, str], Any] = {
        (page_id, psid): models.Conversation(page=copy.copy(pages[page_id]), person_id=psid)
        for page_id, psid in pairs
    }
    insert_each(list(rows.values()), "page", "person", unless_there=True)
    conversations: dict[tuple[str, str], Any] = {
        pair: row for pair, row in rows.items() if row.pk is not None and pair[1] in known
    }
    for (_, psid), conversation in conversations.items():
        conversation.person = known[psid]
        # The queue is inserted below with the token 0. ``reads.conversations_of`` would return the same.
        conversation.unleased_token = 0
    # Guard: another split may commit the same person or conversation after this split has read. The stored rows must
    # be read again, because the queue may be leased already, and the person may have a profile.
    # Test: tests/test_intake_taking.py, test_a_person_whom_another_split_inserts_meanwhile_is_read_again.
    others = [pair for pair in pairs if pair not in conversations]
    if others:
        read = reads.conversations_of([psid for _, psid in others])
        conversations |= _conversations_by_ids(read, others, pages)
    models.ConversationQueue.objects.ensure(conversation.pk for conversation in conversations.values())
    return conversations


def _conversations_by_ids(
    conversations: Iterable[models.Conversation],
    pairs: Iterable[tuple[str, str]],
    pages: Mapping[str, models.Page],
) -> dict[tuple[str, str], models.Conversation]:
    """Return the conversation of each pair of page id and person id that has one."""
    rows = {(row.page_id, row.person_id): row for row in conversations}
    keys = {pair: (pages[pair[0]].pk, pair[1]) for pair in pairs}
    return {pair: rows[key] for pair, key in keys.items() if key in rows}


def _pages(
    callback: models.Callback, channels: Mapping[str, str], known_pages: Mapping[str, models.Page]
) -> tuple[dict[str, models.Page], set[str]]:
    """Return the row of each Page by page id, and the ids of those that belong to another app than the signer.

    Inserts the missing rows of the other Pages, with the channel of the callback.
    """
    page_ids = sorted(page_id for page_id in channels if _PAGE_ID.fullmatch(page_id))
    pages = {page_id: known_pages[page_id] for page_id in page_ids if page_id in known_pages}
    if len(pages) < len(page_ids):
        pages |= {page.page_id: page for page in reads.pages_of(page_ids)}
    unsaved = [
        models.Page(page_id=page_id, channel=channels[page_id])
        for page_id in page_ids
        if page_id not in pages
    ]
    # The row of a strange Page would stay, with the channel that a strange app names.
    # tests/faults/test_attacks.py, TestStrangeApp
    missing = [page for page in unsaved if not _is_of_another_app(callback, page)]
    if missing:
        limit_lock_waits()
        models.Page.objects.bulk_create(missing, ignore_conflicts=True)
        pages |= {page.page_id: page for page in reads.pages_of(page.page_id for page in missing)}
    foreign_pages = {page_id for page_id, page in pages.items() if _is_of_another_app(callback, page)}
    return pages, foreign_pages | (set(page_ids) - pages.keys())


def is_unchanged_since_read(row: models.Messaging, lease: Lease) -> bool:
    """Return whether no worker had the queue from the read of the row's conversation until the claim of ``lease``."""
    # The split reads the conversation; another worker claims the queue, commits a new state and releases; the split
    # claims the idle queue. The stale state would overwrite the new one. Each claim increments the fencing token, so
    # the token before this claim must be the one that was read while the queue was idle.
    # test_an_event_handled_between_read_and_lock_makes_the_split_read_again
    # test_a_queue_released_between_read_and_lock_makes_the_split_read_again
    conversation: Any = row.conversation
    return bool(conversation.unleased_token == lease.fencing_token - 1)


def note_activity(rows: list[models.Messaging], participants: Participants) -> None:
    """Save the time of the last authored event and the window of each conversation, and times of each Page.

    The times of a Page are those of the last callback and echo, and the echo lag. ``rows`` excludes repeats. Meta may
    repeat an event hours later, and a repeated echo would make the echo lag far too long
    (test_a_repeated_echo_does_not_change_the_lag_of_echoes).
    """
    newest: dict[int, datetime.datetime] = {}
    windows: dict[int, datetime.datetime] = {}
    lags: dict[int, float] = {}
    for row in rows:
        if row.conversation_id is None:
            continue
        if ReceivingType.value_of(row.type).authored and not row.is_standby:
            newest[row.conversation_id] = max(newest.get(row.conversation_id, row.date_event), row.date_event)
        if row.window is not None:
            end = row.date_event + row.window
            windows[row.conversation_id] = max(windows.get(row.conversation_id, end), end)
        if row.echo_token and row.page_id is not None and row.callback is not None:
            # ``date_received`` has the clock of the database. The clock of this host may be wrong.
            lag = (row.callback.date_received - row.date_event).total_seconds()
            lags[row.page_id] = max(lags.get(row.page_id, 0.0), lag)
    now = timezone.now()
    rows_of_conversations = []
    for conversation in sorted(participants.conversations.values(), key=lambda one: one.pk):
        last, open_until = conversation.date_last_inbound, conversation.window_until
        inbound = _latest(last, newest.get(conversation.pk))
        until = _latest(open_until, windows.get(conversation.pk))
        if (inbound, until) == (last, open_until):
            continue
        exchanges = conversation.fast_exchanges
        if inbound is not None and inbound != last:
            conversation.fast_exchanges = exchanges_after(conversation, inbound)
        conversation.date_last_inbound, conversation.window_until = inbound, until
        conversation.date_last_activity = now
        rows_of_conversations.append(
            (conversation.pk, inbound, until, now, conversation.fast_exchanges, exchanges)
        )
    # The incoming queues are locked, so no second split updates these conversations at the same time. The conversations
    # were read before, and an event may be delayed at Meta. Neither time is moved back.
    # test_an_older_event_does_not_move_the_window_back
    update_each(
        models.Conversation,
        ["date_last_inbound", "window_until", "date_last_activity", "fast_exchanges"],
        rows_of_conversations,
        unless_later=["date_last_inbound", "window_until"],
        unless_changed=["fast_exchanges"],
    )
    own_pages = [
        page for page_id, page in participants.pages.items() if page_id not in participants.foreign_pages
    ]
    _note_times(own_pages, lags, now)


def _note_times(pages: Iterable[models.Page], lags: Mapping[int, float], now: datetime.datetime) -> None:
    """Save the time of the last callback of each Page, and the time and lag of its echoes."""
    for page in sorted(pages, key=lambda page: page.pk):
        changes: dict[str, Any] = {}
        if page.pk in lags:
            # The maximum decays by a tenth with each echo. It stays near the 99th percentile, without a table of lags.
            lag = lags[page.pk]
            # ``Now`` is the clock of the database. A host whose clock is an hour behind would store an old time of the
            # last echo. All sends of that hour would then seem to have no echo, and replies of unknown fate would be
            # parked. test_the_times_of_echoes_are_those_of_the_database
            changes = {"date_last_echo": Now(), "echo_lag": Greatest(Coalesce(F("echo_lag"), lag) * 0.9, lag)}
        # All splits of a Page would wait for the lock of its one row. One write a minute is precise enough.
        # test_the_time_of_the_last_callback_is_written_once_a_minute
        if page.date_last_callback is None or page.date_last_callback < now - _PAGE_WRITE_INTERVAL:
            changes["date_last_callback"] = now
        if changes:
            # A view may change the Page in a long transaction, and the split would wait for it. The next callback or
            # echo writes the times.
            # Test (PostgreSQL): tests/test_held.py, test_a_locked_row_delays_no_other_person.
            free = models.Page.objects.filter(pk=page.pk)
            if sql.connection().features.has_select_for_no_key_update:
                free = free.select_for_update(skip_locked=True, no_key=True)
            models.Page.objects.filter(pk__in=free.values("pk")).update(**changes)


def _latest(*moments: datetime.datetime | None) -> datetime.datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def milliseconds(moment: datetime.datetime) -> int:
    return int(moment.timestamp() * 1000)
