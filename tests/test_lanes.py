"""Lanes: one holder at a time, fenced, and no wake-up lost."""

from __future__ import annotations

import datetime

import pytest
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from djmessenger.models import Conversation, FBUserProfile, Lane, LeaseLost, Page

pytestmark = pytest.mark.django_db

IN, OUT = Lane.Kind.IN, Lane.Kind.OUT


@pytest.fixture
def conversations():
    page = Page.objects.create(page_id="1")
    made = []
    for number in range(3):
        person = FBUserProfile.objects.create(psid=f"10{number}", page=page)
        made.append(Conversation.objects.create(page=page, person=person).pk)
    Lane.objects.ensure(made)
    return made


def claim(kind=IN, **options):
    return Lane.objects.claim(kind, seconds=60, **options)


def end_lease(conversation_id, kind=IN):
    """What the passing of time does."""
    past = Now() - datetime.timedelta(seconds=1)
    Lane.objects.filter(conversation_id=conversation_id, kind=kind).update(leased_until=past, ready_at=past)


def release(lease, after=None):
    with transaction.atomic():
        Lane.objects.release(Lane.objects.fence(lease), after=after)


def test_a_lane_in_which_nothing_waits_is_not_claimed(conversations):
    assert claim(limit=10) == []


def test_a_woken_lane_is_claimed_once(conversations):
    Lane.objects.wake(conversations[:1], IN)
    (lease,) = claim(limit=10)
    assert lease.conversation_id == conversations[0]
    assert claim(limit=10) == []


def test_the_directions_are_apart(conversations):
    Lane.objects.wake(conversations[:1], OUT)
    assert claim(IN, limit=10) == []
    assert len(claim(OUT, limit=10)) == 1


def test_the_longest_waiting_comes_first(conversations):
    for conversation in reversed(conversations):
        Lane.objects.wake([conversation], IN)
        Lane.objects.filter(ready_at__isnull=False).update(
            ready_at=F("ready_at") - datetime.timedelta(seconds=9)
        )
    claim(limit=2)
    first = Lane.objects.filter(epoch=1).order_by("pk").values_list("conversation_id", flat=True)
    assert set(first) == set(conversations[1:])


def test_an_abandoned_lane_comes_back_with_a_higher_epoch(conversations):
    Lane.objects.wake(conversations[:1], IN)
    (old,) = claim()
    end_lease(conversations[0])
    (new,) = claim()
    assert new.epoch == old.epoch + 1


def test_the_old_holder_can_commit_nothing(conversations):
    Lane.objects.wake(conversations[:1], IN)
    (old,) = claim()
    end_lease(conversations[0])
    (new,) = claim()
    with pytest.raises(LeaseLost), transaction.atomic():
        Lane.objects.fence(old)
    with pytest.raises(LeaseLost):
        Lane.objects.renew(old, 60)
    release(new)


def test_a_renewed_lane_stays_with_its_holder(conversations):
    Lane.objects.wake(conversations[:1], IN)
    (lease,) = claim()
    end_lease(conversations[0])
    Lane.objects.renew(lease, 60)
    assert claim() == []
    release(lease)


def test_released_with_nothing_left_it_sleeps(conversations):
    Lane.objects.wake(conversations[:1], IN)
    release(*claim())
    lane = Lane.objects.get(conversation_id=conversations[0], kind=IN)
    assert (lane.ready_at, lane.leased_until, lane.owner) == (None, None, "")


def test_released_with_work_left_it_is_claimed_again(conversations):
    Lane.objects.wake(conversations[:1], IN)
    release(*claim(), after=0.0)
    assert len(claim()) == 1


def test_a_pause_keeps_it_asleep(conversations):
    Lane.objects.wake(conversations[:1], IN)
    release(*claim(), after=60.0)
    assert claim() == []


def test_a_wake_up_ends_a_pause(conversations):
    Lane.objects.wake(conversations[:1], IN, after=60.0)
    assert claim() == []
    Lane.objects.wake(conversations[:1], IN)
    assert len(claim()) == 1


def test_a_later_wake_up_does_not_put_off_an_earlier(conversations):
    Lane.objects.wake(conversations[:1], IN)
    Lane.objects.wake(conversations[:1], IN, after=60.0)
    assert len(claim()) == 1


def test_waking_a_leased_lane_does_not_take_it_from_its_holder(conversations):
    Lane.objects.wake(conversations[:1], IN)
    (lease,) = claim()
    Lane.objects.wake(conversations[:1], IN)
    assert claim() == []
    release(lease)


def test_ensure_twice_makes_one_pair(conversations):
    Lane.objects.ensure(conversations)
    assert Lane.objects.count() == 2 * len(conversations)


def test_a_lane_that_waits_for_a_thread_for_slow_work_is_left_to_who_has_one(conversations):
    Lane.objects.wake(conversations[:1], IN)
    Lane.objects.give_back(claim()[0], is_slow=True)
    assert claim() == []
    (lease,) = claim(is_slow=True)
    assert not Lane.objects.filter(is_slow=True).exists()
    Lane.objects.give_back(lease)
    assert len(claim()) == 1


def test_who_names_the_conversation_has_its_lane_whatever_it_waits_for(conversations):
    Lane.objects.wake(conversations[:1], IN)
    Lane.objects.give_back(claim()[0], is_slow=True)
    assert claim(conversation_id=conversations[1]) == []
    assert len(claim(conversation_id=conversations[0])) == 1


def test_a_mark_that_a_process_of_the_version_before_left_is_taken_away(conversations):
    Lane.objects.update(is_slow=True)
    Lane.objects.wake(conversations[:1], IN)
    assert len(claim()) == 1
