"""One pass: messages before and during the faults of processes and services, then the invariants."""

from __future__ import annotations

import contextlib
import os
import random
import signal
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

from chaos import processes as managed
from chaos.acts import PATIENCE, Acts
from chaos.courier import Courier
from chaos.inside import sign
from chaos.plan import SECRET, TOKEN, Plan
from chaos.services import Broker, Database, database
from chaos.storm import PAGE, Storm
from chaos.wire import Graph
from djmessenger.secret import Secret
from messenger_emulator.world import Person

TOKEN_KEY = b"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
"""Key for tokens at rest; it protects made-up tokens only."""
DEADLY = 90.0
"""Seconds in which each failpoint must have killed a process."""
QUIET = 180.0
"""Seconds in which all work must be done; the wait for an echo can take two minutes of them."""
_WELL = 20
"""End of the slice of persons who write beside stuck conversations; their delay is measured."""
_TOGETHER = 8
"""Most callbacks that are posted at the same time, so that the intake commits groups."""
_RESERVED = 12
"""Number of persons who write only in acts."""
_KINDS = {"one": 12, "two": 4, "slow": 2, "fails": 2, "none": 2, "hook": 1, "long": 0.5}
"""Weight of each kind of text in the random choice."""


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
    """Run a pass; the logs are written to the folder."""
    storm = Storm(plan.seed, share=plan.share, time_out=plan.time_out, receipts=plan.receipts)
    with graph(storm) as wire, database(plan.database, folder) as data, broker(plan) as tasks:
        if data.disk is None:
            print(
                "the act 'disk full' is left out, because this user may not mount a file system", flush=True
            )
        named = {
            **data.named,
            "CHAOS_FOLDER": str(folder),
            "CHAOS_GRAPH": wire.url,
            "CHAOS_GRAPH_TIMEOUT": str(plan.time_out),
            "CHAOS_LEASE": str(plan.lease),
            "CHAOS_ECHO_WAIT": str(plan.echo_wait),
            "CHAOS_TOKEN_KEY": TOKEN_KEY.decode(),
            "CHAOS_DISPATCHER": plan.dispatcher,
            **({"CHAOS_WITHOUT": plan.without} if plan.without else {}),
            **({"CHAOS_BROKER": tasks.url} if tasks else {}),
        }
        environment = managed.environment(**named)
        os.environ.update({**named, "DJANGO_SETTINGS_MODULE": environment["DJANGO_SETTINGS_MODULE"]})
        django.setup()
        call_command("migrate", verbosity=0)
        processes = managed.Processes(
            folder,
            environment,
            plan.seed,
            workers=plan.workers,
            dispatcher=plan.dispatcher,
            intakes=plan.intakes,
        )
        try:
            return Pass(plan, storm, processes, wire=wire, data=data, tasks=tasks).run()
        finally:
            processes.kill()
            connections.close_all()


class Pass:
    def __init__(
        self,
        plan: Plan,
        storm: Storm,
        processes: managed.Processes,
        *,
        wire: Graph,
        data: Database,
        tasks: Broker | None,
    ) -> None:
        self.plan = plan
        self.storm = storm
        self.processes = processes
        self.tasks = tasks
        self.choose = random.Random(f"pass {plan.seed}")
        self.courier = Courier(
            storm,
            processes.urls,
            SECRET,
            plan.seed,
            late=1.5 * plan.echo_wait,
            share=plan.share / 4,
            together=_TOGETHER if any(plan.intakes) else 1,
        )
        page = storm.add_page(PAGE, TOKEN, app_secret=SECRET)
        self.people = [
            storm.add_person(page, person_id=str(70_000_000_000_000 + n)) for n in range(plan.conversations)
        ]
        # These persons write only in acts, so an act meets no other reply to its person.
        reserved = [storm.add_person(page, person_id=str(71_000_000_000_000 + n)) for n in range(_RESERVED)]
        self.acts = Acts(
            plan,
            storm,
            processes,
            self.courier,
            graph=wire,
            data=data,
            tasks=tasks,
            persons=reserved,
            says=self.says,
            report=self.report,
        )
        self.said = 0
        self.unanswered: set[str] = set()
        self.troubles: list[str] = []
        self.over = threading.Event()
        self.tokens = 1
        self.began = time.monotonic()

    def report(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:4.0f} s: {text}", flush=True)

    def must(self, condition: Callable[[], bool], seconds: float, trouble: str) -> None:
        if not managed.until(condition, seconds):
            self.troubles.append(trouble)

    def say_something(self) -> None:
        kind = self.choose.choices(list(_KINDS), list(_KINDS.values()))[0]
        mid = self.says(self.choose.choice(self.people), kind)
        if kind != "none":
            self.unanswered.add(mid)

    def says(self, person: Person, kind: str) -> str:
        bubble = person.says(f"{kind} canary {self.said}")
        self.said += 1
        return str(bubble.mid)

    def run(self) -> Result:
        # Imported here, because these modules need the models, which are loaded by now.
        from chaos.invariants import Check  # noqa: PLC0415
        from djmessenger import models  # noqa: PLC0415

        processes, courier, storm = self.processes, self.courier, self.storm
        self._backlog()
        staff = threading.Thread(target=self._staff, daemon=True)
        staff.start()
        self._deaths()
        self._weather()
        storm.spoil = courier.spoil = False
        # The outages have made the measured lag of echoes long. Each wait for an echo is as long as this lag.
        models.Page.objects.update(echo_lag=None)
        self.report(f"{self.said} texts; the faults end")
        self.must(lambda: courier.idle() and self._at_rest(), QUIET, "some work was not done in time")
        self.report("all work is done; some conversations get stuck")
        slowest = self._isolation()
        stored = set(map(bytes, models.Callback.objects.values_list("body", flat=True)))
        self.report("all work is done; commands die")
        self._commands()
        self.must(
            lambda: courier.idle() and self._at_rest(),
            QUIET,
            "some work was not done in time after the replay",
        )
        self.report("all work is done; the processes end")
        self.over.set()
        staff.join()
        courier.stop()
        codes = processes.stop(PATIENCE if self.tasks is None else 1.0)
        self.troubles += [
            f"{name} ended with {code}"
            for name, code in codes.items()
            if self.tasks is None and code != (0 if name.startswith("worker") else -signal.SIGTERM)
        ]
        missing = [
            *storm.missing(),
            *courier.missing(),
            *self.acts.missing(),
        ]
        self.troubles += [f"never struck: {name}" for name in missing]
        seconds = sorted(courier.seconds)
        check = Check(
            storm,
            courier,
            stored,
            processes.logs(),
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
                "killed at": dict.fromkeys(processes.killed(), 1),
                "deaths": dict(processes.deaths),
                "acts": dict(self.acts.struck),
                "faults of Graph": dict(storm.struck),
                "echoes": {**courier.echoes, **{f"forged {kind}": n for kind, n in storm.forged.items()}},
                "posts not taken": dict(courier.refused),
                "waves of several callbacks": courier.grouped,
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

    def _backlog(self) -> None:
        """Write texts before a worker runs; embedded threads run already."""
        from djmessenger import bot  # noqa: PLC0415

        for web in self.processes.webs:
            web.start()
        self.must(
            lambda: all(map(_listens, self.processes.webs)), PATIENCE, "the web processes did not start"
        )
        for _ in range(2 * self.plan.conversations):
            self.say_something()
        self.courier.start()
        self.must(
            lambda: bool(self.courier.acknowledged) and self.courier.idle(),
            PATIENCE * 2,
            "the first texts were not stored",
        )
        self.backlog_seconds = sorted(self.courier.seconds)
        while bot.get_engine().split():
            pass
        connections.close_all()

    def _deaths(self) -> None:
        """Kill a process at each failpoint."""
        self.report(f"{self.said} texts are waiting; workers start, and die")
        self.processes.armed = True
        for web in self.processes.webs:
            web.signal(9)
        for process in [*self.processes.workers, *self.processes.others]:
            process.start()
        self.processes.watch()
        self._write_on(self.processes.missing, DEADLY)
        self.troubles += [f"no process died at {point}" for point in self.processes.missing()]
        self.processes.armed = False
        self.report(
            f"{self.said} texts; deaths: {dict(self.processes.deaths)}; processes freeze, services go away"
        )

    def _write_on(self, more: Callable[[], object], seconds: float) -> None:
        """Write texts while ``more()`` is true, for ``seconds`` at most.

        In a pass without bounds of time, persons write rarely while two texts of each conversation have no answer. A
        busy machine would have more texts at the end than it can answer in ``QUIET`` seconds.
        """
        end = time.monotonic() + seconds
        while more() and time.monotonic() < end:
            self.say_something()
            self.unanswered -= self.storm.answered
            if not self.plan.timed and len(self.unanswered) > 2 * self.plan.conversations:
                time.sleep(0.5)
            time.sleep(self.choose.uniform(0.02, self.plan.pause))

    def _weather(self) -> None:
        """Play one act after the other while persons write, until each fault has struck."""
        ended = threading.Event()

        def storm() -> None:
            end = time.monotonic() + self.plan.seconds
            last = end + 3 * DEADLY
            while (now := time.monotonic()) < last:
                if self.acts.missing() or now < end:
                    self.acts.play_one()
                elif not (self.storm.missing() or self.courier.missing()):
                    break
                self.acts.pause()
            ended.set()

        thread = threading.Thread(target=storm, daemon=True)
        thread.start()
        self._write_on(lambda: not ended.is_set(), 4 * DEADLY + self.plan.seconds)
        thread.join()

    def _staff(self) -> None:
        """Replace a dead token, and end the other pauses of the Page, as staff would."""
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
        """Block two conversations in a rule and one in Graph; return the seconds of the slowest answer beside them."""
        from chaos.messenger import STUCK  # noqa: PLC0415
        from djmessenger import models  # noqa: PLC0415

        blocked, deaf, well = self.people[:2], self.people[2], self.people[3:_WELL]
        self.storm.deaf.add(deaf.id)
        stuck = [self.says(person, STUCK) for person in blocked]
        for person in [*blocked, deaf]:
            self.says(person, "one")
        self.must(
            lambda: all(sign(f"begun {mid}").exists() for mid in stuck), PATIENCE, "no conversation got stuck"
        )
        mids = {person.id: self.says(person, "one") for person in well}
        began = {person.id: time.time() for person in well}
        answered: dict[str, float] = {}

        def all_answered() -> bool:
            for person in well:
                for bubble in person.received:
                    if bubble.text == f"{mids[person.id]} 0":
                        answered[person.id] = bubble.time - began[person.id]
            return len(answered) == len(well)

        self.must(all_answered, PATIENCE, "conversations beside the stuck ones were not answered")
        if models.Messaging.objects.filter(mid__in=stuck, state="new").count() != len(stuck):
            self.troubles.append("a conversation that should be stuck is not")
        connections.close_all()
        sign("released").touch()
        self.storm.deaf.clear()
        self.must(self._at_rest, QUIET, "some work was not done in time after the stuck conversations")
        return max(answered.values(), default=0.0)

    def _commands(self) -> None:
        """Kill commands between two rows; their second run has to do the rest."""
        sign("mended").touch()
        self.processes.armed = True
        self.processes.environment["CHAOS_KEEP_BODIES"] = "0"
        for expected in (-9, 0):
            begun = [
                (words[0], self.processes.command(*words, points=[point]))
                for point, words in managed.COMMAND_POINTS.items()
            ]
            for name, process in begun:
                if (code := managed.wait_while_it_works(process, PATIENCE)) != expected:
                    self.troubles.append(f"{name} ended with {code}, not {expected}")
        self.processes.armed = False


def _listens(web: managed.Process) -> bool:
    with contextlib.suppress(OSError), managed.socket.create_connection(("127.0.0.1", web.port), timeout=1):
        return True
    return False
