"""Conversations that a split takes for its caller: only idle ones, and what is known of them is as it is now."""

from __future__ import annotations

import operator

import pytest
from django.db import DataError, transaction

from djmessenger import models
from djmessenger.clock import Deadline
from djmessenger.pipeline import claims, participants, split, store
from djmessenger.pipeline.slow import RunHere
from tests import pipeline_tools as tools

pytestmark = pytest.mark.django_db


@pytest.fixture
def someone():
    return tools.conversation()


def taken(*items, claim_limit: int = 5) -> split.Split:
    return split.split_many([store.store(tools.body(*items))], claim_limit)


def finish(engine, todo: split.Split) -> None:
    """Handle what a split took, as a worker does."""
    for lease in todo.leases:
        done = engine.inbox.handle(lease, Deadline(60), RunHere(), todo.next_rows[lease.queue_id])
        if done is not None:
            engine.inbox.commit_handled([done])


def between_reading_and_locking(monkeypatch, what) -> None:
    lock = split.lock_queues

    def later(rows, participants):
        what()
        return lock(rows, participants)

    monkeypatch.setattr(split, "lock_queues", later)


def test_a_split_claims_an_idle_conversation_with_its_first_event(someone):
    todo = taken(tools.text("m_2"), tools.text("m_1", at=tools.now_ms() - 10))
    (lease,) = todo.leases
    assert todo.next_rows[lease.queue_id].mid == "m_1"
    assert todo.queues == {}
    assert claims.claim(tools.IN, seconds=60) == []
    heard = []
    finish(tools.engine(lambda event: heard.append(event.mid)), todo)
    assert heard == ["m_1"]
    assert tools.queue_of(someone).leased_until is None
    tools.handle(tools.engine(lambda event: heard.append(event.mid)), someone)
    assert heard == ["m_1", "m_2"]


def differences(todo: split.Split) -> list[str]:
    """Compare the one event of a split, with its rows, with what the database has."""
    (lease,) = todo.leases
    known = todo.next_rows[lease.queue_id]
    (read,) = tools.engine().inbox.next_rows([lease]).values()
    found = []
    for path in ("", "conversation", "conversation.page", "conversation.person", "page"):
        pair = [operator.attrgetter(path)(event) if path else event for event in (known, read)]
        found += [
            f"{path}.{field.attname}"
            for field in pair[0]._meta.concrete_fields
            if getattr(pair[0], field.attname) != getattr(pair[1], field.attname)
        ]
        assert not pair[0]._state.adding
    assert "callback" not in known._state.fields_cache, "its bytes would stay in memory"
    return found


def test_an_event_made_without_a_query_equals_the_event_read_from_the_database(someone):
    finish(tools.engine(), taken(tools.text("m_0")))
    assert differences(taken(tools.text("m_1"))) == []


def test_an_event_of_a_new_person_is_made_without_a_query_too():
    finish(tools.engine(), taken(tools.text("m_0", psid="701")))
    assert differences(taken(tools.text("m_1"))) == []


def test_a_new_conversation_of_a_known_person_is_made_with_the_person_who_is_there():
    finish(tools.engine(), taken(tools.text("m_0", psid="701")))
    models.FBUserProfile.objects.create(psid=tools.PSID, first_name="Ada", locale="en_GB")
    todo = taken(tools.text("m_1"))
    assert differences(todo) == []
    (event,) = todo.next_rows.values()
    assert event.conversation.person.first_name == "Ada"


def test_new_people_of_one_page_share_no_object_of_the_page():
    """Threads handle their events at the same time."""
    events = taken(tools.text("m_1"), tools.text("m_2", psid="701")).next_rows.values()
    assert len({id(event.page) for event in events} | {id(event.conversation.page) for event in events}) == 2


@pytest.mark.parametrize("what", ["person", "conversation", "leased conversation"])
def test_a_person_whom_another_split_inserts_meanwhile_is_read_again(what, monkeypatch):
    """The other split commits after this one has read, and before this one inserts."""
    found = participants.known_rows_of

    def read_too_early(items):
        rows = found(items)
        person = models.FBUserProfile.objects.create(
            psid=tools.PSID, first_name="Ada", profile_state="fetched"
        )
        if "conversation" in what:
            page, _ = models.Page.objects.get_or_create(page_id=tools.PAGE)
            made = models.Conversation.objects.create(page=page, person=person, state={"step": 2})
            if "leased" in what:
                models.ConversationQueue.objects.wake([made.pk], tools.IN)
                tools.claim(made)
        return rows

    monkeypatch.setattr(split, "known_rows_of", read_too_early)
    todo = taken(tools.text("m_1"), tools.text("m_2", psid="701"))
    (made,) = models.Conversation.objects.filter(person=tools.PSID)
    assert models.Messaging.objects.filter(conversation=made, state="new").count() == 1
    if "leased" in what:
        assert made.pk not in {lease.conversation_id for lease in todo.leases}
        return
    known = [row for row in todo.next_rows.values() if row.conversation_id == made.pk]
    (lease,) = [lease for lease in todo.leases if lease.conversation_id == made.pk]
    (event,) = known or tools.engine().inbox.next_rows([lease]).values()
    assert event.conversation.person.first_name == "Ada"
    assert event.conversation.state == ({"step": 2} if what == "conversation" else {})


def test_a_split_claims_no_more_conversations_than_its_limit(someone):
    other = tools.conversation("701")
    todo = taken(tools.text("m_1"), tools.text("m_2", psid="701"), claim_limit=1)
    assert len(todo.leases) == len(todo.queues) == 1
    assert {todo.leases[0].conversation_id, *todo.queues.values()} == {someone.pk, other.pk}
    assert len(claims.claim(tools.IN, seconds=60, limit=5)) == 1


def test_a_split_does_not_claim_a_leased_conversation(someone):
    models.ConversationQueue.objects.wake([someone.pk], tools.IN)
    lease = tools.claim(someone)
    todo = taken(tools.text("m_1"))
    assert (todo.leases, list(todo.queues.values())) == ([], [someone.pk])
    with transaction.atomic():
        assert claims.fence(lease)


def test_an_event_that_waits_without_a_wake_up_is_handled_before_a_new_one(someone):
    tools.receive(tools.text("m_1", at=tools.now_ms() - 10))
    models.ConversationQueue.objects.update(ready_at=None)
    todo = taken(tools.text("m_2"))
    assert (todo.leases, list(todo.queues.values())) == ([], [someone.pk])
    heard = []
    tools.handle(tools.engine(lambda event: heard.append(event.mid)), someone)
    assert heard == ["m_1", "m_2"]


def test_an_event_handled_between_read_and_lock_makes_the_split_read_again(someone, monkeypatch):
    """A state that was read too early would be written over what the other event came to."""

    def handle():
        lease = claims.claim_idle(tools.IN, [someone.pk], seconds=60)
        models.Conversation.objects.filter(pk=someone.pk).update(state={"step": 2})
        with transaction.atomic():
            claims.release(claims.fence(lease[0]), after=None)

    between_reading_and_locking(monkeypatch, handle)
    todo = taken(tools.text("m_1"))
    (lease,) = todo.leases
    assert todo.next_rows == {}
    (head,) = tools.engine().inbox.next_rows([lease]).values()
    assert head.conversation.state == {"step": 2}


def test_a_queue_released_between_read_and_lock_makes_the_split_read_again(someone, monkeypatch):
    models.ConversationQueue.objects.wake([someone.pk], tools.IN)
    lease = tools.claim(someone)

    def let_go():
        models.Conversation.objects.filter(pk=someone.pk).update(state={"step": 2})
        with transaction.atomic():
            claims.release(claims.fence(lease), after=None)

    between_reading_and_locking(monkeypatch, let_go)
    todo = taken(tools.text("m_1"))
    assert len(todo.leases) == 1
    assert todo.next_rows == {}


def test_repeats_leave_the_conversation_idle(someone):
    item = tools.text("m_1")
    finish(tools.engine(lambda event: None), taken(item))
    todo = taken(item, tools.text("m_x", psid="701"))
    assert someone.pk not in {lease.conversation_id for lease in todo.leases}
    row = tools.queue_of(someone)
    assert (row.ready_at, row.leased_until, row.owner) == (None, None, "")


def test_a_flood_into_an_idle_conversation_is_bounded_too(someone, settings):
    settings.DJM_MAX_PENDING = 3
    taken(*[tools.text(f"m_{number}") for number in range(5)])
    assert models.Messaging.objects.filter(state="new").count() == 3


def test_a_split_claims_nothing_if_the_database_refuses_a_row(someone, monkeypatch):
    insert = split.insert_each

    def refuse(rows, by, **options):
        if any(isinstance(row, models.Messaging) and row.mid == "m_2" for row in rows):
            raise DataError("it does not fit")
        return insert(rows, by, **options)

    monkeypatch.setattr(split, "insert_each", refuse)
    todo = taken(tools.text("m_1"), tools.text("m_2"))
    assert (todo.leases, list(todo.queues.values())) == ([], [someone.pk])


def test_a_person_who_writes_opens_the_window_for_the_answer_at_once(someone):
    todo = taken(tools.text("m_1"))
    (head,) = todo.next_rows.values()
    stored = models.Conversation.objects.get(pk=someone.pk)
    assert head.conversation.date_last_inbound == stored.date_last_inbound is not None
