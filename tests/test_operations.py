"""Tasks of operators: inspect, replay, purge and erase; the log and the health page."""

from __future__ import annotations

import datetime
import io
import json
import logging
import time

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import CommandError, ManagementUtility, call_command
from django.db import DatabaseError, OperationalError, transaction
from django.test import Client
from django.utils import timezone

from djmessenger import bot, models, signatures
from djmessenger.handling import BaseHandler
from djmessenger.logs import hidden
from djmessenger.management.verbs import replay as replay_verb
from djmessenger.operations import replay
from djmessenger.operations.erasure import forget
from djmessenger.operations.status import read_status
from djmessenger.outgoing import Text
from djmessenger.pipeline import retention, split
from djmessenger.pipeline.send_tokens import token_of
from djmessenger.replying.sending import queue
from messenger_emulator import Emulator
from tests.faults import hostile

pytestmark = pytest.mark.django_db

PAGE = "104233987650012"
PSID = "7215540983316204"
OTHER = "7215540983316999"
SECRET = "0123456789abcdef0123456789abcdef"
DAY = datetime.timedelta(days=1)
LONG_AGO = 1000 * DAY

broken = True


def answer(event):
    if broken:
        raise RuntimeError("the shop is down")
    return "Welcome"


POLICY = {"rules": [{"type": "SIMPLE_TEXT", "name": "answer", "handlers": [{"name": f"{__name__}.Answer"}]}]}


class Answer(BaseHandler):
    """Stands for a handler of a project whose database is away for a while."""

    def handle(self, messaging):
        queue(messaging, Text(answer(messaging)))


@pytest.fixture(autouse=True)
def policy(settings):
    global broken  # noqa: PLW0603
    broken = False
    settings.DJM_ROUTING_POLICY = POLICY


def now_ms() -> int:
    return int(time.time() * 1000)


def body_of(*texts: str, psid: str = PSID, **fields) -> bytes:
    items = [
        {
            "sender": {"id": psid},
            "recipient": {"id": PAGE},
            "timestamp": now_ms() + number,
            "message": {"mid": f"m_{psid}_{text}", "text": text},
            **fields,
        }
        for number, text in enumerate(texts)
    ]
    return hostile.dumps(hostile.callback(*items))


def post(body: bytes) -> int:
    headers = {"X-Hub-Signature-256": signatures.sign(SECRET, body)}
    return Client().post("/messenger", body, content_type="application/json", headers=headers).status_code


meta: list[Emulator] = []


def receive(*texts: str, psid: str = PSID) -> list[models.Messaging]:
    """Post the texts of a person, and the echoes that Meta sends for the answers."""
    assert post(body_of(*texts, psid=psid)) == 200
    meta[0].deliver(lambda body, headers: post(body))
    return list(models.Messaging.objects.filter(conversation__person_id=psid).order_by("id"))


@pytest.fixture
def person(emulator):
    emulator.enforce_window = False
    for psid in (PSID, OTHER):
        emulator.add_person(emulator.pages[PAGE], "Ana Lima", person_id=psid)
    meta.append(emulator)
    yield emulator
    meta.clear()


def run(*arguments: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("djmessenger", *arguments, stdout=out, stderr=err)
    except SystemExit as end:
        return f"{out.getvalue()}{err.getvalue()}exit {end.code}"
    return out.getvalue() + err.getvalue()


def texts_of_replies() -> list[str]:
    return [row.data["message"]["text"] for row in models.Reply.objects.order_by("id")]


# Replay


@pytest.fixture
def failed(person):
    global broken  # noqa: PLW0603
    broken = True
    row = receive("hello")[0]
    assert row.state == "failed"
    broken = False
    return row


@pytest.mark.parametrize(
    "chosen",
    [
        ["{pk}"],
        ["--since", "2h"],
        ["--state", "failed"],
        ["--type", "simple_text"],
        ["--until", "2030-01-01"],
    ],
    ids=" ".join,
)
def test_a_failed_event_is_handled_again(failed, chosen):
    assert "1 replayed" in run("replay", *(part.format(pk=failed.pk) for part in chosen))
    failed.refresh_from_db()
    assert (failed.state, failed.error, failed.tries) == ("done", "", 0)
    assert [row.state for row in models.Reply.objects.all()] == ["sent"]


@pytest.mark.parametrize(
    "chosen",
    [
        ["--since", "2030-01-01"],
        ["--until", "2h"],
        ["--type", "IMAGE"],
    ],
)
def test_rows_that_are_not_chosen_stay(failed, chosen):
    assert "0 replayed" in run("replay", *chosen)
    failed.refresh_from_db()
    assert failed.state == "failed"


@pytest.mark.parametrize(
    ("chosen", "name"), [(["--type", "SIMPLE_TXT"], "SIMPLE_TEXT"), (["--replies", "--type", "txt"], "text")]
)
def test_a_type_that_does_not_exist_is_refused_with_those_that_do(failed, chosen, name):
    with pytest.raises(CommandError, match=f"There is no type .* {name}"):
        run("replay", *chosen)


def test_something_must_be_chosen(failed):
    with pytest.raises(CommandError, match="Select the rows to replay"):
        run("replay")


def test_a_dry_run_changes_nothing(failed):
    said = run("replay", "--state", "failed", "--dry-run")
    assert f"{failed.pk}: SIMPLE_TEXT" in said
    assert "1 would be replayed" in said
    failed.refresh_from_db()
    assert failed.state == "failed"


def test_a_done_event_is_replayed_only_by_an_option_and_is_answered_again(person):
    row = receive("hello")[0]
    assert "exit 1" in run("replay", str(row.pk))
    with pytest.raises(CommandError, match="--again"):
        run("replay", "--state", "done")
    assert len(texts_of_replies()) == 1
    assert "already has 1 replies" in run("replay", str(row.pk), "--again", "--dry-run")
    assert "1 replayed" in run("replay", str(row.pk), "--again")
    first, second = models.Reply.objects.order_by("id")
    assert first.uuid != second.uuid
    assert {first.state, second.state} == {"sent"}


def test_a_waiting_or_emptied_event_is_not_replayed(person):
    row = receive("hello")[0]
    models.Messaging.objects.filter(pk=row.pk).update(state="new")
    assert replay.replay_event(row.pk, again=True) is None
    models.Messaging.objects.filter(pk=row.pk).update(state="done", body={})
    assert replay.replay_event(row.pk, again=True) is None


def test_the_old_order_is_kept(person):
    global broken  # noqa: PLW0603
    broken = True
    receive("one", "two", "three")
    broken = False
    run("replay", "--state", "failed")
    handled = models.Messaging.objects.order_by("date_handled").values_list("mid", flat=True)
    assert list(handled) == [f"m_{PSID}_{word}" for word in ("one", "two", "three")]


def test_a_rate_makes_pauses_between(person, monkeypatch):
    global broken  # noqa: PLW0603
    broken = True
    receive("one", "two", "three")
    broken = False
    pauses = []
    monkeypatch.setattr(replay_verb, "pause", pauses.append)
    run("replay", "--state", "failed", "--rate", "4")
    assert pauses == [0.25, 0.25]


def test_an_event_without_a_conversation_is_handled_again(person):
    assert post(hostile.dumps(hostile.callback({"brand_new_event": {"x": 1}, "timestamp": now_ms()}))) == 200
    row = models.Messaging.objects.get()
    assert row.conversation is None
    models.Messaging.objects.update(state="failed", error="x")
    run("replay", str(row.pk))
    row.refresh_from_db()
    assert (row.state, row.error) == ("done", "")


def test_a_callback_in_quarantine_is_split_by_the_code_of_today(person, monkeypatch):
    def not_yet(document):
        raise ValueError("a kind of yesterday")

    with monkeypatch.context() as yesterday:
        yesterday.setattr(split, "split_document", not_yet)
        assert post(body_of("hello")) == 200
    callback = models.Callback.objects.get()
    assert (callback.state, models.Messaging.objects.count()) == ("quarantined", 0)
    assert "1 replayed" in run("replay", "--callbacks", "--state", "quarantined")
    callback.refresh_from_db()
    assert (callback.state, callback.error) == ("split", "")
    assert models.Messaging.objects.get().state == "done"
    assert "1 replayed" in run("replay", "--callbacks", str(callback.pk)), "and once more, without effect"
    assert models.Messaging.objects.count() == 1
    assert len(texts_of_replies()) == 1


def test_replies_that_failed_are_sent_again(person):
    receive("hello")
    models.Reply.objects.update(state="failed", error="x", mid=None)
    models.Attempt.objects.update(mid="", outcome="refused")
    models.Messaging.objects.filter(type="ECHO").delete()
    assert "1 replayed" in run("replay", "--replies", "--since", "1h")
    reply = models.Reply.objects.get()
    assert (reply.state, reply.error, reply.attempts.count()) == ("sent", "", 2)


def test_a_reply_that_an_echo_proved_is_not_sent_again(person, emulator):
    receive("hello")
    reply = models.Reply.objects.get()
    mid = reply.mid
    models.Reply.objects.update(state="parked", mid=None)
    resent = replay.resend(reply.pk)
    assert (resent.state, resent.mid) == ("sent", mid)
    assert reply.attempts.count() == 1


def test_each_replay_is_logged(failed, caplog):
    boss = User.objects.create_superuser("boss")
    with caplog.at_level(logging.INFO, "djmessenger.operations"):
        run("replay", str(failed.pk), "--user", "boss")
    (record,) = [record for record in caplog.records if getattr(record, "action", "") == "replayed"]
    assert (record.messaging, record.by) == (failed.pk, boss.pk)
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id, entry.get_change_message()) == (boss, str(failed.pk), "replayed")
    with pytest.raises(CommandError, match="no user 'nobody'"):
        run("replay", str(failed.pk), "--user", "nobody")


@pytest.mark.parametrize("text", ["yesterday", "2026-13-45", "999999d", "9999999d", "h", "", "0001-01-01"])
def test_a_time_that_is_none_is_refused(text, settings):
    settings.TIME_ZONE = "Asia/Tokyo"
    with pytest.raises(CommandError, match="is not a time"):
        call_command("djmessenger", "replay", f"--since={text}")


@pytest.mark.parametrize("option", ["", "--limit=", "--replies ", "--callbacks "])
@pytest.mark.parametrize("number", ["0", "-1", "9223372036854775808", "9" * 5000, "many", "1.5"])
def test_a_number_that_no_row_can_have_is_refused(option, number):
    with pytest.raises(CommandError, match="whole number of 1 or more"):
        call_command("djmessenger", "replay", *f"{option}{number}".split())


def test_the_largest_id_is_not_found(db):
    assert run("replay", str(2**63 - 1)).endswith("exit 1")


@pytest.mark.parametrize("number", ["0", "-1", "1e-300", "1e300", "99999999", "nan", "inf", "many"])
@pytest.mark.parametrize("words", ["status --hours", "replay --state failed --rate"])
def test_a_number_without_a_use_is_refused(words, number):
    with pytest.raises(CommandError, match="number"):
        call_command("djmessenger", *words.split(), number)


def test_a_limit_that_no_value_passes_is_refused():
    with pytest.raises(CommandError, match="'nan' is not a number"):
        call_command("djmessenger", "status", "--max-oldest-wait=nan")


def test_a_wrong_state_is_answered_with_the_states():
    with pytest.raises(CommandError, match=r"failed.*quarantined") as caught:
        call_command("djmessenger", "replay", "--state=nonsense")
    assert "State." not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        "status",
        "status --json",
        "replay 1",
        "replay --callbacks --state quarantined",
        "forget 7215540983316204",
        "purge",
        "purge --dry-run",
        "tokens",
        "subscribe --all --list",
        "profile plan --all",
    ],
)
def test_a_database_that_is_away_is_one_line(words, monkeypatch):
    def fail(*arguments):
        raise OperationalError("connection refused\nIs the server running?")

    monkeypatch.setattr("django.db.backends.utils.CursorWrapper.execute", fail)
    with pytest.raises(CommandError) as caught:
        call_command("djmessenger", *words.split())
    assert str(caught.value).startswith("The database failed: connection refused. Check DATABASES")
    assert caught.value.returncode == (2 if "--all" in words else 1)


def test_options_of_django_are_accepted_after_the_verb(capsys):
    command = ["manage.py", "djmessenger", "purge", "-v", "2", "--settings=tests.settings", "--no-color"]
    ManagementUtility(command).execute()
    assert "events: 0" in capsys.readouterr().out


def test_an_option_of_django_before_the_verb_keeps_its_value(monkeypatch):
    given = {}
    monkeypatch.setattr(
        "djmessenger.management.verbs.purge.handle", lambda command, **options: given.update(options)
    )
    call_command("djmessenger", "-v", "3", "purge")
    assert given["verbosity"] == 3


# Status


def status(*arguments: str) -> dict:
    return json.loads(run("status", "--json", *arguments).partition("exit")[0])


def test_an_idle_bot_has_nothing_to_report(person):
    receive("hello")
    found = status()
    zeros = (
        "backlog callbacks_waiting events_waiting replies_waiting oldest_wait blocked slow_waiting overdue_queues "
        "unknown quarantined events_failed replies_failed replies_parked replies_expired duplicates"
    )
    assert {name: found[name] for name in zeros.split()} == dict.fromkeys(zeros.split(), 0)
    (page,) = found["pages"]
    assert page["page_id"] == PAGE
    assert page["silence"] < 60
    assert page["paused_until"] is None
    assert "backlog       0" in run("status")


def test_waiting_rows_are_counted(person):
    hour = timezone.now() - datetime.timedelta(hours=1)
    row = receive("hello")[0]
    row.pk, row.key, row.state, row.date_received = None, "k1", "new", hour
    row.save()
    models.Callback.objects.create(sha256="0" * 64, body=b"{}")
    reply = models.Reply.objects.get()
    reply.state = "unknown"
    reply.save()
    found = status()
    assert (found["callbacks_waiting"], found["events_waiting"], found["replies_waiting"]) == (1, 1, 1)
    assert found["backlog"] == 3
    assert 3600 <= found["oldest_wait"] < 3700
    assert (found["unknown"], found["blocked"]) == (1, 1)


def test_a_row_that_waits_for_its_next_try_is_blocked_and_not_the_oldest(person):
    row = receive("hello")[0]
    row.pk, row.key, row.state, row.tries = None, "k1", "new", 1
    row.date_received = timezone.now() - DAY
    row.save()
    found = status()
    assert (found["blocked"], found["oldest_wait"]) == (1, 0)


def test_a_queue_whose_holder_is_gone_is_seen(person):
    receive("hello")
    models.ConversationQueue.objects.filter(kind="in").update(leased_until=timezone.now() - DAY)
    assert status()["overdue_queues"] == 1


def test_queues_that_wait_for_a_slow_thread_are_counted(person):
    receive("hello")
    models.ConversationQueue.objects.filter(kind="in").update(ready_at=timezone.now(), is_slow=True)
    assert status()["slow_waiting"] == 1
    assert "slow          1 conversations" in run("status")


def test_duplicates_are_the_distinct_echoes_of_a_reply_less_one(person):
    row = receive("hello")[0]
    reply = models.Reply.objects.get()
    models.Messaging.objects.filter(type="ECHO").delete()
    for number, (attempt, mid) in enumerate([(1, "m_a"), (1, "m_a"), (2, "m_b"), (3, "m_c")]):
        models.Messaging.objects.create(
            type="ECHO",
            body={"x": 1},
            key=f"echo{number}",
            mid=mid,
            echo_token=token_of(reply.uuid, attempt),
            conversation=row.conversation,
            timestamp=now_ms(),
            state="done",
        )
    assert status()["duplicates"] == 2
    models.Messaging.objects.filter(type="ECHO").update(date_received=timezone.now() - 2 * DAY)
    assert status()["duplicates"] == 0
    assert status("--hours", "72")["duplicates"] == 2


def test_failures_of_the_last_hours_are_counted(failed):
    receive("fine", psid=OTHER)
    reply = models.Reply.objects.get()
    for state in ("failed", "parked", "expired"):
        models.Reply.objects.create(
            recipient_id=OTHER,
            conversation=reply.conversation,
            type="simple_text",
            data={"x": 1},
            state=state,
        )
    found = status()
    assert [
        found[name] for name in ("events_failed", "replies_failed", "replies_parked", "replies_expired")
    ] == [1, 1, 1, 1]
    models.Messaging.objects.update(date_handled=timezone.now() - 2 * DAY)
    assert status()["events_failed"] == 0


def test_a_paused_page_says_why(person):
    receive("hello")
    models.Page.objects.update(paused_until=timezone.now() + DAY, pause_reason="Make a new token.")
    assert "PAUSED until" in run("status")
    assert "Make a new token." in run("status")
    assert read_status().paused[0].page_id == PAGE
    models.Page.objects.update(paused_until=timezone.now() - DAY)
    assert status()["pages"][0]["pause_reason"] == ""


@pytest.mark.parametrize(
    ("threshold", "code"),
    [
        (["--max-failed", "0"], 2),
        (["--max-failed", "1"], None),
        (["--max-backlog", "0"], None),
        (["--max-silence", "0"], 2),
        (["--max-paused", "0", "--max-parked", "0", "--max-oldest-wait", "0.5"], None),
    ],
    ids=str,
)
def test_thresholds_make_the_exit_code(failed, threshold, code):
    said = run("status", *threshold)
    assert said.endswith(f"exit {code}") is (code is not None)
    assert ("TOO MUCH" in said) is (code is not None)
    assert bool(status(*threshold)["passed"]) is (code is not None)


# Purge


def ages(days: float) -> None:
    """Move all stored times into the past by ``days``, those of Meta included."""
    ago = timezone.now() - days * DAY
    models.Callback.objects.update(date_received=ago)
    models.Messaging.objects.update(
        date_received=ago, date_handled=ago, timestamp=int(ago.timestamp() * 1000)
    )
    models.Reply.objects.update(date_sent=ago)
    models.Attempt.objects.update(date_started=ago)


def counts() -> dict[str, int]:
    kinds = (models.Callback, models.Messaging, models.Reply, models.Attempt)
    return {kind.__name__: kind.objects.count() for kind in kinds}


@pytest.mark.parametrize(
    ("days", "left"),
    [
        (6.5, {"Callback": 4, "Messaging": 4, "Reply": 1, "Attempt": 1}),
        (7.5, {"Callback": 0, "Messaging": 4, "Reply": 1, "Attempt": 1}),
        (29.5, {"Callback": 0, "Messaging": 4, "Reply": 1, "Attempt": 1}),
        (30.5, {"Callback": 0, "Messaging": 0, "Reply": 0, "Attempt": 0}),
    ],
    ids=str,
)
def test_each_has_its_time(person, days, left):
    receive("hello")
    assert counts() == {"Callback": 4, "Messaging": 4, "Reply": 1, "Attempt": 1}, "with echo and receipts"
    ages(days)
    run("purge")
    assert counts() == left


def test_texts_go_before_keys(person, settings):
    settings.DJM_KEEP_TEXTS = datetime.timedelta(days=1)
    receive("hello")
    ages(2)
    run("purge")
    assert models.Reply.objects.count() == 0
    rows = models.Messaging.objects.all()
    assert [row.body for row in rows] == [{}] * 4
    assert all(row.key and row.outcome is None for row in rows)
    ages(7.9)
    run("purge")
    assert models.Messaging.objects.count() == 4
    ages(8.1)
    run("purge")
    assert models.Messaging.objects.count() == 0


def test_keys_outlive_the_oldest_event_that_is_handled(person, settings):
    settings.DJM_MAX_EVENT_AGE = 20 * DAY
    settings.DJM_KEEP_TEXTS = DAY
    settings.DJM_KEEP_KEYS = DAY
    receive("hello")
    ages(20.9)
    run("purge")
    assert models.Messaging.objects.count() == 4
    ages(21.1)
    run("purge")
    assert models.Messaging.objects.count() == 0


def test_texts_are_kept_for_ever_when_so_set(person, settings):
    settings.DJM_KEEP_TEXTS = None
    receive("hello")
    ages(1000)
    run("purge")
    assert counts() == {"Callback": 0, "Messaging": 4, "Reply": 1, "Attempt": 0}


def test_failed_rows_are_kept_longer(failed):
    callback = models.Callback.objects.create(sha256="0" * 64, body=b"?", state="quarantined")
    models.Reply.objects.create(
        recipient_id=PSID, conversation=failed.conversation, type="simple_text", data={"x": 1}, state="parked"
    )
    ages(60)
    run("purge")
    assert set(models.Messaging.objects.values_list("state", flat=True)) == {"failed"}
    assert models.Callback.objects.get() == callback
    assert models.Reply.objects.count() == 1
    ages(91)
    run("purge")
    assert counts() == {"Callback": 0, "Messaging": 0, "Reply": 0, "Attempt": 0}


def test_open_rows_are_never_purged(person):
    row = receive("hello")[0]
    models.Messaging.objects.exclude(pk=row.pk).delete()
    reply = models.Reply.objects.get()
    models.Callback.objects.create(sha256="0" * 64, body=b"?")
    for event_state, reply_state in [("new", "queued"), ("paused", "sending"), ("done", "unknown")]:
        models.Messaging.objects.update(state=event_state)
        models.Reply.objects.update(state=reply_state)
        ages(1000)
        run("purge")
        assert models.Messaging.objects.get().body == row.body
        assert models.Reply.objects.get() == reply
        assert reply.attempts.count() == 1
        assert models.Callback.objects.filter(state="new").count() == 1


def test_kept_events_are_not_purged(person):
    row = receive("hello")[0]
    models.Messaging.objects.filter(pk=row.pk).update(is_kept=True)
    ages(1000)
    run("purge")
    assert models.Messaging.objects.get().body == row.body
    assert models.Reply.objects.count() == 1


def test_chunks_are_small_and_each_is_committed(person, monkeypatch):
    monkeypatch.setattr(retention, "CHUNK", 2)
    receive(*"abcde")
    ages(1000)
    step = next(step for step in retention.steps() if step.what == "events")
    assert list(retention.purge(step)) == [2] * 10


def test_a_row_that_opens_meanwhile_stays(person, monkeypatch):
    """The row is opened after it was chosen, and before the transaction that removes it."""
    row = receive("hello")[0]
    ages(1000)
    step = next(step for step in retention.steps() if step.what == "events")

    def opened_before():
        models.Messaging.objects.filter(pk=row.pk).update(state="new")
        return transaction.atomic()

    monkeypatch.setattr(retention, "atomic", opened_before)
    assert sum(retention.purge(step)) == 3
    assert models.Messaging.objects.get().pk == row.pk


def test_a_dry_run_purges_nothing(person):
    receive("hello")
    ages(1000)
    before = counts()
    assert "events: 4 would be deleted" in run("purge", "--dry-run")
    assert counts() == before


class Later:
    """A clock that a test moves on."""

    def __init__(self, monkeypatch, ahead):
        real = timezone.now
        monkeypatch.setattr(timezone, "now", lambda: real() + ahead)


@pytest.mark.parametrize("days", [7.5, 400])
def test_a_capture_that_is_replayed_after_a_purge_does_nothing(person, monkeypatch, settings, days):
    settings.DJM_KEEP_TEXTS = DAY
    bodies = [
        body_of("hello"),
        body_of("other", psid=OTHER),
        *(body for _name, body in list(hostile.corpus())[::5]),
    ]
    for body in bodies:
        assert post(body) == 200
    with monkeypatch.context() as patch:
        Later(patch, days * DAY)
        run("purge")
        asked = []
        patch.setattr(bot.get_policy(), "decide", lambda messaging: asked.append(messaging.type))
        for body in bodies:
            assert post(body) == 200
    timeless = {"UNKNOWN"} if days > 8 else set()
    assert {kind.name for kind in asked} <= timeless


# Forget


def everything() -> str:
    """All rows of all tables, as text."""
    found = []
    for model in apps.get_models():
        rows = model._default_manager.values_list()
        found += [
            repr([bytes(cell) if isinstance(cell, memoryview) else cell for cell in row]) for row in rows
        ]
    return "\n".join(found)


def test_a_person_is_forgotten_in_every_table(person):
    receive("hello my canary")
    receive("unrelated", psid=OTHER)
    conversation = models.Conversation.objects.get(person_id=PSID)
    models.UserLocation.objects.create(user_id=PSID, latitude=1, longitude=2, title="canary street")
    models.Messaging.objects.create(
        type="UNKNOWN", body={"about": PSID}, key=f"k|{PSID}", timestamp=1, state="done"
    )
    models.Callback.objects.create(
        sha256="1" * 64, body=f"?{PSID}?".encode(), state="quarantined", error=PSID
    )
    boss = User.objects.create_superuser("boss")
    LogEntry.objects.log_actions(
        boss.pk, [models.FBUserProfile.objects.get(pk=PSID)], 2, change_message="x", single_object=True
    )
    keys = set(models.Messaging.objects.filter(conversation=conversation).values_list("key", flat=True))
    assert "canary" in everything()
    assert PSID in everything()
    assert "1 persons" in run("forget", PSID)
    left = everything()
    assert PSID not in left
    assert "canary" not in left
    assert not [key for key in keys if key in left]
    assert OTHER in left
    assert models.Reply.objects.filter(recipient_id=OTHER).count() == 1
    assert "0 persons, 0 conversations, 0 events, 0 replies" in run("forget", PSID)


@pytest.mark.parametrize("is_rebatched", [False, True])
@pytest.mark.parametrize("is_back", [False, True])
def test_a_second_delivery_recreates_nothing(person, is_rebatched, is_back):
    body = body_of("hello", "again")
    assert post(body) == 200
    forget(PSID)
    if is_back:
        receive("a new start")
    before = set(models.Messaging.objects.values_list("pk", flat=True))
    replies = models.Reply.objects.count()
    if is_rebatched:
        document = json.loads(body)
        document["entry"] *= 2
        body = hostile.dumps(document)
    assert post(body) == 200
    assert set(models.Messaging.objects.values_list("pk", flat=True)) == before
    assert models.Reply.objects.count() == replies
    assert models.FBUserProfile.objects.filter(pk=PSID).exists() is is_back
    if not is_back:
        assert PSID not in everything()


def test_forgetting_splits_what_waits_first(person, settings):
    settings.DJM_DISPATCHER = "worker"
    assert post(body_of("hello")) == 200
    forget(PSID)
    assert not models.Callback.objects.filter(state="new").exists()
    bot.get_engine().sweep()
    assert PSID not in everything()


def test_a_dry_run_forgets_nothing(person):
    receive("hello")
    before = everything()
    assert "1 persons, 1 conversations, 4 events, 1 replies" in run("forget", PSID, "--dry-run")
    assert everything() == before


def test_only_ids_can_be_forgotten(person):
    with pytest.raises(CommandError, match="digits"):
        run("forget", "Ana")


def test_the_log_records_an_erasure_without_the_person(person, caplog):
    receive("hello")
    with caplog.at_level(logging.INFO, "djmessenger.operations"):
        run("forget", PSID)
    (record,) = [record for record in caplog.records if getattr(record, "action", "") == "erased"]
    assert record.person == hidden(PSID)
    assert PSID not in repr(record.__dict__)


# The health page


def health(client=None, **headers):
    answer = (client or Client()).get("/messenger/health", headers=headers)
    return answer.status_code, answer.json()


class TestHealth:
    @pytest.fixture(autouse=True)
    def token(self, settings):
        settings.DJM_HEALTH_TOKEN = "made-up-health-token"

    def test_a_stranger_sees_nothing(self, person, settings):
        assert health() == (403, {})
        assert health(authorization="Bearer wrong") == (403, {})
        assert health(authorization="Bearer tökén".encode().decode("latin-1")) == (403, {})
        assert health(authorization="Basic made-up-health-token") == (403, {})
        settings.DJM_HEALTH_TOKEN = ""
        assert health(authorization="Bearer ") == (403, {})

    def test_a_monitor_with_the_token_and_staff_see_figures(self, person, client):
        receive("hello")
        status, figures = health(authorization="Bearer made-up-health-token")
        assert (status, figures["ok"], figures["oldest_wait"]) == (200, True, 0)
        client.force_login(User.objects.create_user("customer"))
        assert health(client)[0] == 403
        client.force_login(User.objects.create_user("reader", is_staff=True))
        assert health(client)[0] == 200

    def test_work_that_is_not_done_in_time_is_503(self, person, settings):
        settings.DJM_DISPATCHER = "worker"
        assert post(body_of("hello")) == 200
        assert health(authorization="Bearer made-up-health-token")[0] == 200
        models.Callback.objects.update(date_received=timezone.now() - datetime.timedelta(seconds=61))
        status, figures = health(authorization="Bearer made-up-health-token")
        assert (status, figures["ok"], figures["callbacks_waiting"]) == (503, False, 1)
        assert "worker" in figures["problem"]

    def test_a_paused_page_is_reported_and_is_no_503(self, person):
        receive("hello")
        models.Page.objects.update(paused_until=timezone.now() + DAY)
        row = models.Messaging.objects.first()
        models.Reply.objects.create(
            recipient_id=PSID,
            conversation=row.conversation,
            type="simple_text",
            data={"x": 1},
            date_sent=timezone.now() - DAY,
        )
        status, figures = health(authorization="Bearer made-up-health-token")
        assert (status, figures["paused_pages"]) == (200, [PAGE])

    def test_a_database_that_is_away_is_503(self, person, monkeypatch):
        def away():
            raise DatabaseError("password=canary")

        monkeypatch.setattr("djmessenger.views.read_health", away)
        status, figures = health(authorization="Bearer made-up-health-token")
        assert (status, figures["ok"]) == (503, False)
        assert "canary" not in json.dumps(figures)

    def test_only_reading_is_answered(self, person):
        answer = Client(enforce_csrf_checks=True).post("/messenger/health")
        assert answer.status_code == 405
        assert "no-store" in Client().get("/messenger/health/")["Cache-Control"]
