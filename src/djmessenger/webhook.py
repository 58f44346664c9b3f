"""Internal: verification, limits, answer and log lines of a POST from Meta.

``views`` uses this module inside Django's handler, and ``intake`` uses it in front of Django.
"""

from __future__ import annotations

import io
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import msgspec
from django.db import Error
from django.http import HttpRequest

from djmessenger import signatures
from djmessenger.bot import get_dispatcher
from djmessenger.bot.pages import app_secrets
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.pipeline.store import Signed, store_each
from djmessenger.project_code import ProjectCode
from djmessenger.secret import Body, Secret
from djmessenger.settings import app_settings

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
"""Message of ASGI."""

HEADERS = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
"""Headers of each answer."""
_WELL_FORMED_SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}", re.ASCII)
_UNESCAPED = re.compile(rb"[^\x00-\x7f]|(?<!\\)/")
"""Bytes that Meta escapes in its JSON: those of other letters than ASCII, and a slash."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


_MOST_SEARCHED = 64 * 1024
"""Largest body of a wrong signature, in bytes, that is searched for the reason."""


class Refused(Exception):
    """Refusal of a callback. It is logged already; ``status`` is the status of the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class BodyReader:
    """Bytes of a body as they arrive, up to ``DJM_MAX_BODY``. The view, the intake and ``asgi.limit`` read with it."""

    def __init__(self, length: str | None) -> None:
        """Raise ``Refused`` with 413 if the header ``Content-Length`` announces too much."""
        self._limit = app_settings.DJM_MAX_BODY
        self._bytes = io.BytesIO()
        if (announced_size(length) or 0) > self._limit:
            raise too_large()

    def room(self) -> int:
        """Return how many bytes to read next: one more than may be added, so that the surplus is noticed."""
        return self._limit + 1 - self._bytes.tell()

    def add(self, part: Body) -> None:
        """Append a part. Raise ``Refused`` with 413 if the body is too large with it."""
        if len(part) >= self.room():
            raise too_large()
        self._bytes.write(part.reveal())

    def get(self) -> Body:
        """Return the bytes so far."""
        return Body(self._bytes.getvalue())


async def receive_asgi(length: str | None, receive: Callable[[], Awaitable[Message]]) -> Body | None:
    """Return the body of a request of ASGI, or None if the client went away. Raise ``Refused`` with 400 or 413.

    No more than ``DJM_MAX_BODY`` bytes are kept, and nothing is received after them.
    """
    body = BodyReader(length)
    while True:
        part, is_last = await _next_part(receive)
        if part is None:
            return None
        body.add(part)
        if is_last:
            return body.get()


async def _next_part(receive: Callable[[], Awaitable[Message]]) -> tuple[Body | None, bool]:
    """Return the next part of a body, or None if the client went away, and whether it is the last one."""
    # A variable of the caller would hold the part while it waits for the next one, and a traceback would show it.
    try:
        message = await receive()
    except Exception as error:  # noqa: BLE001 - as in ``_part``
        raise unreadable(error) from None
    if message["type"] == "http.disconnect":
        return None, True
    return Body(message.get("body", b"")), not message.get("more_body")


def receive(request: HttpRequest) -> Signed:
    """Return the verified callback of a request. Raise ``Refused`` with 400, 403, 411, 413 or 503.

    The cheap checks come first: header, size, signature.
    """
    signature = request.META.get("HTTP_X_HUB_SIGNATURE_256")
    check_header(signature)
    if _is_chunked_and_unreadable(request):
        logger.warning(
            "A callback was refused with 411: its body came in chunks without a Content-Length, and this server "
            "does not pass such bodies on; let the proxy buffer requests",
            extra={"action": "callback_in_chunks"},
        )
        raise Refused(411)
    return verified(_read(request), signature)


def check_header(signature: str | None) -> None:
    """Raise ``Refused`` if the header ``X-Hub-Signature-256`` is missing or malformed. This needs no body."""
    if app_settings.DJM_VERIFY_SIGNATURE and not (signature and _WELL_FORMED_SIGNATURE.fullmatch(signature)):
        raise refused("it has no valid X-Hub-Signature-256 header")


def announced_size(length: str | None) -> int | None:
    """Return the length in a header ``Content-Length``: 0 without the header, None if the header is not a number.

    Django reads no body if the header is not a number.
    """
    try:
        return int(length or 0)
    except ValueError:
        return None


def verified(body: Body, signature: str | None) -> Signed:
    """Return the body with the id of the app that signed it. Raise ``Refused`` if no app of the project signed it."""
    if not app_settings.DJM_VERIFY_SIGNATURE:
        return Signed(body, "")
    app_id = signatures.verify(body, signature, _secrets())
    if app_id is None:
        raise refused(_why_wrong(body))
    return Signed(body, app_id)


def refused(why: str) -> Refused:
    """Log that a callback is refused, and return the exception to raise: 403, or 503 without an app secret."""
    if app_settings.DJM_VERIFY_SIGNATURE and not _secrets():
        logger.error(
            "A callback was refused with 503, because DJM_APP_SECRET is empty; set it to the App Secret",
            extra={"action": "no_app_secret"},
        )
        return Refused(503)
    logger.warning("A callback was refused with 403: %s", why, extra={"action": "callback_refused"})
    return Refused(403)


def _secrets() -> Mapping[str, Secret]:
    """Return the app secrets by app id. If one cannot be used, log that and raise ``Refused`` with 503."""
    try:
        return app_secrets()
    except DJMInvalidConfigException as error:
        logger.error(
            "A callback was refused with 503, because a secret cannot be used: %s",
            error,
            extra={"action": "no_app_secret"},
        )
    raise Refused(503)


def too_large() -> Refused:
    """Log that a callback is too large, and return the exception to raise."""
    logger.warning(
        "A callback is larger than DJM_MAX_BODY and was refused with 413",
        extra={"action": "callback_too_large"},
    )
    return Refused(413)


def unreadable(error: Exception) -> Refused:
    """Log that the web server could not read a body, and return the exception to raise."""
    # The error may quote the body.
    logger.warning(
        "A callback was refused with 400, because the web server could not read its body (%s)",
        type(error).__name__,
        extra={"action": "callback_unreadable"},
    )
    return Refused(400)


def acknowledge(callbacks: Sequence[Signed]) -> list[int]:
    """Store callbacks, wake the dispatcher, and return the status of each answer: 200 or 503.

    200 means that the row is committed. With 503 Meta delivers the callback again. The dispatcher is called once, after
    the commit, and its failure changes no status.
    """
    found = store_each(callbacks)
    stored = [result for result in found if isinstance(result, int)]
    if stored:
        _wake(max(stored))
    if len(stored) == len(found):
        return [200] * len(found)
    for error, count in Counter(result for result in found if isinstance(result, Error)).items():
        logger.error(
            "%s callbacks not stored; the answer is 503, and Meta delivers them again",
            count,
            exc_info=error,
            extra={"action": "callback_not_stored"},
        )
    return [200 if isinstance(result, int) else 503 for result in found]


def _wake(callback_id: int) -> None:
    try:
        with ProjectCode(lambda: "the dispatcher"):
            get_dispatcher().callback_stored(callback_id)
    except Exception:
        # The row is committed, so a failure here must not become a 500: Meta would deliver the callback again.
        logger.exception(
            "The dispatcher failed for callback %s; the callback is stored, and the next sweep processes it",
            callback_id,
            extra={"action": "callback_waits"},
        )


def _is_without_length(request: HttpRequest) -> bool:
    """Return whether a request of WSGI has no Content-Length. Django passes the body of such a request as empty."""
    return "wsgi.input" in request.META and not request.META.get("CONTENT_LENGTH")


def _is_chunked_and_unreadable(request: HttpRequest) -> bool:
    """Return whether the body came in chunks whose end the web server does not tell. Reading could wait for ever."""
    return (
        _is_without_length(request)
        and bool(request.META.get("HTTP_TRANSFER_ENCODING"))
        and not request.META.get("wsgi.input_terminated")
    )


def _part(read: Callable[[int], bytes], size: int) -> Body:
    """Return the next part of a stream of the web server. Raise ``Refused`` with 400 if the server cannot read it."""
    try:
        return Body(read(size))
    except Exception as error:  # noqa: BLE001 - each server has errors of its own for a body that breaks off or is malformed
        raise unreadable(error) from None


def _read(request: HttpRequest) -> Body:
    """Return the raw body. Raise ``Refused`` with 413 if it is too large, and with 400 if it cannot be read.

    The stream is read directly, because Django's own limit answers 400 and is too small for a full callback. The body
    stays available as ``request.body`` for middlewares; it is empty there if it was too large.
    """
    kept = Body()
    try:
        kept = _read_stream(request)
    finally:
        # A middleware may read `request.body` after the view. Without this, Django raises and Meta gets a 500.
        # test_a_middleware_may_read_the_body_after_the_view
        if not getattr(request, "_body", b""):
            request._body = kept.reveal()
            request._stream = io.BytesIO(request._body)
    return kept


def _read_stream(request: HttpRequest) -> Body:
    length = request.META.get("CONTENT_LENGTH")
    if _is_without_length(request) and request.META.get("wsgi.input_terminated"):
        # Also if a middleware has asked for the body: Django gave it an empty one and left the stream unread.
        body, stream = BodyReader(None), request.META["wsgi.input"]
        # One read of such a stream may return less than there is.
        while part := _part(stream.read, body.room()):
            body.add(part)
        return body.get()
    if hasattr(request, "_body"):
        body = BodyReader(None)
        body.add(Body(request.body))
        return body.get()
    if announced_size(length) is None:
        return Body()
    body = BodyReader(length)
    body.add(_part(request.read, body.room()))
    return body.get()


def _why_wrong(body: Body) -> str:
    """Return the probable reason of a wrong signature."""
    if not body:
        return "its body is empty; a middleware may have read it before"
    # Anybody can send eight megabytes. The search would take a second, in which no other thread and no event loop runs.
    # test_a_large_body_with_a_wrong_signature_is_not_searched_for_a_reason
    if len(body) <= _MOST_SEARCHED and _is_written_again(body):
        return (
            "its signature is not made with DJM_APP_SECRET over these bytes, and its JSON is not written as Meta "
            "writes it; a proxy may have parsed the body and written it again, and must pass it on unchanged"
        )
    return "its signature is not made with DJM_APP_SECRET"


def _is_written_again(body: Body) -> bool:
    """Return whether the body is JSON, but not compact or not escaped, as that of Meta is."""
    try:
        # `Raw` checks the notation without making objects, which would take many times the memory of the body.
        msgspec.json.decode(body.reveal(), type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return bool(_UNESCAPED.search(body.reveal())) or len(_STRING.sub(b"", body.reveal()).split()) > 1
