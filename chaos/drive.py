"""One pass: messages before and during, processes that die and freeze, then quiet, then the invariants."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import django
from django.core.management import call_command
from django.db import DatabaseError, connection, connections

from chaos import crew as crews
from chaos.storm import PAGE, Courier, Storm
from djmessenger.emulator.server import serve
from tests import postgresql

TOKEN = "made-up-page-token"
SECRET = "0123456789abcdef0123456789abcdef"
DEADLY = 60.0
"""Seconds in which each failpoint must have killed somebody."""
QUIET = 100.0
"""Seconds in which all must have come to rest."""


@dataclass(kw_only=True)
class Plan:
    """What a pass is made of."""

    database: str = "sqlite"
    seed: int = 1
    conversations: int = 200
    seconds: float = 60.0
    """How long persons go on writing, and processes dying."""
    share: float = 0.25
    """The part of the sends that Graph spoils."""
    receipts: bool = True
    """Whether each message is marked as delivered and read."""
    echo_wait: float = 9.0
    pause: float = 0.2
    """Seconds at most between two texts."""
    workers: int = 2
    freezes: bool = True
    outages: bool = True
    say: bool = True


@dataclass(kw_only=True)
class Result:
    breaches: list[str]
    figures: dict[str, object] = field(default_factory=dict)


@contextlib.contextmanager
def database(plan: Plan, folder: Path) -> Iterator[dict[str, str]]:
    """Give the environment that names an empty database."""
    if plan.database == "sqlite":
        yield {"CHAOS_SQLITE": str(folder / "chaos.sqlite3")}
        return
    with contextlib.ExitStack() as stack:
        socket = os.environ.get("DJM_TEST_POSTGRESQL") or str(stack.enter_context(postgresql.server()))
        import psycopg  # noqa: PLC0415 - SQLite does without

        name = f"chaos_{os.getpid()}"
        with psycopg.connect(host=socket, user="postgres", dbname="postgres", autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{name}"')
            try:
                yield {"CHAOS_POSTGRESQL": f"{socket}#{name}"}
            finally:
                connections.close_all()
                admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def run(plan: Plan, folder: Path) -> Result:
    """Run a pass; the folder keeps the logs."""
    storm = Storm(plan.seed, plan.share, receipts=plan.receipts)
    server = serve(storm)
    try:
        with database(plan, folder) as named:
            named |= {"CHAOS_GRAPH": server.url, "CHAOS_ECHO_WAIT": str(plan.echo_wait)}
            environment = crews.environment(**named)
            os.environ.update({**named, "DJANGO_SETTINGS_MODULE": environment["DJANGO_SETTINGS_MODULE"]})
            django.setup()
            call_command("migrate", verbosity=0)
            return Pass(plan, folder, storm, environment).run()
    finally:
        server.stop()


class Pass:
    def __init__(self, plan: Plan, folder: Path, storm: Storm, environment: dict[str, str]) -> None:
        self.plan = plan
        self.storm = storm
        self.choose = random.Random(f"pass {plan.seed}")
        self.crew = crews.Crew(folder, environment, plan.seed, workers=plan.workers)
        self.courier = Courier(storm, self.crew.urls, SECRET, plan.seed)
        page = storm.add_page(PAGE, TOKEN, app_secret=SECRET)
        self.people = [
            storm.add_person(page, person_id=str(70_000_000_000_000 + n)) for n in range(plan.conversations)
        ]
        self.said = 0
        self.troubles: list[str] = []

    def tell(self, text: str) -> None:
        if self.plan.say:
            print(text, flush=True)

    def say_something(self) -> None:
        kind = self.choose.choices(["one", "two", "slow", "fails", "none"], [6, 2, 1, 1, 1])[0]
        self.choose.choice(self.people).says(f"{kind} canary {self.said}")
        self.said += 1

    def run(self) -> Result:
        # By name: these need the models, which are there only now.
        from chaos.invariants import Check  # noqa: PLC0415
        from djmessenger import bot, models  # noqa: PLC0415

        crew, courier = self.crew, self.courier
        crew.start(crew.webs)
        for _ in range(2 * self.plan.conversations):
            self.say_something()
        courier.start()
        self.must(
            lambda: bool(courier.acknowledged) and courier.idle(), 60, "the first texts were not taken in"
        )
        while bot.get_road().split_waiting():
            pass
        before = set(models.Messaging.objects.values_list("mid", flat=True))
        connections.close_all()
        self.tell(f"{self.said} texts are waiting; workers start, and die")
        crew.armed = True
        for web in crew.webs:
            web.signal(9)
        crew.start(crew.workers)
        crew.watch()
        self._write_on(lambda: bool(crew.missing()), DEADLY)
        self.troubles += [f"nobody died at {point}" for point in crew.missing()]
        crew.armed = False
        self.tell(f"{self.said} texts; deaths: {dict(crew.deaths)}; workers freeze, the database is cut off")
        weather = threading.Thread(target=self._weather, daemon=True)
        weather.start()
        self._write_on(lambda: True, self.plan.seconds)
        self.calm = True
        weather.join()
        self.storm.share = 0.0
        self.tell(f"{self.said} texts; the weather calms down")
        self.must(lambda: courier.idle() and self._at_rest(), QUIET, "it did not come to rest")
        codes = crew.stop()
        self.troubles += [
            f"{name} ended with {code}"
            for name, code in codes.items()
            if name.startswith("worker") and code != 0
        ]
        courier.stop()
        check = Check(self.storm, courier.acknowledged, before, crew.logs())
        return Result(
            breaches=[*self.troubles, *check.breaches()],
            figures={
                "texts": self.said,
                "replies": models.Reply.objects.count(),
                "accepted": sum(check.acceptances.values()),
                "parked": models.Reply.objects.filter(state="parked").count(),
                "unsure": models.Attempt.objects.filter(outcome__in=["", "unknown"]).count(),
                "deaths": dict(crew.deaths),
                "faults of Graph": dict(self.storm.struck),
                "posts not taken": dict(courier.refused),
            },
        )

    calm = False

    def _write_on(self, condition: Callable[[], bool], seconds: float) -> None:
        """Let persons write while a condition holds, for so many seconds at most."""
        end = time.monotonic() + seconds
        while condition() and time.monotonic() < end:
            self.say_something()
            time.sleep(self.choose.uniform(0.02, self.plan.pause))

    def must(self, condition: object, seconds: float, trouble: str) -> None:
        if not crews.until(condition, seconds):  # type: ignore[arg-type]
            self.troubles.append(trouble)

    def _at_rest(self) -> bool:
        from djmessenger import models  # noqa: PLC0415

        try:
            return not (
                models.Callback.objects.filter(state="new").exists()
                or models.Messaging.objects.filter(state="new").exists()
                or models.Reply.objects.filter(state__in=models.Reply.OPEN).exists()
                or models.Lane.objects.exclude(leased_until=None).exists()
            )
        except DatabaseError:
            return False
        finally:
            connections.close_all()

    def _weather(self) -> None:
        """Freeze workers and cut off the database, now and then."""
        choose = random.Random(f"weather {self.plan.seed}")
        while not self.calm:
            time.sleep(choose.uniform(1, 3))
            if self.plan.freezes and not self.calm:
                self.crew.freeze_one()
            if self.plan.outages and not self.calm:
                self._cut_off()
        connections.close_all()

    def _cut_off(self) -> None:
        if connection.vendor == "postgresql":
            with contextlib.suppress(DatabaseError), connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            return
        with (
            contextlib.closing(
                sqlite3.connect(os.environ["CHAOS_SQLITE"], timeout=10, isolation_level=None)
            ) as other,
            contextlib.suppress(sqlite3.Error),
        ):
            other.execute("BEGIN IMMEDIATE")
            time.sleep(2)
            other.execute("ROLLBACK")
