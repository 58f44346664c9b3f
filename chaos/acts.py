"""Acts of a pass: faults of processes, clocks, services and the disk, one after another while persons write."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from django.db import DatabaseError, connections
from django.db.models import QuerySet

from chaos import inside
from chaos.courier import Courier
from chaos.plan import Plan
from chaos.processes import Processes, until
from chaos.services import Broker, Database
from chaos.storm import Storm
from chaos.wire import Graph
from messenger_emulator.world import Person

PATIENCE = 30.0
"""Most seconds of each wait."""
_FREEZE_IN_LEASES = 1.3
"""Length of a freeze, as a multiple of the lease."""


class Acts:
    """Acts of a pass, by name. ``struck`` counts how often an act had its effect; otherwise it is played again."""

    def __init__(
        self,
        plan: Plan,
        storm: Storm,
        processes: Processes,
        courier: Courier,
        *,
        graph: Graph,
        data: Database,
        tasks: Broker | None,
        persons: list[Person],
        says: Callable[[Person, str], str],
        report: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._storm = storm
        self._processes = processes
        self._courier = courier
        self._graph = graph
        self._data = data
        self._tasks = tasks
        self._persons = persons
        self._says = says
        self._report = report
        self._choose = random.Random(f"weather {plan.seed}")
        self.struck: Counter[str] = Counter()
        self._played: Counter[str] = Counter()
        possible = {
            "_disk_full": data.disk is not None,
            "_broker_away": tasks is not None,
            # This act lasts as long as all other acts of a short pass together.
            "_answer_frozen": plan.timed,
        }
        self._acts = {name: act for name, act in ACTS.items() if possible.get(act.__name__, True)}

    def missing(self) -> list[str]:
        """Return the names of the acts that have not had their effect yet."""
        return [name for name in self._acts if not self.struck[name]]

    def play_one(self) -> None:
        """Play the missing act that was played least, the first of several, or any act if none is missing."""
        missing = self.missing()
        name = (
            min(missing, key=self._played.__getitem__) if missing else self._choose.choice(list(self._acts))
        )
        self._played[name] += 1
        struck = False
        with contextlib.suppress(DatabaseError):
            struck = self._acts[name](self)
        if not struck:
            self._report(f"{name}: without effect")
        self.struck[name] += struck
        connections.close_all()

    def pause(self) -> None:
        time.sleep(self._choose.uniform(0, 0.5))

    @contextlib.contextmanager
    def _frozen(self, place: str, person: Person | None = None, text: str = "") -> Iterator[int | None]:
        """Freeze the next process that comes to a place. Yield its process id, or None if no process came in time.

        With a person, only a process that works for this person is frozen, and the person writes ``text`` first. The
        process continues at the end of the block.
        """
        asked, frozen = inside.sign(f"freeze-{place}"), inside.sign(f"frozen-{place}")
        inside.write(asked, "" if person is None else person.id)
        if person is not None:
            self._says(person, text)
        try:
            yield int(frozen.read_text()) if until(frozen.exists, 2 * PATIENCE) else None
        finally:
            asked.unlink(missing_ok=True)
            if frozen.exists():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(frozen.read_text()), signal.SIGCONT)
                frozen.unlink()

    def _splitter_frozen(self) -> bool:
        """Freeze a process inside its split, longer than its lease, while later callbacks are stored."""
        with self._frozen("splitter") as frozen:
            stored = len(self._courier.acknowledged)
            if frozen is not None:
                time.sleep(self._plan.lease * _FREEZE_IN_LEASES)
            later = len(self._courier.acknowledged) > stored
        return frozen is not None and (later or self._plan.database == "sqlite")

    def _handler_frozen(self) -> bool:
        """Freeze a process in a slow rule, until another process has the lease and runs the rule.

        The frozen process then returns first, with a fencing token that is too old.
        """
        from djmessenger import models  # noqa: PLC0415 - needs the settings of the pass

        person = self._choose.choice(self._persons)
        held = models.ConversationQueue.objects.filter(
            conversation__person_id=person.id, kind=models.ConversationQueue.Kind.IN
        ).exclude(owner="")
        # The frozen process may have the only lock of SQLite.
        seconds = self._plan.lease * 3 if self._plan.database == "sqlite" else PATIENCE
        with self._frozen("handler", person, "long") as frozen:
            return frozen is not None and until(
                lambda: _finds(held.exclude(owner__endswith=f":{frozen}")), seconds
            )

    def _sender_frozen(self) -> bool:
        """Freeze a process with a refusal that it has not settled, until another process sends the reply again.

        The refusal then comes while the second call runs, which Graph accepts.
        """
        person = self._choose.choice(self._persons)
        self._storm.planned[person.id] = ["code 10", "echo before the answer"]
        with self._frozen("sender", person, "one") as frozen:
            return frozen is not None and self._is_sent_again(person)

    def _answer_frozen(self) -> bool:
        """Freeze a process with an acceptance that it has not settled, until another process sends the reply again.

        The echo is lost. The acceptance comes while the second call runs, and another reply waits behind.
        """
        person = self._choose.choice(self._persons)
        self._storm.planned[person.id] = ["", "echo before the answer"]
        self._storm.unheard.add(person.id)
        with self._frozen("sender", person, "two") as frozen:
            again = frozen is not None and self._is_sent_again(person)
        self._storm.unheard.discard(person.id)
        return again

    def _is_sent_again(self, person: Person) -> bool:
        """Wait until the last reply to a person is sent again; return False if it is not in time."""
        from djmessenger import models  # noqa: PLC0415 - needs the settings of the pass

        # Outages have made the measured lag of echoes long. The wait for an echo is as long as this lag.
        models.Page.objects.update(echo_lag=None)
        first = models.Attempt.objects.filter(reply__recipient_id=person.id).latest("pk")
        again = models.Attempt.objects.filter(reply=first.reply_id, number=first.number + 1)
        return until(lambda: _finds(again), 2 * PATIENCE, every=0.01)

    def _process_frozen(self) -> bool:
        """Freeze a process at any point, longer than its leases."""
        self._processes.freeze_one(self._plan.lease * _FREEZE_IN_LEASES)
        return True

    def _process_killed(self) -> bool:
        """Kill a process at any point."""
        self._processes.kill_one()
        return True

    def _clock_wrong(self) -> bool:
        """Set the clock of a process an hour forwards, then an hour back, then right.

        With SQLite the clock of the database is that of its process, so the clocks of all processes are set together.
        They are set back and then right, without the hour forwards. After a jump back, each wait lasts longer, and from
        an hour forwards the jump would be two hours.
        """
        shared = self._plan.database == "sqlite"
        processes = self._processes.all if shared else [self._choose.choice(self._processes.all)]
        signs = [inside.sign(f"clock-{process.name}") for process in processes]
        for hours in (-1,) if shared else (1, -1):
            for sign in signs:
                inside.write(sign, str(hours * inside.HOUR))
            time.sleep(self._plan.lease)
        for sign in signs:
            sign.unlink()
        return True

    def _connections_cut(self) -> bool:
        """Break all connections to the database. Lock an SQLite database for a second instead."""
        self._data.cut()
        return True

    def _database_away(self) -> bool:
        """Stop the database until a callback is answered 503 and posted again."""
        with self._data.away():
            return self._refused()

    def _disk_full(self) -> bool:
        """Leave the database no room until a callback is answered 503 and posted again."""
        assert self._data.disk is not None
        with self._data.disk.full():
            return self._refused()

    def _refused(self) -> bool:
        before = self._courier.refused["503"]
        refused = until(lambda: self._courier.refused["503"] > before, PATIENCE)
        time.sleep(1)
        return refused

    def _graph_refuses_connections(self) -> bool:
        """Stop Graph until the connection of a reply was refused."""
        return self._graph_away("the connection was refused", silent=False)

    def _graph_accepts_no_connection(self) -> bool:
        """Leave connections to Graph without an answer until a reply got none in time."""
        return self._graph_away("no connection in time", silent=True)

    def _graph_away(self, words: str, *, silent: bool) -> bool:
        from djmessenger import models  # noqa: PLC0415 - needs the settings of the pass

        met = models.Reply.objects.filter(error__contains=words)
        with self._graph.away(silent=silent):
            return until(lambda: _finds(met), PATIENCE)

    def _broker_away(self) -> bool:
        """Stop the broker of Celery, which loses its tasks."""
        assert self._tasks is not None
        with self._tasks.away():
            time.sleep(1)
        return True


# Outages come first, because they delay echoes, and the measured lag lengthens all later waits.
ACTS: dict[str, Callable[[Acts], bool]] = {
    act.__name__.strip("_").replace("_", " "): act
    for act in (
        Acts._database_away,
        Acts._disk_full,
        Acts._broker_away,
        Acts._handler_frozen,
        Acts._sender_frozen,
        Acts._answer_frozen,
        Acts._splitter_frozen,
        Acts._process_frozen,
        Acts._process_killed,
        Acts._clock_wrong,
        Acts._connections_cut,
        Acts._graph_refuses_connections,
        Acts._graph_accepts_no_connection,
    )
}
"""Acts by name, in the order of their first play."""


def _finds(rows: QuerySet[Any]) -> bool:
    """Return whether the query finds a row. Return False if the database fails."""
    with contextlib.suppress(DatabaseError):
        return rows.exists()
    return False
