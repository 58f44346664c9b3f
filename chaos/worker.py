"""A worker process of a pass: the command itself, which can also die between a request and its answer."""

from __future__ import annotations

import importlib
import os
from typing import Any

import django
from django.core.management import call_command

from djmessenger.graph import transports
from djmessenger.pipeline.failpoints import failpoint


def die_with_the_request_written() -> None:
    """Put the place in that is inside the HTTP client: the request is gone, its answer not read."""
    connection = transports._Timed
    read_answer = connection.getresponse

    def getresponse(self: Any, *args: Any, **options: Any) -> Any:
        failpoint("outbox_request_written")
        return read_answer(self, *args, **options)

    connection.getresponse = getresponse  # type: ignore[method-assign]


def take_out_a_guard() -> None:
    if "CHAOS_WITHOUT" in os.environ:
        # By name: it needs the models.
        importlib.import_module("chaos.sabotage").GUARDS[os.environ["CHAOS_WITHOUT"]]()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chaos.settings")
    django.setup()
    die_with_the_request_written()
    take_out_a_guard()
    call_command("djmessenger", "worker", threads=4, slow_threads=4)
