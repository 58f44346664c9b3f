"""Cost of the decision of a policy on one text, with 10, 100 and 1,000 text rules."""

from __future__ import annotations

import argparse
import itertools

import django

django.setup()

from benchmarks.measure import seconds_per_call, show  # noqa: E402 - the imports need the apps
from djmessenger.filtering import TextFilter  # noqa: E402
from djmessenger.receiving import Messaging  # noqa: E402
from djmessenger.routing import Policy, Rule  # noqa: E402
from djmessenger.routing.functions import FunctionHandler  # noqa: E402


def bench_routing(sizes: tuple[int, ...] = (10, 100, 1_000), calls: int = 2_000) -> dict[str, float]:
    """Return ``routing_us_<rules>`` for each size, and ``routing_ratio`` of the largest to the smallest.

    The texts take turns: one for each rule, and one that no rule matches.
    """
    figures = {f"routing_us_{size}": _microseconds(size, calls) for size in sizes}
    figures["routing_ratio"] = figures[f"routing_us_{sizes[-1]}"] / figures[f"routing_us_{sizes[0]}"]
    return figures


def _microseconds(size: int, calls: int) -> float:
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
    texts = [*(f"Word {number}" for number in range(size)), "something else"]
    messagings = itertools.cycle([_messaging(text) for text in texts])
    return seconds_per_call(lambda: policy.decide(next(messagings)), calls=calls) * 1e6


def _messaging(text: str) -> Messaging:
    item = {
        "sender": {"id": "1001"},
        "recipient": {"id": "2002"},
        "timestamp": 1_790_000_000_000,
        "message": {"mid": "m_1", "text": text},
    }
    messaging = Messaging.from_item(item, entry_id="2002")
    assert str(messaging.type) == "SIMPLE_TEXT"  # computed here, because the type is not part of routing
    return messaging


def _answer(event: Messaging) -> str:
    return "Hello!"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    figures = bench_routing()
    ratio = figures.pop("routing_ratio")
    for name, value in figures.items():
        show(f"deciding on a text, {name.rpartition('_')[2]} rules", value, "us a messaging")
    show("the most rules against the fewest", ratio, "times")


if __name__ == "__main__":
    main()
