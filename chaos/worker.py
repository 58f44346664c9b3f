"""Worker process of a pass: the command, with one more failpoint between a request and its answer."""

from __future__ import annotations

import importlib
import os
from typing import Any

import django
from django.core.management import call_command

from djmessenger.graph import transports
from djmessenger.pipeline.failpoints import failpoint


def die_with_the_request_written() -> None:
    """Add a failpoint inside the HTTP client, after the request is written and before its answer is read."""
    connection = transports._Timed
    read_answer = connection.getresponse

    def getresponse(self: Any, *args: Any, **options: Any) -> Any:
        failpoint("outbox_request_written")
        return read_answer(self, *args, **options)

    connection.getresponse = getresponse  # type: ignore[method-assign]


def remove_a_guard() -> None:
    if "CHAOS_WITHOUT" in os.environ:
        # Imported here, because the module needs the models.
        importlib.import_module("chaos.sabotage").GUARDS[os.environ["CHAOS_WITHOUT"]]()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chaos.settings")
    django.setup()
    die_with_the_request_written()
    remove_a_guard()
    call_command("djmessenger", "worker", threads=4, slow_threads=4)
