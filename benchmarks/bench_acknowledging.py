"""Cost of an acknowledgement (verify, store, answer 200), against a bare Django view over the same bytes.

The bare views run in the same handler with the same middlewares. One verifies and decodes, as most bots do. The
other verifies and does one raw INSERT, which is the minimum cost of a stored body.
"""

from __future__ import annotations

import argparse
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

ROUNDS, REQUESTS = 90, 30
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
    with (
        tempfile.TemporaryDirectory() as folder,
        database(parser.parse_args().database, Path(folder)) as named,
    ):
        os.environ.update(named)
        _run()


def _run() -> None:
    settings.DJM_DISPATCHER = "benchmarks.bench_acknowledging.IdleDispatcher"
    settings.ROOT_URLCONF = "benchmarks.urls"
    django.setup()
    from django.core.handlers.wsgi import WSGIHandler  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    from benchmarks.measure import show  # noqa: PLC0415
    from djmessenger import models  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE bare (body BLOB)"
            if connection.vendor == "sqlite"
            else "CREATE TABLE bare (body bytea)"
        )
    handler = WSGIHandler()
    numbers = itertools.count()

    def request(path: str) -> Callable[[], None]:
        def call() -> None:
            text = f"number {next(numbers)}"
            item = {"sender": {"id": "7215540983316204"}, "recipient": {"id": "104233987650012"}}
            item |= {"timestamp": 1795425304000, "message": {"mid": f"m_{text}", "text": text}}
            body = json.dumps(
                {"object": "page", "entry": [{"id": "104233987650012", "messaging": [item]}]}
            ).encode()
            signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
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

    views = {name: request(f"/{name}") for name in ("messenger", "bare-decode", "bare-insert")}
    settings.CONN_MAX_AGE = None
    connection.settings_dict["CONN_MAX_AGE"] = None
    cost: dict[str, list[float]] = {name: [] for name in views}
    for call in views.values():
        call()
    for _ in range(ROUNDS):
        # The views take turns, so that a noisy minute slows all of them.
        for name, call in views.items():
            started = time.process_time()
            for _ in range(REQUESTS):
                call()
            cost[name].append((time.process_time() - started) / REQUESTS)

    def against(bare: str) -> float:
        """Return the median ratio of our cost to that of a bare view, round by round."""
        return statistics.median(
            ours / other for ours, other in zip(cost["messenger"], cost[bare], strict=True)
        )

    expected = ROUNDS * REQUESTS + 1
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


if __name__ == "__main__":
    main()
