"""Gain of each mechanism that exists for speed alone, on PostgreSQL.

Each round measures, for each mechanism, the site with all of them and then the site without it. The second figure is
divided by the first, and the table shows the median of the rounds.

CPU is that of web processes, worker and PostgreSQL together, in milliseconds for each message at full load. It is
measured with known people and with new people. The wait is the time from POST to Graph call on an idle site.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench_end_to_end import Round, measure, wait_for_answers
from benchmarks.site import Site, callback, database

_KNOWN = 1000
"""Number of known people."""
_IDLE_RATE = 2.0
"""Messages a second to the idle site."""
_COLUMNS = ("CPU, known", "CPU, new", "rate, known", "rate, new", "idle wait")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=1500, help="messages of one measurement at full load")
    parser.add_argument("--idle", type=int, default=20, help="messages to the idle site")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--policy", choices=("rules", "data"), default="rules")
    parser.add_argument("--workers", type=int, default=1, help="worker processes, which all split callbacks")
    parser.add_argument("--only", nargs="*", default=[], help="names of mechanisms; by default all")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, database("postgresql", Path(folder)) as environment:
        environment["BENCH_POLICY"] = chosen.policy
        os.environ.update(environment, DJANGO_SETTINGS_MODULE="benchmarks.settings")
        import django  # noqa: PLC0415 - the database is known only now

        django.setup()
        from django.core.management import call_command  # noqa: PLC0415

        from benchmarks.without import ALTERNATIVES, MECHANISMS  # noqa: PLC0415

        call_command("migrate", verbosity=0)
        names = chosen.only or list(MECHANISMS)
        if unknown := set(names) - MECHANISMS.keys() - ALTERNATIVES.keys():
            parser.error(
                f"no mechanism is named {', '.join(unknown)}; there are: {', '.join(MECHANISMS | ALTERNATIVES)}"
            )
        bench = _Bench(environment, chosen.messages, chosen.idle, chosen.workers)
        costs: dict[str, list[list[float]]] = {name: [] for name in names}
        wholes = []
        for _ in range(chosen.rounds):
            for name in names:
                # The speed of a shared machine drifts, so each one is compared with the site directly before it.
                wholes.append(bench.figures(""))
                figures = bench.figures(name)
                costs[name].append([value / base for value, base in zip(figures, wholes[-1], strict=True)])
        print("| |", " | ".join(_COLUMNS), "|")
        print("|---|", " | ".join("---:" for _ in _COLUMNS), "|", sep="")
        _show("all (ms, ms, messages a second, the same, ms)", wholes, "{:.2f}")
        for name, rounds in costs.items():
            _show(f"without {name}", rounds, "{:.2f}x")


def _show(name: str, rounds: list[list[float]], form: str) -> None:
    medians = [statistics.median(values) for values in zip(*rounds, strict=True)]
    print(f"| {name} |", " | ".join(form.format(value) for value in medians), "|", flush=True)


class _Bench:
    """Measurements of the site. All of them use one database, so known people stay known."""

    def __init__(self, environment: dict[str, str], messages: int, idle: int, workers: int) -> None:
        self._environment, self._workers = environment, workers
        self._messages, self._idle = messages, idle
        self._answered, self._next_person, self._turns = 0, _KNOWN, 0

    def figures(self, without: str) -> list[float]:
        """Start a site without one mechanism, and return its figures in the order of the columns."""
        self._turns += 1
        with Site(self._environment | {"BENCH_WITHOUT": without}, workers=self._workers) as site:
            self._measure(site, "warm", range(_KNOWN if self._turns == 1 else 100))
            known = self._measure(site, "known", [number % _KNOWN for number in range(self._messages)])
            first = self._next_person
            self._next_person += self._messages
            new = self._measure(site, "new", range(first, self._next_person))
            idle = self._measure(site, "idle", range(self._idle), rate=_IDLE_RATE)
        came = dict(zip(map(int, idle.report["texts"]), idle.report["times"], strict=True))
        waits = [came[number] - moment for number, moment in enumerate(idle.posted["posted"])]
        found = [known.bot_cpu, new.bot_cpu, known.rate, new.rate, statistics.median(waits) * 1000]
        print(f"   {without or 'all'}:", *(f"{value:.2f}" for value in found), flush=True)
        return found

    def _measure(self, site: Site, name: str, people: Sequence[int], *, rate: float = 0.0) -> Round:
        bodies = [
            callback(f"{name}-{self._turns}-{number}", person, say=f"say {number}")
            for number, person in enumerate(people)
        ]
        before = self._answered
        self._answered += len(bodies)
        return measure(
            site,
            self._environment,
            "messenger",
            bodies,
            lambda done: wait_for_answers(before + done),
            rate=rate,
            connections=1 if rate else 64,
        )


if __name__ == "__main__":
    main()
