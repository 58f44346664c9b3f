"""Benchmarks: each runs to its end with few messages, so that a change of the package cannot break them unseen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHES

pytestmark = pytest.mark.sqlite("a benchmark starts its own database")

ROOT = Path(__file__).parent.parent
FEW = {
    "parsing": [""],
    "routing": [""],
    "acknowledging": ["--rounds 1"],
    "waiting": ["--share 0.05 --model 0.1 --database sqlite"],
    "reads": ["--calls 20"],
    "end_to_end": ["--rounds 1 --messages 20 --people 20 --intake --new-people --policy data"],
    "mechanisms": ["--rounds 1 --messages 20 --idle 1 --only gc.freeze"],
}
"""Options with which a benchmark ends in seconds, by its name."""


def test_each_benchmark_has_options_for_a_few_messages():
    assert FEW.keys() == BENCHES.keys()


@pytest.mark.parametrize(
    ("name", "options"), [(name, one) for name, several in FEW.items() for one in several]
)
def test_a_benchmark_runs_to_its_end(name, options):
    command = [sys.executable, "-m", "benchmarks", name, *options.split()]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(ended.stdout.splitlines()) > 1
