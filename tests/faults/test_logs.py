"""The log: one line for each event and each call. No line contains a secret or a text of a person."""

from __future__ import annotations

import logging

import pytest
from django.test import Client

from djmessenger import models, signatures
from djmessenger.logs import error_label, hidden
from tests import pipeline_tools as tools
from tests.faults import hostile

pytestmark = pytest.mark.django_db

SECRETS = ("made-up-page-token", "0123456789abcdef0123456789abcdef", "made-up-verify-token")
CANARY = "canaryword"


def post(body: bytes) -> None:
    headers = {"X-Hub-Signature-256": signatures.sign(SECRETS[1], body)}
    assert (
        Client().post("/messenger", body, content_type="application/json", headers=headers).status_code == 200
    )


def everything(records) -> str:
    """All that a handler of any kind could write of the records."""
    formatter = logging.Formatter()
    return "\n".join(f"{formatter.format(record)}\n{record.__dict__!r}" for record in records)


def with_canaries(body: bytes) -> bytes:
    """Return the body with a canary word in every short text of a person."""
    return body.replace(b'"hello"', f'"hello {CANARY}"'.encode()).replace(
        b'"text": "', f'"text": "{CANARY}'.encode()
    )


@pytest.fixture
def records(caplog):
    """Return a function that returns the records so far; each phase of a test has its own list."""
    caplog.set_level(logging.DEBUG)
    return lambda: list(caplog.records)


ANSWER = {"name": "djmessenger.replying.DefaultMessageReplier"}
POLICY = {
    "rules": [
        {
            "type": "DEFAULT",
            "name": "default",
            "handlers": [{"name": "djmessenger.handling.UserProfileHandler"}],
        },
        {"type": "SIMPLE_TEXT", "name": "answer", "repliers": [ANSWER]},
    ]
}


@pytest.mark.parametrize("policy", [POLICY, None], ids=["answering", "default"])
def test_no_line_holds_a_text_an_id_or_a_secret(policy, emulator, records, settings):
    if policy is not None:
        settings.DJM_ROUTING_POLICY = policy
    for _name, body in list(hostile.corpus())[:: 1 if policy else 4]:
        post(with_canaries(body))
    assert models.Messaging.objects.count() > 50
    said = everything(
        record
        for record in records()
        if record.name.partition(".")[0] in {"djmessenger", "django", "urllib3"}
    )
    assert "event_handled" in said
    for hidden_word in (CANARY, hostile.PERSON, *SECRETS):
        found = said.find(hidden_word)
        assert found < 0, said[max(0, found - 300) : found + 200]
    assert "\x1b" not in said.replace("\\x1b", "")


def test_each_event_and_each_call_has_its_line(emulator, records, settings):
    settings.DJM_ROUTING_POLICY = POLICY
    emulator.enforce_window = False
    emulator.add_person(tools.PAGE, person_id=tools.PSID)
    post(tools.body(tools.text("m_1", CANARY)))
    event, reply = models.Messaging.objects.get(), models.Reply.objects.get()
    lines = {record.action: record for record in records() if hasattr(record, "action")}
    who = (hidden(tools.PAGE), hidden(tools.PSID))
    handled = lines["event_handled"]
    assert (handled.event, handled.page, handled.person) == (event.pk, *who)
    assert (handled.type, handled.rules, handled.messages, handled.failed) == (
        "SIMPLE_TEXT",
        ["answer"],
        1,
        0,
    )
    sent = lines["reply_sent"]
    assert (sent.reply, sent.event, sent.page, sent.person) == (reply.pk, event.pk, *who)
    calls = [record for record in records() if getattr(record, "action", "") == "graph_call"]
    assert [call.outcome for call in calls][-1] == "ok"
    assert f"/{hidden(tools.PSID)}" in {call.path for call in calls}, "the same hash as in the other lines"


def test_an_ignored_event_says_why(emulator, records):
    post(tools.body(tools.text("m_1", CANARY, at=1)))
    (line,) = [record for record in records() if getattr(record, "action", "") == "event_ignored"]
    assert (line.reason, line.person) == ("older than 7 days, 0:00:00", hidden(tools.PSID))


def test_a_reply_that_is_not_sent_says_which_code_and_not_what_meta_wrote(emulator, records, settings):
    settings.DJM_ROUTING_POLICY = POLICY
    emulator.faults.on("refused", code=551, message=f"{CANARY} {tools.PSID}")
    post(tools.body(tools.text("m_1")))
    (line,) = [record for record in records() if getattr(record, "action", "") == "reply_failed"]
    assert CANARY not in everything([line])
    assert models.Reply.objects.get().error


def test_hashes_are_keyed_and_short():
    assert hidden("") == hidden(None) == ""
    assert len(hidden(tools.PSID)) == 10
    assert hidden(tools.PSID) != hidden(tools.PAGE)


def test_a_fault_is_named_without_its_words():
    assert error_label(ValueError(CANARY)) == "ValueError"
