"""Faults of small hosts: too few threads, processes and open files. Real worker processes under real limits."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from djmessenger import bot, models
from tests import pipeline_tools as tools
from tests.pipeline_tools import LONG, until

pytestmark = pytest.mark.django_db

LIMITED = """
import os, resource, sys, threading
threads, files, processes = (int(argument) for argument in sys.argv[1:4])
# As the system refuses threads at its limit; root has none.
start, fork = threading._start_new_thread, os.fork
left = {"threads": threads, "processes": processes}
def start_limited(*arguments):
    if left["threads"] <= 0:
        raise RuntimeError("can't start new thread")
    left["threads"] -= 1
    return start(*arguments)
def fork_limited():
    if left["processes"] <= 0:
        left["processes"] = 1
        raise BlockingIOError(11, "Resource temporarily unavailable")
    left["processes"] -= 1
    return fork()
threading._start_new_thread, os.fork = start_limited, fork_limited
import django
django.setup()
if files:
    opened = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 16
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + files,) * 2)
from django.core.management import execute_from_command_line
execute_from_command_line(["django", "djmessenger", "worker", *sys.argv[4:]])
"""
WITHOUT_FILES = """
import os, resource, sys, threading, time
is_over = sys.argv[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
import django
django.setup()
from djmessenger.pipeline import sending
taken, begun = [], threading.Event()
def take_all():
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        begun.set()
def keep_all():
    while not os.path.exists(is_over):
        take_all()
        time.sleep(0.001)
    while taken:
        os.close(taken.pop())
def failpoint(name):
    if name == "outbox_attempt_committed" and not begun.is_set():
        threading.Thread(target=keep_all, daemon=True).start()
        begun.wait()
sending.failpoint = failpoint
from django.core.management import execute_from_command_line
execute_from_command_line(["django", "djmessenger", "worker"])
"""
"""Worker in which no file can be opened from its first call of Graph on, until a file exists."""
PEOPLE = 20
SHORT_LEASE = {
    "DJM_TEST_SETTINGS": json.dumps(
        {"DJM_LEASE": 2.0, "DJM_GRAPH_TIMEOUT": 0.9, "DJM_UPLOAD_TIMEOUT": 0.9, "DJM_ECHO_WAIT": 0.5}
    )
}


def answers_everyone(
    command: Callable[..., subprocess.Popen[bytes]],
    emulator: Any,
    *options: str,
    threads: int = 1000,
    processes: int = 100,
) -> str:
    """Run a worker under limits until it has answered everyone once. Return its log."""
    people = post_everyone(emulator)
    process = command(*map(str, (threads, 0, processes)), *options, program=("-c", LIMITED))
    log = command.log.read_text  # type: ignore[attr-defined]
    try:
        end = time.monotonic() + 2 * LONG
        until(lambda: is_answered() or time.monotonic() > end, "answering", log)
    finally:
        process.terminate()
        assert process.wait(LONG) == 0, log()
    states = list(models.Reply.objects.values_list("state", flat=True))
    assert states == ["sent"] * PEOPLE, (states, log()[-3000:])
    assert [len(someone.received) for someone in people] == [1] * PEOPLE
    assert not models.Messaging.objects.filter(tries__gt=0).exists()
    return log()


def post_everyone(emulator: Any) -> list[Any]:
    people = [
        emulator.add_person(tools.PAGE, person_id=f"{tools.PSID}{number:02}") for number in range(PEOPLE)
    ]
    for number, someone in enumerate(people):
        tools.post(tools.text(f"m_{number}", psid=someone.id))
    return people


def is_answered() -> bool:
    return models.Reply.objects.filter(state="sent").count() == PEOPLE


@pytest.mark.parametrize("threads", [1, 2, 5, 9])
def test_a_worker_runs_with_the_threads_that_the_system_allows(threads, command, emulator):
    assert "refuses the thread" in answers_everyone(command, emulator, threads=threads)


def test_processes_that_the_system_refuses_are_started_later(command, emulator):
    assert "refuses a worker process" in answers_everyone(command, emulator, "--processes", "3", processes=1)


def test_open_files_that_run_out_lose_and_park_nothing(command, emulator):
    """Connections to the database and to Meta fail by turns. A worker without the limit answers the rest."""
    people = post_everyone(emulator)
    log = command.log.read_text
    limited = command("1000", "10", "100", program=("-c", LIMITED), variables=SHORT_LEASE)
    until(
        lambda: is_answered() or "Too many open files" in log() or "unable to open" in log(), "a limit", log
    )
    limited.terminate()
    assert limited.wait(2 * LONG) == 0, log()
    process = command(variables=SHORT_LEASE)
    until(is_answered, "answering", log)
    process.terminate()
    assert process.wait(LONG) == 0, log()
    assert min(len(someone.received) for someone in people) == 1
    assert not models.Messaging.objects.filter(state="failed").exists()


@pytest.mark.parametrize("fate", ["sending", "unknown", "parked"])
def test_a_call_without_a_socket_is_unsent_however_long_files_are_missing(
    fate, command, emulator, settings, tmp_path
):
    """Neither the call nor its result finds a file for a whole lease, and another worker meets the reply."""
    settings.DJM_WHEN_UNSURE, settings.DJM_ECHO_WAIT, settings.DJM_LOOK_UP_UNSURE = "park", 0.01, False
    someone = emulator.add_person(tools.PAGE, person_id=tools.PSID)
    tools.post(tools.text("m_1", psid=someone.id))
    log, is_over = command.log.read_text, tmp_path / "files are there again"
    # The call of the profile would leave a connection to Graph.
    variables = {
        "DJM_TEST_SETTINGS": json.dumps(
            {**json.loads(SHORT_LEASE["DJM_TEST_SETTINGS"]), "DJM_SAVE_USER_PROFILE": False}
        )
    }
    process = command(str(is_over), program=("-c", WITHOUT_FILES), variables=variables)

    def state() -> str | None:
        return models.Reply.objects.values_list("state", flat=True).first()

    until(lambda: "could not be settled" in log(), "the outage", log)
    assert state() == "sending"
    if fate != "sending":
        made = models.Conversation.objects.get()

        def meets_it() -> bool:
            tools.pass_time(60)
            bot.get_engine().run_once(tools.OUT, conversation_id=made.pk)
            return state() == fate

        until(meets_it, "the other worker", log)
        models.ConversationQueue.objects.update(ready_at=None)
    is_over.touch()
    until(lambda: state() == "sent", "the answer", lambda: f"{state()} {log()[-6000:]}")
    process.terminate()
    assert process.wait(LONG) == 0, log()
    outcomes = list(models.Attempt.objects.order_by("number").values_list("outcome", flat=True))
    assert (outcomes, len(someone.received)) == (["unsent", "accepted"], 1)
