"""Waiting events to decisions: in order, one at a time, once in effect, however it fails."""

from __future__ import annotations

import contextlib
import datetime
import threading

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation
from django.utils.functional import lazy
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from djmessenger import bot, models
from djmessenger.clock import Deadline
from djmessenger.emulator import EmulatorTransport
from djmessenger.handling import UserProfileHandler
from djmessenger.outgoing import QuickReply, Text
from djmessenger.pipeline import claims, event_results
from djmessenger.pipeline.claims import LeaseLost
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.handling import Inbox
from djmessenger.pipeline.sending import Outbox
from djmessenger.pipeline.slow import RunHere
from djmessenger.receiving import Messaging, ReceivingType
from djmessenger.replying import CommonReplier, MessageReplier, ReplyingType, SimpleMessageReplier
from djmessenger.routing import Policy, Rule
from tests import pipeline_tools as tools

pytestmark = pytest.mark.django_db


def note(event):
    """An effect in the database that can be counted."""
    models.UserLocation.objects.create(user=event.person, latitude=0, longitude=0, mid=event.mid)


def effects() -> list[str]:
    return list(models.UserLocation.objects.order_by("id").values_list("mid", flat=True))


class Broken:
    """A handler that fails a given number of times, after its effect."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.calls = 0

    def __call__(self, event):
        self.calls += 1
        note(event)
        if self.left:
            self.left -= 1
            raise RuntimeError("broken")


@hypothesis_settings(max_examples=20)
@given(events=st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_events_are_handled_by_timestamp_then_arrival(events):
    at = tools.now_ms()
    with transaction.atomic():
        made = tools.conversation()
        tools.receive(*[tools.text(f"m_{n}", at=at + late) for n, late in enumerate(events)])
        tools.handle(tools.engine(note), made)
        found = effects()
        transaction.set_rollback(True)
    assert found == [f"m_{n}" for n, _ in sorted(enumerate(events), key=lambda pair: (pair[1], pair[0]))]


def test_one_conversation_is_worked_on_by_one_at_a_time():
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    during = []

    def look(event):
        during.append(claims.claim(tools.IN, seconds=60))

    tools.handle(tools.engine(look), made)
    assert during == [[]]


def test_replies_state_outcome_and_done_mark_are_one_transaction(monkeypatch):
    made = tools.conversation()
    tools.receive(tools.text("m_1"))

    def work(event):
        event.conversation.state["step"] = 2
        note(event)
        return "an answer"

    def stumble(*args):
        raise RuntimeError("the last moment")

    engine = tools.engine(work)
    monkeypatch.setattr(event_results, "finish", stumble)
    tools.handle(engine, made)
    made.refresh_from_db()
    row = models.Messaging.objects.get()
    assert (row.state, row.tries, effects(), made.state) == ("new", 1, [], {})
    assert not models.Reply.objects.exists()
    monkeypatch.undo()
    tools.pass_time(600)
    tools.handle(engine, made)
    made.refresh_from_db()
    row.refresh_from_db()
    assert (row.state, effects(), made.state) == ("done", ["m_1"], {"step": 2})
    assert row.outcome["rules"]
    assert models.Reply.objects.get().messaging == row


def test_a_failing_event_is_tried_again_after_growing_pauses_while_its_queue_waits():
    made = tools.conversation()
    tools.receive(tools.text("m_1"), tools.text("m_2", at=tools.now_ms() + 5))
    handler = Broken(2)
    engine = tools.engine(handler, tries=5)
    pauses = []
    for _ in range(2):
        tools.handle(engine, made)
        assert effects() == []
        row = models.Messaging.objects.get(mid="m_1")
        wait = (row.not_before - timezone.now()).total_seconds()
        pauses.append(wait)
        assert claims.claim(tools.IN, seconds=60) == []
        tools.pass_time(wait + 1)
    assert 0 < pauses[0] < pauses[1]
    tools.handle(engine, made)
    assert effects() == ["m_1", "m_2"]


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: Text("hi", quick_replies=[QuickReply(str(number)) for number in range(14)]),
        lambda: Text(""),
        lambda: Text(7),
        lambda: 7,
        lambda: {"type": "text"},
        lambda: {"text": "no type"},
    ],
)
def test_a_mistake_that_no_try_cures_fails_at_once(mistake):
    """The person does not wait for tries that cannot succeed; other rules and the next event go on."""
    made = tools.conversation()
    tools.receive(tools.text("m_1"), tools.text("m_2", at=tools.now_ms() + 5))
    answers = {"m_1": mistake, "m_2": lambda: "fine"}
    tools.handle(tools.engine(note, lambda event: answers[event.mid](), tries=9), made)
    assert dict(models.Messaging.objects.values_list("mid", "state")) == {"m_1": "failed", "m_2": "done"}
    assert effects() == ["m_1", "m_2"]


def test_an_error_of_the_rule_itself_is_tried_again():
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    tools.handle(tools.engine(lambda event: {}["missing"], tries=9), made)
    row = models.Messaging.objects.get()
    assert (row.state, row.tries) == ("new", 1)
    assert row.not_before > timezone.now()


def test_a_wake_up_does_not_shorten_the_pause():
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    handler = Broken(9)
    engine = tools.engine(handler, tries=9)
    tools.handle(engine, made)
    models.ConversationQueue.objects.wake([made.pk], tools.IN)
    tools.handle(engine, made)
    assert handler.calls == 1


@pytest.mark.django_db(transaction=True)
def test_on_the_last_try_a_broken_rule_does_not_silence_the_others():
    made = tools.conversation()
    tools.receive(tools.text("m_1"), tools.text("m_2", at=tools.now_ms() + 5))
    told = []

    def broken(event):
        note(event)
        event.conversation.state["broken"] = True
        if event.mid == "m_1":
            raise RuntimeError("broken for good")

    def fine(event):
        note(event)
        event.conversation.state["fine"] = True

    def hear(messaging, **kwargs):
        told.append((messaging.mid, messaging.state))
        raise RuntimeError("a receiver that breaks breaks nothing else")

    models.messaging_failed.connect(hear)
    try:
        engine = tools.engine(broken, fine, tries=2)
        tools.handle(engine, made)
        assert effects() == []
        tools.pass_time(600)
        tools.handle(engine, made)
    finally:
        models.messaging_failed.disconnect(hear)
    row = models.Messaging.objects.get(mid="m_1")
    assert (row.state, told) == ("failed", [("m_1", "failed")])
    assert "broken for good" in row.error
    assert effects() == ["m_1", "m_2", "m_2"]


def test_failed_rows_can_be_replayed():
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    tools.handle(tools.engine(Broken(1), tries=1), made)
    assert models.Messaging.objects.get().state == "failed"
    models.Messaging.objects.update(state="new", tries=0, not_before=None)
    models.ConversationQueue.objects.wake([made.pk], tools.IN)
    tools.handle(tools.engine(note), made)
    assert (models.Messaging.objects.get().state, effects()) == ("done", ["m_1"])


@pytest.mark.django_db(transaction=True)
def test_slow_handlers_run_with_no_transaction_open_and_their_answers_are_queued_inside():
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    seen = []

    def ask(event):
        seen.append(connection.in_atomic_block)
        return "the answer of somebody slow"

    tools.handle(tools.engine(ask, slow=True), made)
    assert seen == [False]
    assert models.Reply.objects.get().data["message"]["text"] == "the answer of somebody slow"


class Later(RunHere):
    """A pool that runs slow work when the test calls for it."""

    def __init__(self) -> None:
        self.jobs = []

    def run(self, lease, job):
        self.jobs.append(job)

    def finish(self, engine) -> None:
        """Run the one slow job and the rest of its work, as a worker does."""
        (job,) = self.jobs
        if (handled := job.work()()) is not None:
            engine.inbox.commit_handled([handled])


def test_slow_work_keeps_the_queue_until_it_is_done():
    made = tools.conversation()
    tools.receive(tools.text("m_1"), tools.text("m_2", at=tools.now_ms() + 1))
    pool = Later()
    engine = tools.engine(note, slow=True)
    tools.work(engine, tools.claim(made), slow=pool)
    models.ConversationQueue.objects.wake([made.pk], tools.IN)
    assert claims.claim(tools.IN, seconds=60) == []
    pool.finish(engine)
    assert models.Messaging.objects.get(mid="m_1").state == "done"
    tools.handle(engine, made)
    assert models.Messaging.objects.filter(state="done").count() == 2


@pytest.mark.parametrize("rule", [note, lambda event: "an answer without a query"])
def test_a_worker_whose_lease_is_lost_leaves_no_effect(rule):
    """The fence: a holder that was frozen for longer than its lease commits nothing."""
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    pool = Later()
    engine = tools.engine(rule, slow=True)
    tools.work(engine, tools.claim(made), slow=pool)
    other = tools.steal(made)
    answered = tools.engine(lambda event: "the other's answer")
    tools.work(answered, other)
    with contextlib.suppress(LeaseLost):
        pool.finish(engine)
    assert [reply.data["message"]["text"] for reply in models.Reply.objects.all()] == ["the other's answer"]


def test_a_lost_lease_is_no_failed_try():
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    pool = Later()
    engine = tools.engine(note, slow=True)
    tools.work(engine, tools.claim(made), slow=pool)
    tools.steal(made)
    with contextlib.suppress(LeaseLost):
        pool.finish(engine)
    assert models.Messaging.objects.get().tries == 0


def test_work_that_breaks_off_releases_the_queue(monkeypatch):
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    engine = tools.engine(note)
    monkeypatch.setattr(event_results, "count_failed_try", lambda *args, **options: 1 / 0)
    monkeypatch.setattr(event_results, "finish", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.drain_conversation(made.pk)
    row = tools.queue_of(made)
    assert row.leased_until is None
    assert row.ready_at is not None


def test_state_that_no_rule_changed_is_not_written_over():
    made = tools.conversation()
    tools.receive(tools.text("m_1"))

    def elsewhere(event):
        models.Conversation.objects.update(state={"by": "a view"})

    tools.handle(tools.engine(elsewhere), made)
    made.refresh_from_db()
    assert made.state == {"by": "a view"}


def test_a_later_event_does_not_begin_during_the_pause_of_the_first():
    made = tools.conversation()
    tools.receive(tools.text("m_1"), tools.text("m_2", at=tools.now_ms() + 5))
    later = timezone.now() + datetime.timedelta(hours=1)
    models.Messaging.objects.filter(mid="m_1").update(not_before=later)
    engine = tools.engine(note)
    assert engine.inbox.next_rows([tools.claim(made)]) == {}


def test_no_event_begins_under_a_lease_that_is_almost_over():
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    tools.work(tools.engine(note), tools.claim(made), seconds=0.1)
    assert (effects(), tools.queue_of(made).leased_until) == ([], None)


def sent_reply(made, mid: str, seconds_ago: float) -> models.Reply:
    moment = timezone.now() - datetime.timedelta(seconds=seconds_ago)
    reply = tools.queue(made)
    models.Reply.objects.filter(pk=reply.pk).update(state="sent", mid=mid)
    models.Attempt.objects.create(
        reply=reply, number=1, token=mid, fencing_token=1, outcome="accepted", date_started=moment
    )
    return reply


def marks() -> dict[str, tuple[bool, bool]]:
    rows = models.Reply.objects.values_list("mid", "date_delivered", "date_read")
    return {mid: (delivered is not None, read is not None) for mid, delivered, read in rows}


def test_receipts_mark_replies_by_id_or_by_watermark():
    made = tools.conversation()
    for mid, ago in (("m_a", 30), ("m_b", 20), ("m_c", 10), ("m_d", 0)):
        sent_reply(made, mid, ago)
    engine = tools.engine()
    tools.receive(tools.delivered(0, "m_d"))
    tools.handle(engine, made)
    assert marks() == {**dict.fromkeys(("m_a", "m_b", "m_c"), (False, False)), "m_d": (True, False)}
    tools.receive(tools.delivered(tools.now_ms() - 15_000))
    tools.handle(engine, made)
    assert marks()["m_b"] == (True, False)
    assert marks()["m_c"] == (False, False)
    tools.receive(tools.read(tools.now_ms() - 5_000))
    tools.handle(engine, made)
    assert marks() == {**dict.fromkeys(("m_a", "m_b", "m_c"), (True, True)), "m_d": (True, False)}


def test_a_person_who_writes_can_be_reached_again():
    made = tools.conversation()
    models.FBUserProfile.objects.update(date_unreachable=timezone.now())
    tools.receive(tools.text("m_1"))
    tools.handle(tools.engine(), made)
    assert models.FBUserProfile.objects.get().date_unreachable is None
    assert made.pk


def test_language_and_time_zone_are_the_persons():
    made = tools.conversation()
    models.FBUserProfile.objects.update(locale="de_DE", timezone=5.75)
    tools.receive(tools.text("m_1"))
    seen = []
    tools.handle(
        tools.engine(
            lambda event: seen.append((translation.get_language(), str(timezone.get_current_timezone())))
        ),
        made,
    )
    assert seen == [("de", "UTC+05:45")]
    assert made.pk


@pytest.mark.parametrize(
    ("locale", "page_language", "expected"),
    [
        ("de_DE", "fr", "de"),
        ("", "fr", "fr"),
        ("", "zh_TW", "zh-hant"),
        ("xx_YY", "fr", "fr"),
        ("xx_YY", "", "en-us"),
        ("", "", "en-us"),
        ("", "xx", "en-us"),
    ],
)
def test_rules_and_texts_have_one_language_in_any_process(locale, page_language, expected):
    def rule(event):
        seen.append(translation.get_language())
        return lazy(translation.get_language, str)()

    class Replies(Says):
        def get_message(self, messaging):
            seen.append(translation.get_language())
            return super().get_message(messaging)

    seen = []
    made = tools.conversation()
    models.FBUserProfile.objects.update(locale=locale)
    models.Page.objects.update(language=page_language)
    tools.receive(tools.text("m_1"))
    with translation.override("ja"):
        tools.handle(tools.engine(rule), made)
        made = models.Conversation.objects.get()
        event = Messaging.from_item(tools.text("m_2"), entry_id=tools.PAGE)
        event.bind(conversation=made, person=made.person, page=made.page)
        Replies(lazy(translation.get_language, str)()).reply(event)
        made.send(lazy(translation.get_language, str)())
        assert translation.get_language() == "ja"
    assert (seen, texts()) == ([expected] * 2, [expected] * 3)


def test_a_language_that_a_rule_activates_ends_with_the_rule():
    seen = []

    def activates(event):
        translation.activate("fr")
        timezone.activate(datetime.timezone(datetime.timedelta(hours=3)))

    def looks(event):
        seen.append((translation.get_language(), str(timezone.get_current_timezone())))

    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    tools.handle(tools.engine(activates, looks), made)
    assert seen == [("en-us", "UTC")]
    assert (translation.get_language(), str(timezone.get_current_timezone())) == ("en-us", "UTC")


# Arguments of a slow rule.


def three_lines():
    made = tools.conversation()
    at = tools.now_ms()
    tools.receive(*[tools.text(f"m_{n}", f"line {n}", at=at + n) for n in range(3)])
    return made


def test_a_gathering_rule_answers_all_that_waits_once():
    made = three_lines()
    calls = []

    def ask(event):
        calls.append([each.text for each in event.context["gathered"]])
        return "one answer"

    tools.handle(tools.engine(ask, slow=True, gather=True), made)
    assert calls == [["line 0", "line 1", "line 2"]]
    assert models.Reply.objects.count() == 1
    rows = list(models.Messaging.objects.order_by("id").values_list("state", "reason"))
    first = models.Messaging.objects.earliest("id").pk
    assert rows == [("done", ""), *[("done", f"gathered into event {first}")] * 2]


def test_events_gathered_for_a_call_that_failed_are_not_lost():
    made = three_lines()
    handler = Broken(1)
    engine = tools.engine(handler, slow=True, gather=True)
    tools.handle(engine, made)
    assert set(models.Messaging.objects.values_list("state", flat=True)) == {"new"}
    tools.pass_time(600)
    tools.handle(engine, made)
    assert set(models.Messaging.objects.values_list("state", flat=True)) == {"done"}
    assert handler.calls == 2


def test_without_the_option_each_message_has_its_own_call():
    made = three_lines()
    tools.handle(tools.engine(note, slow=True), made)
    assert len(effects()) == 3


def test_a_slow_rule_has_its_own_number_of_tries():
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    tools.handle(tools.engine(lambda event: 1 / 0, slow=True, tries_of_rule=1, tries=9), made)
    assert models.Messaging.objects.get().state == "failed"


def test_slow_work_over_its_timeout_is_given_up_and_its_result_discarded():
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    jobs = []

    class Pool(RunHere):
        def run(self, lease, job):
            jobs.append(job)

    engine = tools.engine(note, slow=True, timeout=2.5)
    tools.work(engine, tools.claim(made), slow=Pool())
    assert jobs[0].timeout == 2.5
    models.ConversationQueue.objects.update(is_taken_over=True)
    jobs[0].give_up()
    row = models.Messaging.objects.get()
    assert (row.state, row.tries) == ("new", 1)
    assert not tools.queue_of(made).is_taken_over, "the thread that still runs it would take back a crash"
    assert "2.5 seconds" in row.error
    assert tools.queue_of(made).leased_until is None
    if (late := jobs[0].work()()) is not None:
        engine.inbox.commit_handled([late])
    assert models.Messaging.objects.get().state == "new"


def test_typing_is_shown_again_while_slow_work_goes_on(monkeypatch, emulator):
    emulator.add_person(tools.PAGE, person_id=tools.PSID).says("hello")
    emulator.waiting.clear()
    monkeypatch.setattr("djmessenger.pipeline.typing_mark._TYPING_INTERVAL", 0.01)
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    enough = threading.Event()

    class Counts(EmulatorTransport):
        seen = 0

        def send(self, request, /):
            self.seen += b"typing_on" in (request.body or b"")
            if self.seen >= 3:
                enough.set()
            return super().send(request)

    bot.use_transport(Counts(emulator))
    done = []
    tools.handle(tools.engine(lambda event: done.append(enough.wait(20)), slow=True, typing=True), made)
    assert done == [True]


# Events whose rules make no query are committed together, without a visible difference.


def handled(engine):
    """Handle the first event of each queue as a worker does; return the results to commit."""
    leases = claims.claim(tools.IN, seconds=60, limit=100)
    next_rows = engine.inbox.next_rows(leases)
    return [
        engine.inbox.handle(lease, Deadline(60), RunHere(), next_rows.get(lease.queue_id)) for lease in leases
    ]


def say_hello(*psids):
    found = [tools.receive(tools.text(f"m_{psid}", psid=psid)) for psid in psids]
    return [pk for todo in found for pk in todo.queues.values()]


def states() -> list[str]:
    return list(models.Messaging.objects.order_by("id").values_list("state", flat=True))


def texts() -> list[str]:
    return [reply.data["message"]["text"] for reply in models.Reply.objects.order_by("id")]


def free(kind: str = tools.IN) -> bool:
    return not models.ConversationQueue.objects.filter(kind=kind).exclude(leased_until=None).exists()


def test_many_events_cost_no_more_statements_than_two():
    engine = tools.engine(lambda event: event.mid)
    counts = []
    for people in (2, 30):
        psids = [f"70{people}{number:03}" for number in range(people)]
        say_hello(*psids)
        done = handled(engine)
        assert all(done)
        assert models.Reply.objects.filter(recipient__in=psids).count() == 0
        with CaptureQueriesContext(connection) as queries:
            engine.inbox.commit_handled(done)
        counts.append(len(queries))
        assert {text[2:] for text in texts()} >= set(psids)
    assert counts[0] == counts[1]
    assert set(states()) == {"done"}
    assert free()
    assert models.ConversationQueue.objects.filter(kind=tools.OUT, ready_at__lte=timezone.now()).count() == 32


def test_a_rule_that_queries_the_database_has_its_own_transaction():
    def asks(event):
        note(event)
        return "answer"

    say_hello("7001")
    assert handled(tools.engine(asks)) == [None]
    assert (states(), texts(), effects(), free()) == (["done"], ["answer"], ["m_7001"], True)


class Fetches(UserProfileHandler):
    """The handler of the default policy, with an answer of Graph for everybody."""

    calls = 0

    def _fetch(self, messaging, person):
        self.calls += 1
        self._keep(messaging, person, {"first_name": "Ada", "profile_state": "fetched"})


def engine_that_fetches(handler, *functions, **options):
    engine = tools.engine(*functions, tries=5, **options)
    made = Policy([Rule("DEFAULT", "default", handlers=[handler]), *engine.inbox._policy_for(None).rules])
    engine.inbox._policy_for = lambda page: made
    return engine


def names() -> set[str]:
    return set(models.FBUserProfile.objects.values_list("first_name", flat=True))


def test_events_of_new_people_are_committed_together_with_their_profiles():
    engine = engine_that_fetches(Fetches(), lambda event: f"Hello {event.person.first_name}")
    counts = []
    for psids in (["7001", "7002"], [f"71{number:02}" for number in range(30)]):
        say_hello(*psids)
        with CaptureQueriesContext(connection) as queries:
            done = handled(engine)
        assert all(done)
        assert names() - {"Ada"} == {""}
        assert [
            query for query in queries if "fbuserprofile" in query["sql"] and "UPDATE" in query["sql"]
        ] == []
        with CaptureQueriesContext(connection) as queries:
            engine.inbox.commit_handled(done)
        counts.append(len(queries))
        assert names() == {"Ada"}
    assert counts[0] == counts[1]
    assert set(texts()) == {"Hello Ada"}


def test_a_rule_reads_the_profile_that_its_event_has_fetched():
    say_hello("7001")
    engine = engine_that_fetches(Fetches(), lambda event: f"Hello {names()}")
    assert handled(engine) == [None]
    assert (texts(), names()) == (["Hello {'Ada'}"], {"Ada"})


def test_a_profile_is_kept_if_a_rule_fails_after_it_was_fetched():
    say_hello("7001")
    handler = Fetches()
    engine = engine_that_fetches(handler, Broken(2))
    for _ in range(3):
        assert handled(engine) == [None]
        assert names() == {"Ada"}
        tools.pass_time(600)
    assert (handler.calls, states()) == (1, ["done"])


def test_the_state_that_a_slow_rule_sets_is_saved_with_its_event():
    def remembers(event):
        event.conversation.state["name"] = event.text

    say_hello("7001")
    engine = tools.engine(remembers, slow=True)
    engine.inbox.commit_handled(handled(engine))
    assert (states(), models.Conversation.objects.get().state) == (["done"], {"name": "hello"})


def test_what_a_rule_sets_on_a_person_is_not_stored_with_the_profile():
    """A rule stores a value that no column takes, or changes the object only for its answer."""

    def breaks(event):
        event.person.first_name = None
        event.person.save()

    say_hello("7001")
    handler = Fetches()
    engine = engine_that_fetches(handler, breaks)
    for _ in range(5):
        assert handled(engine) == [None]
        tools.pass_time(600)
    assert (handler.calls, states(), names()) == (1, ["failed"], {"Ada"})

    def shouts(event):
        event.person.first_name = event.person.first_name.upper()
        return event.person.first_name

    say_hello("7002")
    engine = engine_that_fetches(Fetches(), shouts)
    engine.inbox.commit_handled(handled(engine))
    assert (texts(), names()) == (["ADA"], {"Ada"})


def test_what_a_slow_rule_stores_about_a_person_is_not_lost_to_the_profile():
    def chooses(event):
        models.FBUserProfile.objects.filter(pk=event.person.pk).update(first_name="Grace", locale="de_DE")

    say_hello("7001")
    engine = engine_that_fetches(Fetches(), chooses, slow=True)
    engine.inbox.commit_handled(handled(engine))
    person = models.FBUserProfile.objects.get()
    assert (person.first_name, person.locale, person.profile_state) == ("Grace", "de_DE", "fetched")


def test_the_profile_of_a_person_without_a_conversation_is_stored():
    """An id that Meta does not give today begins no conversation, and its events wait for their subject."""
    handler = Fetches()
    engine = engine_that_fetches(handler, lambda event: None)
    for mid in ("m_1", "m_2"):
        tools.receive(tools.text(mid, psid="someone"))
        engine.drain()
    assert (handler.calls, states(), names()) == (1, ["done", "done"], {"Ada"})


def test_answers_stay_in_order_if_handlers_queue_some_themselves():
    def queues(event):
        models.Reply.objects.queue(event.conversation, {"message": {"text": "two"}}, type="simple_text")
        return "three"

    say_hello("7001")
    assert handled(tools.engine(lambda event: "one", queues, lambda event: "four")) == [None]
    assert texts() == ["one", "two", "three", "four"]


class Says(CommonReplier):
    """A replier in the style of the documentation, with work before its answer."""

    def __init__(self, text, before=lambda messaging: None):
        self.text = text
        self.before = before

    def get_message(self, messaging):
        self.before(messaging)
        return {"text": self.preprocess_outgoing_string(messaging.get_psid(), self.text)}

    def get_reply_type(self):
        return ReplyingType.SIMPLE_TEXT


def engine_with(*repliers):
    """An engine with one rule for texts that has these repliers."""
    rule = Rule(ReceivingType.SIMPLE_TEXT, "says", repliers=repliers)
    policy = Policy([rule])
    return Engine(inbox=Inbox(lambda page: policy, bot.get_client, tries=3), outbox=Outbox(bot.get_client))


@pytest.mark.parametrize(
    "replier", [Says("one"), SimpleMessageReplier("one"), MessageReplier(Text("one"))], ids=type
)
def test_a_replier_shares_the_commit_of_many_events_as_a_rule_function_does(replier):
    engine = engine_with(replier, SimpleMessageReplier("two"))
    say_hello("7001", "7002")
    done = handled(engine)
    assert all(done)
    assert (states(), texts()) == (["new", "new"], [])
    engine.inbox.commit_handled(done)
    assert (states(), texts(), free()) == (["done", "done"], ["one", "two"] * 2, True)
    assert set(models.Reply.objects.values_list("rule", flat=True)) == {"says"}


def test_replies_of_repliers_stay_in_order_if_one_of_them_queries_the_database():
    say_hello("7001")
    engine = engine_with(Says("one"), Says("two", note), Says("three"))
    assert handled(engine) == [None]
    assert (texts(), effects(), free()) == (["one", "two", "three"], ["m_7001"], True)


def test_a_query_of_a_rule_sees_the_replies_before_it():
    found = []
    say_hello("7001")
    assert handled(engine_with(Says("one"), Says("two", lambda event: found.extend(texts())))) == [None]
    assert found == ["one"]


def test_a_reply_to_another_event_is_inserted_at_once():
    def answers_both(event):
        Says("one").reply(event)
        Says("for another").reply(other)
        return "two"

    other = Messaging.from_item(tools.text("m_other", psid="7002"), entry_id=tools.PAGE)
    conversation = tools.conversation("7002")
    # With its rows the reply makes no query of its own, so it could wait in the buffer.
    other.bind(conversation=conversation, person=conversation.person, page=conversation.page)
    say_hello("7001")
    assert handled(tools.engine(answers_both)) == [None]
    assert texts() == ["one", "for another", "two"]


def test_a_replier_outside_of_an_event_inserts_its_row_at_once():
    Says("one").reply(Messaging.from_item(tools.text("m_1"), entry_id=tools.PAGE))
    assert texts() == ["one"]


def test_on_commit_callbacks_of_a_rule_run_after_its_answer_is_committed(django_capture_on_commit_callbacks):
    found = []

    def waits(event):
        transaction.on_commit(lambda: found.append((states(), texts())))
        return "answer"

    say_hello("7001")
    with django_capture_on_commit_callbacks(execute=True):
        assert handled(tools.engine(waits)) == [None]
    assert found == [(["done"], ["answer"])]


def test_a_batch_commits_nothing_for_a_queue_whose_lease_is_lost(caplog):
    engine = tools.engine(lambda event: "answer")
    made = models.Conversation.objects.get(pk=say_hello("7001")[0])
    say_hello("7002")
    done = handled(engine)
    tools.steal(made)
    engine.inbox.commit_handled(done)
    assert (states(), texts()) == (["new", "done"], ["answer"])
    assert models.Reply.objects.get().recipient_id == "7002"
    assert "lease_lost" in {getattr(record, "action", "") for record in caplog.records}


def test_a_rule_that_swallows_lease_lost_has_no_effect():
    def swallows(event):
        # A read outside ``atomic`` does not mark the transaction for rollback.
        with contextlib.suppress(Exception):
            models.UserLocation.objects.exists()
        with contextlib.suppress(Exception):
            note(event)
        return "answer"

    engine = tools.engine(swallows)
    made = models.Conversation.objects.get(pk=say_hello("7001")[0])
    lease = tools.claim(made)
    head = engine.inbox.next_rows([lease])[lease.queue_id]
    tools.steal(made)
    with pytest.raises(LeaseLost):
        engine.inbox.handle(lease, Deadline(60), RunHere(), head)
    assert (states(), texts(), effects()) == (["new"], [], [])


def test_one_event_that_cannot_be_committed_leaves_the_rest_of_its_batch_alone(monkeypatch):
    insert = type(models.Reply.objects).insert

    def refuses(self, replies):
        if any("7002" in str(reply.data) for reply in replies):
            raise DatabaseError("no")
        insert(self, replies)

    monkeypatch.setattr(type(models.Reply.objects), "insert", refuses)
    engine = tools.engine(lambda event: event.mid)
    say_hello("7001", "7002", "7003")
    engine.inbox.commit_handled(handled(engine))
    assert (states(), sorted(texts())) == (["done", "new", "done"], ["m_7001", "m_7003"])
    failed = models.Messaging.objects.get(state="new")
    assert (failed.tries, free()) == (1, True)
    assert failed.not_before > timezone.now()


def test_post_save_is_sent_for_each_reply_of_a_batch():
    heard = []

    def hear(sender, instance, created, **kwargs):
        heard.append((instance.pk is not None, created))

    say_hello("7001", "7002")
    engine = tools.engine(lambda event: "answer")
    post_save.connect(hear, models.Reply)
    try:
        engine.inbox.commit_handled([done for done in handled(engine) if done])
    finally:
        post_save.disconnect(hear, models.Reply)
    assert heard == [(True, True)] * 2


def test_a_callback_of_a_rule_that_fails_after_the_commit_is_no_failed_try(file_database, caplog):
    called = []

    def work(event):
        transaction.on_commit(lambda: 1 / 0)
        transaction.on_commit(lambda: called.append(states()))
        return "answer"

    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    tools.handle(tools.engine(work), made)
    row = models.Messaging.objects.get()
    assert (row.state, row.tries, called, texts()) == ("done", 0, [["done"]], ["answer"])
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (record.action, record.event) == ("commit_callback_failed", row.pk)
    assert f"{__file__}:{work.__code__.co_firstlineno + 1}" in record.message


def test_a_callback_of_a_receiver_that_fails_after_the_commit_leaves_the_reply_to_be_sent(
    file_database, caplog
):
    inserted = []

    def insert(replies):
        models.Reply.objects.insert(replies)
        return lambda: inserted.append(len(replies))

    def hear(**kwargs):
        transaction.on_commit(lambda: 1 / 0)

    say_hello("7001")
    engine = tools.engine(lambda event: event.conversation.state.update(step=1) or "answer")
    done = handled(engine)
    post_save.connect(hear, models.Conversation)
    try:
        engine.inbox.commit_handled(done, insert)
    finally:
        post_save.disconnect(hear, models.Conversation)
    assert (states(), texts(), inserted) == (["done"], ["answer"], [1])
    assert "commit_callback_failed" in {getattr(record, "action", "") for record in caplog.records}
