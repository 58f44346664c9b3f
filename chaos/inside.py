"""Faults inside a process of a pass: it freezes at a place, dies in a call, has a wrong clock or lacks a guard.

Files in the folder of the pass request a fault and report it.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import django
from django.utils import timezone

from djmessenger.graph import transports
from djmessenger.pipeline.failpoints import failpoint

HOUR = 3600.0


def sign(name: str) -> Path:
    """Return the path of a file that signals a state to all processes of a pass."""
    return Path(os.environ.get("CHAOS_FOLDER", ".")) / name


def freeze(place: str, subject: str = "") -> bool:
    """Freeze this process if the pass requests a freeze at this place, for this subject or for any.

    The file ``freeze-PLACE`` is the request and contains the subject. The process replaces it by ``frozen-PLACE`` with
    its process id. Return True after the process continues.
    """
    asked = sign(f"freeze-{place}")
    try:
        if asked.read_text() not in {"", subject}:
            return False
        asked.unlink()  # Only one process succeeds; in all others this raises.
    except FileNotFoundError:
        return False
    write(sign(f"frozen-{place}"), str(os.getpid()))
    os.kill(os.getpid(), signal.SIGSTOP)
    return True


def write(path: Path, text: str) -> None:
    """Create a file with its content in one step, so that no process reads an incomplete one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text)
    part.rename(path)


# The clock.


def ahead() -> float:
    """Return the seconds by which the wall clock of this process is ahead, negative if it is behind."""
    with contextlib.suppress(FileNotFoundError):
        return float(sign(f"clock-{os.environ.get('CHAOS_NAME', '')}").read_text())
    return 0.0


def make_the_clock_wrong() -> None:
    """Add ``ahead()`` to the wall clock of Python and Django. Must be called before Django loads the models."""
    true_time, true_now = time.time, timezone.now
    time.time = lambda: true_time() + ahead()
    timezone.now = lambda: true_now() + datetime.timedelta(seconds=ahead())


_true = threading.local()


def _true_strftime(*parameters: str) -> Any:
    """Return the result of SQLite's own function ``STRFTIME``."""
    if not hasattr(_true, "connection"):
        _true.connection = sqlite3.connect(":memory:")
    marks = ", ".join("?" * len(parameters))
    return _true.connection.execute(f"SELECT STRFTIME({marks})", parameters).fetchone()[0]


def make_the_clock_of_sqlite_wrong(sender: object, connection: Any, **kwargs: object) -> None:
    """Add ``ahead()`` to the clock of a new SQLite connection. SQLite reads the time in the process that uses it."""
    if connection.vendor != "sqlite":
        return

    def strftime(form: str, moment: str, *changes: str) -> Any:
        if moment.lower() == "now":
            changes = (f"{ahead()} seconds", *changes)
        return _true_strftime(form, moment, *changes)

    # Deterministic, as SQLite's own function is: the time is computed once in each statement.
    connection.connection.create_function("STRFTIME", -1, strftime, deterministic=True)


# Places to freeze and to die.


def die_with_the_request_written() -> None:
    """Add a failpoint inside the HTTP client, after the request is written and before its answer is read."""
    connection = transports._Timed
    read_answer = connection.getresponse

    def getresponse(self: Any, *args: Any, **options: Any) -> Any:
        failpoint("outbox_request_written")
        return read_answer(self, *args, **options)

    connection.getresponse = getresponse  # type: ignore[method-assign]


def name_the_process_in_each_request() -> None:
    """Add a header with the process id to each call, so that the judge can see whether its caller is frozen."""
    connection = transports._Timed
    end_headers = connection.endheaders

    def endheaders(self: Any, *args: Any, **options: Any) -> None:
        self.putheader("Chaos-Process", str(os.getpid()))
        end_headers(self, *args, **options)

    connection.endheaders = endheaders  # type: ignore[method-assign]


def freeze_in_a_split() -> None:
    """Freeze this process inside its next split, after it has locked its callbacks, if the pass requests it."""
    split: Any = importlib.import_module("djmessenger.pipeline.split")
    decode = split.decode

    def freezing(body: bytes) -> Any:
        freeze("splitter")
        return decode(body)

    split.decode = freezing


def freeze_after_a_call() -> None:
    """Freeze this process after it has read Graph's answer and before it settles the reply, if the pass requests it."""
    sending: Any = importlib.import_module("djmessenger.pipeline.sending")
    call = sending.Outbox.call

    def freezing(self: Any, pending: Any) -> Any:
        result = call(self, pending)
        freeze("sender", pending.reply.recipient_id)
        return result

    sending.Outbox.call = freezing


def remove_a_guard() -> None:
    if "CHAOS_WITHOUT" in os.environ:
        importlib.import_module("chaos.sabotage").GUARDS[os.environ["CHAOS_WITHOUT"]]()


def before_models() -> None:
    """Prepare the faults that do not need the models."""
    if "CHAOS_NAME" in os.environ:
        make_the_clock_wrong()
        die_with_the_request_written()
        name_the_process_in_each_request()


def after_models() -> None:
    """Prepare the faults that need the models."""
    if "CHAOS_NAME" in os.environ:
        signals: Any = importlib.import_module("django.db.backends.signals")
        signals.connection_created.connect(make_the_clock_of_sqlite_wrong, dispatch_uid="chaos")
        freeze_in_a_split()
        freeze_after_a_call()
        remove_a_guard()


def set_up() -> None:
    """Set up Django in this process, with the faults of a pass. Without ``CHAOS_NAME`` there are no faults."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chaos.settings")
    before_models()
    django.setup()
    after_models()
