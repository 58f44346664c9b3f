"""One pass: messages before and during, processes that die and freeze, services that go away, then the invariants."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import django
from django.core.management import call_command
from django.db import DatabaseError, connections
from django.utils import timezone

from chaos import crew as crews
from chaos.courier import Courier
from chaos.plan import SECRET, TOKEN, Plan
from chaos.services import Broker, Database, database
from chaos.storm import PAGE, Storm
from chaos.wire import Graph
from djmessenger.graph.wire import Secret

NOBODY = b"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
"""A key for tokens at rest, known to everybody."""
DEADLY = 90.0
"""Seconds in which each failpoint must have killed somebody."""
QUIET = 180.0
"""Seconds in which all must have come to rest; the wait for an echo may be two minutes of them."""
_WELL = 20
"""Persons who write beside the stuck ones: it is their delay that is measured, not how many can be served."""
PATIENCE = 30.0
"""Seconds for whatever else is waited for."""


@dataclass(kw_only=True)
class Result:
    breaches: list[str]
    figures: dict[str, object] = field(default_factory=dict)


@contextlib.contextmanager
def graph(storm: Storm) -> Iterator[Graph]:
    server = Graph(storm)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def broker(plan: Plan) -> Iterator[Broker | None]:
    if plan.dispatcher != "celery":
        yield None
        return
    server = Broker()
    try:
        yield server
    finally:
        server.stop()


def run(plan: Plan, folder: Path) -> Result:
    """Run a pass; the folder keeps the logs."""
    storm = Storm(plan.seed, share=plan.share, time_out=plan.time_out, receipts=plan.receipts)
    with graph(storm) as wire, database(plan.database, folder) as data, broker(plan) as tasks:
        named = {
            **data.named,
            "CHAOS_FOLDER": str(folder),
            "CHAOS_GRAPH": wire.url,
            "CHAOS_GRAPH_TIMEOUT": str(plan.time_out),
            "CHAOS_LEASE": str(plan.lease),
            "CHAOS_ECHO_WAIT": str(plan.echo_wait),
            "CHAOS_TOKEN_KEY": NOBODY.decode(),
            "CHAOS_DISPATCHER": plan.dispatcher,
            **({"CHAOS_WITHOUT": plan.without} if plan.without else {}),
            **({"CHAOS_BROKER": tasks.url} if tasks else {}),
        }
        environment = crews.environment(**named)
        os.environ.update({**named, "DJANGO_SETTINGS_MODULE": environment["DJANGO_SETTINGS_MODULE"]})
        django.setup()
        call_command("migrate", verbosity=0)
        crew = crews.Crew(folder, environment, plan.seed, workers=plan.workers, celery=tasks is not None)
        try:
            return Pass(plan, storm, crew, wire=wire, data=data, tasks=tasks).run()
        finally:
            crew.kill()
            connections.close_all()


class Pass:
    def __init__(
        self, plan: Plan, storm: Storm, crew: crews.Crew, *, wire: Graph, data: Database, tasks: Broker | None
    ) -> None:
        self.plan = plan
        self.storm = storm
        self.crew = crew
        self.wire = wire
        self.data = data
        self.tasks = tasks
        self.choose = random.Random(f"pass {plan.seed}")
        self.courier = Courier(
            storm, crew.urls, SECRET, plan.seed, late=1.5 * plan.echo_wait, share=plan.share / 4
        )
        page = storm.add_page(PAGE, TOKEN, app_secret=SECRET)
        self.people = [
            storm.add_person(page, person_id=str(70_000_000_000_000 + n)) for n in range(plan.conversations)
        ]
        self.said = 0
        self.weathered: Counter[str] = Counter()
        self.troubles: list[str] = []
        self.over = threading.Event()
        self.tokens = 1
        self.began = time.monotonic()

    def tell(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:4.0f} s: {text}", flush=True)

    def must(self, condition: Callable[[], bool], seconds: float, trouble: str) -> None:
        if not crews.until(condition, seconds):
            self.troubles.append(trouble)

    def say_something(self) -> None:
        kind = self.choose.choices(["one", "two", "slow", "fails", "none"], [6, 2, 1, 1, 1])[0]
        self.says(self.choose.choice(self.people), kind)

    def says(self, person: object, kind: str) -> str:
        bubble = person.says(f"{kind} canary {self.said}")  # type: ignore[attr-defined]
        self.said += 1
        return str(bubble.mid)

    def run(self) -> Result:
        # By name: these need the models, which are there only now.
        from chaos.invariants import Check  # noqa: PLC0415
        from djmessenger import models  # noqa: PLC0415

        crew, courier, storm = self.crew, self.courier, self.storm
        before = self._backlog()
        staff = threading.Thread(target=self._staff, daemon=True)
        staff.start()
        self._deaths()
        self._weather()
        storm.spoil = courier.spoil = False
        self.tell(f"{self.said} texts; the weather calms down")
        self.must(lambda: courier.idle() and self._at_rest(), QUIET, "it did not come to rest")
        self.tell("at rest; some get stuck")
        slowest = self._isolation()
        stored = set(map(bytes, models.Callback.objects.values_list("body", flat=True)))
        self.tell("at rest; commands die")
        self._commands()
        self.must(
            lambda: courier.idle() and self._at_rest(), QUIET, "it did not come to rest after the replay"
        )
        self.tell("at rest; everybody goes home")
        self.over.set()
        staff.join()
        courier.stop()
        codes = crew.stop(PATIENCE if self.tasks is None else 1.0)
        self.troubles += [
            f"{name} ended with {code}"
            for name, code in codes.items()
            if self.tasks is None and name.startswith("worker") and code != 0
        ]
        missing = [
            *storm.missing(),
            *courier.missing(),
            *(name for name in self._kinds() if not self.weathered[name]),
        ]
        self.troubles += [f"never struck: {name}" for name in missing]
        seconds = sorted(courier.seconds)
        check = Check(
            storm,
            courier,
            before,
            stored,
            crew.logs(),
            self.plan,
            backlog=self.backlog_seconds,
            slowest=slowest,
        )
        return Result(
            breaches=[*self.troubles, *check.breaches()],
            figures={
                "texts": self.said,
                "replies": models.Reply.objects.count(),
                "fates": dict(Counter(models.Reply.objects.values_list("state", flat=True))),
                "sends": len(storm.sent),
                "accepted": sum(check.acceptances.values()),
                "doubled in a named window": check.doubled,
                "attempts": dict(Counter(models.Attempt.objects.values_list("outcome", flat=True))),
                "killed at": dict.fromkeys(crew.killed(), 1),
                "deaths": dict(crew.deaths),
                "weather": dict(self.weathered),
                "faults of Graph": dict(storm.struck),
                "echoes": {**courier.echoes, **{f"forged {kind}": n for kind, n in storm.forged.items()}},
                "posts not taken": dict(courier.refused),
                "strangers": dict(courier.turned_away),
                "seconds to acknowledge, median, 99 %, most, with a backlog": [
                    round(check.percentile(self.backlog_seconds, share), 3) for share in (0.5, 0.99, 1)
                ],
                "the same, in all": [round(check.percentile(seconds, share), 3) for share in (0.5, 0.99, 1)],
                "slowest answer beside stuck conversations": round(slowest, 2),
                "errors in the logs": check.errors,
            },
        )

    # The acts of a pass.

    def _backlog(self) -> set[str]:
        """Texts before there is any worker; gives their ids."""
        from djmessenger import bot, models  # noqa: PLC0415

        for web in self.crew.webs:
            web.start()
        self.must(lambda: all(map(_listens, self.crew.webs)), PATIENCE, "the web processes did not start")
        for _ in range(2 * self.plan.conversations):
            self.say_something()
        self.courier.start()
        self.must(
            lambda: bool(self.courier.acknowledged) and self.courier.idle(),
            PATIENCE * 2,
            "the first texts were not taken in",
        )
        self.backlog_seconds = sorted(self.courier.seconds)
        while bot.get_engine().split_waiting():
            pass
        before = set(models.Messaging.objects.values_list("mid", flat=True))
        connections.close_all()
        return before

    def _deaths(self) -> None:
        """Somebody dies at each of the worst places."""
        self.tell(f"{self.said} texts are waiting; workers start, and die")
        self.crew.armed = True
        for web in self.crew.webs:
            web.signal(9)
        for process in [*self.crew.workers, *self.crew.others]:
            process.start()
        self.crew.watch()
        self._write_on(self.crew.missing, DEADLY)
        self.troubles += [f"nobody died at {point}" for point in self.crew.missing()]
        self.crew.armed = False
        self.tell(f"{self.said} texts; deaths: {dict(self.crew.deaths)}; processes freeze, services go away")

    def _write_on(self, more: Callable[[], object], seconds: float) -> None:
        """Let persons write while there is more to wait for, for so many seconds at most."""
        end = time.monotonic() + seconds
        while more() and time.monotonic() < end:
            self.say_something()
            time.sleep(self.choose.uniform(0.02, self.plan.pause))

    def _kinds(self) -> dict[str, Callable[[], object]]:
        # Outages first: the lag of echoes that they make lengthens all waits until it has faded.
        return {
            "database away": self._database_away,
            **({"broker away": self._broker_away} if self.tasks is not None else {}),
            "freeze": lambda: self.crew.freeze_one(self.plan.lease * 1.3),
            "kill": self.crew.kill_one,
            "connections cut": self.data.cut,
            "Graph refuses connections": lambda: self._graph_away(silent=False),
            "Graph lets nobody in": lambda: self._graph_away(silent=True),
        }

    def _weather(self) -> None:
        """One trouble after the other, while persons go on writing, until all that can strike has struck."""
        ended = threading.Event()

        def storm() -> None:
            choose = random.Random(f"weather {self.plan.seed}")
            end = time.monotonic() + self.plan.seconds
            last = end + DEADLY
            kinds = self._kinds()
            while (now := time.monotonic()) < last:
                missing = [name for name in kinds if not self.weathered[name]]
                if missing or now < end:
                    name = missing[0] if missing else choose.choice(list(kinds))
                    kinds[name]()
                    if name in {"freeze", "kill", "connections cut"}:
                        self.weathered[name] += 1
                    connections.close_all()
                elif not (self.storm.missing() or self.courier.missing()):
                    break
                time.sleep(choose.uniform(0, 0.5))
            ended.set()

        thread = threading.Thread(target=storm, daemon=True)
        thread.start()
        self._write_on(lambda: not ended.is_set(), 4 * DEADLY + self.plan.seconds)
        thread.join()

    def _database_away(self) -> None:
        """For so long that intake answers 503, and Meta posts again."""
        refused = self.courier.refused
        with self.data.away():
            known = refused["503"]
            if crews.until(lambda: refused["503"] > known, PATIENCE):
                self.weathered["database away"] += 1
            time.sleep(1)

    def _graph_away(self, *, silent: bool) -> None:
        """For so long that a reply has met it."""
        from djmessenger import models  # noqa: PLC0415

        words = "no connection in time" if silent else "the connection was refused"
        name = "Graph lets nobody in" if silent else "Graph refuses connections"

        def met() -> bool:
            with contextlib.suppress(DatabaseError):
                return models.Reply.objects.filter(error__contains=words).exists()
            return False

        with self.wire.away(silent=silent):
            if crews.until(met, PATIENCE):
                self.weathered[name] += 1

    def _broker_away(self) -> None:
        assert self.tasks is not None
        with self.tasks.away():
            time.sleep(1)
        self.weathered["broker away"] += 1

    def _staff(self) -> None:
        """People at work: they replace a dead token, and end pauses of which they know that they are too long."""
        from djmessenger import bot, models  # noqa: PLC0415

        page = self.storm.pages[PAGE]
        while not self.over.wait(0.2):
            try:
                row = models.Page.objects.filter(page_id=PAGE, paused_until__gt=timezone.now()).first()
                if row is None:
                    continue
                if page.token_error is not None:
                    self.tokens += 1
                    token = f"{TOKEN}-{self.tokens}"
                    bot.set_token(row, Secret(token))
                    row.save(update_fields=["token_ciphertext"])
                    page.token, page.token_error = token, None
                elif not row.paused_token:
                    models.Page.objects.filter(pk=row.pk).update(paused_until=None, pause_reason="")
                    waiting = models.Reply.objects.filter(state__in=models.Reply.OPEN).order_by()
                    models.ConversationQueue.objects.wake(
                        waiting.values_list("conversation_id", flat=True).distinct(),
                        models.ConversationQueue.Kind.OUT,
                    )
            except DatabaseError:
                pass
            finally:
                connections.close_all()

    def _at_rest(self) -> bool:
        from djmessenger import models  # noqa: PLC0415

        try:
            return not (
                models.Callback.objects.filter(state="new").exists()
                or models.Messaging.objects.filter(state="new").exists()
                or models.Reply.objects.filter(state__in=models.Reply.OPEN).exists()
                or models.ConversationQueue.objects.exclude(leased_until=None).exists()
            )
        except DatabaseError:
            return False
        finally:
            connections.close_all()

    def _isolation(self) -> float:
        """Some hang in a rule, one in Graph; the others are answered all the same. Gives the slowest answer."""
        from chaos.messenger import STUCK, sign  # noqa: PLC0415
        from djmessenger import models  # noqa: PLC0415

        ill, deaf, well = self.people[:2], self.people[2], self.people[3:_WELL]
        self.storm.deaf.add(deaf.id)
        stuck = [self.says(person, STUCK) for person in ill]
        for person in [*ill, deaf]:
            self.says(person, "one")
        self.must(lambda: all(sign(f"begun {mid}").exists() for mid in stuck), PATIENCE, "nobody got stuck")
        mids = {person.id: self.says(person, "one") for person in well}
        began = {person.id: time.time() for person in well}
        answered: dict[str, float] = {}

        def all_answered() -> bool:
            for person in well:
                for bubble in person.received:
                    if bubble.text == f"{mids[person.id]} 0":
                        answered[person.id] = bubble.time - began[person.id]
            return len(answered) == len(well)

        self.must(all_answered, PATIENCE, "those beside a stuck conversation were not answered")
        if models.Messaging.objects.filter(mid__in=stuck, state="new").count() != len(stuck):
            self.troubles.append("what was to be stuck is not")
        connections.close_all()
        sign("let go").touch()
        self.storm.deaf.clear()
        self.must(self._at_rest, QUIET, "it did not come to rest after some were stuck")
        return max(answered.values(), default=0.0)

    def _commands(self) -> None:
        """Commands die between two rows, and their second run does the rest."""
        from chaos.messenger import sign  # noqa: PLC0415

        sign("mended").touch()
        self.crew.armed = True
        self.crew.environment["CHAOS_KEEP_BODIES"] = "0"
        for wanted in (-9, 0):
            begun = [
                (words[0], self.crew.command(*words, points=[point]))
                for point, words in crews.COMMAND_POINTS.items()
            ]
            for name, process in begun:
                if (code := process.wait(PATIENCE)) != wanted:
                    self.troubles.append(f"{name} ended with {code}, not {wanted}")
        self.crew.armed = False


def _listens(web: crews.Process) -> bool:
    with contextlib.suppress(OSError), crews.socket.create_connection(("127.0.0.1", web.port), timeout=1):
        return True
    return False
