"""Held callbacks: those whose split would wait for a row that another transaction has locked.

A rule that makes a query keeps its queue locked until it ends. A view of the project may lock a conversation or a Page.
A split that waited would delay all persons behind it. So it locks with SKIP LOCKED, and a callback stays ``new`` if a
row of it was skipped. Each later callback with an event for one of its queues stays ``new`` too, so each queue keeps
its order. The other callbacks are split.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from djmessenger import clock, models
from djmessenger.clock import Deadline
from djmessenger.pipeline.participants import PERSON_ID
from djmessenger.receiving import Messaging
from djmessenger.receiving.keys import subject_of
from djmessenger.receiving.parsing import Item

Understood = list[tuple[models.Callback, list[Item]]]
"""Callbacks with their items, oldest first."""
QueueKey = tuple[str, str] | str
"""Queue by the ids of Meta: page id and person id of a conversation, or a subject. The rows may not exist yet."""

FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.2
"""Seconds until a worker tries held callbacks again. The pause doubles with each try that fails."""
_SPLIT_SHARE = 0.2
"""Largest share of a worker's time that tries of held callbacks take."""


@dataclass(kw_only=True)
class Held:
    """Callbacks that splits leave ``new``, and the queues of their events, until ``again``.

    The same object is passed to consecutive splits. A callback that would overtake one of these is added.
    """

    callback_ids: set[int] = field(default_factory=set)
    queues: dict[QueueKey, int] = field(default_factory=dict)
    """Id of the first held callback of each queue."""
    read_ids: Collection[int] = ()
    """Callbacks that an earlier split of this process has read. They did not end the process."""

    def again(self) -> Held:
        """Return a new object without held callbacks, so that the next split tries them."""
        return Held(read_ids=frozenset(self.callback_ids))

    def add(self, understood: Understood, locked: Collection[int] = ()) -> None:
        """Add the callbacks whose ids are in ``locked``, and each one behind an added one in a queue of it."""
        # Guard: A writes twice. The first callback is held, the lock ends, and the second one would be split before it.
        # The same happens to B, if the first callback has an event of both.
        # Test (PostgreSQL): tests/test_held.py, test_no_callback_overtakes_a_held_one_in_any_queue_of_it.
        for callback, items in understood:
            queues = {queue_key(item.messaging) for item in items if item.messaging is not None}
            if callback.pk in locked or any(
                callback.pk > self.queues.get(queue, callback.pk) for queue in queues
            ):
                self.callback_ids.add(callback.pk)
                for queue in queues:
                    self.queues[queue] = min(callback.pk, self.queues.get(queue, callback.pk))

    def without(self, understood: Understood) -> Understood:
        """Return the callbacks that are not held."""
        return [one for one in understood if one[0].pk not in self.callback_ids]


class RowsLocked(Exception):
    """Signal to roll back a split and repeat it without the callbacks that it has added to ``Held``."""


def queue_key(messaging: Messaging) -> QueueKey:
    """Return the queue of an event. For an event that gets none, it is the queue that it would have."""
    page_id, psid = messaging.get_page_id(), messaging.get_psid()
    return (page_id, psid) if PERSON_ID.fullmatch(psid) else subject_of(messaging)


class HeldWait:
    """Held callbacks of one worker, and the pause until it tries them again."""

    def __init__(self) -> None:
        self._held = Held()
        self._pause = FIRST_PAUSE
        self._until: Deadline | None = None
        self._began = 0.0

    def begin_split(self) -> Held:
        """Return the held callbacks for a split. After the pause all of them are tried again."""
        if self._until is not None and self._until.remaining() <= 0:
            self._held, self._until = self._held.again(), None
        self._began = clock.seconds()
        return self._held

    def end_split(self) -> bool:
        """Begin the pause if the split has tried callbacks and holds some. Return whether it has begun."""
        if not self._held.callback_ids:
            self._pause = FIRST_PAUSE
        elif self._until is None:
            # Guard: without the growing pause a worker would try without a break while a row is locked.
            # Test (PostgreSQL): tests/test_held.py, test_a_worker_pauses_while_a_row_stays_locked.
            self._until = Deadline(max(self._pause, (clock.seconds() - self._began) / _SPLIT_SHARE))
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            return True
        return False

    def seconds_to_wait(self, longest: float) -> float:
        """Return the seconds until held callbacks are tried again, at most ``longest``."""
        until = self._until
        return longest if until is None else max(0.0, min(longest, until.remaining()))
