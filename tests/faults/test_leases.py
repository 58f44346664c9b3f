"""Each condition of a claim, a fence, a renewal and a release, with two database connections.

A test fails if the condition that it names is removed from ``pipeline/claims.py``. The table in ``docs/reliability.md``
lists them.
"""

from __future__ import annotations

import threading

import pytest
from django.db import transaction

from djmessenger import models
from djmessenger.pipeline import claims
from djmessenger.pipeline.claims import Lease, LeaseLost
from tests import pipeline_tools as tools
from tests.pipeline_tools import IN, OUT

pytestmark = pytest.mark.django_db(transaction=True)

ONE_WRITER = "SQLite has one writer at a time, so no second transaction runs beside the first"


@pytest.fixture
def conversation():
    return tools.conversation()


def queue_event(conversation) -> models.Messaging:
    """Insert an event that waits, without a wake-up."""
    return models.Messaging.objects.create(
        conversation=conversation, page=conversation.page, key="k", mid="m_1", body={}, timestamp=0
    )


def leased(conversation, kind: str = IN) -> Lease:
    models.ConversationQueue.objects.wake([conversation.pk], kind)
    return tools.claim(conversation, kind)


def elsewhere(work) -> list:
    """Return the result of a function that runs over a connection of its own, as in another process."""
    results: list = []
    assert tools.threads(lambda: results.append(work())) == []
    return results


def claim_elsewhere(conversation) -> list[Lease]:
    (leases,) = elsewhere(lambda: claims.claim(IN, seconds=60, conversation_id=conversation.pk))
    return leases


def row(conversation, kind: str = IN) -> tuple:
    names = ("fencing_token", "ready_at", "leased_until", "owner", "is_slow")
    return models.ConversationQueue.objects.values_list(*names).get(conversation=conversation, kind=kind)


def commit_by_fence(lease: Lease, event: models.Messaging) -> bool:
    try:
        claims.fence(lease)
    except LeaseLost:
        return False
    return True


def commit_by_fence_many(lease: Lease, event: models.Messaging) -> bool:
    return bool(claims.fence_many([lease]))


def commit_by_lock_and_verify(lease: Lease, event: models.Messaging) -> bool:
    return bool(claims.lock_and_verify({event.pk: lease}))


COMMITS = [commit_by_fence, commit_by_fence_many, commit_by_lock_and_verify]


@pytest.mark.parametrize("commit", COMMITS)
def test_a_holder_that_was_frozen_commits_nothing_beside_its_successor(commit, conversation):
    event, old = queue_event(conversation), leased(conversation)
    with transaction.atomic():
        assert commit(old, event)
    tools.pass_time(3600)
    (new,) = claim_elsewhere(conversation)
    with transaction.atomic():
        assert not commit(old, event)
        assert commit(new, event)


@pytest.mark.postgresql(ONE_WRITER)
@pytest.mark.parametrize("commit", COMMITS)
def test_no_successor_claims_the_queue_between_the_fence_and_the_commit(commit, conversation):
    event, lease = queue_event(conversation), leased(conversation)
    tools.pass_time(3600)
    with transaction.atomic():
        assert commit(lease, event)
        assert claim_elsewhere(conversation) == []


def test_an_event_that_was_committed_is_not_committed_again_under_the_same_lease(conversation):
    """The connection breaks in the commit, which succeeded. The queue is released and has no new holder yet."""
    event, lease = queue_event(conversation), leased(conversation)
    models.Messaging.objects.update(state="done")
    with transaction.atomic():
        claims.release(claims.fence(lease), after=None)
    with transaction.atomic():
        assert not commit_by_lock_and_verify(lease, event)


def test_a_renewal_by_a_frozen_holder_does_not_extend_the_lease_of_its_successor(conversation):
    old = leased(conversation)
    tools.pass_time(3600)
    (_new,) = claim_elsewhere(conversation)
    before = row(conversation)
    with pytest.raises(LeaseLost):
        claims.renew(old, 600)
    assert row(conversation) == before


def test_a_renewal_after_the_release_leases_nothing(conversation):
    lease = leased(conversation)
    with transaction.atomic():
        claims.release(claims.fence(lease), after=None)
    before = row(conversation)
    with pytest.raises(LeaseLost):
        claims.renew(lease, 600)
    assert row(conversation) == before


def test_a_holder_that_was_frozen_does_not_release_the_queue_of_its_successor(conversation):
    old = leased(conversation)
    tools.pass_time(3600)
    (_new,) = claim_elsewhere(conversation)
    before = row(conversation)
    claims.give_back(old, is_slow=True)
    assert row(conversation) == before


def test_work_that_raises_after_its_release_does_not_delay_the_next_event(conversation):
    """The commit has released the queue, an event wakes it, and then the holder raises and gives the queue back."""
    lease = leased(conversation)
    with transaction.atomic():
        claims.release(claims.fence(lease), after=None)
    models.ConversationQueue.objects.wake([conversation.pk], IN)
    claims.give_back(lease)
    assert len(claim_elsewhere(conversation)) == 1


def test_a_leased_queue_is_not_claimed(conversation):
    leased(conversation)
    assert claim_elsewhere(conversation) == []


def claim_due(conversation) -> list[Lease]:
    return claims.claim(OUT, seconds=60, conversation_id=conversation.pk)


def claim_if_idle(conversation) -> list[Lease]:
    with transaction.atomic():
        return claims.claim_idle(OUT, [conversation.pk], seconds=60)


@pytest.mark.postgresql(ONE_WRITER)
@pytest.mark.parametrize("claim", [claim_due, claim_if_idle])
def test_of_two_claims_at_the_same_time_one_gets_the_queue(claim, conversation):
    if claim is claim_due:
        models.ConversationQueue.objects.wake([conversation.pk], OUT)
    found: list[Lease] = []
    first_is_open, second_ended = threading.Event(), threading.Event()

    def first() -> None:
        with transaction.atomic():
            found.extend(claim(conversation))
            first_is_open.set()
            tools.until(lambda: second_ended.is_set() or tools.is_anybody_waiting())

    def second() -> None:
        first_is_open.wait(tools.LONG)
        found.extend(claim(conversation))
        second_ended.set()

    assert tools.threads(first, second) == []
    assert len(found) == 1


def test_a_leased_queue_is_not_idle(conversation):
    leased(conversation, OUT)
    assert elsewhere(lambda: claim_if_idle(conversation)) == [[]]


def test_a_queue_in_which_a_reply_waits_without_a_wake_up_is_not_idle(conversation):
    tools.queue(conversation)
    models.Reply.objects.update(state="queued", mid=None)
    models.ConversationQueue.objects.update(ready_at=None, leased_until=None)
    assert elsewhere(lambda: claim_if_idle(conversation)) == [[]]
