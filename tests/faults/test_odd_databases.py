"""Faults of odd databases and odd data: encodings, times out of range, answers that no database stores."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.utils import timezone

from djmessenger import bot, models
from djmessenger.database_checks import check_encoding
from djmessenger.emulator import EmulatorTransport
from djmessenger.graph.wire import Response
from djmessenger.pipeline import retention
from messenger_emulator import Emulator
from tests import pipeline_tools as tools
from tests.conftest import use_database

pytestmark = pytest.mark.django_db
State = models.Messaging.State
YEAR_9999 = 253_402_300_799_000
DAY = 24 * 60 * 60 * 1000


@pytest.fixture(params=["SQL_ASCII", "LATIN1"])
def odd_database(request: Any, transactional_db: None) -> Iterator[str]:
    """A database that is not UTF-8, in the place of the default one."""
    before, its_connection = dict(connections["default"].settings_dict), connections["default"]
    name = f"odd_{request.param.lower()}"
    with its_connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        cursor.execute(
            f"CREATE DATABASE {name} ENCODING '{request.param}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
    use_database({**before, "NAME": name})
    try:
        yield request.param
    finally:
        connections["default"].close()
        use_database(before)
        connections["default"] = its_connection
        with its_connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name}")


@pytest.mark.postgresql("SQLite stores UTF-8")
class TestADatabaseThatIsNotUtf8:
    def test_is_refused_by_the_check(self, odd_database):
        (found,) = check_encoding(databases=["default"])
        assert (found.id, odd_database in found.msg) == ("djmessenger.E080", True)

    def test_what_it_refuses_is_counted_and_the_rest_is_handled(self, odd_database, emulator, settings):
        settings.DJM_DISPATCHER = "worker"
        settings.SILENCED_SYSTEM_CHECKS = ["djmessenger.E080"]
        call_command("migrate", verbosity=0, skip_checks=True)
        tools.post(
            tools.text("m_1", "a"), tools.text("m_2", "\u4e16\u754c \U0001f600"), tools.text("m_3", "b")
        )
        engine = bot.get_engine()
        while engine.split():
            pass
        for conversation in models.Conversation.objects.values_list("pk", flat=True):
            engine.drain_conversation(conversation)
        assert models.Callback.objects.get().state == "split"
        states = dict(models.Messaging.objects.values_list("mid", "state"))
        assert (states["m_1"], states["m_3"]) == (State.DONE, State.DONE)
        assert models.Messaging.objects.count() == 3
        refused = models.Messaging.objects.filter(
            reason__startswith="not understood: the database refused it"
        )
        assert refused.count() + models.Messaging.objects.filter(mid="m_2").count() == 1


def test_a_database_of_utf8_is_no_finding():
    assert check_encoding(databases=["default"]) == []


@pytest.mark.parametrize(
    "make", [lambda: YEAR_9999, lambda: YEAR_9999 - 400 * DAY, lambda: tools.now_ms() + 3 * DAY]
)
def test_an_event_far_in_the_future_opens_no_window_without_an_end(make, emulator):
    assert tools.post(tools.text("m_1", at=make())) == 200
    row = models.Messaging.objects.get()
    assert row.state == State.DONE, row.error
    assert abs(row.date_event - row.date_received) <= datetime.timedelta(hours=1)
    conversation = models.Conversation.objects.get()
    assert conversation.date_last_inbound <= timezone.now() + datetime.timedelta(hours=1)


def test_a_time_of_the_last_year_of_python_reaches_no_rule(emulator):
    """A change of its time zone would overflow."""
    seen = []
    item = tools.text("m_1", at=YEAR_9999)
    tools.receive(item)
    tools.handle(tools.engine(lambda event: seen.append(event.date)), tools.conversation())
    assert seen[0].astimezone(datetime.timezone(datetime.timedelta(hours=14))).year < 9999


def test_an_event_without_a_time_is_a_repetition_as_long_as_keys_are_kept(emulator, settings):
    """Its age is unknown, so each repetition looks new. The key of the event outlives the bytes of the callback."""
    item = {key: value for key, value in tools.text("m_1").items() if key != "timestamp"}
    content = tools.body(item).replace(b'"time"', b'"no_time"')

    def post() -> int:
        return models.Callback.objects.get(pk=bot.get_engine().store(content)).copies

    post()
    engine = bot.get_engine()
    engine.drain()
    now = timezone.now()
    late = now + retention.keys_kept() - datetime.timedelta(hours=1)
    for step in retention.steps(late):
        for _ in retention.purge(step):
            pass
    assert not models.Callback.objects.exists()
    post()
    engine.split()
    assert models.Messaging.objects.count() == 1


class Spoiled:
    """The emulator, whose answers have bytes in their headers that no database stores."""

    def __init__(self, transport: Any, status: int, body: bytes) -> None:
        self.transport, self.status, self.body = transport, status, body

    def send(self, request: Any) -> Response:
        self.transport.send(request)
        words = "a\0b\ud800c"
        headers = {"x-fb-trace-id": words, "facebook-api-version": words, "Date": words, "x-app-usage": words}
        return Response(self.status, headers, self.body)


@pytest.mark.parametrize(
    ("status", "body", "state"),
    [
        (200, b'{"recipient_id": "1", "message_id": "m_\\u0000\\ud800"}', "sent"),
        (400, b'{"error": {"code": 100, "message": "\\u0000\\ud800", "fbtrace_id": "\\u0000"}}', "failed"),
        (400, b'{"error": {"code": 100, "type": "\\ud800", "error_user_msg": "\\u0000"}}', "failed"),
        (503, b"\0", "unknown"),
    ],
)
def test_an_answer_that_no_database_stores_settles_its_reply(status, body, state, emulator: Emulator):
    emulator.enforce_window = False
    made = tools.conversation()
    tools.queue(made)
    bot.use_transport(Spoiled(EmulatorTransport(emulator), status, body))
    tools.send(tools.engine(), made)
    reply = models.Reply.objects.get()
    assert reply.state == state, reply.error
    assert not models.ConversationQueue.objects.exclude(leased_until=None).exists()
