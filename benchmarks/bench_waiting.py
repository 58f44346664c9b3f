"""Waiting times: on an idle site, in a batch, while Graph is slow, and beside slow rules."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.measure import show
from benchmarks.site import Site, batch, callback, database, percentile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument(
        "--model",
        type=float,
        default=4.0,
        help="seconds for which the slow rule waits for its language model",
    )
    parser.add_argument("--long", action="store_true", help="the slow rule waits 40 seconds")
    parser.add_argument("--share", type=float, default=1.0, help="share of the usual number of messages")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, database(chosen.database, Path(folder)) as environment:
        # With SQLite the threads of the web process do the work.
        small = {"BENCH_DISPATCHER": "embedded"} if chosen.database == "sqlite" else {}
        environment["BENCH_MODEL_SECONDS"] = str(40.0 if chosen.long else chosen.model)
        os.environ.update(environment, DJANGO_SETTINGS_MODULE="benchmarks.settings", **small)
        import django  # noqa: PLC0415 - the database is known only now

        django.setup()
        from django.core.management import call_command  # noqa: PLC0415

        call_command("migrate", verbosity=0)
        share = chosen.share
        split = _batches(share)
        alone = chosen.database == "sqlite"
        with Site(environment, delay=150, web=1 if alone else 2, workers=0 if alone else 1) as site:
            site.post([callback(f"first-{person}", person) for person in range(60)], connections=2)
            _answered(site, split + 60)
            _idle(site, share)
            _graph_latency(site, share)
            _slow_rules(site, share)
            if not alone:
                _connections()


def _answered(site: Site, count: int) -> dict[str, float]:
    """Wait for ``count`` calls of Graph since the last report; return the time of each text."""
    end = time.monotonic() + 120
    while len((report := site.graph("/report"))["texts"]) < count:
        if time.monotonic() > end:
            raise SystemExit(f"only {len(report['texts'])} of {count} were answered")
        time.sleep(0.05)
    assert len(report["texts"]) == count, "a person was answered twice"
    site.graph("/forget")
    return dict(zip(report["texts"], report["times"], strict=True))


def _some(usual: int, share: float) -> int:
    return max(1, int(usual * share))


def _idle(site: Site, share: float) -> None:
    """Measure one message at a time, long after the previous one."""
    count = _some(40, share)
    time.sleep(1)
    posted = site.post([callback(f"idle-{number}", number) for number in range(count)], rate=2, connections=1)
    came = _answered(site, count)
    waits = [came[f"idle-{number}"] - moment for number, moment in enumerate(posted["posted"])]
    show("idle: POST to Graph call, p50", statistics.median(waits) * 1000, "ms")
    show("idle: POST to Graph call, p90", percentile(waits, 0.9) * 1000, "ms")


def _batches(share: float) -> int:
    """Measure the CPU of splitting a callback of ten events against one; return the number of events."""
    from djmessenger.pipeline import split, store  # noqa: PLC0415

    def cost(bodies: list[str]) -> float:
        stored = [store.store(body.encode()) for body in bodies]
        started = time.process_time()
        for callback_id in stored:
            split.split(callback_id)
        return (time.process_time() - started) / len(bodies)

    rounds = []
    turns = _some(7, share)
    for turn in range(turns):
        single = [callback(f"single-{turn}-{number}", number) for number in range(20)]
        ten = [batch([(f"ten-{turn}-{number}-{item}", item) for item in range(10)]) for number in range(5)]
        rounds.append(cost(ten) / cost(single))
    show("splitting a batch of 10 against a single callback", statistics.median(rounds), "times")
    return turns * (20 + 50)


def _graph_latency(site: Site, share: float) -> None:
    """Measure acknowledgements with a fast and a slow Graph."""
    count, took = _some(300, share), {}
    for turn, milliseconds in enumerate((0, 1000, 0, 1000)):
        site.graph(f"/delay/{milliseconds}")
        bodies = [callback(f"ack-{turn}-{number}", number % 60) for number in range(count)]
        posted = site.post(bodies, rate=60, connections=4)
        assert posted["statuses"] == {"200": count}
        took.setdefault(milliseconds, []).extend(posted["took"])
        site.graph("/delay/0")
        _answered(site, count)
    slow, fast = percentile(took[1000], 0.99), percentile(took[0], 0.99)
    show("acknowledged with Graph at 0 ms, p99", fast * 1000, "ms")
    show("acknowledged with Graph at 1000 ms, p99", slow * 1000, "ms")
    show("the one against the other", slow / fast, "times")


def _slow_rules(site: Site, share: float) -> None:
    """Measure answers alone, and while thirty people wait for a language model."""
    site.graph("/delay/150")
    waits: dict[str, float] = {}
    for name in ("alone", "beside"):
        waiting = _some(30, share) if name == "beside" else 0
        if waiting:
            site.post([callback(f"ask-{person}", person, say="ask the model") for person in range(waiting)])
        count = _some(30, share)
        bodies = [callback(f"{name}-{number}", 30 + number) for number in range(count)]
        posted = site.post(bodies, rate=10, connections=2)
        came = _answered(site, count + waiting)
        seconds = [came[f"{name}-{number}"] - moment for number, moment in enumerate(posted["posted"])]
        waits[name] = statistics.median(seconds)
    show("an answer, p50", waits["alone"] * 1000, "ms")
    show("an answer while others wait for a slow rule, p50", waits["beside"] * 1000, "ms")


def _connections() -> None:
    from django.db import connection  # noqa: PLC0415

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        show("connections of two web processes and a worker", cursor.fetchone()[0], "connections")


if __name__ == "__main__":
    main()
