"""Attacks by the code of rules: on the objects that rules get, and on the connections that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from django.db import OperationalError, connection, connections
from django.db.backends.signals import connection_created
from django.db.utils import ConnectionHandler

from djmessenger import bot, models
from djmessenger.clock import Deadline
from djmessenger.filtering.base import as_filter
from djmessenger.pipeline import claims
from djmessenger.pipeline.connections import reusable_connections
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.handling import Inbox
from djmessenger.pipeline.sending import Outbox
from djmessenger.pipeline.slow import RunHere
from djmessenger.receiving.messages import Sender
from djmessenger.routing import Policy, Rule
from tests import pipeline_tools as tools
from tests.pipeline_tools import PAGE

OTHER = "7099"


def other() -> models.Conversation:
    return models.Conversation.objects.between(PAGE, OTHER)


def assign(name: str, value: Callable[[], Any]) -> Callable[[Any], None]:
    """Return a function that assigns an attribute, for example ``row.pk``, of an event."""
    *path, last = name.split(".")

    def change(event: Any) -> None:
        owner = event
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, last, value())

    return change


CHANGES = {
    "row.pk": lambda: 987_654,
    "row.id": list,
    "row.queue_id": lambda: 987_654,
    "row.conversation": other,
    "row.conversation_id": lambda: other().pk,
    "row.page_id": lambda: 987_654,
    "conversation.pk": lambda: other().pk,
    "conversation.person_id": lambda: OTHER,
    "conversation.person": lambda: models.FBUserProfile(psid=OTHER),
    "conversation.page_id": lambda: 987_654,
    "person.pk": lambda: OTHER,
    "person.psid": lambda: OTHER,
    "page.pk": lambda: 987_654,
    "page.page_id": lambda: "1",
    "_row": lambda: models.Messaging(pk=987_654),
    "_conversation": other,
    "_person": lambda: models.FBUserProfile(psid=OTHER),
    "sender": lambda: Sender(OTHER),
}
"""Attributes that make an object of the event another one, and a value for each."""
HARMLESS = {
    "row.state": lambda: "done",
    "row.tries": lambda: -1_000_000,
    "row.crashes": lambda: 1,
    "row.echo_token": lambda: "t" * 64,
    "row.not_before": lambda: "tomorrow",
    "row.date_received": lambda: None,
    "row.page": lambda: None,
    "row.body": lambda: None,
    "row.type": lambda: "READ",
    "row.is_being_handled": lambda: False,
    "conversation.fast_exchanges": lambda: 10**9,
    "conversation.date_last_inbound": lambda: None,
}
"""Attributes that the engine does not read after the rules, and a value for each."""


def assign_pk(event: Any) -> None:
    event.row.pk = 987_654


class TestObjectsOfARule:
    """A rule assigns attributes of the objects that it gets, by mistake or in bad faith."""

    PLACES = ("in a filter", "without a query", "after a query", "slow", "in the last try")

    @pytest.fixture(params=PLACES)
    def engine_that(self, request) -> Callable[[Callable[[Any], None]], Engine]:
        """Return a function that gives an engine, whose rule does something with the event at this place."""

        def build(change: Callable[[Any], None]) -> Engine:
            def rule(event: Any) -> str:
                if request.param == "after a query":
                    models.UserLocation.objects.exists()
                if request.param != "in a filter":
                    change(event)
                return "answer"

            def passes(event: Any) -> bool:
                if request.param == "in a filter":
                    change(event)
                return True

            policy = Policy([Rule("SIMPLE_TEXT", "attack", [as_filter(passes)], [tools.Does(rule)])])
            policy.rules[0].slow = request.param == "slow"
            tries = 1 if request.param == "in the last try" else 3
            return Engine(
                inbox=Inbox(lambda page: policy, bot.get_client, tries=tries), outbox=Outbox(bot.get_client)
            )

        return build

    @pytest.mark.django_db
    @pytest.mark.parametrize("name", CHANGES)
    def test_fails_and_ends(self, name, engine_that):
        neighbour = tools.conversation("7088")
        tools.receive(tools.text("m_2", psid="7088"))
        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        engine = engine_that(assign(name, CHANGES[name]))
        for _ in range(4):
            engine.run_once(tools.IN, conversation_id=made.pk)
            tools.pass_time(600)
        event = models.Messaging.objects.get(mid="m_1")
        assert (event.state, tools.queue_of(made).leased_until) == ("failed", None)
        assert "a rule changed event." in event.error
        assert not models.Reply.objects.exists()
        assert models.Messaging.objects.get(mid="m_2").state == "new"
        assert tools.queue_of(neighbour).ready_at is not None

    @pytest.mark.django_db
    @pytest.mark.parametrize("name", HARMLESS)
    def test_is_not_used_by_the_engine(self, name, engine_that):
        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        before = models.Messaging.objects.values("tries", "crashes", "body", "type", "date_received").get()
        engine_that(assign(name, HARMLESS[name])).run_once(tools.IN, conversation_id=made.pk)
        reply = models.Reply.objects.get()
        assert (reply.messaging.state, reply.conversation, reply.not_before) == ("done", made, None)
        assert {name: getattr(reply.messaging, name) for name in before} == before
        assert tools.queue_of(made).ready_at is None

    @pytest.mark.django_db
    @pytest.mark.parametrize("engine_that", PLACES[1:], indirect=True)
    def test_what_a_rule_may_change_is_saved(self, engine_that):
        def change(event: Any) -> None:
            event.conversation.state["step"] = 2
            event.row.is_kept = True

        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        engine_that(change).run_once(tools.IN, conversation_id=made.pk)
        made.refresh_from_db()
        assert (made.state, models.Messaging.objects.get().is_kept) == ({"step": 2}, True)

    @pytest.mark.django_db
    @pytest.mark.parametrize("engine_that", PLACES[1:], indirect=True)
    def test_a_rule_that_reads_its_rows_again_keeps_the_state(self, engine_that):
        def change(event: Any) -> None:
            for row in (event.row, event.person, event.page, event.conversation):
                row.refresh_from_db()
            event.conversation.state["step"] = 2

        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        engine_that(change).run_once(tools.IN, conversation_id=made.pk)
        made.refresh_from_db()
        assert (made.state, models.Messaging.objects.get().state) == ({"step": 2}, "done")

    @pytest.mark.django_db
    def test_one_of_a_batch_leaves_its_neighbours_alone(self):
        engine = tools.engine(lambda event: assign_pk(event) if event.text == "attack" else "answer")
        for number in range(4):
            tools.receive(tools.text(f"m_{number}", "attack" if number == 1 else "hello", psid=f"70{number}"))
        leases = claims.claim(tools.IN, seconds=60, limit=10)
        rows = engine.inbox.next_rows(leases)
        results = [
            engine.inbox.handle(lease, Deadline(60), RunHere(), rows[lease.queue_id]) for lease in leases
        ]
        engine.inbox.commit_handled([one for one in results if one is not None])
        states = dict(models.Messaging.objects.values_list("mid", "state"))
        assert states == {"m_0": "done", "m_1": "new", "m_2": "done", "m_3": "done"}
        assert models.Reply.objects.count() == 3

    @pytest.mark.django_db
    def test_a_slow_rule_runs_once_although_a_rule_clears_the_context(self):
        calls = []

        def slow(event: Any) -> str:
            calls.append(event.mid)
            event.context.clear()
            return "answer"

        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        tools.handle(tools.engine(slow, slow=True), made)
        assert (calls, models.Reply.objects.count()) == (["m_1"], 1)


class TestWrappersOfQueries:
    """A rule adds an execute wrapper of Django to a connection, and does not remove it."""

    @staticmethod
    def append(wrapper: Any) -> None:
        connection.execute_wrappers.append(wrapper)

    @staticmethod
    def enter(wrapper: Any) -> None:
        connection.execute_wrapper(wrapper).__enter__()

    @staticmethod
    def replace(wrapper: Any) -> None:
        connection.execute_wrappers[:] = [wrapper]

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("place", [append, enter, replace])
    @pytest.mark.parametrize("slow", [False, True])
    @pytest.mark.parametrize("is_open", [False, True])
    @pytest.mark.parametrize("queries", [False, True])
    def test_a_wrapper_that_a_rule_leaves_is_removed(self, place, slow, is_open, queries):
        seen = []

        def refuse(execute: Any, *query: Any) -> Any:
            seen.append(query[0])
            raise RuntimeError("a wrapper of a rule")

        def rule(event: Any) -> str | None:
            if queries:
                models.UserLocation.objects.exists()
            if event.text != "attack":
                return "answer"
            place(refuse)
            return None

        engine = tools.engine(rule, slow=slow)
        leases = []
        for number, words in enumerate(["attack", "hello"]):
            tools.receive(tools.text(f"m_{number}", words, psid=f"70{number}"))
            leases.append(tools.claim(tools.conversation(f"70{number}")))
        rows = engine.inbox.next_rows(leases)
        before = list(connection.execute_wrappers)
        for lease in leases:
            if not is_open:
                connection.close()
            handled = engine.inbox.handle(lease, Deadline(60), RunHere(), rows[lease.queue_id])
            assert connection.execute_wrappers == before
            engine.inbox.commit_handled([handled] if handled else [])
        assert (seen, models.Reply.objects.count()) == ([], 1)

    @pytest.mark.postgresql("SQLite in memory keeps its connection")
    @pytest.mark.django_db(transaction=True)
    def test_a_wrapper_that_the_project_adds_to_each_connection_stays(self):
        seen = []

        def look(execute: Any, *query: Any) -> Any:
            seen.append(query[0])
            return execute(*query)

        def add(connection: Any, **kwargs: Any) -> None:
            if look not in connection.execute_wrappers:
                connection.execute_wrappers.append(look)

        connection_created.connect(add)
        try:
            for _ in range(2):
                connection.close()
                with reusable_connections():
                    models.Page.objects.count()
                seen.clear()
                models.Page.objects.count()
                assert len(seen) == 1
        finally:
            connection_created.disconnect(add)
            connection.execute_wrappers.clear()
            connection.close()


class TestAnotherDatabase:
    """A rule queries a database of the project that is away."""

    AWAY: ClassVar = {
        "sqlite": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/nowhere/at/all.sqlite3"},
        "postgresql": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "away",
            "HOST": "127.0.0.1",
            "PORT": "1",
        },
    }

    @pytest.fixture(params=AWAY)
    def away(self, request, django_db_blocker) -> Iterator[Any]:
        if request.param == "postgresql":
            pytest.importorskip("psycopg")
        databases = ConnectionHandler({**connections.settings, "away": self.AWAY[request.param]})
        yield databases["away"]
        databases["away"].close()

    @pytest.mark.django_db
    @pytest.mark.parametrize("slow", [False, True])
    def test_counts_as_a_try_of_the_rule(self, slow, away, caplog):
        def rule(event: Any) -> None:
            with away.cursor() as cursor:
                cursor.execute("SELECT 1")

        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        engine = tools.engine(rule, slow=slow)
        for _ in range(3):
            tools.handle(engine, made)
            tools.pass_time(600)
        event = models.Messaging.objects.get()
        assert (event.state, "OperationalError" in event.error) == ("failed", True)

    @pytest.mark.django_db
    def test_an_error_that_no_database_raised_counts_as_a_try(self):
        def rule(event: Any) -> None:
            raise OperationalError("the connection is closed")

        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        tools.handle(tools.engine(rule), made)
        assert models.Messaging.objects.get().tries == 1
