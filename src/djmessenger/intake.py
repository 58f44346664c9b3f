"""Internal: applications of ``intake_app``. They store callbacks in groups, with one statement and one commit each.

Callbacks that arrive while a group is committed form the next group. One thread with a connection of its own writes the
groups, so no event loop waits for the database.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import logging
import os
import queue
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.core.handlers.asgi import get_script_prefix
from django.core.handlers.wsgi import WSGIRequest, get_path_info
from django.urls import Resolver404, resolve

from djmessenger import webhook
from djmessenger.pipeline.pools import BatchWriter
from djmessenger.pipeline.store import Signed
from djmessenger.secret import Body
from djmessenger.views import DJMBotView
from djmessenger.webhook import Message, Refused

logger = logging.getLogger(__name__)

Waiter = TypeVar("Waiter")
"""Object on which a request waits for the status of its callback."""
_MOST_WAITING = 1000
"""Number of callbacks that may wait for their commit. Further ones are answered 503, so that memory stays bounded."""
_MOST_BYTES = 1024 * 1024
"""Most bytes of the bodies in one statement. A single callback may be larger."""
_RETRY_AFTER = "5"
"""Header ``Retry-After`` of each answer 503, in seconds."""
_STOP_TIMEOUT = 10.0
"""Seconds for which the process waits at its end until the waiting callbacks are committed."""


class Groups(Generic[Waiter]):
    """Waiting callbacks, and the thread that stores them in groups.

    ``answer`` gets the status of each callback of a group after the commit, in that thread. With ``may_block`` the
    caller's thread stores its callback itself if the system refuses a thread.
    """

    def __init__(self, answer: Callable[[list[tuple[Waiter, int]]], None], *, may_block: bool) -> None:
        self._answer = answer
        self._may_block = may_block
        self._reset()
        # Guard: a child forked while a thread holds the lock would wait for it for ever, and the writer's thread exists
        # only in the parent. Test: tests/test_intake_app.py, test_a_forked_child_stores_with_a_thread_of_its_own.
        if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
            os.register_at_fork(after_in_child=self._reset)
        atexit.register(self.stop)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._writer: BatchWriter[tuple[Signed, Waiter]] | None = None

    def put(self, callback: Signed, waiter: Waiter) -> None:
        """Add a callback to the next group.

        Raise ``Refused`` with 503 if too many callbacks wait already, or if the system refuses the thread and the
        caller must not block.
        """
        # Guard: without the lock a callback could be added to a writer after ``stop`` has ended it. It would never be
        # answered. Test: tests/test_intake_app.py, test_each_callback_is_answered_while_the_writer_stops.
        with self._lock:
            writer = self._writer = self._writer or self._new_writer()
            is_full = writer is not None and writer.waiting() >= _MOST_WAITING
            if writer is not None and not is_full:
                writer.put((callback, waiter))
        if writer is None:
            if not self._may_block:
                raise Refused(503)
            self._store([(callback, waiter)])
        if is_full:
            logger.warning(
                "A callback was refused with 503, because %s wait for their commit; Meta delivers it again",
                _MOST_WAITING,
                extra={"action": "too_many_waiting"},
            )
            raise Refused(503)

    def _new_writer(self) -> BatchWriter[tuple[Signed, Waiter]] | None:
        """Return a new writer, or None if the system refuses its thread. The next callback tries again."""
        try:
            return BatchWriter("intake", self._store, lambda: None)
        except RuntimeError:
            logger.error(
                "The system refused the thread that stores callbacks; %s",
                "each request stores its own"
                if self._may_block
                else "the answer is 503, and Meta delivers again",
                extra={"action": "no_thread"},
            )
            return None

    def stop(self) -> None:
        """Store and answer the callbacks that wait, and end the thread. The next callback starts a new thread."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.stop(_STOP_TIMEOUT)

    def _store(self, waiting: list[tuple[Signed, Waiter]]) -> list[tuple[Signed, Waiter]]:
        for group in _groups(waiting):
            try:
                statuses = webhook.acknowledge([callback for callback, _ in group])
            except Exception:
                # Guard: without an answer the requests of this group would wait for ever.
                # Test: tests/test_intake_app.py, test_an_unexpected_error_is_answered_500.
                logger.exception(
                    "%s callbacks not stored; the answer is 500, and Meta delivers them again",
                    len(group),
                    extra={"action": "callback_not_stored"},
                )
                statuses = [500] * len(group)
            self._answer([(waiter, status) for (_, waiter), status in zip(group, statuses, strict=True)])
        return []


def _groups(waiting: Sequence[tuple[Signed, Waiter]]) -> Iterator[list[tuple[Signed, Waiter]]]:
    """Yield the waiting callbacks in groups of up to ``_MOST_BYTES``."""
    group: list[tuple[Signed, Waiter]] = []
    size = 0
    for item in waiting:
        size += len(item[0].body)
        if group and size > _MOST_BYTES:
            yield group
            group, size = [], len(item[0].body)
        group.append(item)
    if group:
        yield group


class WSGIIntake:
    """WSGI application in front of ``application``. The thread of a request waits for the commit of its group."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self._groups: Groups[queue.SimpleQueue[int]] = Groups(_answer_threads, may_block=True)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "POST" or not _is_webhook(get_path_info(environ)):
            return self._application(environ, start_response)
        try:
            answer: queue.SimpleQueue[int] = queue.SimpleQueue()
            self._groups.put(webhook.receive(WSGIRequest(environ)), answer)
            status = answer.get()
        except Refused as refusal:
            status = refusal.status
        start_response(f"{status} {HTTPStatus(status).phrase}", list(_headers(status)))
        return [b""]


class ASGILimit:
    """ASGI application in front of ``application`` that answers 413 to bodies of the webhook over ``DJM_MAX_BODY``.

    A smaller body reaches ``application`` whole. Other paths and other protocols pass through unchanged.
    """

    def __init__(self, application: Callable[..., Awaitable[None]]) -> None:
        self._application = application

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        # All methods: Django reads the body of any request before it looks at the method.
        if scope["type"] != "http" or _view_at(_path_info(scope), settings.ROOT_URLCONF) is None:
            await self._application(scope, receive, send)
            return
        try:
            body = await webhook.receive_asgi(_header(scope["headers"], b"content-length"), receive)
        except Refused as refusal:
            await _answer(send, refusal.status)
            return
        if body is None:
            return
        bodies = [body]

        async def replay() -> Message:
            if not bodies:
                return await receive()
            return {"type": "http.request", "body": bodies.pop().reveal(), "more_body": False}

        await self._application(scope, replay, send)


class ASGIIntake:
    """ASGI application in front of ``application``. The event loop does not wait for the database."""

    def __init__(self, application: Callable[..., Awaitable[None]]) -> None:
        self._application: Callable[..., Awaitable[None]] = ASGILimit(application)
        self._groups: Groups[asyncio.Future[int]] = Groups(_answer_loops, may_block=False)

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not _is_webhook(_path_info(scope)):
            await self._application(scope, receive, send)
            return
        try:
            callback = await _received(scope["headers"], receive)
            if callback is None:
                return
            future = asyncio.get_running_loop().create_future()
            self._groups.put(callback, future)
            status = await future
        except Refused as refusal:
            status = refusal.status
        await _answer(send, status)


async def _received(
    headers: Iterable[tuple[bytes, bytes]], receive: Callable[[], Awaitable[Message]]
) -> Signed | None:
    """Return the verified callback of a request, or None if the client went away.

    Raises ``Refused`` with the statuses of ``webhook.receive``.
    """
    signature = _header(headers, b"x-hub-signature-256")
    length = _header(headers, b"content-length")
    webhook.check_header(signature)
    if webhook.announced_size(length) is None:
        return webhook.verified(Body(), signature)
    body = await webhook.receive_asgi(length, receive)
    return None if body is None else webhook.verified(body, signature)


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Return a header of ASGI. Several of one name are joined by a comma, as Django does."""
    values = [value for found, value in headers if found == name]
    return b",".join(values).decode("latin1") if values else None


async def _answer(send: Callable[[Message], Awaitable[None]], status: int) -> None:
    headers = list(_encoded_headers(status))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _is_webhook(path: str) -> bool:
    # A subclass may have other rules for callbacks, so its requests stay in Django.
    return _view_at(path, settings.ROOT_URLCONF) is DJMBotView


@functools.lru_cache(maxsize=256)
def _view_at(path: str, urlconf: Any) -> type[DJMBotView] | None:
    """Return the view of the webhook that the URLs of the project have at this path, which may be a subclass."""
    try:
        view = getattr(resolve(path, urlconf).func, "view_class", None)
    except Resolver404:
        return None
    return view if isinstance(view, type) and issubclass(view, DJMBotView) else None


def _path_info(scope: MutableMapping[str, Any]) -> str:
    path: str = scope["path"]
    return path.removeprefix(get_script_prefix(scope))


@functools.cache
def _headers(status: int) -> list[tuple[str, str]]:
    more = {"Retry-After": _RETRY_AFTER} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return [*webhook.HEADERS.items(), ("Content-Length", "0"), *more.items()]


@functools.cache
def _encoded_headers(status: int) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in _headers(status)]


def _answer_threads(answers: list[tuple[queue.SimpleQueue[int], int]]) -> None:
    for waiter, status in answers:
        waiter.put(status)


def _answer_loops(answers: list[tuple[asyncio.Future[int], int]]) -> None:
    """Set the results of futures in their event loops, with one call for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[int], int]]] = defaultdict(list)
    for future, status in answers:
        by_loop[future.get_loop()].append((future, status))
    for loop, results in by_loop.items():
        # The error means that the loop is closed, and so are the connections that waited for these answers.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_set_results, results)


def _set_results(results: list[tuple[asyncio.Future[int], int]]) -> None:
    for future, status in results:
        # The server has cancelled the future if the client went away.
        if not future.done():
            future.set_result(status)
