"""Meta's window of a conversation: the events that open it, its length, and the state of a reply after it."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from djmessenger import bot, models
from djmessenger.pipeline import split, store
from djmessenger.receiving import Messaging, ReceivingType
from djmessenger.receiving.classify import MessagingChecker, own_checkers
from tests import pipeline_tools as tools

DAY = datetime.timedelta(hours=24)
WEEK = datetime.timedelta(days=7)
AD = {"ref": "autumn", "source": "ADS", "type": "OPEN_THREAD", "ad_id": "120210334455660077"}
LINK = {"ref": "spring", "source": "SHORTLINK", "type": "OPEN_THREAD"}
PARTS: dict[str, tuple[dict[str, Any], datetime.timedelta | None]] = {
    "text": ({"message": {"text": "hello"}}, DAY),
    "message without known content": ({"message": {"template": {"type": "coupon"}}}, DAY),
    "tap": ({"postback": {"title": "Go", "payload": "GO"}}, DAY),
    "plugin": ({"optin": {"ref": "site"}}, DAY),
    "checkbox": ({"optin": {"ref": "site", "user_ref": "5"}}, DAY),
    "opt-in": ({"optin": {"type": "notification_messages"}}, DAY),
    "opt-out": (
        {
            "optin": {
                "type": "notification_messages",
                "notification_messages_status": "STOP NOTIFICATIONS",
            }
        },
        None,
    ),
    "link": ({"referral": LINK}, DAY),
    "cart": ({"order": {"products": []}}, DAY),
    "form": ({"messaging_feedback": {"feedback_screens": []}}, DAY),
    "reaction": ({"reaction": {"action": "react", "emoji": "x", "mid": "m_0"}}, DAY),
    "reaction without an action": ({"reaction": {"emoji": "x", "mid": "m_0"}}, DAY),
    "message after an ad": ({"message": {"text": "hello", "referral": AD}}, WEEK),
    "Get Started after an ad": ({"postback": {"payload": "GO", "referral": AD}}, WEEK),
    "click on an ad": ({"referral": AD}, WEEK),
    "message with a product": ({"message": {"referral": {"product": {"id": "5"}}}}, DAY),
    "reaction taken back": ({"reaction": {"action": "unreact", "mid": "m_0"}}, None),
    "edit": ({"message_edit": {"mid": "m_0", "text": "hi", "num_edit": 1}}, None),
    "deletion": ({"message": {"mid": "m_0", "is_deleted": True}}, None),
    "read": ({"read": {"watermark": 1}}, None),
    "delivery": ({"delivery": {"watermark": 1}}, None),
    "log-in": ({"account_linking": {"status": "linked"}}, None),
    "thumb": ({"response_feedback": {"feedback": "Good response", "mid": "m_0"}}, None),
    "handover": ({"pass_thread_control": {"new_owner_app_id": "1"}}, None),
}


def item(part: dict[str, Any], *, at: int, mid: str = "") -> dict[str, Any]:
    """Return an item of a callback; a message or a tap gets the message id."""
    named = {
        key: {"mid": mid, **value} if mid and key in {"message", "postback"} else value
        for key, value in part.items()
    }
    return {"sender": {"id": tools.PSID}, "recipient": {"id": tools.PAGE}, "timestamp": at, **named}


def read(name: str, *, is_standby: bool = False) -> Messaging:
    return Messaging.from_item(
        item(PARTS[name][0], at=tools.now_ms(), mid="m_1"), entry_id=tools.PAGE, is_standby=is_standby
    )


def saved() -> models.Conversation:
    return models.Conversation.objects.get()


# The window of one event.


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("is_standby", [False, True])
def test_each_kind_of_event_opens_its_window(name, is_standby):
    assert read(name, is_standby=is_standby).window == PARTS[name][1]


def test_the_page_itself_opens_no_window():
    assert Messaging.from_item(tools.echo("t", "m_1"), entry_id=tools.PAGE).window is None


def test_what_wants_an_answer_can_be_answered():
    kinds = ReceivingType.get_members().values()
    assert [kind for kind in kinds if kind.authored and not kind.opens_window] == []
    assert [kind for kind in kinds if kind.is_consent and not kind.authored] == []


def test_the_three_questions_have_three_answers():
    reaction, link, text = read("reaction"), read("link"), read("text")
    assert (reaction.authored, reaction.window, reaction.is_consent) == (False, DAY, False)
    assert (link.authored, link.window, link.is_consent) == (True, DAY, False)
    assert (text.authored, text.window, text.is_consent) == (True, DAY, True)
    assert read("message with a product").is_consent
    assert read("plugin").is_consent
    assert not read("checkbox").is_consent


def test_a_type_of_the_project_takes_nothing_from_a_message(monkeypatch):
    class SurveyChecker(MessagingChecker):
        def check(self):
            return ReceivingType("SURVEY", "an answer to our survey")

    monkeypatch.setattr(ReceivingType, "members", dict(ReceivingType.members))
    monkeypatch.setattr("djmessenger.receiving.classify.own_checkers", [*own_checkers, SurveyChecker])
    message = read("text")
    assert (message.type.name, message.authored) == ("SURVEY", False)
    assert (message.window, message.is_consent) == (DAY, True)


def test_the_rulebook_has_the_lengths(settings):
    settings.DJM_RULEBOOK = {"window.standard": 12, "window.ad": 3}
    assert read("text").window == DAY / 2
    assert read("message after an ad").window == datetime.timedelta(days=3)


# The columns of the conversation after a split.


@pytest.mark.django_db
@pytest.mark.parametrize("name", PARTS)
def test_the_split_saves_the_end_of_the_window(name):
    tools.receive(item(PARTS[name][0], at=tools.now_ms(), mid="m_1"))
    row, window = models.Messaging.objects.get(), PARTS[name][1]
    expected = None if window is None else row.date_event + window
    assert saved().window_until == expected


@pytest.mark.django_db
def test_a_standby_event_opens_the_window_and_is_no_message_to_the_bot():
    tools.receive(tools.text("m_1"), container="standby")
    assert saved().window_until is not None
    assert saved().date_last_inbound is None


@pytest.mark.django_db
def test_a_message_does_not_shorten_the_window_after_an_ad():
    now = tools.now_ms()
    tools.receive(item(PARTS["message after an ad"][0], at=now - 60_000, mid="m_1"))
    before = saved().window_until
    tools.receive(tools.text("m_2", at=now))
    assert saved().window_until == before
    assert saved().date_last_inbound == models.Messaging.objects.get(mid="m_2").date_event


@pytest.mark.django_db
def test_a_reaction_moves_the_window_only():
    now = tools.now_ms()
    tools.receive(tools.text("m_1", at=now - 5000))
    before = saved()
    models.Conversation.objects.update(fast_exchanges=3)
    tools.receive(item(PARTS["reaction"][0], at=now))
    after = saved()
    assert after.window_until == before.window_until + datetime.timedelta(seconds=5)
    assert (after.date_last_inbound, after.fast_exchanges) == (before.date_last_inbound, 3)


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["text", "reaction", "message after an ad"])
def test_one_statement_saves_all_times_of_a_conversation(name):
    tools.receive(tools.text("m_1"))
    with CaptureQueriesContext(connection) as queries:
        tools.receive(item(PARTS[name][0], at=tools.now_ms(), mid="m_2"))
    table = 'UPDATE "djmessenger_conversation" '
    assert sum(query["sql"].startswith(table) for query in queries) == 1


@pytest.mark.django_db
def test_a_split_that_read_an_older_row_moves_no_time_back(monkeypatch):
    """Another split commits between the read of the conversation and the update."""
    now = tools.now_ms()
    tools.receive(tools.text("m_1", at=now - 60_000))
    later = timezone.now() + WEEK
    lock_queues = split.lock_queues

    def lock(*args):
        models.Conversation.objects.update(window_until=later, date_last_inbound=later, fast_exchanges=7)
        return lock_queues(*args)

    monkeypatch.setattr(split, "lock_queues", lock)
    tools.receive(tools.text("m_2", at=now))
    assert (saved().window_until, saved().date_last_inbound, saved().fast_exchanges) == (later, later, 7)


acts = st.lists(
    st.tuples(
        st.sampled_from(sorted(PARTS)),
        st.integers(0, 9 * 24 * 60),  # minutes before now
        st.booleans(),  # whether the event is in the callback of the one before
        st.booleans(),  # whether the callbacks so far are split before this one
    ),
    max_size=8,
)


@pytest.mark.django_db
def test_the_window_is_the_latest_end_of_all_events_in_whatever_order_they_are_split(settings):
    settings.DJM_MAX_EVENT_AGE = datetime.timedelta(days=30)
    now = tools.now_ms()

    @given(acts)
    def check(acts):
        with transaction.atomic():
            bodies: list[list[dict[str, Any]]] = []
            ends = []
            for number, (name, minutes, is_joined, is_split) in enumerate(acts):
                at, (part, window) = now - minutes * 60_000, PARTS[name]
                if is_split:
                    split_all(bodies)
                if not (is_joined and bodies):
                    bodies.append([])
                bodies[-1].append(item(part, at=at, mid=f"m_{number}"))
                if window is not None:
                    ends.append(datetime.datetime.fromtimestamp(at / 1000, tz=datetime.UTC) + window)
            split_all(bodies)
            found = models.Conversation.objects.values_list("window_until", flat=True)
            assert list(found) == [max(ends, default=None)] * bool(acts)
            transaction.set_rollback(True)

    check()


def split_all(bodies: list[list[dict[str, Any]]]) -> None:
    split.split_many([store.store(tools.body(*items)) for items in bodies])
    bodies.clear()


# The state of a reply at the end of the window.


@pytest.fixture
def conversation(db: None, emulator: Any) -> models.Conversation:
    tools.someone(emulator)
    return tools.conversation()


def opened(name: str, ago: datetime.timedelta) -> None:
    """Receive an event that is older than its callback."""
    at = tools.now_ms() - int(ago.total_seconds() * 1000)
    tools.receive(item(PARTS[name][0], at=at, mid="m_1"))
    bot.get_engine().drain()


def fates() -> list[str]:
    return list(models.Reply.objects.order_by("id").values_list("state", flat=True))


def send(made: models.Conversation, **data: Any) -> tuple[list[str], int]:
    """Queue a reply and send it; return the states of the replies, and the number of attempts."""
    models.Reply.objects.queue(made, {"message": {"text": "hi"}, **data}, type="simple_text")
    tools.send(bot.get_engine(), made)
    return fates(), models.Attempt.objects.count()


HOUR = datetime.timedelta(hours=1)


def test_an_answer_to_a_reaction_after_25_hours_is_sent(conversation, emulator):
    (person,) = emulator.persons.values()
    opened("text", 25 * HOUR)
    opened("reaction", HOUR)
    person.last_seen = emulator.clock() - 3600
    assert send(conversation) == (["sent"], 1)


@pytest.mark.parametrize("hours", [25, 7 * 24 - 1])
def test_for_seven_days_after_an_ad_the_reply_is_tried_and_graph_decides(hours, conversation, emulator):
    (person,) = emulator.persons.values()
    opened("message after an ad", hours * HOUR)
    person.last_seen = emulator.clock() - hours * 3600
    assert send(conversation) == (["expired"], 1)
    reply, attempt = models.Reply.objects.get(), models.Attempt.objects.get()
    assert (attempt.outcome, attempt.code, attempt.subcode) == ("refused", 10, 2018278)
    assert "outside of allowed window" in reply.error
    person.came_by_ad = person.last_seen
    assert send(conversation) == (["expired", "sent"], 2)


def test_after_seven_days_it_expires_without_a_call(conversation):
    opened("message after an ad", 7 * DAY)
    assert send(conversation) == (["expired"], 0)


def test_a_message_of_staff_is_tried_after_the_window_and_fails_if_graph_refuses_it(conversation, emulator):
    (person,) = emulator.persons.values()
    opened("text", 2 * DAY)
    person.last_seen = emulator.clock() - 2 * 86_400
    tag = {"messaging_type": "MESSAGE_TAG", "tag": "HUMAN_AGENT"}
    assert send(conversation, **tag) == (["sent"], 1)
    person.last_seen = emulator.clock() - 8 * 86_400
    assert send(conversation, **tag) == (["sent", "failed"], 2)


def test_an_expired_reply_of_an_earlier_unknown_attempt_is_parked(conversation, emulator):
    reply = tools.queue(conversation)
    models.Attempt.objects.create(reply=reply, number=1, token="t", fencing_token=1, outcome="unknown")
    emulator.faults.on("window_closed", times=1)
    tools.send(bot.get_engine(), conversation)
    assert fates() == ["parked"]


def test_without_any_event_graph_decides(conversation, emulator):
    assert conversation.get_window_until() is None
    assert send(conversation) == (["sent"], 1)


def test_an_event_that_the_version_before_split_opens_the_window(conversation):
    opened("text", 30 * HOUR)
    models.Conversation.objects.update(date_last_inbound=timezone.now() - HOUR)
    assert send(conversation) == (["sent"], 1)
