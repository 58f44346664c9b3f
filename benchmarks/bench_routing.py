"""Microseconds that the policy takes to decide on one text, with 10, 100 and 1,000 text rules."""

from __future__ import annotations

import itertools
import statistics
import time

from djmessenger.filtering import TextFilter
from djmessenger.receiving import Messaging
from djmessenger.routing import FunctionHandler, Policy, Rule


def bench_routing(
    sizes: tuple[int, ...] = (10, 100, 1_000), rounds: int = 7, events: int = 500
) -> dict[str, float]:
    """Give ``routing_us_<rules>`` for each size, and ``routing_ratio`` of the largest to the smallest.

    Texts come in turn: each rule's own, and one that none is for. The figure is the median of the rounds.
    """
    figures = {f"routing_us_{size}": _microseconds(size, rounds, events) for size in sizes}
    figures["routing_ratio"] = figures[f"routing_us_{sizes[-1]}"] / figures[f"routing_us_{sizes[0]}"]
    return figures


def _microseconds(size: int, rounds: int, events: int) -> float:
    policy = Policy(
        [
            Rule(
                "SIMPLE_TEXT",
                f"rule {number}",
                filters=[TextFilter(f"word {number}", f"other word {number}")],
                handlers=[FunctionHandler(_answer)],
            )
            for number in range(size)
        ]
    )
    texts = itertools.cycle([*(f"Word {number}" for number in range(size)), "something else"])
    policy.decide(_messaging("warm up"))
    measured = []
    for _ in range(rounds):
        messagings = [_messaging(next(texts)) for _ in range(events)]
        started = time.perf_counter()
        for messaging in messagings:
            policy.decide(messaging)
        measured.append((time.perf_counter() - started) / events * 1e6)
    return statistics.median(measured)


def _messaging(text: str) -> Messaging:
    item = {
        "sender": {"id": "1001"},
        "recipient": {"id": "2002"},
        "timestamp": 1_790_000_000_000,
        "message": {"mid": "m_1", "text": text},
    }
    messaging = Messaging.from_item(item, entry_id="2002")
    assert str(messaging.type) == "SIMPLE_TEXT"  # worked out here, for it is no part of routing
    return messaging


def _answer(event: Messaging) -> str:
    return "Hello!"
