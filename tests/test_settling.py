"""Settling: changes of a reply's state are those of one table, and one file makes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import djmessenger
from djmessenger import models
from djmessenger.pipeline import settling
from djmessenger.pipeline.settling import TRANSITIONS, State
from tests import pipeline_tools as tools

SOURCE = Path(djmessenger.__file__).parent


@pytest.mark.django_db
@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_a_reply_changes_its_state_only_as_the_table_allows(before, after):
    made = tools.conversation()
    reply = tools.queue(made)
    models.Reply.objects.update(state=before)
    reply.refresh_from_db()
    lease = tools.claim(made, tools.OUT)
    if after in TRANSITIONS[before]:
        settling.settle(lease, reply, after)
    else:
        with pytest.raises(ValueError, match=f"is {before} and cannot become {after}"):
            settling.settle(lease, reply, after)
    assert models.Reply.objects.get().state == (after if after in TRANSITIONS[before] else before)


def test_each_state_can_be_reached_and_a_sent_reply_never_changes():
    assert {State.QUEUED}.union(*TRANSITIONS.values()) == set(State) == TRANSITIONS.keys()
    assert TRANSITIONS[State.SENT] == frozenset()


def test_open_replies_are_those_that_the_outbox_itself_may_change():
    """A state is open if the reply still waits: for its call, its answer or its echo."""
    assert set(models.Reply.OPEN) == {State.QUEUED, State.SENDING, State.UNKNOWN}


def test_no_other_file_changes_the_state_of_a_reply():
    change = re.compile(
        r"\b(?:reply|first)\.state(?:, [\w.]+)* = |\.update\([^)]*state=(?:models\.)?(?:Reply\.)?State\.[A-Z]"
    )
    files = [path for path in SOURCE.rglob("*.py") if "migrations" not in path.parts]
    found = {str(path.relative_to(SOURCE)) for path in files if change.search(path.read_text())}
    # Events have states too; the file below changes those of events.
    assert found - {"pipeline/event_results.py"} == {"pipeline/settling.py"}
