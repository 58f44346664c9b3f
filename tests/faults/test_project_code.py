"""Rules, callbacks and receivers that raise exceptions which are no ``Exception``, or leave their thread changed."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone, translation

from djmessenger import bot, models
from djmessenger.exceptions import TransactionLeft
from djmessenger.filtering import FunctionFilter
from djmessenger.handling import BaseHandler
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.handling import Inbox
from djmessenger.pipeline.sending import Outbox
from djmessenger.pipeline.worker import Worker
from djmessenger.replying import CommonReplier
from djmessenger.routing import Policy, Rule
from djmessenger.signals import messaging_failed
from djmessenger.testing import RuleFailed
from tests import pipeline_tools as tools

pytestmark = pytest.mark.django_db

OTHER = tools.PSID[:-1] + "9"


class Ends(BaseException):
    pass


EXITS = [SystemExit, GeneratorExit, asyncio.CancelledError, Ends]


def raising(error: type[BaseException]) -> Callable[..., Any]:
    def leave(*args: Any) -> Any:
        raise error("on purpose")

    return leave


def note(event: Any) -> None:
    models.UserLocation.objects.create(user=event.person, latitude=0, longitude=0, mid=event.mid)


def effects() -> list[str]:
    return list(models.UserLocation.objects.values_list("mid", flat=True))


def engine_of(*rules: Rule, tries: int = 3) -> Engine:
    policy = Policy(list(rules))
    return Engine(
        inbox=Inbox(lambda page: policy, bot.get_client, tries=tries), outbox=Outbox(bot.get_client)
    )


def rule_of(*filters: Any, handler: Any = note, name: str = "one", **options: Any) -> Rule:
    handler = handler if isinstance(handler, BaseHandler) else tools.Does(handler)
    return Rule("SIMPLE_TEXT", name, [FunctionFilter(item) for item in filters], [handler], [], **options)


class Replier(CommonReplier):
    def get_reply_type(self) -> Any:
        return "SIMPLE_TEXT"

    def get_message(self, messaging: Any) -> Any:
        raise SystemExit("on purpose")


class SlowAtTimes(BaseHandler):
    def is_slow_for(self, messaging: Any) -> bool:
        raise SystemExit("on purpose")

    def handle(self, messaging: Any) -> None:
        pass


def row() -> models.Messaging:
    return models.Messaging.objects.get()


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.action for record in caplog.records if hasattr(record, "action") and record.levelno >= 40]


def assert_one_try_is_counted(made: models.Conversation, name: str) -> None:
    event = row()
    assert (event.state, event.tries, event.crashes) == ("new", 1, 0)
    assert name in event.error
    assert event.not_before is not None
    queue = tools.queue_of(made)
    assert (queue.leased_until, queue.ready_at) == (None, event.not_before)


class TestExits:
    @pytest.mark.parametrize("error", EXITS)
    @pytest.mark.parametrize("slow", [False, True])
    @pytest.mark.parametrize("first", [note, lambda event: None], ids=["with a query", "without a query"])
    def test_an_exit_of_a_rule_is_a_failed_try_at_once(self, error, slow, first, caplog):
        made = tools.conversation()
        tools.receive(tools.text("m_1"))

        def work(event: Any) -> None:
            if not slow:
                first(event)
            raise error("on purpose")

        tools.handle(tools.engine(work, slow=slow), made)
        assert_one_try_is_counted(made, f"ProjectExit: {error.__name__}: on purpose")
        assert effects() == []
        assert actions(caplog) == ["event_failed"]

    @pytest.mark.parametrize("error", EXITS)
    @pytest.mark.parametrize("slow", [False, True])
    def test_in_the_last_try_the_other_rules_have_their_effect(self, error, slow):
        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        rules = [rule_of(handler=raising(error), slow=slow), rule_of(name="two")]
        tools.handle(engine_of(*rules, tries=1), made)
        event = row()
        assert (event.state, effects()) == ("failed", ["m_1"])
        assert error.__name__ in event.outcome["rules"][0]["error"]

    @pytest.mark.parametrize("error", EXITS)
    def test_an_exit_of_a_filter_refuses_the_event(self, error, caplog):
        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        tools.handle(engine_of(rule_of(raising(error)), rule_of(name="two")), made)
        assert (row().state, effects()) == ("done", ["m_1"])
        assert actions(caplog) == ["filter_failed"]

    def test_an_exit_of_a_replier_is_a_failed_try(self):
        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        tools.handle(engine_of(Rule("SIMPLE_TEXT", "one", [], [], [Replier()])), made)
        assert_one_try_is_counted(made, "SystemExit")

    def test_an_exit_of_a_handler_that_is_asked_whether_it_is_slow_is_a_failed_try(self):
        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        tools.handle(engine_of(rule_of(handler=SlowAtTimes())), made)
        assert_one_try_is_counted(made, "SystemExit")

    @pytest.mark.parametrize("error", [*EXITS, KeyboardInterrupt])
    @pytest.mark.parametrize("slow", [False, True])
    def test_an_exit_in_a_thread_of_a_worker_is_a_failed_try(self, error, slow, file_database):
        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        engine = tools.engine(raising(error), slow=slow)
        worker = Worker(lambda: engine, threads=1, slow_threads=1, senders=1)
        worker.start()
        tools.until(lambda: row().tries, "the try")
        tools.until(lambda: tools.queue_of(made).leased_until is None, "the release")
        assert worker.stop(tools.LONG)
        assert_one_try_is_counted(made, error.__name__)

    @pytest.mark.parametrize("error", EXITS)
    @pytest.mark.parametrize("robust", [False, True])
    def test_an_exit_of_a_callback_is_logged_and_later_callbacks_run(
        self, error, robust, file_database, caplog
    ):
        called = []

        def work(event: Any) -> str:
            transaction.on_commit(raising(error), robust=robust)
            transaction.on_commit(lambda: called.append(row().state))
            return "answer"

        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        tools.handle(tools.engine(work), made)
        assert (row().state, row().tries, called) == ("done", 0, ["done"])
        assert models.Reply.objects.get().data["message"] == {"text": "answer"}
        assert actions(caplog) == ["commit_callback_failed"]

    def test_an_exit_of_a_receiver_is_logged(self, file_database, caplog):
        hear = raising(SystemExit)

        def listen(**kwargs: Any) -> None:
            hear()

        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        messaging_failed.connect(listen)
        try:
            tools.handle(tools.engine(raising(ValueError), tries=1), made)
        finally:
            messaging_failed.disconnect(listen)
        assert row().state == "failed"
        assert tools.queue_of(made).leased_until is None
        assert "receiver_failed" in actions(caplog)

    @pytest.mark.parametrize("error", EXITS)
    def test_the_view_answers_200_and_the_event_has_its_only_try(self, error, person, by_inline):
        by_inline.act = raising(error)
        assert tools.post(tools.text("m_1")) == 200
        assert row().state == "failed"
        assert error.__name__ in row().error

    def test_the_kit_fails_the_test(self, messenger, settings):
        settings.DJM_ROUTING_POLICY = ONE_RULE
        Rules.act = raising(SystemExit)
        with pytest.raises(RuleFailed, match="SystemExit: on purpose"):
            messenger.person().says("hello")


class TestTheEndOfTheProcess:
    """A signal in the main thread ends the process while a rule runs in that thread."""

    @pytest.fixture
    def by_signal(self) -> Iterator[Callable[[Callable[..., Any]], None]]:
        if threading.current_thread() is not threading.main_thread():
            pytest.skip("signals reach the main thread only")
        before = signal.getsignal(signal.SIGUSR1)
        yield lambda handler: signal.signal(signal.SIGUSR1, handler) and None
        signal.signal(signal.SIGUSR1, before)

    def handle(self, work: Callable[[Any], Any]) -> None:
        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        tools.handle(tools.engine(work), made)

    def hit(self, event: Any) -> None:
        note(event)
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(1000):
            pass

    def exit_(self, number: int, frame: Any) -> None:
        # As billiard does.
        signal.signal(number, signal.SIG_DFL)
        sys.exit(7)

    @pytest.mark.parametrize("wrap", [lambda handler: handler, functools.partial], ids=["plain", "partial"])
    def test_an_exit_of_a_handler_of_a_signal_ends_it(self, by_signal, wrap):
        by_signal(wrap(self.exit_))
        with pytest.raises(SystemExit) as raised:
            self.handle(self.hit)
        assert raised.value.code == 7
        assert (row().state, row().tries, effects()) == ("new", 0, [])

    def test_an_exit_of_a_handler_without_names_ends_it(self, by_signal):
        by_signal(lambda *_: sys.exit(7))
        with pytest.raises(SystemExit):
            self.handle(self.hit)
        assert row().tries == 0

    def test_an_exit_of_a_handler_during_a_filter_or_a_callback_ends_it(self, by_signal, file_database):
        by_signal(self.exit_)
        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        with pytest.raises(SystemExit):
            tools.handle(engine_of(rule_of(self.hit)), made)
        by_signal(self.exit_)
        tools.pass_time(3600)
        with pytest.raises(SystemExit):
            tools.handle(
                tools.engine(lambda event: transaction.on_commit(lambda: self.hit(event)) or note(event)),
                made,
            )
        assert row().state == "done"

    def test_an_interrupt_of_the_main_thread_ends_it(self, by_signal):
        by_signal(signal.default_int_handler)
        with pytest.raises(KeyboardInterrupt):
            self.handle(self.hit)
        assert (row().state, row().tries, effects()) == ("new", 0, [])

    def test_an_exit_beside_a_handler_of_a_signal_is_one_of_the_rule(self, by_signal):
        by_signal(lambda number, frame: None)

        def work(event: Any) -> None:
            self.hit(event)
            sys.exit(3)

        self.handle(work)
        assert row().tries == 1


def enter(event: Any) -> None:
    transaction.atomic().__enter__()


def enter_and_write(event: Any) -> None:
    transaction.atomic().__enter__()
    note(event)


def enter_without_a_savepoint(event: Any) -> None:
    transaction.atomic(savepoint=False).__enter__()


def enter_twice_and_raise(event: Any) -> None:
    transaction.atomic().__enter__()
    transaction.atomic().__enter__()
    raise ValueError("on purpose")


def leave_the_transaction_of_others(event: Any) -> None:
    transaction.atomic().__exit__(None, None, None)


def switch_off_autocommit(event: Any) -> None:
    transaction.set_autocommit(False)
    note(event)


def begin_by_sql(event: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
    note(event)


def enter_and_close(event: Any) -> None:
    transaction.atomic().__enter__()
    note(event)
    connection.close()


def close(event: Any) -> None:
    note(event)
    connection.close()


INSIDE = [
    enter,
    enter_and_write,
    enter_without_a_savepoint,
    enter_twice_and_raise,
    leave_the_transaction_of_others,
    close,
]
OUTSIDE = [
    enter,
    enter_and_write,
    enter_without_a_savepoint,
    enter_twice_and_raise,
    switch_off_autocommit,
    begin_by_sql,
    enter_and_close,
]


def seen_by_others(*columns: str, model: Any = models.Messaging) -> list[tuple[Any, ...]]:
    """Return columns of all events, or of other rows, read over another connection."""
    found: list[tuple[Any, ...]] = []

    def read() -> None:
        found.extend(model.objects.order_by("id").values_list(*columns))

    assert tools.threads(read) == []
    return found


class TestTransactionsThatAreLeft:
    """A rule leaves the connection of its thread in a transaction; the event of another person follows."""

    def check(self, engine: Engine, caplog: pytest.LogCaptureFixture, name: str, *, tries: int = 1) -> None:
        """Handle an event of each person, and check that the second one is committed by itself."""
        made, other = tools.conversation(), tools.conversation(OTHER)
        tools.receive(tools.text("m_1"))
        tools.handle(engine, made)
        assert seen_by_others("state", "tries") == [("new" if tries else "done", tries)]
        assert name in caplog.text
        assert not connection.in_atomic_block
        tools.receive(tools.text("m_2", psid=OTHER))
        tools.handle(engine, other)
        assert seen_by_others("state", "mid")[1:] == [("done", "m_2")]
        assert (OTHER,) in seen_by_others("recipient_id", model=models.Reply)
        tools.pass_time(3600)

    def only_first(self, leave: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def work(event: Any) -> Any:
            if event.mid == "m_1":
                leave(event)
            else:
                models.UserLocation.objects.create(user=event.person, latitude=0, longitude=0, mid="second")
            return True

        return work

    def answering(self, leave: Callable[[Any], Any]) -> Callable[[Any], str]:
        work = self.only_first(leave)
        return lambda event: work(event) and "answer"

    @pytest.mark.parametrize("leave", INSIDE, ids=lambda leave: leave.__name__)
    def test_by_a_rule(self, leave, file_database, caplog):
        self.check(tools.engine(self.answering(leave)), caplog, "rule 1")

    @pytest.mark.parametrize("leave", OUTSIDE, ids=lambda leave: leave.__name__)
    def test_by_a_slow_rule(self, leave, file_database, caplog):
        self.check(tools.engine(self.answering(leave), slow=True), caplog, "rule 1")

    @pytest.mark.parametrize(
        "leave", [each for each in OUTSIDE if "raise" not in each.__name__], ids=lambda leave: leave.__name__
    )
    def test_by_a_filter(self, leave, file_database, caplog):
        filters = [self.only_first(leave)]
        self.check(engine_of(rule_of(*filters, handler=lambda event: "answer")), caplog, "rules 'one'")

    @pytest.mark.parametrize("leave", OUTSIDE, ids=lambda leave: leave.__name__)
    @pytest.mark.parametrize("first", [note, lambda event: None], ids=["with a query", "without a query"])
    def test_by_a_callback(self, leave, first, file_database, caplog):
        def work(event: Any) -> str:
            if event.mid == "m_1":
                first(event)
                transaction.on_commit(lambda: leave(event))
            return "answer"

        self.check(tools.engine(work), caplog, "test_by_a_callback.<locals>.work.<locals>.<lambda>", tries=0)

    @pytest.mark.parametrize("slow", [False, True])
    def test_in_threads_of_a_worker(self, slow, file_database):
        people = [tools.conversation(), tools.conversation(OTHER)]
        tools.receive(tools.text("m_1"))
        engine = tools.engine(self.answering(enter_and_write), slow=slow)
        worker = Worker(lambda: engine, threads=1, slow_threads=1, senders=1)
        worker.start()
        tools.until(lambda: row().tries, "the try")
        tools.receive(tools.text("m_2", psid=OTHER))
        worker.wake()
        tools.until(lambda: models.Messaging.objects.get(mid="m_2").state == "done", "the other event")
        assert worker.stop(tools.LONG)
        assert [tools.queue_of(made).leased_until for made in people] == [None, None]

    @pytest.mark.parametrize(
        "leave",
        [each for each in INSIDE if each not in (leave_the_transaction_of_others, close)],
        ids=lambda leave: leave.__name__,
    )
    def test_in_the_last_try_the_other_rules_have_their_effect(self, leave, file_database):
        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        tools.handle(engine_of(rule_of(handler=leave), rule_of(name="two"), tries=1), made)
        assert seen_by_others("state") == [("failed",)]
        assert effects() == ["m_1"]

    def test_a_rule_that_ends_the_transaction_of_its_event_fails_the_event(self, file_database):
        made = tools.conversation()
        tools.receive(tools.text("m_1"))

        def leave_all(event: Any) -> None:
            for _ in range(2):
                transaction.atomic().__exit__(None, None, None)

        tools.handle(engine_of(rule_of(handler=leave_all), rule_of(name="two"), tries=1), made)
        assert seen_by_others("state") == [("failed",)]
        assert effects() == []

    def test_a_savepoint_that_stays_open_ends_with_the_event(self, file_database):
        made = tools.conversation()
        tools.receive(tools.text("m_1"))

        def work(event: Any) -> None:
            transaction.savepoint()
            note(event)

        tools.handle(tools.engine(work), made)
        assert seen_by_others("state", "tries") == [("done", 0)]

    def test_inside_a_transaction_of_a_test_the_test_goes_on(self):
        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        depth = len(connection.savepoint_ids)
        tools.handle(tools.engine(enter_and_write), made)
        assert connection.in_atomic_block
        assert len(connection.savepoint_ids) == depth
        assert (row().tries, effects()) == (1, [])
        assert TransactionLeft.__name__ in row().error

    def test_by_a_filter_that_is_asked_about_a_gathered_event(self, file_database):
        made = tools.conversation()
        tools.receive(tools.text("m_1"), tools.text("m_2", "left", at=tools.now_ms() + 5))

        def leave(event: Any) -> bool:
            if event.text == "left":
                transaction.atomic().__enter__()
            return True

        tools.handle(engine_of(rule_of(leave, handler=lambda event: "answer", slow=True, gather=True)), made)
        assert seen_by_others("state", "tries") == [("done", 0), ("new", 1)]

    def test_of_the_view(self, person, by_inline, file_database):
        by_inline.act = enter_and_write
        assert tools.post(tools.text("m_1")) == 200
        assert seen_by_others("state") == [("failed",)]
        assert effects() == []
        assert not connection.in_atomic_block


class TestLanguageAndTimeZone:
    """A rule activates a language and a time zone; the next event has neither, also if it has no person."""

    def activate(self, event: Any) -> None:
        translation.activate("fr")
        timezone.activate("Asia/Tokyo")

    def now(self) -> tuple[Any, str]:
        return translation.get_language(), timezone.get_current_timezone_name()

    def event(self) -> None:
        tools.receive(tools.comment("hi"), container="changes")

    @pytest.mark.parametrize("slow", [False, True])
    def test_of_a_rule(self, slow):
        before = self.now()
        self.event()
        tools.engine(self.activate, kind="CHANGE", slow=slow).drain()
        assert row().state == "done"
        assert self.now() == before

    def test_of_a_filter(self):
        before = self.now()
        self.event()
        handler = tools.Does(lambda event: None)
        engine_of(Rule("CHANGE", "one", [FunctionFilter(self.activate)], [handler], [])).drain()
        assert row().state == "done"
        assert self.now() == before

    def test_of_a_callback(self, file_database):
        before = self.now()
        self.event()
        tools.engine(lambda event: transaction.on_commit(lambda: self.activate(event)), kind="CHANGE").drain()
        assert self.now() == before

    def test_no_time_zone_stays_active_if_none_was(self, settings):
        timezone.deactivate()
        self.event()
        tools.engine(self.activate, kind="CHANGE").drain()
        settings.TIME_ZONE = "Asia/Kathmandu"
        assert timezone.get_current_timezone_name() == "Asia/Kathmandu"

    def test_a_language_that_was_switched_off_stays_so(self):
        self.event()
        with translation.override(None):
            tools.engine(self.activate, kind="CHANGE").drain()
            assert translation.get_language() is None


class Rules:
    """The rule that ``ONE_RULE`` names calls ``act``."""

    act: Callable[[Any], Any] = staticmethod(note)


def act(event: Any) -> Any:
    return Rules.act(event)


ONE_RULE = {"rules": [{"type": "SIMPLE_TEXT", "name": "one", "repliers": [{"name": f"{__name__}.act"}]}]}


@pytest.fixture
def by_inline(settings: Any) -> type[Rules]:
    settings.DJM_DISPATCHER = "inline"
    settings.DJM_ROUTING_POLICY = ONE_RULE
    return Rules


@pytest.fixture
def person(emulator: Any) -> Any:
    return tools.someone(emulator)
