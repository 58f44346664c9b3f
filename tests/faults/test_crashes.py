"""Attacks: texts and bodies that end the process of the worker. Real processes, killed by their own rules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection

from djmessenger import models
from djmessenger.operations import replay
from djmessenger.pipeline import claims, reads
from djmessenger.pipeline import crashes as crashes_of
from djmessenger.pipeline.engine import callbacks_waiting
from djmessenger.pipeline.held import Held
from djmessenger.sql import atomic
from tests import pipeline_tools as tools
from tests.pipeline_tools import LONG

pytestmark = pytest.mark.django_db
State = models.Messaging.State

LEASE = 3.0
"""Seconds; each crash costs a lease. A busy machine must renew it in time."""


def rules(**parts: str) -> str:
    """Return the settings of a worker whose rule has this part of ``killers.py``, and answers."""
    part = {kind: [{"name": f"tests.faults.killers.{name}"}] for kind, name in parts.items()}
    replier = {"name": "djmessenger.replying.DefaultMessageReplier"}
    rule = {"type": "SIMPLE_TEXT", "name": "killing", "repliers": [replier], **part}
    return json.dumps(
        {
            "DJM_ROUTING_POLICY": {"rules": [rule]},
            "DJM_LEASE": LEASE,
            "DJM_GRAPH_TIMEOUT": LEASE / 3,
            "DJM_UPLOAD_TIMEOUT": LEASE / 3,
            "DJM_ECHO_WAIT": 1.0,
            "DJM_POLL": 0.1,
            "DJM_SWEEP": 0.5,
        }
    )


def run_until(command: Any, is_done: Callable[[], bool], settings: str) -> None:
    """Run a worker whose processes are started again when they die, until the work is done."""
    process = command("--processes", "2", variables={"DJM_TEST_SETTINGS": settings})
    end = time.monotonic() + 4 * LONG
    while not is_done():
        assert time.monotonic() < end, command.log.read_text()
        time.sleep(0.05)
    process.terminate()
    assert process.wait(LONG) == 0, command.log.read_text()


def people(emulator: Any, number: int) -> list[Any]:
    return [emulator.add_person(tools.PAGE, person_id=f"{tools.PSID}{index:02}") for index in range(number)]


def all_settled() -> bool:
    # In the order of the work: a split or an event that commits between two queries makes rows for the next one.
    return not (
        models.Callback.objects.filter(state="new").exists()
        or models.Messaging.objects.filter(state=State.NEW).exists()
        or models.Reply.objects.filter(state__in=models.Reply.OPEN).exists()
    )


class TestTheRuleThatEndsItsProcess:
    @pytest.mark.parametrize(
        ("part", "text"),
        [
            ({"handlers": "Kill"}, "kill"),
            ({"handlers": "Kill"}, "exit"),
            ({"handlers": "KillSlowly"}, "kill"),
            ({"filters": "KillInDecision"}, "kill"),
        ],
        ids=["killed", "ended", "slow", "filter"],
    )
    def test_only_the_event_that_ends_its_process_fails(self, part, text, command, emulator):
        """It ends three processes. The people beside it are answered, and the events behind it are handled."""
        bad, *others = people(emulator, 8)
        tools.post(tools.text("m_bad", text, psid=bad.id), tools.text("m_next", psid=bad.id))
        for number, someone in enumerate(others):
            tools.post(tools.text(f"m_{number}", psid=someone.id))
        run_until(command, all_settled, rules(**part))
        row = models.Messaging.objects.get(mid="m_bad")
        assert (row.state, row.crashes, row.tries) == (State.FAILED, 3, 0)
        assert "DJM_CRASHES" in row.error
        assert models.Messaging.objects.filter(state=State.DONE).count() == 8
        # A reply that is being sent when its process dies may come twice.
        assert min(len(someone.received) for someone in [bad, *others]) >= 1
        assert not models.ConversationQueue.objects.exclude(leased_until=None).exists()

    def test_two_events_that_end_their_process_fail_and_the_rest_is_answered(self, command, emulator):
        one, two, *others = people(emulator, 6)
        tools.post(tools.text("m_1", "kill", psid=one.id))
        for number, someone in enumerate(others):
            tools.post(tools.text(f"m_o{number}", psid=someone.id))
        tools.post(tools.text("m_2", "kill", psid=two.id))
        run_until(command, all_settled, rules(handlers="Kill"))
        failed = models.Messaging.objects.filter(state=State.FAILED)
        assert {row.mid for row in failed} == {"m_1", "m_2"}
        assert min(len(someone.received) for someone in others) >= 1


def crashes() -> int:
    return models.Messaging.objects.get(mid="m_1").crashes


@pytest.fixture
def waiting(emulator: Any, settings: Any) -> models.Conversation:
    """A conversation with one event that waits."""
    settings.DJM_DISPATCHER = "worker"
    emulator.enforce_window = False
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    return made


class TestCrashesAreCounted:
    def test_a_released_or_renewed_lease_counts_nothing(self, waiting):
        engine = tools.engine(lambda event: None)
        for _ in range(5):
            lease = tools.claim(waiting)
            claims.renew(lease, 60)
            claims.give_back(lease, after=0)
        tools.handle(engine, waiting)
        assert crashes() == 0

    def test_a_lease_that_nobody_released_counts_one(self, waiting):
        engine = tools.engine(lambda event: None)
        tools.claim(waiting)
        lease = tools.steal(waiting)
        assert engine.inbox.next_rows([lease])[lease.queue_id].crashes == crashes() == 1

    def test_a_second_crash_counts_only_if_the_event_was_begun(self, waiting):
        """A process that dies with a claimed queue of which nothing was begun has not shown anything."""
        engine = tools.engine(lambda event: None)
        tools.claim(waiting)
        for _ in range(5):
            lease = tools.steal(waiting)
            assert engine.inbox.next_rows([lease])
        assert crashes() == 1
        tools.work(engine, lease)
        assert models.Messaging.objects.get(mid="m_1").state == State.DONE

    def test_a_frozen_holder_takes_its_crash_back(self, waiting):
        """Each holder is frozen longer than its lease and comes alive when the next one has the queue."""
        seen = []

        def freeze(event):
            before = crashes()
            engine.inbox.next_rows([tools.steal(waiting)])
            seen.append((before, crashes()))

        engine = tools.engine(freeze, slow=True)
        for _ in range(5):
            tools.pass_time(3600)
            tools.work(engine, tools.claim(waiting))
            # The claim of this test dies each time.
            assert crashes() <= 1
        assert seen[0] == (0, 1)
        assert models.Messaging.objects.get(mid="m_1").state == State.NEW

    def test_a_holder_that_releases_a_lost_lease_takes_its_crash_back(self, waiting):
        engine = tools.engine(lambda event: None)
        lost = tools.claim(waiting)
        engine.inbox.next_rows([tools.steal(waiting)])
        assert crashes() == 1
        claims.give_back(lost)
        assert crashes() == 0

    def test_a_crash_is_taken_back_once(self, waiting):
        """The first holder has died, the second one was frozen and gives its lease back twice."""
        engine = tools.engine(lambda event: None)
        tools.claim(waiting)
        frozen = tools.steal(waiting)
        engine.inbox.next_rows([frozen])
        models.ConversationQueue.objects.update(alone_under=frozen.fencing_token)
        engine.inbox.next_rows([tools.steal(waiting)])
        assert crashes() == 2
        claims.give_back(frozen)
        claims.give_back(frozen)
        assert crashes() == 1

    def test_a_crash_that_is_taken_back_first_is_not_counted(self, waiting):
        """The holder before lives, and is faster than the count of the holder that took over its lease."""
        engine = tools.engine(lambda event: None)
        lost = tools.claim(waiting)
        lease = tools.steal(waiting)
        claims.give_back(lost)
        assert lease.is_taken_over
        assert engine.inbox.next_rows([lease])[lease.queue_id].crashes == crashes() == 0

    def test_a_lease_that_was_released_takes_no_crash_back(self, waiting):
        released = tools.claim(waiting)
        claims.give_back(released, after=0)
        models.Messaging.objects.update(crashes=2)
        tools.claim(waiting)
        claims.give_back(released)
        assert crashes() == 2

    @pytest.mark.postgresql("locks of rows")
    def test_a_lease_whose_release_was_refused_is_released_before_the_next_claim(
        self, file_database, emulator, settings
    ):
        settings.DJM_DISPATCHER = "worker"
        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        lease = tools.claim(made)

        def give_back() -> None:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = 1")
            claims.give_back(lease)

        lock = tools.Session(lambda: models.ConversationQueue.objects.lock([made.pk], tools.IN), holds=True)
        assert tools.threads(give_back) == []
        assert claims.claim(tools.OUT, seconds=60) == []
        assert lock.finish() == []
        assert tools.queue_of(made).leased_until is not None
        assert claims.claim(tools.OUT, seconds=60) == []
        assert tools.queue_of(made).leased_until is None
        assert tools.claim(made).is_taken_over is False

    @pytest.mark.postgresql("a server that ends sessions")
    def test_an_outage_is_no_crash_of_a_living_process(self, file_database, emulator, settings):
        """The engine can neither commit the event, nor count the outage, nor release the queue."""
        settings.DJM_DISPATCHER = "worker"
        tools.conversation()
        tools.receive(tools.text("m_1"))
        engine = tools.engine(lambda event: None if len(seen) > 4 else (seen.append(crashes()), serve(False)))
        seen: list[int] = []
        for _ in range(5):
            try:
                tools.threads(lambda: engine.run_once(tools.IN, 1))
            finally:
                serve(True)
                connection.close()
            assert models.ConversationQueue.objects.exclude(leased_until=None).exists()
            tools.pass_time(3600)
        assert tools.threads(lambda: engine.run_once(tools.IN, 1)) == []
        event = models.Messaging.objects.get()
        assert (event.state, event.crashes, event.tries, seen) == (State.DONE, 0, 0, [0] * 5), event.error

    def test_a_replayed_event_begins_without_crashes(self, waiting):
        row = models.Messaging.objects.get(mid="m_1")
        models.Messaging.objects.update(state=State.FAILED, crashes=3)
        assert replay.replay_event(row.pk).crashes == 0
        assert crashes() == 0


def serve(allowed: bool) -> None:
    """Make PostgreSQL end all sessions of the database and refuse new ones, or accept them again."""
    name = connection.settings_dict["NAME"]
    with connection.Database.connect(
        host=connection.settings_dict["HOST"], user="postgres", dbname="postgres", autocommit=True
    ) as own:
        own.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {allowed}')
        if not allowed:
            own.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [name]
            )


KILLING_DECODER = """
import os, sys
from djmessenger.receiving import decoding
decode = decoding._decode
def killing(body):
    if b"kill" in body:
        os._exit(3)
    return decode(body)
decoding._decode = killing
from django.core.management import execute_from_command_line
execute_from_command_line(["django", "djmessenger", "worker", *sys.argv[1:]])
"""


class TestTheCallbackThatEndsItsProcess:
    def test_it_is_quarantined_and_the_callbacks_around_it_are_answered(self, command, emulator):
        """A fault of the decoder in C ends the process before there is an event."""
        people_ = people(emulator, 6)
        for number, someone in enumerate(people_):
            tools.post(tools.text(f"m_{number}", "kill" if number == 2 else "hello", psid=someone.id))
        process = command(
            "--processes",
            "2",
            program=("-c", KILLING_DECODER),
            variables={"DJM_TEST_SETTINGS": rules()},
        )
        end = time.monotonic() + 4 * LONG
        while not all_settled():
            assert time.monotonic() < end, command.log.read_text()
            time.sleep(0.05)
        process.terminate()
        assert process.wait(LONG) == 0, command.log.read_text()
        bad = models.Callback.objects.get(state="quarantined")
        assert b"kill" in bytes(bad.body)
        assert (bad.crashes, "DJM_CRASHES" in bad.error) == (3, True)
        answered = models.Reply.objects.filter(state="sent").values("conversation").distinct()
        assert answered.count() == 5

    def test_a_split_that_fails_while_its_process_lives_counts_no_crash(
        self, emulator, settings, monkeypatch
    ):
        settings.DJM_DISPATCHER = "worker"
        tools.post(tools.text("m_1"))
        tools.pass_time(60)
        engine = tools.engine()
        for _ in range(5):
            with monkeypatch.context() as broken:
                broken.setattr("djmessenger.pipeline.split.reads.new_callbacks", unavailable)
                engine.split()
            assert models.Callback.objects.get().crashes == 0
        assert engine.split().callbacks == 1
        callback = models.Callback.objects.get()
        assert (callback.state, callback.crashes) == ("split", 0)

    def test_a_process_that_dies_after_it_has_read_a_callback_counts_no_crash(
        self, emulator, settings, monkeypatch
    ):
        settings.DJM_DISPATCHER = "worker"
        tools.post(tools.text("m_1"))
        tools.pass_time(60)
        seen = []

        def note(ids):
            seen.append(models.Callback.objects.get().crashes)
            return read(ids)

        read = reads.new_callbacks
        monkeypatch.setattr(reads, "new_callbacks", note)
        assert tools.engine().split().callbacks == 1
        assert seen == [0]

    def test_a_callback_that_had_crashes_is_split_alone(self, emulator, settings):
        settings.DJM_DISPATCHER = "worker"
        for number in range(5):
            tools.post(tools.text(f"m_{number}"))
        second = models.Callback.objects.order_by("pk")[1]
        models.Callback.objects.filter(pk=second.pk).update(crashes=1)
        engine = tools.engine()
        assert [engine.split().callbacks for _ in range(4)] == [1, 1, 3, 0]

    @pytest.mark.postgresql("locks of rows")
    def test_a_callback_that_another_process_splits_counts_no_crash(self, file_database, settings):
        settings.DJM_DISPATCHER = "worker"
        tools.post(tools.text("m_1"))
        tools.pass_time(60)
        batch, _ = callbacks_waiting(Held())
        gate = threading.Barrier(2)

        def split() -> None:
            with atomic():
                list(models.Callback.objects.select_for_update())
                gate.wait(LONG)
                gate.wait(LONG)

        def count() -> None:
            gate.wait(LONG)
            try:
                with crashes_of.counted_split(batch):
                    assert models.Callback.objects.get().crashes == 0
            finally:
                gate.wait(LONG)

        assert tools.threads(split, count) == []

    def test_a_replayed_callback_begins_without_crashes(self, emulator):
        tools.post(tools.text("m_1"))
        models.Callback.objects.update(state="quarantined", crashes=3)
        assert replay.replay_callback(models.Callback.objects.get().pk).crashes == 0


def unavailable(*args: Any) -> Any:
    raise OperationalError("the database is away")


MEASURED = """
import json, resource, sys, time
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from djmessenger.pipeline import split, store
from djmessenger import models

body = eval(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF)
split.split(store.store(body))
after = resource.getrusage(resource.RUSAGE_SELF)
callback = models.Callback.objects.get()
print(json.dumps({
    "size": len(body),
    "seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    "memory": (after.ru_maxrss - before.ru_maxrss) * 1024,
    "state": callback.state,
    "error": callback.error,
}))
"""
ENTRY = 'b\'{"object":"page","entry":[{"id":"1","messaging":[%s]}]}\''
KINDS = {
    "empty items": (ENTRY % "' + b'{},' * 2796000 + b'{}", "values"),
    "numbers": (ENTRY % "' + b'0,' * 4194000 + b'0", "values"),
    "entries": ("b'{\"object\":\"page\",\"entry\":[' + b'{},' * 2796000 + b'{}]}'", "values"),
    "callbacks": ("b'[' + b'{},' * 2796000 + b'{}]'", "values"),
    "attachments": (ENTRY % "{\"message\":{\"attachments\":[' + b'{},' * 2796000 + b'{}]}}", "values"),
    "a few too many": (ENTRY % "' + b'{},' * 1000 + b'{}", "items"),
    "text full of commas": (ENTRY % '{"message":{"text":"\' + b\',[{\' * 2796000 + b\'"}}', None),
    "quotes without an end": ("b'[\"' + b'\\\\\\\\\"' * 2796000 + b',' * 200000", "JSON"),
}


@pytest.mark.sqlite("a body is read before a database is asked")
@pytest.mark.parametrize("name", KINDS)
def test_a_body_takes_time_and_memory_in_proportion_to_its_size(name, tmp_path):
    body, expected = KINDS[name]
    environment = {
        **os.environ,
        "PYTHONPATH": "src:.:tests/project",
        "DJANGO_SETTINGS_MODULE": "tests.celery_settings",
        "DJM_TEST_DATABASE_NAME": ":memory:",
    }
    answer = subprocess.run(
        [sys.executable, "-c", MEASURED, body],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=20 * LONG,
    )
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    if expected is None:
        assert found["state"] == "split", found
    else:
        assert (found["state"], expected in found["error"]) == ("quarantined", True), found
    # A second takes a megabyte on a slow and busy machine. Several copies of the body are in memory, and more of one
    # that is inserted into a database in memory.
    copies = 12 if expected else 50
    assert found["seconds"] < 2 + found["size"] / 1e6, found
    assert found["memory"] < 20e6 + copies * found["size"], found


def test_items_of_many_callbacks_are_taken_in_portions(emulator, settings):
    settings.DJM_DISPATCHER = "worker"
    settings.DJM_MAX_ITEMS = 10
    for number in range(7):
        tools.post(*(tools.text(f"m_{number}_{item}") for item in range(4)))
    engine = tools.engine()
    portions = []
    while todo := engine.split():
        portions.append((todo.callbacks, todo.more))
    assert portions == [(3, True), (3, True), (1, False)]
    assert models.Messaging.objects.count() == 28


def test_as_many_items_as_allowed_are_split(emulator, settings):
    settings.DJM_DISPATCHER = "worker"
    settings.DJM_MAX_ITEMS = 5
    tools.post(*(tools.text(f"m_{item}") for item in range(5)))
    tools.post(*(tools.text(f"n_{item}") for item in range(6)))
    engine = tools.engine()
    while engine.split():
        pass
    assert set(models.Callback.objects.values_list("state", flat=True)) == {"split", "quarantined"}
    assert models.Messaging.objects.count() == 5
