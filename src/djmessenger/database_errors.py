"""Internal: which exceptions concern the database as a whole, and so tell nothing about a row or a rule."""

from __future__ import annotations

import traceback
from typing import Any, Final

from django.db import Error, InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.utils import DatabaseErrorWrapper

from djmessenger.sql import alias

_LOCK_NOT_AVAILABLE: Final = "55P03"
_STATES: Final = ("08", "40", "53", "57P", "58", _LOCK_NOT_AVAILABLE)
"""First characters of SQLSTATE (PostgreSQL, "Error Codes").

Lost connection; deadlock or serialization failure; full disk, memory or connections; shutdown; failed input or output;
a lock that another transaction holds.
"""
_LIMIT_OF_STATEMENT: Final = "53400"
"""SQLSTATE of a statement over a configured limit, such as ``temp_file_limit``. The same statement fails each time."""
_QUERY_CANCELED: Final = "57014"
"""SQLSTATE of a statement over ``statement_timeout``, for example because it waited for a lock."""
_SQLITE_CODES: Final = frozenset({5, 6, 7, 10, 13, 14, 15})
"""Primary result codes of SQLite: BUSY, LOCKED, NOMEM, IOERR, FULL, CANTOPEN and PROTOCOL."""


def is_outage(error: BaseException | None) -> bool:
    """Return whether an exception concerns a database of the project as a whole, so the same work may succeed later."""
    if not isinstance(error, Error):
        return False
    state = _sqlstate(error)
    if state is not None:
        return state.startswith(_STATES) and state != _LIMIT_OF_STATEMENT
    code: int | None = getattr(error.__cause__, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _SQLITE_CODES
    # The drivers give no code to a connection that is lost or cannot be opened.
    return isinstance(error, (InterfaceError, OperationalError))


def is_outage_of_engine(error: BaseException | None) -> bool:
    """Return whether an exception of a statement of the engine is an outage.

    A statement that was cancelled counts as one, because statements of the engine take long only behind a lock. A
    statement of a rule may be too slow at each try.
    """
    return is_outage(error) or (isinstance(error, Error) and _sqlstate(error) == _QUERY_CANCELED)


def _sqlstate(error: Error) -> str | None:
    driver = error.__cause__
    state: str | None = getattr(driver, "sqlstate", None) or getattr(driver, "pgcode", None)
    return state


def is_lock_timeout(error: BaseException) -> bool:
    """Return whether PostgreSQL raised an exception because a lock was not free within ``lock_timeout``."""
    return isinstance(error, Error) and _sqlstate(error) == _LOCK_NOT_AVAILABLE


def is_own_outage(error: BaseException | None) -> bool:
    """Return whether an exception of a rule is an outage of the database of the app's models.

    False for another database of the project, and for an exception that no connection raised. The rule is at fault
    then, and would be tried for ever.
    """
    return is_outage(error) and error is not None and _alias_of(error) == alias()


def _alias_of(error: BaseException) -> str | None:
    """Return the alias of the connection that raised an exception, or None if none did."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        # Nothing of other objects is read, because it may run code of authors.
        owner: object = frame.f_locals.get("self")
        connection: Any = vars(owner)["wrapper"] if isinstance(owner, DatabaseErrorWrapper) else owner
        if isinstance(owner, CursorWrapper):
            connection = owner.db
        if isinstance(connection, BaseDatabaseWrapper):
            found = connection.alias
    return found
