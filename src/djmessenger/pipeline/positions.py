"""Positions of events in their conversation queues, which decide the order in which they are handled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import itemgetter

from djmessenger import models
from djmessenger.pipeline import reads
from djmessenger.pipeline.participants import milliseconds

WaitingByCallback = dict[int | None, list[tuple[int, int, int]]]
"""Waiting events by queue id: for each callback a tuple of its id, number of events and highest position."""


def new_rows(rows: Iterable[models.Messaging]) -> list[models.Messaging]:
    """Return the rows whose state is ``new``."""
    return [row for row in rows if row.state == models.Messaging.State.NEW]


def waiting_by_callback(rows: Sequence[models.Messaging], idle: Collection[int]) -> WaitingByCallback:
    """Count, by callback, the waiting events of the queues into which ``rows`` will be inserted.

    ``idle`` contains the ids of idle queues. They are left out, because no event waits in them.
    """
    waiting: WaitingByCallback = defaultdict(list)
    busy = [row for row in new_rows(rows) if row.waits_in not in idle]
    for column in ("conversation_id", "queue_id"):
        ids = {pk: row.waits_in for row in busy if (pk := getattr(row, column)) is not None}
        for pk, callback_id, count, position in reads.waiting_events(ids, column) if ids else ():
            waiting[ids[pk]].append((callback_id or 0, count, position))
    return waiting


def set_positions(rows: Sequence[models.Messaging], waiting: WaitingByCallback) -> None:
    """Set the position of each new event in its conversation queue, in milliseconds.

    The position is Meta's timestamp, but not later than the arrival of the callback. It is raised above the positions
    of waiting events whose callback was stored before this one arrived (``Callback.after_id``). So these events are
    handled first, whatever their timestamps.
    """
    # Without the floor a message with an earlier timestamp would be handled before one that was answered 200 earlier.
    # test_an_event_with_an_earlier_timestamp_does_not_overtake_a_callback_that_was_answered_before
    placed = {pk: [(callback_id, top) for callback_id, _, top in parts] for pk, parts in waiting.items()}
    for (queue_id, callback), events in _by_callback(new_rows(rows)):
        earlier = placed.setdefault(queue_id, [])
        floor = max((top for callback_id, top in earlier if callback_id <= callback.after_id), default=None)
        arrival = milliseconds(callback.date_received)
        for row in events:
            position = min(row.timestamp, arrival)
            row.position = position if floor is None else max(position, floor + 1)
        earlier.append((callback.pk, max(row.position for row in events)))


def _by_callback(
    rows: Iterable[models.Messaging],
) -> Iterator[tuple[tuple[int, models.Callback], list[models.Messaging]]]:
    """Yield the events of each queue and callback, in the order in which the callbacks were stored."""
    groups: dict[tuple[int, int], list[models.Messaging]] = defaultdict(list)
    callbacks: dict[int, models.Callback] = {}
    for row in rows:
        if row.callback is not None and row.waits_in is not None:
            callbacks[row.callback.pk] = row.callback
            groups[row.callback.pk, row.waits_in].append(row)
    for (callback_id, queue_id), events in sorted(groups.items(), key=itemgetter(0)):
        yield (queue_id, callbacks[callback_id]), events
