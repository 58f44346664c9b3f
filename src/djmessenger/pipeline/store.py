"""Store: insert the bytes of callbacks, each as one row, before the answer 200.

States of a callback: ``new`` until its split commits, then ``split``. It is ``quarantined`` instead if it contains no
event, or if its split raises and is not tried again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import Error, InterfaceError, OperationalError

from djmessenger import models
from djmessenger.pipeline.connections import over_live_connection, reusable_connections
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.secret import Body


@dataclass(frozen=True)
class Signed:
    """A callback whose signature was checked.

    ``app_id`` is the id of the Meta app whose secret signed it. Without a known id it is empty, or ``#`` and the number
    of the secret.
    """

    body: Body
    app_id: str

    def __init__(self, body: bytes | Body, app_id: str = "") -> None:
        object.__setattr__(self, "body", Body(body))
        object.__setattr__(self, "app_id", app_id)


def store(body: bytes | Body, app_id: str = "") -> int:
    """Insert a callback and return the id of its row. See ``store_many``."""
    # No other variable holds the body, because a traceback would show it.
    body = Body(body)
    return store_many([Signed(body, app_id)])[0]


def store_many(callbacks: Sequence[Signed]) -> list[int]:
    """Insert callbacks in one statement and return the id of each row.

    The same bytes signed by the same app have one row. Commits, unless a transaction is open. Raises
    ``django.db.Error`` if the rows could not be inserted; no callback may be answered 200 then.
    """
    failpoint("intake_body_read")
    rows = [(_digest(callback), callback.body, callback.app_id) for callback in callbacks]
    # 200 is answered after this commit. A crash before it sends no 200, and Meta posts the callbacks again.
    # test_without_the_row_a_callback_answered_with_200_is_lost
    callback_ids = models.Callback.objects.put(rows)
    failpoint("intake_stored")
    return callback_ids


def store_each(callbacks: Sequence[Signed]) -> list[int | Error]:
    """Insert callbacks together, or one by one if that fails. Return the id of each row, or its error.

    If the server had ended the connection, the callbacks are inserted over a new one.
    If a single callback fails with an ``InterfaceError`` or ``OperationalError``, the database is away. The rest then
    has the same error and is not tried, because each try could be a long wait.
    """
    try:
        # A row that the first try stored is a repeat for the second one, because the digest of its bytes is the same.
        # test_the_first_callback_after_a_restart_of_the_database_is_stored_by_the_view
        return [*over_live_connection(lambda: store_many(callbacks))]
    except Error as error:
        if len(callbacks) == 1:
            return [error]
    # One row that the database refuses must not make the answer of the other callbacks a 503. The database may also end
    # this statement because of a deadlock with that of another group.
    # test_a_callback_that_the_database_refuses_does_not_spoil_the_others
    found: list[int | Error] = []
    for callback in callbacks:
        try:
            # The server may have closed the connection, and the first statement failed for that reason.
            with reusable_connections():
                found += store_many([callback])
        except (InterfaceError, OperationalError) as error:
            return found + [error] * (len(callbacks) - len(found))
        except Error as error:
            found.append(error)
    return found


def _digest(callback: Signed) -> str:
    # Two apps of one Page may post the same bytes. App A's signature must not stand for app B's callback:
    # A's copy is ignored, and B's copy would be taken for a repeat. tests/test_pages.py TestTwoApps.
    signer = f"{callback.app_id}\n".encode() if callback.app_id else b""
    return hashlib.sha256(signer + callback.body.reveal()).hexdigest()
