"""Cost of an acknowledgement (verify, store, answer 200), against a bare Django view over the same bytes.

The bare views run in the same handler with the same middlewares. One verifies and decodes, as most bots do. The
other verifies and does one raw INSERT, which is the minimum cost of a stored body.

``intake_app`` answers many requests at once. It is compared with ``benchmarks.raw_intake``, which also does. Both are
called without a web server, whose cost would hide the difference.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import io
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
from django.conf import settings

from benchmarks.site import database

REQUESTS = 30
"""Requests of each view in a round."""
AT_ONCE, EACH = 64, 8
"""Number of clients of the intake that post at the same time, and requests of each client in a round."""
SECRET = "0123456789abcdef0123456789abcdef"


class IdleDispatcher:
    """Dispatcher that does nothing, so that only the acknowledgement is measured."""

    def __init__(self, engine: Any) -> None:
        pass

    def callback_stored(self, callback_id: int) -> None:
        pass

    def replies_queued(self, conversation_id: int) -> None:
        pass

    def stop(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="sqlite")
    parser.add_argument("--rounds", type=int, default=90, help="rounds in which the views take turns")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, database(chosen.database, Path(folder)) as named:
        os.environ.update(named)
        _run(chosen.rounds)


def _run(rounds: int) -> None:
    settings.DJM_DISPATCHER = "benchmarks.bench_acknowledging.IdleDispatcher"
    settings.ROOT_URLCONF = "benchmarks.urls"
    django.setup()
    from django.core.handlers.asgi import ASGIHandler  # noqa: PLC0415
    from django.core.handlers.wsgi import WSGIHandler  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    from benchmarks.measure import show  # noqa: PLC0415
    from benchmarks.raw_intake import RawIntake  # noqa: PLC0415
    from djmessenger import intake_app, models  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE bare (body BLOB)"
            if connection.vendor == "sqlite"
            else "CREATE TABLE bare (body bytea)"
        )
    handler = WSGIHandler()

    def request(path: str) -> Callable[[], None]:
        def call() -> None:
            body, signature = signed_body()
            statuses: list[str] = []
            environ = {
                "REQUEST_METHOD": "POST",
                "PATH_INFO": path,
                "SERVER_NAME": "bench",
                "SERVER_PORT": "80",
                "CONTENT_TYPE": "application/json",
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_X_HUB_SIGNATURE_256": signature,
                "wsgi.input": io.BytesIO(body),
                "wsgi.url_scheme": "http",
                "wsgi.errors": io.StringIO(),
            }
            answer = handler(environ, lambda status, headers, exc_info=None: statuses.append(status))
            b"".join(answer)
            answer.close()
            assert statuses == ["200 OK"], statuses

        return call

    intakes = {"intake": intake_app.asgi(ASGIHandler()), "raw": RawIntake()}
    views = {name: request(f"/{name}") for name in ("messenger", "bare-decode", "bare-insert")}
    settings.CONN_MAX_AGE = None
    connection.settings_dict["CONN_MAX_AGE"] = None
    cost: dict[str, list[float]] = {name: [] for name in views}
    for call in views.values():
        call()
    for _ in range(rounds):
        # The views take turns, so that a noisy minute slows all of them.
        for name, call in views.items():
            started = time.process_time()
            for _ in range(REQUESTS):
                call()
            cost[name].append((time.process_time() - started) / REQUESTS)
        for name, application in intakes.items():
            cost.setdefault(name, []).append(asyncio.run(_intake_cost(application)))

    def against(bare: str, ours: str = "messenger") -> float:
        """Return the median over the rounds of our cost divided by the cost of ``bare``."""
        return statistics.median(one / other for one, other in zip(cost[ours], cost[bare], strict=True))

    expected = rounds * (REQUESTS + AT_ONCE * EACH) + 1
    assert models.Callback.objects.count() == expected
    show("callbacks stored and answered", expected, "rows")
    show("CPU of an acknowledgement", statistics.median(cost["messenger"]) * 1e6, "us")
    show(
        "acks per second against a bare view that verifies and decodes",
        1 / against("bare-decode"),
        "times",
    )
    show(
        "CPU against a bare view that verifies and inserts",
        against("bare-insert"),
        "times",
    )
    show("CPU of an acknowledgement by intake_app", statistics.median(cost["intake"]) * 1e6, "us")
    show("CPU of the raw limit", statistics.median(cost["raw"]) * 1e6, "us")
    show("CPU of intake_app against the raw limit", against("raw", "intake"), "times")
    show("CPU of intake_app against the view", against("messenger", "intake"), "times")


_numbers = itertools.count()


def signed_body() -> tuple[bytes, str]:
    """Return a callback with one text and its signature."""
    text = f"number {next(_numbers)}"
    item = {"sender": {"id": "7215540983316204"}, "recipient": {"id": "104233987650012"}}
    item |= {"timestamp": 1795425304000, "message": {"mid": f"m_{text}", "text": text}}
    body = json.dumps({"object": "page", "entry": [{"id": "104233987650012", "messaging": [item]}]}).encode()
    return body, "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


async def _intake_cost(application: Any) -> float:
    """Return the CPU seconds of one request while ``AT_ONCE`` clients post."""
    requests = [[signed_body() for _ in range(EACH)] for _ in range(AT_ONCE)]

    async def post(body: bytes, signature: str) -> None:
        headers = [
            (b"host", b"bench"),
            (b"user-agent", b"facebookexternalua"),
            (b"accept", b"*/*"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-hub-signature", b"sha1=" + b"0" * 40),
            (b"x-hub-signature-256", signature.encode()),
        ]
        scope = {"type": "http", "method": "POST", "path": "/messenger", "headers": headers}
        sent = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await application(scope, receive, send)
        assert sent[0]["status"] == 200, sent

    async def post_all(given: list[tuple[bytes, str]]) -> None:
        for body, signature in given:
            await post(body, signature)

    started = time.process_time()
    await asyncio.gather(*map(post_all, requests))
    return (time.process_time() - started) / (AT_ONCE * EACH)


if __name__ == "__main__":
    main()
