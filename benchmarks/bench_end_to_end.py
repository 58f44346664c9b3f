"""Throughput and latency from Meta's POST to the answering call, with Graph at 150 ms.

The site has PostgreSQL with durable commits, two web processes and one worker. Sender and Graph run on the same cores,
so their CPU is counted apart from the bot's.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import show
from benchmarks.site import PAGE, Site, callback, database, percentile, postgresql_cpu, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=6000)
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument(
        "--rate",
        type=float,
        default=320.0,
        help="callbacks a second in the second round; the first round posts as fast as the bot acknowledges",
    )
    parser.add_argument(
        "--long",
        action="store_true",
        help="100,000 messages, with a million stored messages and 100,000 people",
    )
    chosen = parser.parse_args()
    if chosen.long:
        chosen.messages, chosen.people = 100_000, 100_000
    with tempfile.TemporaryDirectory() as folder, database("postgresql", Path(folder)) as environment:
        os.environ.update(environment, DJANGO_SETTINGS_MODULE="benchmarks.settings")
        _run(chosen, environment)


def _run(chosen: argparse.Namespace, environment: dict[str, str]) -> None:
    import django  # noqa: PLC0415 - the database is known only now

    django.setup()
    from django.core.management import call_command  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    before_run = 0
    if chosen.long:
        before_run = 1_000_000
        _fill(before_run, chosen.people)
    with Site(environment) as site:
        # A first round opens the connections and inserts the rows of the people.
        warm = min(chosen.people, 1000)
        site.post([callback(f"first-{person}", person) for person in range(warm)], connections=4)
        _wait_for_answers(warm)
        answered = warm
        for rate in (0.0,) if chosen.long else (0.0, chosen.rate):
            print(f"-- posted {f'at {rate:g} a second' if rate else 'as fast as it is acknowledged'}")
            _round(site, environment, chosen.messages, chosen.people, rate, answered)
            answered += chosen.messages
        memory = site.memory("web")
    _assert_rows(answered, before_run)
    show("memory of two web processes", memory, "MB")


def _round(
    site: Site, environment: dict[str, str], count: int, people: int, rate: float, answered: int
) -> None:
    """Post ``count`` messages, wait for all answers and print the figures."""
    site.graph("/forget")
    parts = ("web", "worker", "graph")
    before = {name: site.cpu(name) for name in parts} | {"postgresql": postgresql_cpu(environment)}
    bodies = [callback(f"{rate:g}-{number}", number % people, say=f"say {number}") for number in range(count)]
    memory = [site.memory("worker")]
    began = time.time()
    sender = site.sender(bodies, rate=rate)
    for tenth in range(1, 11):
        _wait_for_answers(answered + count * tenth // 10)
        memory.append(site.memory("worker"))
    posted = result(sender)
    elapsed = time.time() - began
    after = {name: site.cpu(name) for name in parts} | {"postgresql": postgresql_cpu(environment)}
    report = site.graph("/report")
    assert posted["statuses"] == {"200": count}, posted["statuses"]
    assert sorted(report["texts"], key=int) == [str(number) for number in range(count)]
    came = dict(zip(map(int, report["texts"]), report["times"], strict=True))
    waits = [came[number] - moment for number, moment in enumerate(posted["posted"])]
    show("messages answered, each with all its rows", count, "messages")
    show("answered", count / elapsed, "messages a second")
    first, last = min(report["times"]), max(report["times"])
    show("calls of Graph", (count - 1) / (last - first), "calls a second")
    show("acknowledged, p50", percentile(posted["took"], 0.5) * 1000, "ms")
    show("acknowledged, p99", percentile(posted["took"], 0.99) * 1000, "ms")
    show("POST to Graph call, p50", percentile(waits, 0.5) * 1000, "ms")
    show("POST to Graph call, p99", percentile(waits, 0.99) * 1000, "ms")
    show("memory of the worker before", memory[0], "MB")
    show("after each tenth, at least", min(memory[1:]), "MB")
    show("after each tenth, at most", max(memory[1:]), "MB")
    show("at last against after the first tenth", memory[-1] / memory[1], "times")
    for name in after:
        show(f"CPU of {name}", (after[name] - before[name]) / count * 1000, "ms a message")


def _fill(messages: int, people: int) -> None:
    """Insert old messages: copies of one row, made inside PostgreSQL."""
    from django.db import connection  # noqa: PLC0415

    from djmessenger import models  # noqa: PLC0415

    page = models.Page.objects.create(page_id=PAGE)
    person = models.FBUserProfile.objects.create(psid="1", page=page, profile_state="fetched")
    conversation = models.Conversation.objects.create(page=page, person=person)
    queue = models.ConversationQueue.objects.create(
        conversation=conversation, kind=models.ConversationQueue.Kind.IN
    )
    messaging = models.Messaging.objects.create(
        type="SIMPLE_TEXT",
        body={"message": {"text": "long ago"}},
        page=page,
        conversation=conversation,
        timestamp=1790000000000,
        state=models.Messaging.State.DONE,
        outcome={},
    )
    with connection.cursor() as cursor:
        psid = "(7000000000000000 + n)::text"
        _copy(cursor, person, {"psid": psid}, f"generate_series(0, {people - 1}) AS n")
        _copy(cursor, conversation, {"person": psid}, f"generate_series(0, {people - 1}) AS n")
        own = {"conversation": f"{conversation.pk} + 1 + n", "kind": "of"}
        kinds = "(VALUES ('in'), ('out')) AS kinds (of)"
        _copy(cursor, queue, own, f"generate_series(0, {people - 1}) AS n, {kinds}")
        own = {
            "key": "'old-' || n",
            "mid": "'old-' || n",
            "timestamp": "timestamp + n",
            "conversation": f"{conversation.pk} + 1 + mod(n, {people})",
        }
        _copy(cursor, messaging, own, f"generate_series(1, {messages}) AS n")
        messaging.delete()
        conversation.delete()
        person.delete()
        cursor.execute("ANALYZE")


def _copy(cursor: Any, row: Any, own: dict[str, str], numbers: str) -> None:
    """Insert one copy of a row for each of ``numbers``; ``own`` has the expressions of the differing columns."""
    fields = [field for field in row._meta.concrete_fields if field.name != "id"]
    names = ", ".join(f'"{field.column}"' for field in fields)
    values = ", ".join(own.get(field.name, f'row_."{field.column}"') for field in fields)
    table, key = row._meta.db_table, row._meta.pk.column
    cursor.execute(
        f"INSERT INTO {table} ({names}) SELECT {values} FROM {table} row_, {numbers} WHERE row_.{key} = %s",  # noqa: S608
        [row.pk],
    )


def _wait_for_answers(count: int) -> None:
    from djmessenger import models  # noqa: PLC0415

    sent = models.Reply.objects.filter(state=models.Reply.State.SENT)
    end = time.monotonic() + 3600
    while (answered := sent.count()) < count:
        if time.monotonic() > end:
            raise SystemExit(f"only {answered} of {count} were answered")
        # Counting many rows takes CPU from the bot, so the pause grows with the distance.
        time.sleep(max(0.2, (count - answered) / 5000))


def _assert_rows(count: int, before: int) -> None:
    """Assert that each message has its callback, event, outcome, reply, attempt and answer."""
    from djmessenger import models  # noqa: PLC0415

    assert models.Callback.objects.filter(state="split").count() == models.Callback.objects.count() == count
    assert (
        models.Messaging.objects.filter(state="done").exclude(outcome__isnull=True).count() == count + before
    )
    assert (
        models.Reply.objects.filter(state="sent").exclude(mid=None).exclude(response__isnull=True).count()
        == count
    )
    assert models.Attempt.objects.filter(outcome="accepted").count() == count


if __name__ == "__main__":
    main()
