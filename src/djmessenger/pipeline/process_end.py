"""End of a process with an embedded worker: the worker finishes its running jobs before its process ends.

Web servers end their processes in different ways:

* by the end of the interpreter (gunicorn, daphne, uWSGI). ``atexit`` calls the stop.
* by the end of a process of ``multiprocessing``, which skips ``atexit`` (granian). A finalizer calls the stop.
* by a signal without a handler, which skips both (``wsgiref``, and uvicorn after its own shutdown). A signal handler
  keeps the signal back until the worker has stopped, and then the signal is sent again.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any

from asgiref.sync import SyncToAsync

from djmessenger.pipeline.threads import THREAD_NAME_PREFIX, started

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_WITH_HANDLERS_IN_C = ("uwsgi", "mod_wsgi")
"""Modules of servers whose signal handlers Python cannot see or call. Both run exit functions themselves."""


class ProcessEnd:
    """Hooks that call ``stop`` before this process ends.

    ``stop`` is called in an exit function, in a finalizer of ``multiprocessing`` or in a thread. It may be called
    several times.
    """

    def __init__(self, stop: Callable[[], object]) -> None:
        self._stop = stop
        self._pid = 0
        self._reset()
        atexit.register(stop)

    def _reset(self) -> None:
        self._thread: threading.Thread | None = None
        self._deferred: set[int] = set()
        self._stopped = False
        # A signal handler may put: unlike an event or a lock, this queue cannot be locked by the interrupted code.
        self._requests: queue.SimpleQueue[int] = queue.SimpleQueue()

    def watch(self) -> None:
        """Start the thread that calls ``stop`` at the first signal that is kept back. Replace that of an earlier call.

        Also registers the finalizer of ``multiprocessing`` and sets the signal handlers. Call it when the worker
        starts, also in a forked child and after a stop.
        """
        global _watching  # noqa: PLW0603 - one process, one end
        self._reset()
        thread = threading.Thread(target=self._run, name=f"{THREAD_NAME_PREFIX}-end", daemon=True)
        self._thread = thread if started(thread) else None
        if self._pid != os.getpid():
            self._pid = os.getpid()
            Finalize(None, self._stop, exitpriority=1)
        _watching = self
        if threading.current_thread() is threading.main_thread():
            handle_signals()
            return
        # Only the main thread may set handlers. Under ASGI it runs the event loop, which called this thread.
        # test_replies_under_way_are_settled_before_the_process_ends, gunicorn-uvicorn-preload
        loop = getattr(SyncToAsync.threadlocal, "main_event_loop", None)
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(handle_signals)

    def defer(self, number: int) -> bool:
        """Keep a signal back until the worker has stopped, request the stop and return True. Takes no lock.

        Returns False, and the signal has its usual effect, if no thread of ``watch`` runs or the worker has stopped.
        Also returns False for a second SIGINT, so that Ctrl-C twice ends a process at once.
        """
        if self._stopped or self._thread is None or not self._thread.is_alive():
            return False
        if number in self._deferred:
            return number != signal.SIGINT
        self._deferred.add(number)
        self._requests.put(number)
        # The thread may have read `_deferred` between the check and the add, and would not send this signal again.
        return not self._stopped

    def _run(self) -> None:
        self._requests.get()
        try:
            self._stop()
        finally:
            self._stopped = True
            for number in list(self._deferred):
                # The kernel gives a signal of the process to the main thread, which wakes from its system call.
                os.kill(os.getpid(), number)


_watching: ProcessEnd | None = None


class _SignalHandler:
    """Signal handler that keeps a signal back until the worker has stopped, and then calls the handler set earlier."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if _watching is not None and _watching.defer(number):
            return
        if callable(self._before):
            self._before(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def handle_signals() -> None:
    """Set a ``_SignalHandler`` for SIGTERM and SIGINT, unless one is set. It later calls the handler set earlier.

    Does nothing on Windows, outside the main thread, or in a server of ``_WITH_HANDLERS_IN_C``. An ignored signal stays
    ignored. SIGINT with Python's own handler needs none: ``KeyboardInterrupt`` ends the interpreter, which calls the
    exit functions.
    """
    if (
        os.name == "nt"
        or threading.current_thread() is not threading.main_thread()
        or any(module in sys.modules for module in _WITH_HANDLERS_IN_C)
    ):
        return
    for number in _SIGNALS:
        before = signal.getsignal(number)
        if before in {None, signal.SIG_IGN, signal.default_int_handler} or isinstance(before, _SignalHandler):
            continue
        # Raised in a subinterpreter.
        with contextlib.suppress(ValueError):
            signal.signal(number, _SignalHandler(before))
