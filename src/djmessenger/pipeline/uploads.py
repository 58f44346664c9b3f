"""Files on this machine: uploaded once for each Page, then sent by their id until that expires.

An upload shows nobody anything, so one of which no answer came is simply made again.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from typing import Any

from djmessenger import graph, models
from djmessenger.graph import errors
from djmessenger.outgoing.attachments import pending_file, with_attachment_id
from djmessenger.settings import app_settings

UNKNOWN_ATTACHMENT = (100, 2018074)
"""Code and subcode for an attachment id that is not, or no longer, this Page's (Send API, "Error codes")."""

_locks = [threading.Lock() for _ in range(16)]
"""By hash: threads that want the same file wait for the one that uploads it."""


def has_file(data: Mapping[str, Any]) -> bool:
    """Whether the body names a file on this machine."""
    return pending_file(data) is not None


def with_file(client: graph.Client, page: models.Page, data: dict[str, Any]) -> dict[str, Any]:
    """Give the body as it can be sent: the file it names is uploaded, unless this Page has it at Meta already.

    Not to be called in a transaction. Raises ``OSError`` where the file cannot be read, and a ``GraphError`` that
    is never of unknown fate where the upload fails.
    """
    file = pending_file(data)
    if file is None:
        return data
    content = file.path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    with _locks[int(digest[:2], 16) % len(_locks)]:
        row = models.UploadedFile.objects.find(page, digest, file.kind)
        if row is None:
            is_instagram = page.configured("channel") == models.Page.Channel.INSTAGRAM
            upload = graph.Upload(file.path.name, content, file.content_type)
            try:
                attachment_id = client.upload(
                    file.kind,
                    upload,
                    platform="INSTAGRAM" if is_instagram else None,
                    timeout=app_settings.DJM_UPLOAD_TIMEOUT,
                )
            except errors.UnknownFate as error:
                raise _repeatable(error) from None
            row = models.UploadedFile.objects.keep(page, digest, file.kind, attachment_id)
    return with_attachment_id(data, row.attachment_id)


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
    """Drop the id that this body was sent with, so that the file is uploaded anew."""
    attachment_id = body["message"]["attachment"]["payload"]["attachment_id"]
    models.UploadedFile.objects.filter(page=page, attachment_id=attachment_id).delete()
