"""Run one pass: real processes are killed and frozen, and no message may be lost, doubled or reordered."""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from chaos.acts import ACTS
from chaos.drive import run
from chaos.plan import Plan

_COURSE = """
Course of a pass:
  1. Persons write before a worker runs. Embedded threads run already.
  2. A process is killed at each place in djmessenger.pipeline.failpoints.
  3. The acts below follow each other while persons write and Graph fails: each once, then any.
  4. Two conversations hang in a rule and one in Graph. All others must be answered meanwhile.
  5. The commands purge and replay are killed between two rows, and run again.
At the end the database is compared with the log of Graph. A short pass takes about a minute.

Acts:
"""
GUARDS = {
    "fence": "no commit checks the fencing token of its lease",
    "key": "events have no dedup key",
    "order": "a split leaves out callbacks that another process is splitting",
    "state": "no commit checks that its event still waits",
    "token": "no send token is read from an echo",
    "wait": "a reply of unknown fate is sent again without a wait for its echo",
}


def _text() -> str:
    acts = {name: " ".join((act.__doc__ or "").split("\n\n")[0].split()) for name, act in ACTS.items()}
    lines = [f"  {name:<29}{text}" for name, text in acts.items()]
    return "\n".join(
        [
            _COURSE.strip("\n"),
            *lines,
            "",
            "Guards that --without removes:",
            *(f"  {name:<7}{text}" for name, text in GUARDS.items()),
        ]
    )


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="dev.py chaos",
        description=__doc__,
        epilog=_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--dispatcher", choices=["worker", "celery", "embedded"], default="worker")
    parser.add_argument(
        "--without",
        choices=list(GUARDS),
        default="",
        help="remove this guard from the processes; the pass should fail",
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
    options = parser.parse_args(words)
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
