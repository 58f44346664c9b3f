"""Calls of the project's code (internal): rules with their stages, callbacks of ``on_commit``, receivers of signals.

Such code may raise any exception. It may also leave its thread in another state: with an open transaction, or in
another language or time zone. ``ProjectCode`` keeps both from the work that follows in the thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from traceback import walk_tb
from types import FrameType, TracebackType
from typing import Any, Final

from django.db import Error, connections
from django.dispatch import Signal
from django.utils import timezone, translation

from djmessenger import sql
from djmessenger.clock import seconds
from djmessenger.exceptions import ProjectExit, TransactionLeft

logger = logging.getLogger(__name__)

_IN_TRANSACTION: Final = (2, 3)
"""INTRANS and INERROR of libpq ("PQtransactionStatus")."""


class ProjectCode:
    """Context for code of the project.

    An exception that is no ``Exception`` becomes a ``ProjectExit``, unless a signal of the process raised it. If the
    code leaves a transaction open, the transaction is rolled back, and ``TransactionLeft`` is raised. ``name`` returns
    the name of the code for errors.
    """

    __slots__ = ("_depths", "name")

    def __init__(self, name: Callable[[], str]) -> None:
        self.name = name

    def __enter__(self) -> ProjectCode:
        self._depths = {each: _depth(each) for each in _connections()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # With one database it is the same connection: the look for it would take most of the time.
        now = self._depths if len(self._depths) == 1 == len(connections.settings) else _connections()
        left = [each for each in now if _is_left(each, self._depths.get(each, 0))]
        for each in left:
            _roll_back(each, self._depths.get(each, 0))
        if left:
            found = TransactionLeft(self.name(), [each.alias for each in left])
            # Guard: code may close the connection inside the transaction. The next query fails as in an outage of the
            # database, which counts no try, and the event would be handled again for ever.
            # Test (PostgreSQL): tests/faults/test_project_code.py, test_by_a_rule[close].
            if error is None or isinstance(error, Error):
                raise found from error
            logger.error("%s", found, extra={"action": "transaction_left"})
        if not (error is None or isinstance(error, Exception)):
            raise as_exception(error)


def as_exception(error: BaseException) -> Exception:
    """Return what code of the project raised, as an ``Exception``. Raise it again if it ends this process."""
    if is_interruption(error):
        raise error
    if isinstance(error, Exception):
        return error
    if _is_of_signal(error):
        raise error
    found = ProjectExit(error)
    found.__cause__ = error
    return found


def _is_of_signal(error: BaseException) -> bool:
    """Return whether a signal of this process raised an exception of the running code.

    Python runs handlers of signals in the main thread, between two instructions of any code. So the traceback of the
    exception has a frame of the handler, and the handler has the interrupted frame as an argument.
    """
    # Not to be told apart, and taken for the end of the process: a rule in the main thread that raises
    # KeyboardInterrupt itself, because the handler of SIGINT is written in C and has no frame; and one that exits in a
    # function to which it passes its own frame. Taken for a failure of the rule: a handler written in C that raises
    # something else, one that deletes its argument, and what another thread or greenlet throws into this one.
    # tests/faults/test_project_code.py, TestTheEndOfTheProcess
    if threading.current_thread() is not threading.main_thread():
        return False
    if isinstance(error, KeyboardInterrupt):
        return True
    # Frames of compiled code are between the two. psycopg waits in such code for the answer of the database.
    # Test (PostgreSQL): tests/test_contrib_celery.py, test_a_rule_that_waits_for_the_database_is_interrupted.
    before: set[int] = set()
    for frame, _line in walk_tb(error.__traceback__):
        if _has_argument(frame, before):
            return True
        before.add(id(frame))
    return False


def _has_argument(frame: FrameType, sought: set[int]) -> bool:
    """Return whether a variable of a frame, or an item of its arguments, is one of the objects with these ids."""
    values = list(frame.f_locals.values())
    given = [item for value in values if isinstance(value, tuple) for item in value]
    return any(id(value) in sought for value in values + given)


_host = threading.local()


@contextlib.contextmanager
def interrupted_by(kind: type[Exception], share: float) -> Iterator[None]:
    """Run a block into which the host of the thread may raise exceptions of a class, by a signal.

    ``share`` is the number of seconds that each event of the block has before that, at least.
    """
    _host.kind, _host.share, _host.began = kind, share, seconds()
    try:
        yield
    finally:
        _host.kind = None


def begin_event() -> None:
    """Note the time at which this thread begins to handle an event."""
    _host.began = seconds()


def is_interruption(error: BaseException | None) -> bool:
    """Return whether the host of this thread has interrupted the running code.

    False if the code has raised an exception of this class itself, for example that of a task whose result it reads.
    """
    kind = getattr(_host, "kind", None)
    return kind is not None and isinstance(error, kind) and _is_of_signal(error)


def is_early_interruption(error: BaseException | None) -> bool:
    """Return whether the host has interrupted an event before its share of time was over: no fault of its rules."""
    return is_interruption(error) and seconds() - _host.began < _host.share


@contextlib.contextmanager
def language_restored() -> Iterator[None]:
    """Run a block with code of the project, and restore language and time zone of the thread after it."""
    language = translation.get_language()
    # ``override`` also restores that no time zone was active.
    with timezone.override(timezone.get_current_timezone()):
        try:
            yield
        finally:
            if translation.get_language() != language:
                translation.deactivate_all() if language is None else translation.activate(language)


def announce(signal: Signal, sender: type, **named: Any) -> None:
    """Send a signal. Exceptions of its receivers are logged."""
    try:
        with language_restored(), ProjectCode(lambda: f"a receiver of a signal of {sender.__name__}"):
            signal.send_robust(sender, **named)
    except Exception:
        # Guard: the receiver runs after a commit. The thread would end, and take the answers with it that it writes.
        # Test: tests/faults/test_project_code.py, test_an_exit_of_a_receiver_is_logged.
        logger.exception(
            "A receiver of a signal of %s failed; receivers after it were not called",
            sender.__name__,
            extra={"action": "receiver_failed"},
        )


def _connections() -> Iterable[Any]:
    """Return this thread's connections that may be open."""
    # Most projects have one database; the look for used ones takes twice the time.
    return [sql.connection()] if len(connections.settings) == 1 else connections.all(initialized_only=True)


def _depth(connection: Any) -> int:
    """Return the number of ``atomic`` blocks that are entered."""
    return int(connection.in_atomic_block) + len(connection.savepoint_ids)


def _is_left(connection: Any, depth: int) -> bool:
    """Return whether code has left a transaction open, or ended one that it did not begin.

    ``depth`` is the number of blocks before.
    """
    if _depth(connection) != depth or (depth and connection.closed_in_transaction):
        return True
    session = connection.connection
    if depth or session is None:
        return False
    if connection.autocommit != connection.settings_dict["AUTOCOMMIT"]:
        return True
    # A BEGIN that the code sent as SQL. Django does not know of it, and can begin no transaction on the connection.
    return connection.autocommit and (
        getattr(session, "in_transaction", False)
        or getattr(getattr(session, "info", None), "transaction_status", None) in _IN_TRANSACTION
    )


def _roll_back(connection: Any, depth: int) -> None:
    """Undo what code has left on a connection. Inside a block of the caller, the caller's exception rolls it back."""
    # Guard: the exit of an outer block would end the innermost one instead, and leave the transaction open. Events of
    # other persons would be written into it, and be lost with it.
    # Test: tests/faults/test_project_code.py, TestTransactionsThatAreLeft.
    del connection.atomic_blocks[depth:], connection.savepoint_ids[max(0, depth - 1) :]
    if depth:
        return
    connection.in_atomic_block = connection.closed_in_transaction = False
    # Before the close, because a database in memory is never closed.
    with contextlib.suppress(Error):
        connection.rollback()
        connection.set_autocommit(connection.settings_dict["AUTOCOMMIT"])
    with contextlib.suppress(Error):
        connection.close()
