"""Queues: one holder at a time, fenced, and no wake-up lost."""

from __future__ import annotations

import datetime

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from djmessenger.models import Conversation, ConversationQueue, FBUserProfile, Page
from djmessenger.pipeline import claims
from djmessenger.pipeline.claims import LeaseLost
from tests import pipeline_tools as tools

pytestmark = pytest.mark.django_db

IN, OUT = ConversationQueue.Kind.IN, ConversationQueue.Kind.OUT


@pytest.fixture
def conversations():
    page = Page.objects.create(page_id="1")
    made = []
    for number in range(3):
        person = FBUserProfile.objects.create(psid=f"10{number}", page=page)
        made.append(Conversation.objects.create(page=page, person=person).pk)
    ConversationQueue.objects.ensure(made)
    return made


def claim(kind=IN, **options):
    return claims.claim(kind, seconds=60, **options)


def end_lease(conversation_id, kind=IN):
    """Move the end of the lease into the past."""
    past = Now() - datetime.timedelta(seconds=1)
    ConversationQueue.objects.filter(conversation_id=conversation_id, kind=kind).update(
        leased_until=past, ready_at=past
    )


def release(lease, after=None):
    with transaction.atomic():
        claims.release(claims.fence(lease), after=after)


def test_a_queue_in_which_nothing_waits_is_not_claimed(conversations):
    assert claim(limit=10) == []


def test_a_woken_queue_is_claimed_once(conversations):
    ConversationQueue.objects.wake(conversations[:1], IN)
    (lease,) = claim(limit=10)
    assert lease.conversation_id == conversations[0]
    assert claim(limit=10) == []


def test_the_directions_have_separate_queues(conversations):
    ConversationQueue.objects.wake(conversations[:1], OUT)
    assert claim(IN, limit=10) == []
    assert len(claim(OUT, limit=10)) == 1


def test_the_longest_waiting_comes_first(conversations):
    for conversation in reversed(conversations):
        ConversationQueue.objects.wake([conversation], IN)
        ConversationQueue.objects.filter(ready_at__isnull=False).update(
            ready_at=F("ready_at") - datetime.timedelta(seconds=9)
        )
    claim(limit=2)
    first = (
        ConversationQueue.objects.filter(fencing_token=1)
        .order_by("pk")
        .values_list("conversation_id", flat=True)
    )
    assert set(first) == set(conversations[1:])


def test_an_abandoned_queue_comes_back_with_a_higher_fencing_token(conversations):
    ConversationQueue.objects.wake(conversations[:1], IN)
    (old,) = claim()
    end_lease(conversations[0])
    (new,) = claim()
    assert new.fencing_token == old.fencing_token + 1


def test_a_worker_whose_lease_expired_can_commit_nothing(conversations):
    ConversationQueue.objects.wake(conversations[:1], IN)
    (old,) = claim()
    end_lease(conversations[0])
    (new,) = claim()
    with pytest.raises(LeaseLost), transaction.atomic():
        claims.fence(old)
    with pytest.raises(LeaseLost):
        claims.renew(old, 60)
    release(new)


def test_a_renewed_lease_keeps_its_queue(conversations):
    ConversationQueue.objects.wake(conversations[:1], IN)
    (lease,) = claim()
    end_lease(conversations[0])
    claims.renew(lease, 60)
    assert claim() == []
    release(lease)


def test_a_queue_released_without_work_is_not_claimed(conversations):
    ConversationQueue.objects.wake(conversations[:1], IN)
    release(*claim())
    queue = ConversationQueue.objects.get(conversation_id=conversations[0], kind=IN)
    assert (queue.ready_at, queue.leased_until, queue.owner) == (None, None, "")


def test_a_queue_released_with_work_is_claimed_again(conversations):
    ConversationQueue.objects.wake(conversations[:1], IN)
    release(*claim(), after=0.0)
    assert len(claim()) == 1


def test_a_queue_with_a_pause_is_not_claimed(conversations):
    ConversationQueue.objects.wake(conversations[:1], IN)
    release(*claim(), after=60.0)
    assert claim() == []


def test_a_wake_up_ends_a_pause(conversations):
    ConversationQueue.objects.wake(conversations[:1], IN, after=60.0)
    assert claim() == []
    ConversationQueue.objects.wake(conversations[:1], IN)
    assert len(claim()) == 1


def test_a_later_wake_up_does_not_delay_an_earlier_one(conversations):
    ConversationQueue.objects.wake(conversations[:1], IN)
    ConversationQueue.objects.wake(conversations[:1], IN, after=60.0)
    assert len(claim()) == 1


def test_a_wake_up_of_a_leased_queue_does_not_end_its_lease(conversations):
    ConversationQueue.objects.wake(conversations[:1], IN)
    (lease,) = claim()
    ConversationQueue.objects.wake(conversations[:1], IN)
    assert claim() == []
    release(lease)


def test_ensure_twice_makes_one_pair(conversations):
    ConversationQueue.objects.ensure(conversations)
    assert ConversationQueue.objects.count() == 2 * len(conversations)


def test_a_queue_that_waits_for_a_slow_thread_is_claimed_for_slow_work_only(conversations):
    ConversationQueue.objects.wake(conversations[:1], IN)
    claims.give_back(claim()[0], is_slow=True)
    assert claim() == []
    (lease,) = claim(is_slow=True)
    assert not ConversationQueue.objects.filter(is_slow=True).exists()
    claims.give_back(lease, after=0.0)
    assert len(claim()) == 1


def test_a_claim_that_names_a_conversation_includes_its_slow_queue(conversations):
    ConversationQueue.objects.wake(conversations[:1], IN)
    claims.give_back(claim()[0], is_slow=True)
    assert claim(conversation_id=conversations[1]) == []
    assert len(claim(conversation_id=conversations[0])) == 1


def test_a_slow_mark_of_an_older_version_is_removed_by_a_wake_up(conversations):
    ConversationQueue.objects.update(is_slow=True)
    ConversationQueue.objects.wake(conversations[:1], IN)
    assert len(claim()) == 1


@pytest.mark.postgresql("SQLite has one lock for all")
def test_subjects_that_are_inserted_in_any_order_never_deadlock(file_database):
    ensure = ConversationQueue.objects.ensure_subjects
    middle = tools.Session(lambda: ensure(["m"]), holds=True)
    sessions = [
        tools.Session(lambda: ensure(["a", "m", "z"])),
        tools.Session(lambda: ensure(["z", "m", "a"])),
    ]
    tools.until(lambda: tools.waiting_sessions() == 2, "two waits")
    assert [middle.finish(), *(session.finish() for session in sessions)] == [[], [], []]
    assert ConversationQueue.objects.count() == 3


@pytest.mark.postgresql("SQLite has one lock for all")
def test_wake_ups_of_the_same_queues_never_deadlock(file_database):
    """One session finds the queues by the index, the other one in the order in which they were inserted."""
    pks = [Conversation.objects.between(tools.PAGE, f"70{number}").pk for number in range(3)]
    for pk in reversed(pks):
        ConversationQueue.objects.ensure([pk])

    def wake(*ways: str) -> None:
        with connection.cursor() as cursor:
            for way in ("bitmapscan", *ways):
                cursor.execute(f"SET LOCAL enable_{way} = off")
        ConversationQueue.objects.wake(pks, IN)

    middle = tools.Session(lambda: ConversationQueue.objects.lock([pks[1]], IN), holds=True)
    sessions = [tools.Session(lambda: wake("seqscan")), tools.Session(lambda: wake("indexscan"))]
    tools.until(lambda: tools.waiting_sessions() == 2, "two waits")
    assert [middle.finish(), *(session.finish() for session in sessions)] == [[], [], []]
    assert ConversationQueue.objects.filter(ready_at__isnull=False).count() == 3
