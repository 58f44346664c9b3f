"""Measurement of CPU time, and output of figures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def seconds_per_call(work: Callable[[], object], *, calls: int, rounds: int = 7) -> float:
    """Return the CPU seconds of one call: the median of several rounds, because machines are noisy."""
    work()
    seconds = []
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(calls):
            work()
        seconds.append((time.process_time() - started) / calls)
    return statistics.median(seconds)


def show(name: str, value: float, unit: str) -> None:
    print(f"{name:<58} {value:>10.2f} {unit}", flush=True)
