"""Store: insert the bytes of a callback as one row, before Meta gets its 200.

States of a callback: ``new`` until its split commits, then ``split``. It is ``quarantined`` instead if it contains no
event, or if its split raises and is not tried again.
"""

from __future__ import annotations

import hashlib

from djmessenger import models
from djmessenger.pipeline.failpoints import failpoint


def store(body: bytes, app_id: str = "") -> int:
    """Insert the body of a callback and return the id of its row. The same bytes signed by the same app have one row.

    ``app_id`` is the id of the Meta app whose secret signed the body. Without a known id it is empty, or ``#`` and the
    number of the secret. The caller has checked the signature. Commits, unless a transaction is open.

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
