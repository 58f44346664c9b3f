"""Run passes: ``python3 dev.py chaos``."""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path

from chaos.drive import run
from chaos.plan import Plan


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py chaos", description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--dispatcher", choices=["worker", "celery"], default="worker")
    parser.add_argument(
        "--without",
        choices=["fence", "key", "order", "token", "wait"],
        default="",
        help="remove this guard from the workers; the pass should fail",
    )
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6), help="repeat the faults of a pass"
    )
    parser.add_argument("--conversations", type=int, help="200; 32 in a short pass")
    parser.add_argument(
        "--seconds",
        type=float,
        help="minimum seconds of faults: 60; in a short pass until each fault has struck",
    )
    parser.add_argument(
        "--short", action="store_true", help="run a pass that is short enough for the test suite"
    )
    options = parser.parse_args()
    short = {
        "workers": 3,
        "lease": 1.5, "time_out": 0.5, "echo_wait": 4.0, "pause": 0.15, "share": 0.02, "receipts": False, "timed": False
    }  # fmt: skip
    plan = Plan(
        database=options.database,
        dispatcher=options.dispatcher,
        without=options.without,
        seed=options.seed,
        conversations=options.conversations or (32 if options.short else 200),
        seconds=options.seconds or (1 if options.short else 60),
        **(short if options.short else {}),
    )
    print(
        f"seed {plan.seed}, {plan.database}, {plan.dispatcher}, {plan.conversations} conversations",
        flush=True,
    )
    # Exit by an exception, so that the context managers end all started processes.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="djm-chaos-"))
    result = run(plan, folder)
    print(json.dumps(result.figures, indent=1), flush=True)
    for breach in result.breaches:
        print(f"BREACH {breach}")
    print(f"{time.monotonic() - started:.0f} s; logs in {folder}")
    print("FAILED" if result.breaches else "all invariants hold")
    return 1 if result.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
