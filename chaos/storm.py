"""Emulator with faults: Graph fails in each way of the table and logs each send."""

from __future__ import annotations

import json
import random
import select
import socket
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from chaos.faults import FAULTS, FORGED, SILENCE, TAKEN
from chaos.processes import is_frozen
from messenger_emulator import Emulator
from messenger_emulator.core import GraphResponse
from messenger_emulator.world import Pending

PAGE = "104233987650012"
APP = "883041772661055"
OTHER_APP = "112233445566778"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One send that Graph received."""

    person: str
    token: str
    fault: str

    @property
    def reply(self) -> str:
        return self.token.split(".")[1]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One send that Graph has not answered completely, seen from its caller."""

    person: str
    token: str
    connection: socket.socket | None
    process: int
    """Id of the calling process, or 0 if the request does not name it."""

    def is_under_way(self) -> bool:
        """Return whether the caller still waits for the answer.

        A caller that gave up or was killed has closed its connection. A frozen process does nothing, and
        its successor may send when the lease has ended.
        """
        if is_frozen(self.process):
            return False
        if self.connection is None:
            return True
        try:
            poll = select.poll()
            poll.register(self.connection, select.POLLIN)
            # A caller writes nothing behind its request, so the connection is readable only at its end.
            return not poll.poll(0)
        except (OSError, ValueError):
            return False


class Caller(threading.local):
    """Connection of the request that this thread answers, and the call that it makes."""

    connection: socket.socket | None = None
    call: Call | None = None


class Storm(Emulator):
    """Emulator that spoils a share of the sends. The seed and the number of a send determine its fault."""

    def __init__(self, seed: int, *, share: float, time_out: float, receipts: bool = True) -> None:
        super().__init__(
            seed=str(seed), enforce_rates=False, read_receipts=receipts, delivery_receipts=receipts
        )
        self._seed = seed
        self._time_out = time_out
        self._share = share
        self.spoil = True
        """True while sends are spoilt."""
        self._number = 0
        self._numbers = threading.Lock()
        self.struck: Counter[str] = Counter()
        self.forged: Counter[str] = Counter()
        self.sent: list[Sent] = []
        """All sends in the order of arrival."""
        self.hurried: set[str] = set()
        """Ids of messages whose echo has to come before the answer."""
        self.deaf: set[str] = set()
        """Ids of persons whose sends Graph neither accepts nor answers."""
        self.planned: dict[str, list[str]] = {}
        """Faults of the next sends to a person, by person id. Such a person meets no other fault."""
        self.unheard: set[str] = set()
        """Ids of persons whose echoes are lost, except those in ``hurried``."""
        self.caller = Caller()
        self._calls: dict[str, list[Call]] = defaultdict(list)
        """Sends that Graph has not answered completely, by person id."""
        self.answered: set[str] = set()
        """Ids of the texts of persons to which a reply arrived here."""
        self.overlapping: list[tuple[str, str]] = []
        """Tokens of two sends to one person: the second arrived while the caller of the first waited for its answer."""

    def missing(self) -> list[str]:
        return [fault for fault in FAULTS if not self.struck[fault]]

    def _choose_fault(self, person: str) -> str:
        with self._numbers:
            self._number += 1
            choose = random.Random(f"{self._seed} {self._number}")
            rare = self.missing()
            if person in self.deaf:
                return "silent before"
            if person in self.planned:
                return self.planned[person].pop(0) if self.planned[person] else ""
            # Faults that have not struck yet come first, so that a short pass includes all of them.
            if not self.spoil or choose.random() >= (0.8 if rare else self._share):
                return ""
            fault = choose.choice(rare or list(FAULTS))
            if fault == "dead token" and self.pages[PAGE].token_error is not None:
                return ""
            return fault

    def handle(
        self, method: str, path: str, query: Any = "", headers: Any = None, body: bytes = b""
    ) -> GraphResponse:
        if not path.endswith("/messages") or b'"message"' not in body:
            return super().handle(method, path, query, headers, body)
        data = json.loads(body)
        token = data["message"]["metadata"].partition(" ")[0]
        person = data["recipient"]["id"]
        process = int((headers or {}).get("chaos-process", 0))
        call = Call(person=person, token=token, connection=self.caller.connection, process=process)
        with self._numbers:
            self.overlapping += [
                (other.token, token) for other in self._calls[person] if other.is_under_way()
            ]
            self._calls[person].append(call)
            self.answered.add(data["message"].get("text", "").partition(" ")[0])
        self.caller.call = call
        return self._send(person, token, method, path, query, headers, body)

    def end_call(self) -> None:
        """Note that the call of this thread is answered. Must run before the caller can read the end of the answer."""
        call, self.caller.call = self.caller.call, None
        if call is not None:
            with self._numbers:
                self._calls[call.person].remove(call)

    def _send(
        self, person: str, token: str, method: str, path: str, query: Any, headers: Any, body: bytes
    ) -> GraphResponse:
        name = self._choose_fault(person)
        if self.pages[PAGE].token_error is not None:
            name = "dead token"
        fault = FAULTS.get(name)
        if name == "dead token":
            self.pages[PAGE].token_error = 463
        if fault is not None and fault.silent == "before":
            time.sleep(self._time_out + SILENCE)
        taken = super().handle(method, path, query, headers, body) if name in TAKEN or not name else None
        if taken is not None and taken[0] != 200:
            # A token that staff just replaced is refused in the same way as a dead one.
            fault, name = None, "dead token"
        with self._numbers:
            self.sent.append(Sent(person=person, token=token, fault=name))
            if name:
                self.struck[name] += 1
        if fault is None:
            return taken  # type: ignore[return-value]
        if taken is None and fault.fate == "unknown":
            self._forge(person, token)
        if fault.silent == "after":
            time.sleep(self._time_out + SILENCE)
        if fault.slow and taken is not None:
            with self.lock:
                self.hurried.add(str(json.loads(taken[2]).get("message_id")))
            time.sleep(self._time_out * 0.7)
        return fault.answer(taken)

    def _forge(self, person: str, token: str) -> None:
        """Queue a forged echo of a message that was not accepted: of another app, or to another person."""
        with self._numbers:
            kind = FORGED[sum(self.forged.values()) % len(FORGED)]
            self.forged[kind] += 1
        page = self.pages[PAGE]
        other = kind == "to another person"
        message = {
            "mid": self.mid_for(page),
            "is_echo": True,
            "app_id": int(APP if other else OTHER_APP),
            "metadata": token,
            "text": "forged",
        }
        item = {
            "sender": {"id": PAGE},
            "recipient": {"id": next(p for p in self.persons if p != person) if other else person},
            "timestamp": int(self.clock() * 1000),
            "message": message,
        }
        with self.lock:
            self.waiting.append(Pending(page, "messaging", item, self.clock(), "message_echoes"))
