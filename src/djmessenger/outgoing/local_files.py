"""Reads of files of this machine that end within a time limit, whatever the path leads to.

A FIFO, a device or a mount whose server is away would block the thread that opens it.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

SECONDS = 5.0
"""Time limit if the caller has none."""
_FLAGS = getattr(os, "O_NONBLOCK", 0)
"""Flags with which the opening of a FIFO does not wait for a writer."""
_readers = threading.BoundedSemaphore(8)
"""Threads that may read at once. A read that hangs keeps its thread until the system ends it."""

Result = TypeVar("Result")


class LocalPath(str):
    """Path that Python code or a policy chose. The same text in plain data is no permission to read the file."""

    __slots__ = ()


def size_of(path: Path, *, seconds: float = SECONDS) -> int:
    """Return the size of a regular file in bytes.

    Raise ``OSError`` for anything else, for an empty file and after the time limit.
    """
    return _within(seconds, path, lambda: _size(path.stat(), path))


def read_file(path: Path, *, most: int = sys.maxsize, seconds: float = SECONDS) -> bytes:
    """Return the content of a regular file. Raise ``OSError`` as ``size_of`` does, and over ``most`` bytes."""
    return _within(seconds, path, lambda: _read(path, most))


def _read(path: Path, most: int) -> bytes:
    # Guard: to open some devices has an effect, so the path is looked at first. It may lead to something else when it
    # is opened, so the descriptor is looked at too.
    # Test: tests/faults/test_attacks_messages.py, TestFilesOfThisMachine.
    _size(path.stat(), path)
    with open(path, "rb", opener=_open) as file:
        size = _size(os.fstat(file.fileno()), path)
        if size > most:
            raise OSError(f"{str(path)!r} has {size} bytes, at most {most}")
        # A file that grows without end is read up to the size that was checked.
        return file.read(size)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | _FLAGS)


def _size(status: os.stat_result, path: Path) -> int:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{str(path)!r} is not a file")
    if not status.st_size:
        raise OSError(f"{str(path)!r} is empty")
    return status.st_size


def _within(seconds: float, path: Path, work: Callable[[], Result]) -> Result:
    """Return the result of ``work``, which runs in a thread of its own. Raise ``TimeoutError`` after ``seconds``."""
    late = f"{str(path)!r} could not be read within {seconds:g} seconds"
    if not _readers.acquire(timeout=seconds):
        raise TimeoutError(late)
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            future.set_exception(error)
        finally:
            _readers.release()

    try:
        threading.Thread(target=run, name="djmessenger-file", daemon=True).start()
    except RuntimeError as error:
        _readers.release()
        raise OSError(f"{str(path)!r} could not be read: {error}") from error
    try:
        return future.result(seconds)
    except TimeoutError as error:
        raise TimeoutError(late) from error
