"""Tools of the tests of the engine: items and bodies of callbacks, policies of plain functions, queues."""

from __future__ import annotations

import datetime
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.db import connections
from django.test import Client

from djmessenger import bot, models, signatures
from djmessenger.clock import Deadline
from djmessenger.handling import BaseHandler
from djmessenger.pipeline import claims, split, store
from djmessenger.pipeline.claims import Lease
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.handling import Inbox
from djmessenger.pipeline.sending import Outbox
from djmessenger.pipeline.slow import SlowPool
from djmessenger.routing import Policy, Rule
from djmessenger.sql import atomic
from messenger_emulator import Emulator, Person

PAGE = "104233987650012"
APP = "883041772661055"
PSID = "7012345678901234"
IN, OUT = models.ConversationQueue.Kind.IN, models.ConversationQueue.Kind.OUT
LONG = 30.0
"""Seconds after which what another process should have done is given up."""


def until(condition: Callable[[], object], what: str = "it", say: Callable[[], str] = str) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen\n{say()}"
        time.sleep(0.02)


def wait_for_publishers() -> None:
    """Wait until the threads that send wake-ups have ended, and with them their connections to the database."""
    for thread in threading.enumerate():
        if thread.name.endswith("-publisher"):
            thread.join(LONG)


def wait_for_sessions() -> None:
    """Wait until no session uses the test database, so that PostgreSQL can drop it. Name those that do not end.

    PostgreSQL itself waits 5 seconds. On a busy machine the session of a closed connection may need more to end.
    """
    connection = connections["default"]
    if connection.vendor != "postgresql":
        return
    connection.close()

    def sessions() -> list[Any]:
        with connection._nodb_cursor() as cursor:
            cursor.execute(
                "SELECT pid, backend_type, state, query FROM pg_stat_activity WHERE datname = %s",
                [connection.settings_dict["NAME"]],
            )
            found: list[Any] = cursor.fetchall()
            return found

    until(lambda: not sessions(), "the end of all sessions of the test database", lambda: str(sessions()))


def post(*items: dict[str, Any]) -> int:
    """Post a callback of items as Meta would; gives the status."""
    return post_body(body(*items))


def post_body(content: bytes) -> int:
    """Post these signed bytes as Meta would; gives the status."""
    return (
        Client()
        .post("/messenger", content, content_type="application/json", headers=signed(content))
        .status_code
    )


def now_ms() -> int:
    return int(time.time() * 1000)


def text(mid: str, words: str = "hello", *, psid: str = PSID, at: int | None = None) -> dict[str, Any]:
    return {
        "sender": {"id": psid},
        "recipient": {"id": PAGE},
        "timestamp": now_ms() if at is None else at,
        "message": {"mid": mid, "text": words},
    }


def comment(
    words: str, *, post: str = f"{PAGE}_1", by: str = "7700", at: int | None = None
) -> dict[str, Any]:
    """Return a comment on a post of the Page, for the container ``changes``."""
    value = {"item": "comment", "verb": "add", "post_id": post, "from": {"id": by}, "message": words}
    return {"field": "feed", "value": value, "timestamp": now_ms() if at is None else at}


def echo(
    mid: str, metadata: str, *, psid: str = PSID, app_id: Any = APP, sender: str = PAGE, at: int | None = None
) -> dict[str, Any]:
    message = {"mid": mid, "text": "x", "is_echo": True, "metadata": metadata}
    if app_id is not None:
        message["app_id"] = app_id
    return {
        "sender": {"id": sender},
        "recipient": {"id": psid},
        "timestamp": now_ms() if at is None else at,
        "message": message,
    }


def read(watermark: int, *, psid: str = PSID) -> dict[str, Any]:
    return {
        "sender": {"id": psid},
        "recipient": {"id": PAGE},
        "timestamp": now_ms(),
        "read": {"watermark": watermark},
    }


def delivered(watermark: int, *mids: str, psid: str = PSID) -> dict[str, Any]:
    part: dict[str, Any] = {"watermark": watermark, **({"mids": list(mids)} if mids else {})}
    return {"sender": {"id": psid}, "recipient": {"id": PAGE}, "timestamp": now_ms(), "delivery": part}


def body(*items: dict[str, Any], container: str = "messaging", page: str = PAGE) -> bytes:
    entry = {"id": page, "time": now_ms(), container: list(items)}
    return json.dumps({"object": "page", "entry": [entry]}).encode()


def signed(content: bytes) -> dict[str, str]:
    return {"X-Hub-Signature-256": signatures.sign(settings.DJM_APP_SECRET, content)}


def receive(*items: dict[str, Any], container: str = "messaging") -> split.Split:
    """Store a callback with these items and split it."""
    return split.split(store.store(body(*items, container=container)))


def someone(emulator: Emulator) -> Person:
    """Add the person of these tools, who has said hello."""
    made = emulator.add_person(PAGE, person_id=PSID)
    made.says("hello")
    emulator.waiting.clear()
    return made


def threads(*works: Callable[[], Any]) -> list[BaseException]:
    """Run functions at the same time and give what they raised."""
    errors: list[BaseException] = []

    def run(work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)
        finally:
            connections.close_all()

    running = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return errors


def waiting_sessions() -> int:
    """Return how many sessions of PostgreSQL wait for a lock."""
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT COUNT(DISTINCT pid) FROM pg_locks WHERE NOT granted")
        return int(cursor.fetchone()[0])


def is_anybody_waiting() -> bool:
    """Return whether a transaction waits for a lock of PostgreSQL."""
    return waiting_sessions() > 0


class Session(threading.Thread):
    """A function that runs in a transaction of its own connection, until ``finish`` if it holds locks for a test."""

    def __init__(self, work: Callable[[], Any], *, holds: bool = False) -> None:
        super().__init__()
        self._work = work
        self._end = threading.Event()
        self._began = threading.Event()
        self.errors: list[BaseException] = []
        if not holds:
            self._end.set()
        self.start()
        if holds:
            assert self._began.wait(LONG)

    def run(self) -> None:
        try:
            with atomic():
                self._work()
                self._began.set()
                self._end.wait(LONG)
        except BaseException as error:  # noqa: BLE001
            self.errors.append(error)
        finally:
            connections.close_all()

    def finish(self) -> list[BaseException]:
        """Commit, wait for the end, and return what the function raised."""
        self._end.set()
        self.join(LONG)
        return self.errors


def conversation(psid: str = PSID) -> models.Conversation:
    made = models.Conversation.objects.between(PAGE, psid)
    models.ConversationQueue.objects.ensure([made.pk])
    return made


def queue_of(made: models.Conversation, kind: str = IN) -> models.ConversationQueue:
    return models.ConversationQueue.objects.get(conversation=made, kind=kind)


class Does(BaseHandler):
    """A handler made of a function."""

    def __init__(self, function: Callable[[Any], Any], *, slow: bool = False) -> None:
        self._function = function
        self.slow = slow  # type: ignore[misc]

    def handle(self, messaging: Any) -> Any:
        return self._function(messaging)


def policy(
    *functions: Callable[[Any], Any],
    slow: bool = False,
    typing: bool = False,
    kind: str = "SIMPLE_TEXT",
    **options: Any,
) -> Policy:
    """A policy with a rule for events of one type for each function."""
    return Policy(
        [
            Rule(kind, f"rule {number}", [], [Does(function)], [], slow=slow, typing=typing, **options)
            for number, function in enumerate(functions, 1)
        ]
    )


def engine(
    *functions: Callable[[Any], Any],
    tries: int = 3,
    tries_of_rule: int | None = None,
    client: Any = None,
    **options: Any,
) -> Engine:
    made = policy(*functions, tries=tries_of_rule, **options)
    return Engine(
        inbox=Inbox(lambda page: made, bot.get_client, tries=tries), outbox=Outbox(client or bot.get_client)
    )


def claim(made: models.Conversation, kind: str = IN, seconds: float = 60.0) -> Lease:
    (lease,) = claims.claim(kind, seconds=seconds, conversation_id=made.pk)
    return lease


def pass_time(seconds: float) -> None:
    """Move every time that a row waits for into the past by ``seconds``."""
    span = datetime.timedelta(seconds=seconds)
    waiting = {
        models.ConversationQueue: ("ready_at", "leased_until"),
        models.Messaging: ("not_before",),
        models.Reply: ("not_before",),
        models.Page: ("paused_until",),
        models.Callback: ("date_received",),
    }
    for model, names in waiting.items():
        for name in names:
            for row in model.objects.exclude(**{name: None}):
                setattr(row, name, getattr(row, name) - span)
                row.save(update_fields=[name])


def steal(made: models.Conversation, kind: str = IN) -> Lease:
    """End the lease and claim the queue as another process would."""
    pass_time(3600)
    return claim(made, kind)


def work(engine: Engine, lease: Lease, *, seconds: float = 60.0, slow: SlowPool | None = None) -> None:
    """Process the first row of a claimed queue, under a lease that lasts for ``seconds``."""
    engine = replace(engine, slow=slow) if slow else engine
    (engine.handle if lease.kind == IN else engine.send)([lease], Deadline(seconds))


def handle(engine: Engine, made: models.Conversation) -> None:
    """Handle what waits in the incoming queue, if it may be claimed now."""
    engine.drain_queue(IN, made.pk)


def send(engine: Engine, made: models.Conversation) -> None:
    engine.drain_queue(OUT, made.pk)


def queue(made: models.Conversation, words: str = "hi", **options: Any) -> models.Reply:
    data = {"messaging_type": "RESPONSE", "message": {"text": words}}
    return models.Reply.objects.queue(made, data, type="simple_text", **options)
