"""Process that sends each hostile body to one entrance of the app, and measures its CPU and memory.

Its argument is the entrance: ``view``, ``limit``, ``intake-wsgi`` or ``intake-asgi``. It prints a JSON object for each
body. ``cpu`` is in seconds. ``memory`` has the bytes of the highest memory so far beyond that of an idle process.

Smaller bodies come first. A body that is within its own limit can hide only the memory of a larger one, whose limit is
higher.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import Callable
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402

from djmessenger import bot, intake_app  # noqa: E402
from djmessenger.asgi import limit  # noqa: E402
from djmessenger.emulator import EmulatorTransport  # noqa: E402
from messenger_emulator import Emulator  # noqa: E402
from tests.doors import Request, ask_asgi, ask_wsgi  # noqa: E402
from tests.faults import hostile  # noqa: E402

ENTRANCES: dict[str, Callable[[], Any]] = {
    "view": WSGIHandler,
    "limit": lambda: limit(ASGIHandler()),
    "intake-wsgi": lambda: intake_app.wsgi(WSGIHandler()),
    "intake-asgi": lambda: intake_app.asgi(ASGIHandler()),
}


def used() -> tuple[float, int]:
    """Return the seconds of CPU and the highest memory in bytes of this process so far."""
    found = resource.getrusage(resource.RUSAGE_SELF)
    return found.ru_utime + found.ru_stime, found.ru_maxrss * 1024


def main(entrance: str) -> None:
    emulator = Emulator()
    emulator.add_page(hostile.PAGE, settings.DJM_PAGE_ACCESS_TOKEN, app_secret=settings.DJM_APP_SECRET)
    bot.use_transport(EmulatorTransport(emulator))
    application = ENTRANCES[entrance]()

    def ask(body: bytes) -> int:
        if entrance in {"view", "intake-wsgi"}:
            return ask_wsgi(application, Request(body)).status
        return asyncio.run(ask_asgi(application, Request(body, pieces=3))).status

    ask(hostile.dumps(hostile.text(hostile.FIRST_WORDS)))
    _, idle = used()
    for name, body in sorted([*hostile.corpus(), *hostile.large()], key=lambda case: len(case[1])):
        before, _ = used()
        status = ask(body)
        cpu, memory = used()
        row = {
            "name": name,
            "size": len(body),
            "status": status,
            "cpu": cpu - before,
            "memory": memory - idle,
        }
        sys.stdout.write(f"{json.dumps(row)}\n")
    getattr(getattr(application, "_groups", None), "stop", lambda: None)()


main(sys.argv[1])
