"""Signals that a process with an embedded worker gets. ``test_servers.py`` has the same with real servers."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from djmessenger.pipeline import process_end
from djmessenger.pipeline.process_end import ProcessEnd, _SignalHandler, handle_signals
from tests.pipeline_tools import LONG, until

TERM, INT = signal.SIGTERM, signal.SIGINT


class Process:
    """Process whose worker stops when ``may_stop`` is set. ``passed`` has the signals that reached its own handler."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_stop, self.stopping = threading.Event(), threading.Event()
        self.passed: list[int] = []
        self.sent: list[int] = []
        self.handler = _SignalHandler(lambda number, frame: self.passed.append(number))
        monkeypatch.setattr(os, "kill", lambda pid, number: self.sent.append(number))
        monkeypatch.setattr(process_end, "_watching", None)
        self.end = ProcessEnd(self.stop)

    def stop(self) -> None:
        self.stopping.set()
        assert self.may_stop.wait(LONG)

    def get(self, number: int) -> None:
        self.handler(number, None)


@pytest.fixture
def process(monkeypatch):
    made = Process(monkeypatch)
    yield made
    made.may_stop.set()


@pytest.fixture
def handlers():
    """Restore the handlers of this process after the test."""
    before = {number: signal.getsignal(number) for number in (TERM, INT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_reaches_the_server_when_the_worker_has_stopped(process):
    process.end.watch()
    process.get(TERM)
    assert process.stopping.wait(LONG)
    assert (process.passed, process.sent) == ([], [])
    process.may_stop.set()
    until(lambda: process.sent == [TERM], "the signal")
    process.get(TERM)
    process.get(TERM)
    assert process.passed == [TERM, TERM]


def test_without_work_a_signal_passes_at_once(process):
    process.get(TERM)
    assert process.passed == [TERM]


def test_a_stop_that_fails_passes_the_signal_on(process, monkeypatch):
    errors = [ZeroDivisionError()]

    def fail():
        # The exit function calls it too.
        if errors:
            raise errors.pop()

    caught = []
    monkeypatch.setattr(threading, "excepthook", caught.append)
    end = ProcessEnd(fail)
    end.watch()
    process.get(TERM)
    until(lambda: process.sent == [TERM], "the signal")
    until(lambda: caught, "the traceback")


def test_a_second_signal_to_terminate_waits_and_a_second_interrupt_does_not(process):
    process.end.watch()
    process.get(TERM)
    process.get(TERM)
    assert process.passed == []
    process.get(INT)
    process.get(INT)
    assert process.passed == [INT]
    process.may_stop.set()
    until(lambda: sorted(process.sent) == [INT, TERM], "both signals")


def test_a_forked_child_without_the_thread_passes_signals_on(process):
    """The thread does not exist in the child, so nothing would send the signal again."""
    process.end.watch()
    process.end._thread = threading.Thread()
    process.get(TERM)
    assert process.passed == [TERM]


def test_a_signal_at_the_end_of_the_stop_is_not_lost(process, monkeypatch):
    """The thread reads the deferred signals between the handler's check and its note."""
    process.end.watch()
    put = process.end._requests.put

    class Late:
        def put(self, number):
            put(number)
            process.may_stop.set()
            until(lambda: process.end._stopped and not process.end._thread.is_alive(), "the end of the stop")

    process.end._requests = Late()
    process.get(TERM)
    assert process.passed + process.sent


def test_handlers_are_put_before_those_of_the_server_once(process, handlers):
    own = []
    signal.signal(TERM, lambda number, frame: own.append(number))
    signal.signal(INT, signal.SIG_IGN)
    handle_signals()
    first = signal.getsignal(TERM)
    handle_signals()
    assert signal.getsignal(TERM) is first
    assert signal.getsignal(INT) is signal.SIG_IGN
    signal.raise_signal(TERM)
    assert own == [TERM]


def test_the_interrupt_of_python_and_other_threads_are_left_alone(handlers):
    signal.signal(INT, signal.default_int_handler)
    signal.signal(TERM, signal.SIG_DFL)
    thread = threading.Thread(target=handle_signals)
    thread.start()
    thread.join()
    assert signal.getsignal(TERM) is signal.SIG_DFL
    handle_signals()
    assert signal.getsignal(INT) is signal.default_int_handler


@pytest.mark.parametrize("module", ["uwsgi", "mod_wsgi"])
def test_handlers_in_c_are_not_replaced(module, handlers, monkeypatch):
    signal.signal(TERM, signal.SIG_DFL)
    monkeypatch.setitem(process_end.sys.modules, module, None)
    handle_signals()
    assert signal.getsignal(TERM) is signal.SIG_DFL
