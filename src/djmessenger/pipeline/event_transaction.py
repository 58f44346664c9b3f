"""Transaction of one event: it begins before the first query that a rule makes, or not at all.

State diagram::

    open  --first query, lease valid, event waiting-->  begun    --commit-->  done
    open  --first query, lease lost or event handled->  refused  (each further query raises again)
    open  --no query of the rules------------------->  open     --committed later with other events-->  done
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.db import connections

from djmessenger import models, sql
from djmessenger.models.replies import ReplyBuffer
from djmessenger.project_code import ProjectCode, language_restored
from djmessenger.routing.functions import function_name

logger = logging.getLogger(__name__)


class HandledAlready(Exception):
    """Refusal of a transaction because another worker has handled the event."""


class EventTransaction:
    """Lazy transaction of one event.

    The lease check and the row lock run before the first query that a rule makes. If the rules make no query, the
    event is committed later, together with up to 99 others. This is safe because its only effects, the buffered
    replies and the outcome, are written in that same transaction after the lease was checked.

    States:

    * Open: no query yet. New replies go to ``buffer``.
    * Begun, after the first query: queue and row are locked. The buffer is inserted and closed.
    * Refused, if the lease is lost or the event is handled. Each further query raises the same exception.
    """

    def __init__(self, lock_and_verify: Callable[[], bool]) -> None:
        self._lock_and_verify = lock_and_verify
        self._error: Exception | None = None
        self.is_error_of_rules = False
        """True if an exception of the rules, and none of the engine, has ended the block of the rules."""
        self.is_begun = False
        self.buffer = ReplyBuffer()

    def begin(self) -> None:
        """Lock queue and row, and insert the buffered replies. Does nothing if an earlier call succeeded.

        Raises ``LeaseLost`` or ``HandledAlready``, and raises it again at each further call.
        """
        # A rule may catch the exception of its first query and go on. The next query, or the end of the block, must
        # not commit then. test_a_rule_that_swallows_lease_lost_has_no_effect
        if self._error is not None:
            raise self._error
        if self.is_begun:
            return
        self.is_begun = True
        self.buffer.is_open = False
        try:
            if not self._lock_and_verify():
                raise HandledAlready
        except Exception as error:
            self._error = error
            raise
        # Replies are sent in the order of their keys. Buffered replies are inserted before the rule's query can insert
        # one itself. test_answers_stay_in_order_if_handlers_queue_some_themselves
        if self.buffer.replies:
            models.Reply.objects.insert(self.buffer.replies)
            self.buffer.replies = []

    @contextlib.contextmanager
    def begun_by_the_first_query(self) -> Iterator[None]:
        """Call ``begin`` before the first query of the block, or at the end of a block that called ``on_commit``.

        A query on any database counts. The transaction covers only rows in the database of the app's models. If
        ``begin`` fails, the block raises its exception, whatever the rule makes of it.
        """
        # A callback of a rule without a query would run at the end of this transaction, before the answer of that rule
        # is committed with others. test_on_commit_callbacks_of_a_rule_run_after_its_answer_is_committed
        connection = sql.connection()
        waiting = len(connection.run_on_commit)

        def query(execute: Callable[..., Any], *query: Any) -> Any:
            self.begin()
            return execute(*query)

        with contextlib.ExitStack() as wrapped:
            # A rule may make queries on another database only. Without the check before them, a worker whose lease is
            # lost would write there too, beside the worker that has the queue.
            # test_a_rule_writes_to_no_database_after_its_lease_is_lost
            for each in connections.all():
                wrapped.enter_context(each.execute_wrapper(query))
            try:
                yield
            except Exception as error:
                # A rule may catch the exception and raise its own, which would count a failed try.
                # tests/test_database_errors.py, test_a_rule_cannot_make_a_try_of_a_refused_lock
                if self._error is not None and self._error is not error:
                    raise self._error from error
                self.is_error_of_rules = self._error is None
                raise
        if self.is_begun or len(connection.run_on_commit) > waiting:
            self.begin()


@contextlib.contextmanager
def commit_callbacks_logged(events: Sequence[int]) -> Iterator[None]:
    """Log exceptions of the ``on_commit`` callbacks that the block registers, instead of raising them.

    ``events`` contains the ids of the events that the transaction commits.

    The commit is done then. An exception would look like a failed commit, and later callbacks would not run.
    """
    # test_a_callback_of_a_rule_that_fails_after_the_commit_is_no_failed_try
    # test_a_callback_of_a_receiver_that_fails_after_the_commit_leaves_the_reply_to_be_sent
    connection = sql.connection()
    before = len(connection.run_on_commit)
    yield
    connection.run_on_commit[before:] = [
        (savepoints, _logged(function, events), is_robust)
        for savepoints, function, is_robust in connection.run_on_commit[before:]
    ]


def _logged(function: Callable[[], object], events: Sequence[int]) -> Callable[[], None]:
    @functools.wraps(function)
    def run() -> None:
        try:
            with language_restored(), ProjectCode(lambda: f"the callback {_described(function)}"):
                function()
        except Exception:
            logger.exception(
                "The callback %s of on_commit failed, after the commit of event %s, which stays done",
                _described(function),
                ", ".join(map(str, events)),
                extra={"action": "commit_callback_failed", "event": events[0] if len(events) == 1 else None},
            )

    return run


def _described(function: Callable[[], object]) -> str:
    """Return the name of a function, with file and line if it is written in Python."""
    inner = getattr(function, "func", function)
    code = getattr(inner, "__code__", None)
    return f"{function_name(inner)}{f' at {code.co_filename}:{code.co_firstlineno}' if code else ''}"
