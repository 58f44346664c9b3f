"""Intake in front of Django: the answers of the view, many callbacks in one commit, and none lost or answered early."""

from __future__ import annotations

import asyncio
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, transaction
from django.test import override_settings
from django.urls import path
from hypothesis import HealthCheck, assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from djmessenger import bot, intake, intake_app, models
from djmessenger.asgi import limit
from djmessenger.pipeline import store
from djmessenger.signatures import sign
from djmessenger.views import DJMBotView
from tests.doors import FIRST, URL, Answer, Request, ask_asgi, ask_wsgi, scope_of
from tests.pipeline_tools import LONG, threads, until

SECOND = "another-secret"
LIMIT = 200


class Recorder:
    """Dispatcher that records its wake-ups, and runs ``before`` at each."""

    def __init__(self) -> None:
        self.wake_ups: list[int] = []
        self.before: Callable[[], object] = lambda: None

    def callback_stored(self, callback_id: int) -> None:
        self.wake_ups.append(callback_id)
        self.before()

    def replies_queued(self, conversation_id: int) -> None: ...

    def stop(self) -> None: ...


class Door:
    """Application of a kind, ``wsgi`` or ``asgi``, with the project's application behind it."""

    def __init__(self, kind: str, dispatcher: Recorder) -> None:
        self.kind = kind
        self.dispatcher = dispatcher
        self.handler = WSGIHandler() if kind == "wsgi" else ASGIHandler()
        self.application = getattr(intake_app, kind)(self.handler)
        self.groups: intake.Groups[Any] = self.application._groups

    def ask(self, *requests: Request, behind: bool = False) -> list[Answer]:
        """Return the answers to requests that come at the same time. ``behind`` leaves out the intake."""
        application = self.handler if behind else self.application
        if self.kind == "asgi":

            async def ask_all() -> list[Answer]:
                return await asyncio.gather(*(ask_asgi(application, request) for request in requests))

            return asyncio.run(ask_all())
        answers: dict[int, Answer] = {}

        def ask_one(number: int) -> None:
            answers[number] = ask_wsgi(application, requests[number])

        errors = threads(*(lambda number=number: ask_one(number) for number in range(len(requests))))
        assert not errors, errors
        return [answers[number] for number in range(len(requests))]

    def statuses(self, *requests: Request) -> list[int]:
        return [answer.status for answer in self.ask(*requests)]

    @contextmanager
    def held(self, *requests: Request) -> Iterator[list[Answer]]:
        """Send requests while the writer is busy with ``first``, so that they wait for one group."""
        answers: list[Answer] = []
        is_held, self.gate = threading.Event(), threading.Event()

        def hold() -> None:
            is_held.set()
            assert self.gate.wait(LONG)

        self.dispatcher.before = hold
        first = threading.Thread(target=lambda: self.ask(Request(b"first")))
        asking = threading.Thread(target=lambda: answers.extend(self.ask(*requests)))
        first.start()
        try:
            assert is_held.wait(LONG)
            asking.start()
            until(lambda: self.waiting() == len(requests), "waiting requests")
            yield answers
        finally:
            self.gate.set()
        for thread in (first, asking):
            thread.join(LONG)
            assert not thread.is_alive()

    def waiting(self) -> int:
        return self.groups._writer.waiting() if self.groups._writer else 0


@pytest.fixture
def dispatcher() -> Iterator[Recorder]:
    recorder = Recorder()
    bot.use_dispatcher(recorder)
    yield recorder
    bot.use_dispatcher(None)


@pytest.fixture
def doors(file_database, dispatcher) -> Iterator[dict[str, Door]]:
    made = {kind: Door(kind, dispatcher) for kind in ("wsgi", "asgi")}
    yield made
    for door in made.values():
        door.groups.stop()


@pytest.fixture(params=["wsgi", "asgi"])
def door(request, doors) -> Door:
    return doors[request.param]


def stored() -> list[bytes]:
    return [bytes(row.body) for row in models.Callback.objects.order_by("id")]


def numbered(count: int) -> list[Request]:
    return [Request(f"number {number:02}".encode()) for number in range(count)]


SIGNATURES = st.sampled_from(
    [
        lambda body: [sign(FIRST, body)],
        lambda body: [sign(SECOND, body)],
        lambda body: [sign("", body)],
        lambda body: [sign(FIRST, body + b" ")],
        lambda body: [sign(FIRST, body).upper()],
        lambda body: [sign(FIRST, body), sign(FIRST, body)],
        lambda body: ["", sign(FIRST, body)],
        lambda body: [sign(FIRST, body)[:-1] + "\xb2"],
        lambda body: [""],
        lambda body: [],
    ]
)
BODIES = st.one_of(
    st.sampled_from([b"", b"{}", b'{"object": "page", "entry": []}', b"x" * LIMIT, b"x" * (LIMIT + 1)]),
    st.binary(max_size=2 * LIMIT),
)


@st.composite
def requests(draw: Any) -> Request:
    body = draw(BODIES)
    return Request(
        body=body,
        signatures=tuple(draw(SIGNATURES)(body)),
        method=draw(st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "HEAD", "OPTIONS"])),
        path=draw(st.sampled_from([URL, URL, f"{URL}/", f"{URL}//", f"{URL}x", "/", f"{URL}/health"])),
        length=draw(st.sampled_from(["true", "true", None, "abc", "7,7", "-1", "", str(LIMIT + 1)])),
        has_end=draw(st.booleans()),
        pieces=draw(st.integers(1, 3)),
    )


SECRETS = st.sampled_from([FIRST, "", {"1001": FIRST, "1002": SECOND}, [SECOND, FIRST]])


@given(requests(), SECRETS, st.booleans())
@example(Request(), FIRST, True)
@example(Request(b"x" * LIMIT, pieces=3), {"1001": SECOND, "1002": FIRST}, True)
@hypothesis_settings(suppress_health_check=[*HealthCheck])
def test_the_intake_answers_and_stores_as_the_view(doors, dispatcher, request, secret, must_verify):
    # Under ASGI the intake limits requests of all methods, and the view alone does not.
    assume(request.method == "POST" or max(len(request.body), request.announced()) <= LIMIT)
    found = []
    with override_settings(DJM_MAX_BODY=LIMIT, DJM_APP_SECRET=secret, DJM_VERIFY_SIGNATURE=must_verify):
        for door in doors.values():
            # Twice: the second one is a repeat.
            for behind in (True, False):
                for _ in range(2):
                    (answer,) = door.ask(request, behind=behind)
                rows = list(models.Callback.objects.values_list("sha256", "app_id", "copies", "state"))
                names = ("content-type", "x-content-type-options", "allow")
                headers = {name: answer.headers.get(name) for name in names}
                found.append((door.kind, answer.status, answer.body, headers, rows, len(dispatcher.wake_ups)))
                models.Callback.objects.all().delete()
                dispatcher.wake_ups.clear()
    assert found[0] == found[1]
    assert found[2] == found[3]


@pytest.mark.parametrize("behind", [True, False])
def test_uptime_monitors_get_the_answers_of_the_view(door, dispatcher, behind, caplog):
    monitors = [Request(b"", (), method) for method in ("GET", "HEAD", "OPTIONS")]
    answers = door.ask(*monitors, behind=behind)
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert answers[2].headers["allow"] == "GET, HEAD, OPTIONS, POST"
    # asyncio logs a slow step of its loop, on a busy machine.
    assert not [record for record in caplog.records if record.name != "asyncio"]
    assert not dispatcher.wake_ups


def test_callbacks_that_come_while_a_group_is_committed_are_one_commit(door, dispatcher):
    with door.held(*numbered(20)) as answers:
        pass
    assert [answer.status for answer in answers] == [200] * 20
    rows = list(models.Callback.objects.order_by("id"))
    bodies = [bytes(row.body) for row in rows[1:]]
    # Requests in threads come in any order.
    assert (bodies if door.kind == "asgi" else sorted(bodies)) == sorted(row.body for row in numbered(20))
    assert len({row.date_received for row in rows[1:]}) == 1
    # The wake-up comes once for each group.
    assert dispatcher.wake_ups == [rows[0].pk, rows[-1].pk]


def test_callbacks_of_one_group_follow_those_before_it_and_not_each_other(door):
    with door.held(*numbered(5)):
        pass
    first, *group = models.Callback.objects.order_by("id")
    assert {row.after_id for row in group} == {first.pk}


def test_the_same_bytes_in_one_group_are_one_row(door):
    same = [Request(b"same")] * 3
    with door.held(*same, Request(b"other"), *same) as answers:
        pass
    assert [answer.status for answer in answers] == [200] * 7
    assert sorted(models.Callback.objects.values_list("body", "copies")) == [
        (b"first", 1),
        (b"other", 1),
        (b"same", 6),
    ]
    assert door.statuses(*same[:1]) == [200]
    assert models.Callback.objects.get(body=b"same").copies == 7


def test_large_bodies_are_committed_in_parts(door, monkeypatch):
    monkeypatch.setattr(intake, "_MOST_BYTES", 25)
    with door.held(
        *(Request(f"{number:010}".encode()) for number in range(5)), Request(b"x" * 100)
    ) as answers:
        pass
    assert [answer.status for answer in answers] == [200] * 6
    sizes = Counter(models.Callback.objects.exclude(body=b"first").values_list("after_id", flat=True))
    assert max(sizes.values()) == 2


ERRORS = {"row": ("RAISE(ABORT, 'refused')", "P0001"), "disk": ("json('an OperationalError')", "53100")}
"""Errors of a trigger, for SQLite and PostgreSQL: one of the row, and one of the database, an ``OperationalError``."""
SQLITE = """
CREATE TRIGGER refuse BEFORE INSERT ON djmessenger_callback WHEN CAST(new.body AS text) LIKE 'bad%%'
BEGIN SELECT {}; END
"""
POSTGRESQL = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
IF encode(new.body, 'escape') LIKE 'bad%%' THEN RAISE EXCEPTION 'refused' USING ERRCODE = '{}'; END IF;
RETURN new; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON djmessenger_callback FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest.fixture
def refuse(doors) -> Iterator[Callable[[str], None]]:
    """Make the database refuse callbacks whose body begins with ``bad``."""
    is_postgresql = connection.vendor == "postgresql"

    def refuse(error: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute((POSTGRESQL if is_postgresql else SQLITE).format(ERRORS[error][is_postgresql]), [])

    yield refuse
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION refuse() CASCADE" if is_postgresql else "DROP TRIGGER refuse")


def test_a_callback_that_the_database_refuses_does_not_spoil_the_others(door, refuse, dispatcher, caplog):
    refuse("row")
    with door.held(*map(Request, [b"1", b"bad 1", b"2", b"bad 2", b"3"])) as answers:
        pass
    assert [answer.status for answer in answers] == [200, 503, 200, 503, 200]
    assert answers[1].headers["retry-after"]
    assert stored() == [b"first", b"1", b"2", b"3"]
    assert len(dispatcher.wake_ups) == 2
    assert caplog.text.count("callbacks not stored") == 2


def test_a_database_that_fails_is_tried_once_more_and_not_for_each_callback(
    door, refuse, monkeypatch, caplog
):
    """Each try may wait for a long time."""
    refuse("disk")
    tries: list[int] = []
    store_many = store.store_many
    monkeypatch.setattr(store, "store_many", lambda group: [tries.append(len(group)), store_many(group)][1])
    with door.held(*(Request(f"bad {number}".encode()) for number in range(10))) as answers:
        pass
    assert [answer.status for answer in answers] == [503] * 10
    assert tries == [1, 10, 1]
    assert caplog.text.count("10 callbacks not stored") == 1


@pytest.mark.postgresql("SQLite has no server that ends connections")
def test_a_group_whose_connection_the_server_ended_is_stored_over_a_new_one(door):
    end = """
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO "djmessenger_callback"%'
    """
    with door.held(*numbered(3)) as answers, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE djmessenger_callback IN EXCLUSIVE MODE")
        door.gate.set()
        until(lambda: (cursor.execute(end), cursor.fetchone()[0])[1], "the end of the waiting session")
    assert [answer.status for answer in answers] == [200] * 3
    assert sorted(stored()) == [b"first", *(row.body for row in numbered(3))]


def test_an_unexpected_error_is_answered_500(door, monkeypatch, caplog):
    def stumble(callbacks: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(store, "store_many", stumble)
    assert door.statuses(*numbered(3)) == [500] * 3
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    assert door.statuses(Request()) == [200]


@pytest.mark.parametrize("length", ["true", None], ids=["length", "chunks"])
@pytest.mark.parametrize("entrance", ["intake", "view", "limit"])
def test_a_body_that_the_server_cannot_read_is_answered_400_with_one_line(door, entrance, length, caplog):
    if entrance == "limit" and door.kind == "wsgi":
        pytest.skip("a limit of ASGI")
    if entrance == "view" and door.kind == "asgi":
        pytest.skip("Django reads the body before the view; the limit and the intake read it before Django")
    if entrance == "limit":
        door.application = limit(door.handler)
    request = Request(b"x" * 10, length=length, pieces=2, is_broken=True)
    (answer,) = door.ask(request, behind=entrance == "view")
    assert answer.status == 400
    assert stored() == []
    lines = [(record.action, record.exc_info) for record in caplog.records if hasattr(record, "action")]
    assert lines == [("callback_unreadable", None)]
    assert "MalformedChunk" in caplog.text
    assert "text of a stranger" not in caplog.text
    assert "Traceback" not in caplog.text


def test_trouble_of_the_dispatcher_changes_no_answer(door, dispatcher, caplog):
    dispatcher.before = lambda: 1 / 0
    assert door.statuses(*numbered(3)) == [200] * 3
    assert "The dispatcher failed" in caplog.text


def test_more_callbacks_than_may_wait_are_refused_with_the_reason(door, monkeypatch, caplog):
    monkeypatch.setattr(intake, "_MOST_WAITING", 3)
    with door.held(*numbered(3)) as answers:
        (refused,) = door.ask(Request(b"one too many"))
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    assert [answer.status for answer in answers] == [200] * 3
    assert "3 wait for their commit" in caplog.text
    assert b"one too many" not in stored()


def test_a_callback_is_answered_after_one_that_was_answered_before_it_came(doors):
    """Several threads post to two applications, as to two processes."""
    answered: list[bytes] = []
    answered_before: dict[bytes, list[bytes]] = {}

    def post(kind: str, name: str) -> None:
        for number in range(15):
            body = f"{name} {number}".encode()
            answered_before[body] = answered.copy()
            assert doors[kind].statuses(Request(body)) == [200]
            answered.append(body)

    posts = [("wsgi", "a"), ("asgi", "b"), ("wsgi", "c"), ("asgi", "d")]
    assert not threads(*(lambda args=args: post(*args) for args in posts))
    rows = {bytes(row.body): row for row in models.Callback.objects.all()}
    assert len(rows) == 60
    for body, others in answered_before.items():
        assert all(rows[other].pk <= rows[body].after_id < rows[body].pk for other in others)


def test_each_callback_is_answered_while_the_writer_stops(doors, monkeypatch):
    """A server may finish requests after the end of the process has begun."""
    door, reply = doors["wsgi"], queue.SimpleQueue[int]()
    assert door.statuses(Request(b"first")) == [200]
    stopping = threading.Thread(target=door.groups.stop)

    def stop() -> int:
        stopping.start()
        until(lambda: door.groups._lock.locked() or not stopping.is_alive(), "the stop or its wait")
        return 0

    monkeypatch.setattr(door.groups._writer, "waiting", stop)
    door.groups.put(store.Signed(b"late"), reply)
    assert reply.get(timeout=LONG) == 200
    stopping.join(LONG)
    assert door.statuses(Request(b"after the stop")) == [200]


def test_the_end_of_the_process_stores_what_waits(door):
    stopping = threading.Thread(target=door.groups.stop)
    with door.held(*numbered(3)) as answers:
        stopping.start()
        until(lambda: door.groups._writer is None, "the stop")
    stopping.join(LONG)
    assert [answer.status for answer in answers] == [200] * 3
    assert len(stored()) == 4


LAST = """
import atexit, queue, threading
import django
django.setup()
from djmessenger import bot, intake_app
from djmessenger.pipeline.store import Signed
begun, gate = threading.Event(), threading.Event()
class Dispatcher:
    def callback_stored(self, callback_id):
        begun.set()
        gate.wait()
bot.use_dispatcher(Dispatcher())
groups = intake_app.wsgi(None)._groups
groups.put(Signed(b"first"), queue.SimpleQueue())
begun.wait()
groups.put(Signed(b"last"), queue.SimpleQueue())
atexit.register(gate.set)
"""
"""Program that ends while a callback waits behind the first one."""


def test_a_process_that_ends_without_waiting_for_its_requests_stores_them(file_database):
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.celery_settings"}
    environment["DJM_TEST_DATABASE_NAME"] = str(file_database["NAME"])
    if "sqlite" in file_database["ENGINE"]:
        environment["DJM_TEST_SQLITE"] = str(file_database["NAME"])
    subprocess.run([sys.executable, "-c", LAST], env=environment, check=True)
    assert stored() == [b"first", b"last"]


@pytest.mark.sqlite("a fork would share the connection of the test")
def test_a_forked_child_stores_with_a_thread_of_its_own(door):
    assert door.statuses(Request()) == [200]
    door.groups._lock.acquire()
    pid = os.fork()
    if pid == 0:
        free = door.groups._lock.acquire(blocking=False) and door.groups._writer is None
        os._exit(0 if free else 1)
    door.groups._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class OwnView(DJMBotView):
    """View of a project with rules of its own."""


urlpatterns = [
    path("bots/hook", DJMBotView.as_view()),
    path("bots/own", OwnView.as_view()),
]


@pytest.mark.parametrize(
    ("url", "is_ours"), [("/bots/hook", True), ("/bots/own", False), ("/messenger", False)]
)
def test_the_urls_of_the_project_decide_which_path_is_the_webhook(door, settings, url, is_ours):
    settings.ROOT_URLCONF = "tests.test_intake_app"
    passed: list[Any] = []

    def wsgi(environ: Any, start_response: Any) -> list[bytes]:
        passed.append(environ)
        return door.handler(environ, start_response)

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope)
        await door.handler(scope, receive, send)

    door.application._application = wsgi if door.kind == "wsgi" else asgi
    assert door.statuses(Request(path=url)) == [404 if url == "/messenger" else 200]
    assert bool(passed) == (not is_ours)


def test_the_webhook_is_found_below_a_prefix_of_the_server(doors):
    application = doors["asgi"].application

    async def ask() -> list[Any]:
        sent: list[Any] = []
        request = Request()

        async def receive() -> Any:
            return {"type": "http.request", "body": request.body}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {**scope_of(request), "path": f"/prefix{URL}", "root_path": "/prefix"}
        await application(scope, receive, send)
        return sent

    assert asyncio.run(ask())[0]["status"] == 200
    assert stored() == [b"{}"]


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_other_protocols_reach_the_application_of_the_project(kind):
    passed = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        passed.append((scope, receive, send))

    given = ({"type": kind, "path": URL}, object(), object())
    asyncio.run(intake_app.asgi(application)(*given))
    assert passed == [given]


def test_a_client_that_goes_away_gets_no_answer_and_leaves_nothing(doors):
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(doors["asgi"].application(scope_of(Request()), receive, send))
    assert (sent, stored()) == ([], [])


def test_a_client_that_goes_away_before_the_commit_leaves_its_callback(doors):
    door = doors["asgi"]
    with door.held() as answers:

        async def leave() -> None:
            asking = asyncio.ensure_future(ask_asgi(door.application, Request(b"left")))
            while not door.groups._writer.waiting():
                await asyncio.sleep(0)
            asking.cancel()

        asyncio.run(leave())
    assert answers == []
    until(lambda: stored() == [b"first", b"left"], "the commit")
    assert door.statuses(Request(b"next")) == [200]


def test_a_project_may_import_it_before_django_is_set_up():
    code = (
        "from djmessenger import intake_app\n"
        "from django.core.wsgi import get_wsgi_application\n"
        "application = intake_app.wsgi(get_wsgi_application())\n"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
