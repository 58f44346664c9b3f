"""``manage.py djmessenger``: what waits, what goes, what comes again."""

from __future__ import annotations

import datetime
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from djmessenger import models
from djmessenger.pipeline import upkeep
from tests import road_tools as tools

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).parent.parent


def command(*words, **options) -> str:
    out = io.StringIO()
    call_command("djmessenger", *words, stdout=out, **options)
    return out.getvalue()


def failed(*mids: str) -> models.Conversation:
    made = tools.conversation()
    tools.receive(*[tools.text(mid, at=tools.now_ms() + number) for number, mid in enumerate(mids)])
    tools.handle(tools.road(lambda event: 1 / 0, tries=1), made)
    assert set(models.Messaging.objects.values_list("state", flat=True)) == {"failed"}
    return made


def ago(**span: float) -> datetime.datetime:
    return timezone.now() - datetime.timedelta(**span)


class TestStatus:
    def test_a_quiet_bot_is_fine(self):
        figures = json.loads(command("status", "--json"))
        assert (figures["events_waiting"], figures["problems"]) == (0, [])

    def test_what_needs_a_look_makes_the_exit_code_1(self):
        failed("m_1")
        with pytest.raises(SystemExit) as end:
            command("status")
        assert end.value.code == 1

    def test_old_rows_are_a_problem_and_those_of_a_paused_page_are_not(self):
        reply = tools.queue(tools.conversation())
        models.Reply.objects.filter(pk=reply.pk).update(date_sent=ago(hours=1))
        with pytest.raises(SystemExit):
            command("status", "--json")
        models.Page.objects.update(
            paused_until=timezone.now() + datetime.timedelta(hours=1), pause_reason="613"
        )
        out = io.StringIO()
        with pytest.raises(SystemExit):
            call_command("djmessenger", "status", "--json", stdout=out)
        (problem,) = json.loads(out.getvalue())["problems"]
        assert "613" in problem

    def test_duplicates_are_those_that_echoes_show(self):
        row = "a" * 32
        tools.receive(tools.echo("m_1", f"djm1.{row}.1"), tools.echo("m_2", f"djm1.{row}.2"))
        assert json.loads(command("status", "--json"))["duplicates"] == 1


class TestReplay:
    def test_failed_events_are_handled_again(self):
        made = failed("m_1", "m_2")
        assert "2 events are" in command("replay")
        handled = []
        tools.handle(tools.road(lambda event: handled.append(event.mid)), made)
        assert handled == ["m_1", "m_2"]

    def test_a_dry_run_changes_nothing(self):
        failed("m_1")
        assert "1 events would be" in command("replay", "--dry-run")
        assert models.Messaging.objects.get().state == "failed"

    def test_some_can_be_chosen(self):
        failed("m_1", "m_2", "m_3")
        command("replay", "--limit", "1", "--since", "24h")
        assert models.Messaging.objects.filter(state="new").get().mid == "m_1"
        command("replay", "--id", str(models.Messaging.objects.get(mid="m_3").pk))
        assert models.Messaging.objects.filter(state="new").count() == 2

    def test_done_events_need_a_word_more(self):
        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        tools.handle(tools.road(), made)
        with pytest.raises(CommandError, match="--again"):
            command("replay", "--state", "done")
        command("replay", "--state", "done", "--again")
        assert models.Messaging.objects.get().state == "new"

    def test_a_time_that_is_none_is_said(self):
        with pytest.raises(CommandError, match="--since"):
            command("replay", "--since", "yesterday")

    def test_quarantined_callbacks_are_split_again(self):
        callback = tools.intake.store(b"no json")
        tools.intake.split(callback.pk)
        assert "1 callbacks" in command("replay", "--quarantined")
        callback.refresh_from_db()
        assert callback.state == "new"


class TestPurge:
    def test_what_is_old_and_closed_goes_and_nothing_else(self, monkeypatch):
        monkeypatch.setattr(upkeep, "CHUNK", 2)
        made = tools.conversation()
        tools.receive(*[tools.text(f"m_{number}") for number in range(5)])
        tools.handle(tools.road(), made)
        tools.receive(tools.text("m_open"))
        tools.receive(tools.text("m_kept"))
        models.Messaging.objects.filter(mid="m_kept").update(state="done", is_kept=True)
        tools.intake.store(tools.body(tools.text("m_unsplit")))
        tools.queue(made)
        gone = tools.queue(made)
        models.Reply.objects.filter(pk=gone.pk).update(state="sent")
        models.Messaging.objects.update(date_received=ago(days=60))
        models.Callback.objects.update(date_received=ago(days=60))
        models.Reply.objects.update(date_sent=ago(days=60))
        assert "5 events" in command("purge", "--dry-run")
        assert models.Messaging.objects.count() == 7
        command("purge")
        assert set(models.Messaging.objects.values_list("mid", flat=True)) == {"m_open", "m_kept"}
        assert models.Callback.objects.get().state == "new"
        assert models.Reply.objects.get().state == "queued"

    def test_keys_outlive_the_oldest_event_that_is_handled(self, settings):
        settings.DJM_KEEP_ROWS = datetime.timedelta(0)
        made = tools.conversation()
        item = tools.text("m_1", at=tools.now_ms() - 6 * 24 * 3600 * 1000)
        tools.receive(item)
        tools.handle(tools.road(), made)
        models.Messaging.objects.update(date_received=ago(days=7.5))
        models.Callback.objects.update(date_received=ago(days=30))
        command("purge")
        todo = tools.receive(item)
        assert not todo
        assert models.Messaging.objects.count() == 1


@pytest.mark.parametrize(
    ("place", "words"), [("purge_between_chunks", ["purge"]), ("replay_between_rows", ["replay"])]
)
def test_a_command_that_is_killed_can_be_run_again(place, words, file_database, tmp_path):
    failed("m_1", "m_2")
    if words == ["purge"]:
        models.Messaging.objects.update(state="done", date_received=ago(days=60))
    name = str(file_database["NAME"])
    database = {"DJM_TEST_SQLITE": name} if "sqlite" in file_database["ENGINE"] else {"CHAOS_DATABASE": name}
    environment = {
        **os.environ,
        **database,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "DJM_FAILPOINT": place,
        "DJM_FAILPOINT_HITS": str(tmp_path),
    }
    if "CHAOS_DATABASE" in database:
        environment |= {
            "DJANGO_SETTINGS_MODULE": "chaos.settings",
            "CHAOS_POSTGRESQL": f"{file_database['HOST']}#{name}",
        }

    def run() -> int:
        words_of_python = [sys.executable, "-m", "django", "djmessenger", *words]
        return subprocess.run(words_of_python, env=environment, cwd=ROOT, check=False).returncode

    assert run() == -signal.SIGKILL
    assert run() == 0
    if words == ["purge"]:
        assert not models.Messaging.objects.exists()
    else:
        assert set(models.Messaging.objects.values_list("state", flat=True)) == {"new"}
