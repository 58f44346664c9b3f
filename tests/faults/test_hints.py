"""Wake-ups of an engine that is away. The request that stored a callback never waits for it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler

from djmessenger import bot, intake_app, models
from tests import pipeline_tools as tools
from tests.doors import Request, ask_wsgi
from tests.faults.away import AWAY, Proxy, away
from tests.pipeline_tools import LONG
from tests.web_servers import GUNICORN, SERVERS, WSGI, Server, missing

AT_ONCE = 4
GUNICORN_THREADS = [*GUNICORN, "--threads", str(AT_ONCE), WSGI]
WRONG = "sha256=" + "0" * 64


@pytest.fixture
def start(file_database, tmp_path) -> Iterator[Any]:
    servers: list[Server] = []
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(["src", ".", "tests/project"]),
        "DJANGO_SETTINGS_MODULE": "tests.celery_settings",
        "HOME": str(tmp_path),
        "DJM_TEST_DATABASE_NAME": str(file_database["NAME"]),
    }
    if "sqlite" in file_database["ENGINE"]:
        environment["DJM_TEST_SQLITE"] = str(file_database["NAME"])

    def start(*arguments: str, **variables: str) -> Server:
        if module := missing([*arguments]):
            pytest.skip(f"{module} is not installed: NO TEST OF {arguments}")
        servers.append(Server([*arguments], {**environment, **variables}, tmp_path / "server.log"))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def slowest(server: Server, name: str, expected: int) -> float:
    """Post callbacks at once and return the seconds of the slowest answer."""
    seconds: list[float] = []

    def post(number: int) -> None:
        content = tools.body(tools.text(f"m_{name}_{number}", psid=f"{tools.PSID}{number}"))
        began = time.monotonic()
        assert server.post(content, signature="" if expected == 200 else WRONG) == expected
        seconds.append(time.monotonic() - began)

    posts = [lambda number=number: post(number) for number in range(AT_ONCE)]
    errors = tools.threads(*posts)
    assert not errors, f"{errors}\n{server.log.read_text()}"
    return max(seconds)


def answers_at_once(server: Server) -> None:
    """Check that callbacks are answered about as fast as those that are refused before any work."""
    control = max(slowest(server, "control", 403) for _ in range(2))
    for name in ("first", "second", "third"):
        took = slowest(server, name, 200)
        assert took < 1 + 10 * control, f"{name}: {took} s, control {control} s\n{server.log.read_text()}"
    assert models.Callback.objects.count() == 3 * AT_ONCE
    assert "Traceback" not in server.log.read_text()


def ends_at_once(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(LONG) in {0, -signal.SIGTERM}
    assert "Traceback" not in server.log.read_text()


BROKERS = {"redis": "redis://127.0.0.1:{}/0", "rabbitmq": "amqp://guest:guest@127.0.0.1:{}//"}


@pytest.mark.sqlite("the brokers are what differs")
class TestCelery:
    @pytest.mark.parametrize("how", AWAY)
    @pytest.mark.parametrize("broker", BROKERS)
    def test_each_post_is_answered_while_the_broker_is_away(self, broker, how, start):
        pytest.importorskip("celery")
        pytest.importorskip("redis")
        with away(how) as port:
            server = start(
                *GUNICORN_THREADS,
                DJM_TEST_DISPATCHER="celery",
                CELERY_BROKER_URL=BROKERS[broker].format(port),
            )
            answers_at_once(server)
            ends_at_once(server)

    @pytest.mark.parametrize("intake", [False, True], ids=["view", "intake"])
    @pytest.mark.parametrize("name", ["uvicorn", "gunicorn-preload", "granian-asgi"])
    def test_it_is_so_under_other_servers_and_with_the_intake(self, name, intake, start):
        pytest.importorskip("celery")
        pytest.importorskip("redis")
        served = [one.replace("served:", "served:intake_" if intake else "served:") for one in SERVERS[name]]
        with away("silent") as port:
            server = start(
                *served, DJM_TEST_DISPATCHER="celery", CELERY_BROKER_URL=BROKERS["redis"].format(port)
            )
            answers_at_once(server)


@pytest.mark.sqlite("the database of the tasks is what differs")
@pytest.mark.parametrize("how", AWAY)
def test_each_post_is_answered_while_the_database_of_the_tasks_is_away(how, start):
    pytest.importorskip("django_tasks_db")
    pytest.importorskip("psycopg")
    with away(how) as port:
        server = start(
            *GUNICORN_THREADS, DJANGO_SETTINGS_MODULE="tests.tasks_away_settings", DJM_TEST_AWAY=str(port)
        )
        answers_at_once(server)
        ends_at_once(server)


@pytest.mark.parametrize("how", AWAY)
def test_each_post_is_answered_while_graph_is_away_from_an_embedded_worker(how, start):
    with away(how) as port:
        server = start(
            *GUNICORN_THREADS, DJM_TEST_DISPATCHER="embedded", DJM_TEST_GRAPH=f"http://127.0.0.1:{port}"
        )
        answers_at_once(server)


@pytest.mark.postgresql("on SQLite there are no notifications")
@pytest.mark.parametrize("how", AWAY)
def test_each_post_is_answered_while_postgresql_takes_no_notification(how, start):
    proxy = Proxy(Path(os.environ["DJM_TEST_POSTGRESQL"]) / ".s.PGSQL.5432", how, b"pg_notify")
    try:
        server = start(
            *GUNICORN_THREADS,
            DJM_TEST_DISPATCHER="worker",
            DJM_TEST_DATABASE_MORE=f'{{"HOST": "127.0.0.1", "PORT": {proxy.port}, "CONN_MAX_AGE": 60}}',
        )
        answers_at_once(server)
        assert proxy.struck.wait(LONG)
        ends_at_once(server)
    finally:
        proxy.close()


@pytest.fixture
def refused(monkeypatch):
    """Refuse all new threads, as a system does at its limit. Threads that run go on."""

    def refuse(*arguments: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "_start_new_thread", refuse)
    yield
    monkeypatch.undo()
    bot.get_dispatcher().stop()


@pytest.mark.parametrize("dispatcher", ["embedded", "worker", "celery", "tasks"])
@pytest.mark.parametrize("door", ["view", "intake"])
def test_a_system_without_threads_fails_no_post(dispatcher, door, file_database, refused, emulator, settings):
    if dispatcher in {"celery", "tasks"}:
        pytest.importorskip("celery" if dispatcher == "celery" else "django_tasks_db")
    settings.DJM_DISPATCHER = dispatcher
    content = tools.body(tools.text("m_1"))
    application = intake_app.wsgi(WSGIHandler()) if door == "intake" else WSGIHandler()
    assert ask_wsgi(application, Request(content)).status == 200
    tools.queue(tools.conversation())
    assert models.Callback.objects.count() == models.Reply.objects.count() == 1
