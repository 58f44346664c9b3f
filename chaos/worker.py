"""Worker process of a pass: the command, with one more failpoint between a request and its answer."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command

from djmessenger.graph import transports
from djmessenger.pipeline.failpoints import failpoint

FREEZE_SPLIT, FROZEN_SPLIT = "freeze-split", "frozen-split"
"""Files in the folder of the pass: a process is to freeze in its split, and one has."""


def sign(name: str) -> Path:
    return Path(os.environ.get("CHAOS_FOLDER", ".")) / name


def die_with_the_request_written() -> None:
    """Add a failpoint inside the HTTP client, after the request is written and before its answer is read."""
    connection = transports._Timed
    read_answer = connection.getresponse

    def getresponse(self: Any, *args: Any, **options: Any) -> Any:
        failpoint("outbox_request_written")
        return read_answer(self, *args, **options)

    connection.getresponse = getresponse  # type: ignore[method-assign]


def freeze_in_a_split() -> None:
    """Freeze this process inside its next split, after it has locked its callbacks, if the pass asks for one.

    The pass creates a file. The process that freezes renames it and writes its process id.
    """
    # Imported here, because the module needs the models.
    split: Any = importlib.import_module("djmessenger.pipeline.split")
    decode = split.decode

    def freeze(body: bytes) -> Any:
        with contextlib.suppress(FileNotFoundError):
            sign(FREEZE_SPLIT).rename(sign(FROZEN_SPLIT))
            sign(FROZEN_SPLIT).write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        return decode(body)

    split.decode = freeze


def remove_a_guard() -> None:
    if "CHAOS_WITHOUT" in os.environ:
        # Imported here, because the module needs the models.
        importlib.import_module("chaos.sabotage").GUARDS[os.environ["CHAOS_WITHOUT"]]()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chaos.settings")
    django.setup()
    die_with_the_request_written()
    freeze_in_a_split()
    remove_a_guard()
    call_command("djmessenger", "worker", threads=4, slow_threads=4)
