"""Throughput and latency from Meta's POST to the answering call, with Graph at 150 ms, beside a plain durable bot.

The site has PostgreSQL with durable commits, two web processes and one worker. 64 connections post as fast as they are
acknowledged. Sender and Graph run on the same cores, so their CPU is counted apart from the bot's. In the same run the
view ``plain`` and ``benchmarks.plain_sender`` get the same callbacks: the ratio to them depends less on the machine.
With ``--intake`` the callbacks are stored by ``djmessenger.intake_app``. The view ``plain`` stays in Django.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import show
from benchmarks.plain_sender import CREATE, CREATE_INDEX
from benchmarks.site import PAGE, Site, callback, database, percentile, postgresql_cpu, result

PARTS = ("web", "worker", "plain", "graph")


@dataclass(frozen=True, kw_only=True)
class Round:
    """Figures of one round."""

    rate: float
    """Answers a second, from the first POST to the last call of Graph."""
    cpu: dict[str, float]
    """Milliseconds of CPU a message, by part of the site."""
    report: dict[str, Any]
    posted: dict[str, Any]
    memory: list[float]

    @property
    def bot_cpu(self) -> float:
        """CPU of the bot alone: web processes, worker or plain sender, and PostgreSQL."""
        return sum(seconds for part, seconds in self.cpu.items() if part != "graph")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=3000, help="messages of one round")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each of the two bots, in turn")
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument(
        "--new-people",
        action="store_true",
        help="each message comes from a person not seen before, whose profile is requested",
    )
    parser.add_argument(
        "--policy",
        choices=("rules", "data"),
        default="rules",
        help="rule functions, or a policy as data with a documented replier",
    )
    parser.add_argument(
        "--intake",
        action="store_true",
        help="mount djmessenger.intake_app in front of Django, with 32 threads in each web process instead of 2",
    )
    parser.add_argument("--connections", type=int, default=64, help="connections that post")
    parser.add_argument("--rate", type=float, default=0.0, help="callbacks a second in one more round")
    parser.add_argument(
        "--long",
        action="store_true",
        help="one round of 100,000 messages, with a million stored messages and 100,000 people",
    )
    parser.add_argument(
        "--backlog",
        action="store_true",
        help="start the worker after all messages of a round are acknowledged",
    )
    chosen = parser.parse_args()
    if chosen.long:
        chosen.messages, chosen.people, chosen.rounds = 100_000, 100_000, 1
    with tempfile.TemporaryDirectory() as folder, database("postgresql", Path(folder)) as environment:
        environment["BENCH_POLICY"] = chosen.policy
        os.environ.update(environment, DJANGO_SETTINGS_MODULE="benchmarks.settings")
        _run(chosen, environment)


def _run(chosen: argparse.Namespace, environment: dict[str, str]) -> None:
    import django  # noqa: PLC0415 - the database is known only now

    django.setup()
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(CREATE)
        cursor.execute(CREATE_INDEX)
    before_run = 0
    if chosen.long:
        before_run = 1_000_000
        _fill(before_run, chosen.people)
    # The numbers of persons below `people` are known, those above are new.
    new_people = itertools.count(chosen.people)
    with Site(environment, intake=chosen.intake) as site:
        # A first round opens the connections and inserts the rows of the people.
        warm = min(chosen.people, 1000)
        site.post([callback(f"first-{person}", person) for person in range(warm)], connections=4)
        wait_for_answers(warm)
        answered, rounds, plain_rounds = warm, list[Round](), list[Round]()
        for turn in range(chosen.rounds):
            print(f"-- round {turn + 1}")
            ours = f"{turn}", "messenger", chosen.messages, answered
            rounds.append(_round(site, environment, chosen, new_people, *ours))
            answered += chosen.messages
            _show_round(rounds[-1])
            plain_rounds.append(_plain_round(site, environment, chosen, turn))
        if chosen.rate:
            print(f"-- posted at {chosen.rate:g} a second")
            ours = "rate", "messenger", chosen.messages, answered
            _show_round(_round(site, environment, chosen, new_people, *ours, rate=chosen.rate))
            answered += chosen.messages
        memory = site.memory("web")
    _assert_rows(answered, before_run)
    people = "new people" if chosen.new_people else "known people"
    receiver = "intake" if chosen.intake else "view"
    print(f"-- {people}, policy as {chosen.policy}, {receiver}, against the plain durable bot")
    show("memory of two web processes", memory, "MB")
    show("answers, this bot", statistics.median(one.rate for one in rounds), "messages a second")
    show("answers, plain bot", statistics.median(one.rate for one in plain_rounds), "messages a second")
    show("CPU of this bot", statistics.median(one.bot_cpu for one in rounds), "ms a message")
    show("CPU of the plain bot", statistics.median(one.bot_cpu for one in plain_rounds), "ms a message")
    pairs = list(zip(rounds, plain_rounds, strict=True))
    show("answers against the plain bot", statistics.median(a.rate / b.rate for a, b in pairs), "times")
    show("CPU against the plain bot", statistics.median(a.bot_cpu / b.bot_cpu for a, b in pairs), "times")


def _round(
    site: Site,
    environment: dict[str, str],
    chosen: argparse.Namespace,
    new_people: Iterator[int],
    name: str,
    path: str,
    count: int,
    answered: int,
    *,
    rate: float = 0.0,
) -> Round:
    """Post ``count`` messages to this bot, and return the figures when all are answered."""
    people = [next(new_people) if chosen.new_people else number % chosen.people for number in range(count)]
    bodies = [
        callback(f"{name}-{number}", person, say=f"say {number}") for number, person in enumerate(people)
    ]

    def wait(done: int) -> None:
        wait_for_answers(answered + done)

    found = measure(
        site,
        environment,
        path,
        bodies,
        wait,
        rate=rate,
        connections=chosen.connections,
        is_backlog=chosen.backlog,
    )
    assert found.report["profiles"] == (count if chosen.new_people else 0), found.report["profiles"]
    return found


def _plain_round(site: Site, environment: dict[str, str], chosen: argparse.Namespace, turn: int) -> Round:
    from django.db import connection  # noqa: PLC0415

    count = min(chosen.messages, 3000)
    bodies = [
        callback(f"plain-{turn}-{number}", number % chosen.people, say=f"say {number}")
        for number in range(count)
    ]

    def wait(done: int) -> None:
        with connection.cursor() as cursor:
            answered = 0
            while answered < turn * count + done:
                time.sleep(0.2)
                cursor.execute("SELECT count(*) FROM plain WHERE is_answered")
                answered = cursor.fetchone()[0]

    site.start_plain_sender()
    found = measure(site, environment, "plain", bodies, wait, connections=chosen.connections)
    site.stop(["plain"])
    show("plain bot: messages answered, one row each", count, "messages")
    show("plain bot: answered", found.rate, "messages a second")
    for part, milliseconds in found.cpu.items():
        show(f"plain bot: CPU of {part}", milliseconds, "ms a message")
    return found


def measure(
    site: Site,
    environment: dict[str, str],
    path: str,
    bodies: list[str],
    wait: Callable[[int], None],
    *,
    rate: float = 0.0,
    connections: int,
    is_backlog: bool = False,
) -> Round:
    """Post the bodies, wait for all answers and return the figures. Raises if one message is answered twice.

    With ``is_backlog`` the worker starts after all bodies are acknowledged, and ``rate`` counts from its start.
    """
    count = len(bodies)
    site.graph("/forget")
    if is_backlog:
        site.stop(["worker"])
    before = _cpu(site, environment)
    sender = site.sender(bodies, path=path, rate=rate, connections=connections)
    if is_backlog:
        sender.stdout = io.StringIO(sender.stdout.read())  # type: ignore[union-attr]
        site.start_worker()
    began = time.time()
    memory = [site.memory("worker")]
    for tenth in range(1, 11):
        wait(count * tenth // 10)
        memory.append(site.memory("worker"))
    posted = result(sender)
    after = _cpu(site, environment)
    report = site.graph("/report")
    assert posted["statuses"] == {"200": count}, posted["statuses"]
    assert sorted(report["texts"], key=int) == [str(number) for number in range(count)]
    return Round(
        rate=count / (max(report["times"]) - (began if is_backlog else min(posted["posted"]))),
        cpu={name: (after[name] - before.get(name, 0.0)) / count * 1000 for name in after},
        report=report,
        posted=posted,
        memory=memory,
    )


def _cpu(site: Site, environment: dict[str, str]) -> dict[str, float]:
    parts = {name: site.cpu(name) for name in PARTS if name in site.processes}
    return parts | {"postgresql": postgresql_cpu(environment)}


def _show_round(found: Round) -> None:
    report, posted, memory = found.report, found.posted, found.memory
    came = dict(zip(map(int, report["texts"]), report["times"], strict=True))
    waits = [came[number] - moment for number, moment in enumerate(posted["posted"])]
    show("messages answered, each with all its rows", len(came), "messages")
    show("profiles requested", report["profiles"], "calls")
    show("answered", found.rate, "messages a second")
    show("acknowledged, p50", percentile(posted["took"], 0.5) * 1000, "ms")
    show("acknowledged, p99", percentile(posted["took"], 0.99) * 1000, "ms")
    show("POST to Graph call, p50", percentile(waits, 0.5) * 1000, "ms")
    show("POST to Graph call, p99", percentile(waits, 0.99) * 1000, "ms")
    show("connections opened to Graph", report["connections"], "connections")
    show("memory of the worker before", memory[0], "MB")
    show("after each tenth, at least", min(memory[1:]), "MB")
    show("after each tenth, at most", max(memory[1:]), "MB")
    show("at last against after the first tenth", memory[-1] / memory[1], "times")
    for part, milliseconds in found.cpu.items():
        show(f"CPU of {part}", milliseconds, "ms a message")
    show("CPU of web, worker and PostgreSQL", found.bot_cpu, "ms a message")


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


def wait_for_answers(count: int) -> None:
    from djmessenger import models  # noqa: PLC0415

    sent = models.Reply.objects.filter(state=models.Reply.State.SENT)
    end = time.monotonic() + 3600
    while (answered := sent.count()) < count:
        if time.monotonic() > end:
            raise SystemExit(f"only {answered} of {count} were answered")
        # Counting many rows takes CPU from the bot, so the pause grows with the distance.
        time.sleep(max(0.2, (count - answered) / 5000))


def _assert_rows(count: int, before: int) -> None:
    """Assert that each message has its callback, event, outcome, reply, attempt and answer, and show the rows."""
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
    for model in (
        models.Callback,
        models.Messaging,
        models.Reply,
        models.Attempt,
        models.FBUserProfile,
        models.Conversation,
        models.ConversationQueue,
    ):
        show(f"rows of {model._meta.verbose_name_plural}", model.objects.count(), "rows")


if __name__ == "__main__":
    main()
