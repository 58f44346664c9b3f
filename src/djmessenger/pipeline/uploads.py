"""Uploads of local files: once for each Page and content, then sent by attachment id until the id expires.

An upload is not visible to the person. An upload without an answer is therefore repeated.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from typing import Any

from djmessenger import models, rulebook
from djmessenger.channels import channel_of
from djmessenger.graph import errors
from djmessenger.graph.client import Client
from djmessenger.graph.wire import Upload
from djmessenger.outgoing.attachments import pending_file, with_attachment_id
from djmessenger.outgoing.base import limit_of
from djmessenger.outgoing.local_files import read_file
from djmessenger.settings import app_settings

UNKNOWN_ATTACHMENT = (100, 2018074)
"""Code and subcode of Meta's refusal if the Page does not have the attachment id (Send API, "Error codes")."""

_locks = [threading.Lock() for _ in range(16)]
"""Locks by the hash of the content: a second thread with the same file waits for the upload of the first.

Without them, threads that send one file to many persons upload it once each
(test_threads_that_want_the_same_file_upload_it_once).
"""


def has_file(data: Mapping[str, Any]) -> bool:
    """Return whether the body names a local file."""
    return pending_file(data) is not None


def with_file(client: Client, page: models.Page, data: dict[str, Any]) -> dict[str, Any]:
    """Return the body with an attachment id in place of a local file; upload the file if the Page has no valid id.

    Must run outside a transaction, which would stay open for the whole upload. Raises ``OSError`` if the file cannot
    be read, and a ``GraphError`` if the upload fails. An upload without an answer raises ``RetryLater``, never
    ``UnknownFate``, because a repeated upload is harmless.
    """
    # test_no_transaction_is_open_while_meta_is_asked
    file = pending_file(data)
    if file is None:
        return data
    content = read_file(file.path, most=_most_bytes(file.kind), seconds=app_settings.DJM_GRAPH_TIMEOUT)
    digest = hashlib.sha256(content).hexdigest()
    with _locks[int(digest[:2], 16) % len(_locks)]:
        row = models.UploadedFile.objects.find(page, digest, file.kind)
        if row is None:
            upload = Upload(file.path.name, content, file.content_type)
            try:
                attachment_id = client.upload(
                    file.kind,
                    upload,
                    platform=channel_of(page.configured("channel")).upload_platform,
                    timeout=app_settings.DJM_UPLOAD_TIMEOUT,
                )
            except errors.UnknownFate as error:
                # No message was sent, so the reply is retried instead of waiting for an echo that cannot come.
                # test_an_upload_of_unknown_fate_is_made_again
                raise _repeatable(error) from None
            row = models.UploadedFile.objects.keep(page, digest, file.kind, attachment_id)
    return with_attachment_id(data, row.attachment_id)


def _most_bytes(kind: str) -> int:
    return limit_of(rulebook.row("attachment.bytes.image" if kind == "image" else "attachment.bytes"))


def _repeatable(error: errors.UnknownFate) -> errors.RetryLater:
    return errors.RetryLater(
        error.message,
        code=error.code,
        subcode=error.subcode,
        status=error.status,
        fbtrace_id=error.fbtrace_id,
        meaning=f"the file was not uploaded: {error.meaning}",
        call=error.call,
    )


def forget(page: models.Page, body: Mapping[str, Any]) -> None:
    """Delete the stored row of the attachment id in ``body``, so that the next attempt uploads the file again."""
    attachment_id = body["message"]["attachment"]["payload"]["attachment_id"]
    models.UploadedFile.objects.filter(page=page, attachment_id=attachment_id).delete()
