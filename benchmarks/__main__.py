"""Run the benchmarks, each in a process of its own, so that none warms the caches of another."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

BENCHES: dict[str, list[list[str]]] = {
    "parsing": [[]],
    "routing": [[]],
    "acknowledging": [["--database", "sqlite"], ["--database", "postgresql"]],
    "waiting": [["--database", "sqlite"], ["--database", "postgresql"]],
    "reads": [["--database", "sqlite"], ["--database", "postgresql"]],
    "end_to_end": [
        [*intake, *people, "--policy", policy]
        for intake in ([], ["--intake"])
        for people in ([], ["--new-people"])
        for policy in ("rules", "data")
    ],
    "mechanisms": [[]],
}
"""Arguments of each run, by name of the benchmark."""
ALONE = ("mechanisms",)
"""Benchmarks that run only if they are named, because they take long."""
LONG = {
    "end_to_end": [["--long"]],
    "waiting": [["--long", "--database", "sqlite"], ["--long", "--database", "postgresql"]],
}
"""Arguments of each long run. ``--long`` without names runs these benchmarks."""
NAMES = tuple(BENCHES)


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        choices=[*NAMES, []],
        help=f"benchmarks to run; by default all but {', '.join(ALONE)}",
    )
    parser.add_argument(
        "--long",
        action="store_true",
        help="end_to_end with 100,000 messages beside a million stored ones, and waiting with a rule of 40 seconds",
    )
    usual = {*NAMES} - {*ALONE}
    options, own = parser.parse_known_args()
    chosen = options.names or [name for name in NAMES if name in (LONG if options.long else usual)]
    if options.long and not {*chosen} <= {*LONG}:
        parser.error(f"--long is an option of {' and '.join(LONG)} alone")
    if own and len(chosen) > 1:
        parser.error(f"name one benchmark, to which {' '.join(own)} belongs")
    root = Path(__file__).parent.parent
    failed = 0
    for name in chosen:
        for arguments in _runs(name, own, is_long=options.long):
            print(f"== {' '.join([name, *arguments])}", flush=True)
            failed |= _run(root, name, arguments)
    return failed


def _runs(name: str, own: list[str], *, is_long: bool) -> list[list[str]]:
    """Return the arguments of each run. Options of the command line replace those of the default runs."""
    if is_long:
        return [[*arguments, *own] for arguments in LONG[name]]
    return [own] if own else BENCHES[name]


def _run(root: Path, name: str, arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DJM_TEST_SQLITE": str(Path(folder) / "bench.sqlite3"),
            "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)]),
        }
        command = [sys.executable, "-m", f"benchmarks.bench_{name}", *arguments]
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
