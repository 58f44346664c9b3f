"""The thread that sends wake-ups: what is requested meanwhile is one, and no caller waits for it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from djmessenger.pipeline import publisher
from djmessenger.pipeline.publisher import Publisher
from tests.pipeline_tools import LONG, until


class Engine:
    """Engine that records what it gets. ``fail`` has the errors of its next wake-ups, and it waits for ``gate``."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.tries = 0
        self.fail: list[BaseException] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, payload: str) -> None:
        self.tries += 1
        assert self.gate.wait(LONG)
        if self.fail:
            raise self.fail.pop(0)
        self.got.append(payload)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def publishing(engine) -> Iterator[Publisher]:
    made = Publisher(engine)
    yield made
    engine.gate.set()
    made.stop(LONG)


@pytest.fixture
def got(engine) -> Callable[[list[str]], None]:
    return lambda expected: until(lambda: engine.got == expected, str(expected), lambda: str(engine.got))


def test_requests_that_come_while_one_is_sent_are_one_of_each_payload(publishing, engine, got):
    engine.gate.clear()
    publishing.request("first")
    until(lambda: engine.tries == 1, "the first")
    for _ in range(50):
        publishing.request("callback")
        publishing.request("queues")
    engine.gate.set()
    got(["first", "callback", "queues"])


def test_after_a_failure_none_is_sent_before_the_time_of_a_sweep(
    publishing, engine, got, settings, monkeypatch, caplog
):
    settings.DJM_SWEEP = 3600.0
    engine.fail = [ConnectionRefusedError("redis://:canary-password@broker")]
    publishing.request()
    until(lambda: "next wake-up" in caplog.text, "the log")
    for _ in range(5):
        publishing.request()
    assert (engine.tries, engine.got) == (1, [])
    assert "canary" not in caplog.text
    assert "Traceback" not in caplog.text
    with publishing._changed:
        publishing._pause.expire()
        publishing._changed.notify_all()
    got([""])


def test_a_connection_that_died_meanwhile_is_no_failure(publishing, engine, got, caplog):
    publishing.request("1")
    got(["1"])
    engine.fail = [ConnectionResetError()]
    publishing.request("2")
    got(["1", "2"])
    assert "not sent" not in caplog.text


def test_a_thread_that_had_nothing_to_send_for_long_ends_and_another_one_starts(
    publishing, engine, got, monkeypatch
):
    monkeypatch.setattr(publisher, "_IDLE", 0.0)
    for number in range(3):
        publishing.request(str(number))
        got([str(one) for one in range(number + 1)])
        until(lambda: publishing._thread is None, "the end of the thread")


def test_the_stop_sends_what_is_pending_and_does_not_wait_for_a_pause(publishing, engine, settings):
    engine.gate.clear()
    publishing.request("1")
    until(lambda: engine.tries == 1, "the first")
    publishing.request("2")
    stopping = threading.Thread(target=publishing.stop, args=(LONG,))
    stopping.start()
    until(lambda: publishing._is_stopping, "the stop")
    engine.gate.set()
    stopping.join(LONG)
    assert engine.got == ["1", "2"]
    settings.DJM_SWEEP = 3600.0
    engine.fail = [OSError(), OSError()]
    publishing.request("3")
    until(lambda: engine.tries == 4, "the failure")
    publishing.request("4")
    thread = publishing._thread
    publishing.stop(LONG)
    assert not thread.is_alive()
    assert engine.got == ["1", "2"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_starts_a_thread_of_its_own(publishing, engine, got):
    publishing.request("parent")
    got(["parent"])
    publishing._changed.acquire()
    pid = os.fork()
    if pid == 0:
        try:
            engine.got.clear()
            publishing.request("child")
            got(["child"])
            os._exit(0)
        finally:
            os._exit(1)
    publishing._changed.release()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert engine.got == ["parent"]


PROGRAM = """
import sys, threading
from django.conf import settings
settings.configure(DATABASES={})
from djmessenger.pipeline.publisher import Publisher
begun = threading.Event()
def publish(payload):
    begun.set()
    if sys.argv[1] == "hangs":
        threading.Event().wait()
    sys.stdout.write("sent")
Publisher(publish).request()
if sys.argv[1] == "hangs":
    begun.wait()
"""


@pytest.mark.parametrize(("engine_state", "said"), [("works", "sent"), ("hangs", "")])
def test_the_end_of_a_process_sends_the_last_one_and_is_not_held_by_it(engine_state, said):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, engine_state],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=True,
    )
    assert (done.stdout, done.stderr) == (said, "")
