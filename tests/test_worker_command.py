"""The worker command as a service manager runs it: real processes, real signals, Meta over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from djmessenger import models
from tests import pipeline_tools as tools
from tests.pipeline_tools import LONG, post, until

pytestmark = pytest.mark.django_db


def sent() -> int:
    return models.Reply.objects.filter(state="sent").count()


def ends(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(LONG)


@pytest.mark.parametrize("options", [[], ["--processes", "2"]])
def test_the_command_answers_and_ends_in_order_at_the_first_signal(options, command, emulator):
    people = [emulator.add_person(tools.PAGE, person_id=f"{tools.PSID}{number}") for number in range(4)]
    process = command(*options)
    for number, someone in enumerate(people):
        post(*(tools.text(f"m_{number}_{item}", psid=someone.id) for item in range(3)))
    until(lambda: sent() == 12, "answering", command.log.read_text)
    assert ends(process) == 0, command.log.read_text()
    assert not models.ConversationQueue.objects.exclude(leased_until=None).exists()
    assert models.Attempt.objects.count() == 12


def test_a_call_under_way_is_finished_before_the_command_ends(command, emulator, monkeypatch):
    """The command waits for the open call and commits its result."""
    someone = emulator.add_person(tools.PAGE, person_id=tools.PSID)
    handle, came, go_on = emulator.handle, threading.Event(), threading.Event()

    def slowly(method, path, *rest):
        if path.endswith("/messages"):
            came.set()
            assert go_on.wait(LONG)
        return handle(method, path, *rest)

    monkeypatch.setattr(emulator, "handle", slowly)
    process = command()
    post(tools.text("m_1"), tools.text("m_2"))
    until(came.is_set, "a call", command.log.read_text)
    until(lambda: models.Reply.objects.count() == 2, "handling", command.log.read_text)
    process.send_signal(signal.SIGTERM)
    go_on.set()
    assert process.wait(LONG) == 0, command.log.read_text()
    assert set(models.Attempt.objects.values_list("outcome", flat=True)) == {"accepted"}
    assert sent() == models.Attempt.objects.count() == len(someone.received)
    assert not models.ConversationQueue.objects.exclude(leased_until=None).exists()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc: NO TEST OF KILLED CHILDREN")
def test_a_process_that_dies_is_started_again(command, emulator):
    emulator.add_person(tools.PAGE, person_id=tools.PSID)
    process = command("--processes", "2")

    def children() -> list[int]:
        return [
            int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ]

    until(lambda: len(children()) == 2, "two processes", command.log.read_text)
    first = children()
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(set(children()) - set(first)) == 2, "two others", command.log.read_text)
    post(tools.text("m_1"))
    until(lambda: sent() == 1, "answering", command.log.read_text)
    assert ends(process) == 0, command.log.read_text()


@pytest.mark.parametrize("option", ["--threads", "--slow-threads", "--senders", "--processes"])
@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_a_count_below_one_is_refused(option, number):
    with pytest.raises(CommandError, match="whole number of 1 or more"):
        call_command("djmessenger", "worker", option, number)
