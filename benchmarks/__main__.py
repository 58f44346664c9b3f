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
    "end_to_end": [[]],
}
"""Arguments of each run, by name of the benchmark."""
LONG = {"end_to_end": [["--long"]]}
NAMES = tuple(BENCHES)


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[*NAMES, []], help=f"benchmarks to run; by default {', '.join(NAMES)}"
    )
    parser.add_argument("--long", action="store_true", help="100,000 messages beside a million stored ones")
    options = parser.parse_args()
    chosen = options.names or NAMES
    root = Path(__file__).parent.parent
    failed = 0
    for name in chosen:
        for arguments in (LONG if options.long else {}).get(name, BENCHES[name]):
            print(f"== {' '.join([name, *arguments])}", flush=True)
            failed |= _run(root, name, arguments)
    return failed


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
