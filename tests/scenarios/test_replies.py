"""Replies from queue to person: long ones, refused ones, and those that a view sends."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import include, path

from djmessenger import models
from djmessenger.outgoing import Image
from djmessenger.rules import rule, text
from djmessenger.testing import ReplyRefused

POEM = " ".join(f"word{number}" for number in range(1000))


@rule(text("poem"))
def recite(event):
    return POEM


@rule(text("picture"))
def show(event):
    # Right in form, and never uploaded: only Graph can know.
    return Image(attachment_id="1234567890")


@rule(text("hi"))
def greet(event):
    return "Hello!"


@transaction.atomic
def ship(request, psid, *, breaks):
    """A view of the project: the parcel leaves, and the person gets a message."""
    models.FBUserProfile.objects.get(pk=psid).send("Your parcel is on its way.")
    if breaks:
        raise RuntimeError("the printer is out of paper")
    return HttpResponse("shipped")


urlpatterns = [
    path("ship/<psid>", ship, {"breaks": False}),
    path("lose/<psid>", ship, {"breaks": True}),
    path("", include("djmessenger.urls")),
]


@pytest.fixture(autouse=True)
def project(own_rules, settings):
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def ana(messenger):
    person = messenger.person()
    person.says("hi")
    person.sees("Hello!")
    return person


def test_a_long_text_comes_as_several_messages_in_order(ana):
    ana.says("poem")
    parts = [bubble.text for bubble in ana.screen.received[1:]]
    assert len(parts) > 3
    assert all(len(part) <= 2000 for part in parts)
    assert " ".join(parts) == POEM


def test_a_refused_reply_is_kept_with_graphs_answer(ana):
    with pytest.raises(ReplyRefused, match="code 100"):
        ana.says("picture")
    reply = models.Reply.objects.get(rule="show")
    assert reply.state == "failed"
    assert reply.status_code == 400
    assert reply.response["code"] == 100
    assert reply.error
    ana.says("hi")
    ana.sees("Hello!")


def test_a_view_sends_when_its_transaction_is_committed(ana):
    assert Client().get(f"/ship/{ana.psid}").content == b"shipped"
    ana.sees("Your parcel is on its way.")
    ana.sees_nothing()


def test_a_view_that_fails_has_sent_nothing(ana):
    answer = Client(raise_request_exception=False).get(f"/lose/{ana.psid}")
    assert answer.status_code == 500
    ana.sees_nothing()
    assert models.Reply.objects.count() == 1
