"""Run passes: ``python3 dev.py chaos``."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from pathlib import Path

from chaos.drive import Plan, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py chaos", description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--dispatcher", choices=["worker"], default="worker")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6), help="repeat the faults of a pass"
    )
    parser.add_argument("--conversations", type=int, help="200; 12 in a short pass")
    parser.add_argument("--seconds", type=float, help="how long it storms: 60; 12 in a short pass")
    parser.add_argument("--short", action="store_true", help="one that fits into the tests")
    options = parser.parse_args()
    plan = Plan(
        database=options.database,
        seed=options.seed,
        conversations=options.conversations or (12 if options.short else 200),
        seconds=options.seconds or (6 if options.short else 60),
        receipts=not options.short,
        echo_wait=6.0 if options.short else 9.0,
        pause=0.8 if options.short else 0.2,
    )
    print(f"seed {plan.seed}, {plan.database}, {plan.conversations} conversations", flush=True)
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
