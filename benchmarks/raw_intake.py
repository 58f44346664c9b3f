"""Raw limit of an acknowledgement: an ASGI application that verifies, commits many bodies at once and answers 200.

It does only the work that each durable intake must do. ``bench_acknowledging`` compares ``djmessenger.intake_app`` with
it. It has no limits, no dedup key, no other paths and no reasons of refusals. An error of the database ends it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import queue
import threading
from typing import Any

from django.db import connection

SECRET = b"0123456789abcdef0123456789abcdef"
MOST = 100


class RawIntake:
    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        threading.Thread(target=self._write, daemon=True).start()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        given = next(value for name, value in scope["headers"] if name == b"x-hub-signature-256")
        expected = b"sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest().encode()
        assert hmac.compare_digest(expected, given)
        future = asyncio.get_running_loop().create_future()
        self._waiting.put((body, future))
        await future
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def _write(self) -> None:
        while True:
            group = [self._waiting.get()]
            while len(group) < MOST and not self._waiting.empty():
                group.append(self._waiting.get())
            with connection.cursor() as cursor:
                values = ", ".join(["(%s)"] * len(group))
                cursor.execute(f"INSERT INTO bare VALUES {values}", [body for body, _ in group])  # noqa: S608
            group[0][1].get_loop().call_soon_threadsafe(_answer, [future for _, future in group])


def _answer(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        future.set_result(None)
