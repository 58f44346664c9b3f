"""Run the benchmarks: each in a process of its own, so that none warms another's caches."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = ("parsing", "routing", "acknowledging")


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[*NAMES, []], help=f"which ones; all of {', '.join(NAMES)}"
    )
    chosen = parser.parse_args().names or NAMES
    root = Path(__file__).parent.parent
    failed = 0
    for name in chosen:
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "DJM_TEST_SQLITE": str(Path(folder) / "bench.sqlite3"),
                "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)]),
            }
            failed |= subprocess.run(
                [sys.executable, "-m", f"benchmarks.bench_{name}"], env=environment, check=False
            ).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
