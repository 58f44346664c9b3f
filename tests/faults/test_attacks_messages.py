"""Attacks by messages: files of this machine in data, and conversations without an end."""

from __future__ import annotations

import datetime
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from django.utils.safestring import SafeString

from djmessenger import bot, models
from djmessenger.exceptions import InvalidField
from djmessenger.operations import replay
from djmessenger.operations.status import read_status
from djmessenger.outgoing import File, local_files
from djmessenger.pipeline import split, store
from djmessenger.replying import DefaultMessageReplier
from djmessenger.routing import Policy, Rule
from djmessenger.routing.functions import FunctionHandler
from messenger_emulator import Emulator, Person
from tests import pipeline_tools as tools


def by(name: str, **args: Any) -> dict[str, Any]:
    """Return a rule for texts with this replier."""
    return {"type": "SIMPLE_TEXT", "name": "attacked", "repliers": [{"name": name, "args": args}]}


def hang(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Block the threads that read files until the event, as a mount that is away does."""
    is_back, fstat = threading.Event(), os.fstat

    def waiting(descriptor: int) -> os.stat_result:
        if threading.current_thread().name == "djmessenger-file":
            is_back.wait(60)
        return fstat(descriptor)

    monkeypatch.setattr(os, "fstat", waiting)
    return is_back


class TestFilesOfThisMachine:
    """A rule returns data of a stranger, such as the answer of a language model."""

    @pytest.fixture
    def secrets(self, tmp_path: Path) -> Path:
        path = tmp_path / "passwords.txt"
        path.write_text("hunter2")
        return path

    def shapes(self, path: Path) -> list[Any]:
        kinds = [{"type": kind, "path": str(path)} for kind in ("image", "audio", "video", "file")]
        return [*kinds, [*kinds], ["hello", kinds[3]], {**kinds[3], "url": ""}]

    @pytest.mark.django_db
    @pytest.mark.parametrize("slow", [False, True])
    def test_data_of_a_rule_names_none(self, slow, secrets, emulator):
        tools.someone(emulator)
        made = tools.conversation()
        for number, data in enumerate(self.shapes(secrets)):
            engine = tools.engine(lambda event, data=data: json.loads(json.dumps(data)), slow=slow, tries=1)
            tools.receive(tools.text(f"m_{number}"))
            tools.handle(engine, made)
            tools.send(engine, made)
        assert not [call for call in emulator.calls if call.files]
        assert not models.Reply.objects.exists()
        assert not models.Messaging.objects.exclude(state="failed").exists()
        assert "names a file only in a policy" in models.Messaging.objects.latest("id").error

    @pytest.mark.django_db
    def test_data_that_code_sends_names_none(self, secrets, emulator):
        conversation = tools.conversation()
        for data in self.shapes(secrets):
            with pytest.raises(InvalidField, match="path"):
                conversation.send(data)
        assert not models.Reply.objects.exists()

    @pytest.mark.django_db
    @pytest.mark.parametrize("words", [str, SafeString])
    def test_a_raw_body_names_none(self, words, secrets, emulator, settings, monkeypatch):
        payload = {"djmessenger_path": words(secrets), "is_reusable": True}
        body = {"attachment": {"type": "file", "payload": payload}}
        monkeypatch.setattr(DefaultMessageReplier, "get_message", lambda self, messaging: body)
        settings.DJM_ROUTING_POLICY = {"rules": [by("djmessenger.replying.DefaultMessageReplier")]}
        assert tools.post(tools.text("m_1")) == 200
        assert not models.Reply.objects.exists()
        assert "names a file" in models.Messaging.objects.get().error
        assert not [call for call in emulator.calls if call.files]

    @pytest.mark.django_db
    def test_a_policy_and_code_still_name_one(self, secrets, emulator, settings):
        tools.someone(emulator)
        data = {"type": "file", "path": str(secrets)}
        settings.DJM_ROUTING_POLICY = {"rules": [by("djmessenger.replying.MessageReplier", message=data)]}
        assert tools.post(tools.text("m_1")) == 200
        made = models.Conversation.objects.get()
        made.send(File(path=secrets))
        tools.send(bot.get_engine(), made)
        assert list(models.Reply.objects.values_list("state", "type")) == [("sent", "file")] * 2

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs")
    def test_a_fifo_holds_no_thread(self, tmp_path):
        path = tmp_path / "fifo"
        os.mkfifo(path)
        with pytest.raises(InvalidField, match="is not a file"):
            File(path=path).requests()
        with pytest.raises(OSError, match="is not a file"):
            local_files.read_file(path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs")
    def test_a_file_that_becomes_a_fifo_holds_no_thread(self, tmp_path, monkeypatch):
        path = tmp_path / "file"
        path.write_text("x")
        before = os.open

        def swap(*args: Any, **options: Any) -> int:
            path.unlink()
            os.mkfifo(path)
            return before(*args, **options)

        monkeypatch.setattr(os, "open", swap)
        with pytest.raises(OSError, match="is not a file"):
            local_files.read_file(path)

    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/tty", "/proc/self/environ", "/"])
    def test_devices_and_endless_files_are_not_read(self, path):
        with pytest.raises(OSError):  # noqa: PT011 - each system has its own words
            local_files.read_file(Path(path))

    @pytest.mark.django_db
    def test_a_mount_that_hangs_fails_the_reply_after_a_time(self, secrets, emulator, settings, monkeypatch):
        """The system call does not return until the mount is back."""
        tools.someone(emulator)
        made = tools.conversation()
        made.send(File(path=secrets))
        is_back = hang(monkeypatch)
        settings.DJM_GRAPH_TIMEOUT = 0.05
        try:
            tools.send(bot.get_engine(), made)
            reply = models.Reply.objects.latest("id")
            assert reply.state == "failed"
            assert "could not be read within 0.05 seconds" in reply.error
        finally:
            is_back.set()

    def test_mounts_that_hang_take_a_bounded_number_of_threads(self, secrets, monkeypatch):
        is_back = hang(monkeypatch)
        before = threading.active_count()
        try:
            for _ in range(12):
                with pytest.raises(TimeoutError):
                    local_files.read_file(secrets, seconds=0.01)
            assert threading.active_count() - before <= 8
        finally:
            is_back.set()


@pytest.mark.django_db
class TestConversationsWithoutAnEnd:
    """Rules that answer what their own answers cause, and two bots that answer each other."""

    @pytest.fixture
    def ana(self, emulator: Emulator) -> Person:
        return tools.someone(emulator)

    def states(self) -> list[str]:
        return list(models.Reply.objects.order_by("id").values_list("state", flat=True))

    def run(self, emulator: Emulator, kind: str, answer: Any) -> None:
        """Handle, send and report with an engine for each step, as different processes do, until nothing is left."""
        made = tools.conversation()
        for _ in range(100):
            tools.handle(tools.engine(answer, kind=kind), made)
            tools.send(tools.engine(answer, kind=kind), made)
            if not emulator.deliver(lambda body, headers: 200 if split.split(store.store(body)) else 500):
                return
        raise AssertionError(f"{len(self.states())} replies, and no end")

    @pytest.mark.parametrize("kind", ["DELIVERED", "READ"])
    @pytest.mark.parametrize("way", ["answer", "send"])
    def test_a_rule_that_answers_receipts_is_ended(self, kind, way, emulator, ana):
        def answer(event: Any) -> Any:
            return "again" if way == "answer" else event.person.send("again") and None

        ana.says("hello")
        tools.conversation().send("first, from outside of a rule")
        self.run(emulator, kind, answer)
        assert self.states() == ["sent"] * 21 + ["failed"] * (len(self.states()) - 21)
        assert "failed" in self.states()
        error = models.Reply.objects.filter(state="failed").first().error
        assert "DJM_MAX_UNASKED" in error
        assert "authored" in error
        ana.says("hello")
        tools.conversation().send("second, from outside of a rule")
        self.run(emulator, kind, answer)
        assert self.states().count("sent") == 42

    def test_an_echo_of_an_own_message_reaches_no_rule(self, emulator, ana):
        seen = []
        tools.conversation().send("hi")
        self.run(emulator, "ECHO", seen.append)
        row = models.Messaging.objects.get(type="ECHO")
        assert (row.state, seen) == ("done", [])
        assert "reaches no rule" in row.outcome["summary"]

    @pytest.mark.parametrize("app_id", [None, "263902037430900", tools.APP])
    def test_any_other_echo_reaches_the_rules_for_echoes(self, app_id, emulator, ana):
        seen: list[Any] = []
        tools.receive(tools.echo("m_staff", "", app_id=app_id))
        tools.handle(tools.engine(seen.append, kind="ECHO"), tools.conversation())
        assert [event.text for event in seen] == ["x"]

    def test_answers_to_the_echoes_of_another_app_are_ended(self, emulator, ana):
        made = tools.conversation()
        for number in range(25):
            tools.receive(tools.echo(f"m_{number}", "", app_id="263902037430900"))
            tools.handle(tools.engine(lambda event: "me too", kind="ECHO"), made)
            tools.send(tools.engine(), made)
        assert self.states() == ["sent"] * 20 + ["failed"] * 5

    @pytest.mark.parametrize(("most", "sent"), [(20, 20), (2, 2), (0, 25)])
    def test_one_event_has_a_limited_number_of_answers(self, most, sent, emulator, ana, settings):
        settings.DJM_MAX_UNASKED = most
        settings.DJM_FAST_EXCHANGES = 0
        made = tools.conversation()
        for number in range(2):
            tools.receive(tools.text(f"m_{number}"))
            tools.handle(tools.engine(lambda event: ["hi"] * 25), made)
        for _ in range(3):
            tools.send(tools.engine(), made)
        assert self.states() == (["sent"] * sent + ["failed"] * (25 - sent)) * 2

    def test_messages_from_outside_of_rules_are_not_limited(self, emulator, ana):
        made = tools.conversation()
        for _ in range(30):
            made.person.send("news")
        tools.send(tools.engine(), made)
        assert self.states() == ["sent"] * 30

    def test_what_one_person_writes_may_be_told_to_another(self, emulator, ana):
        ben = emulator.add_person(tools.PAGE, person_id="7012345678909999")
        ben.says("hello")
        emulator.waiting.clear()
        made, other = tools.conversation(), tools.conversation(ben.id)
        for number in range(25):
            tools.receive(tools.text(f"m_{number}"))
            tools.handle(tools.engine(lambda event: other.send(event.text) and None), made)
        tools.send(tools.engine(), other)
        assert self.states() == ["sent"] * 25

    def test_staff_may_send_a_reply_over_the_limit(self, emulator, ana, settings):
        settings.DJM_MAX_UNASKED = 1
        made = tools.conversation()
        tools.receive(tools.text("m_1"))
        tools.handle(tools.engine(lambda event: ["one", "two"]), made)
        for _ in range(2):
            tools.send(tools.engine(), made)
        assert self.states() == ["sent", "failed"]
        assert read_status().replies_over_limit == 1
        replay.resend(models.Reply.objects.get(state="failed").pk)
        tools.send(tools.engine(), made)
        assert self.states() == ["sent", "sent"]

    def exchange(self, numbers: range, *, gap: float = 0.5, send: bool = True) -> list[float]:
        """Receive events in turn, each ``gap`` seconds after the answer before; return the wait of each answer."""
        made = tools.conversation()
        waits = []
        for number in numbers:
            # The answer was sent some time ago, and so was the event before.
            ago = datetime.timedelta(seconds=gap)
            models.Reply.objects.update(date_sent=timezone.now() - ago)
            models.Conversation.objects.exclude(date_last_inbound=None).update(
                date_last_inbound=timezone.now() - ago
            )
            tools.receive(tools.text(f"m_{number}"))
            tools.handle(tools.engine(lambda event: ["ping", "pong"]), made)
            first = models.Reply.objects.order_by("-id")[1]
            until = first.not_before
            waits.append(0.0 if until is None else round((until - timezone.now()).total_seconds()))
            if send:
                for _ in range(3):
                    tools.pass_time(3600)
                    tools.send(tools.engine(), made)
                assert set(self.states()) == {"sent"}
        return waits

    def test_two_bots_that_answer_each_other_become_slow(self, emulator, ana, settings):
        settings.DJM_FAST_EXCHANGES = 3
        emulator.enforce_window = False
        assert self.exchange(range(8)) == [0, 0, 0, 0, 1, 2, 4, 8]
        assert read_status().fast_exchanges == 1
        models.Conversation.objects.update(fast_exchanges=500)
        assert self.exchange(range(8, 9)) == [300]
        # The person took more time than a bot.
        assert self.exchange(range(9, 10), gap=20) == [0]
        assert read_status().fast_exchanges == 0
        assert self.exchange(range(10, 14)) == [0, 0, 0, 1]

    def test_several_messages_before_an_answer_are_no_exchange(self, emulator, ana, settings):
        settings.DJM_FAST_EXCHANGES = 3
        assert self.exchange(range(12), send=False) == [0] * 12

    def test_the_wait_can_be_switched_off(self, emulator, ana, settings):
        settings.DJM_FAST_EXCHANGES = 0
        emulator.enforce_window = False
        assert self.exchange(range(6)) == [0] * 6

    @pytest.mark.parametrize(
        ("kind", "warns"), [("ECHO", 1), ("READ", 1), ("DELIVERED", 1), ("SIMPLE_TEXT", 0)]
    )
    def test_the_check_warns_of_answers_to_receipts(self, kind, warns):
        def answers(event: Any) -> Any:
            return "hi"

        def sometimes(event: Any) -> Any:
            if event.text:
                return
            yield "hi"

        def notes(event: Any) -> Any:
            def inner() -> int:
                return 1

            event.context["seen"] = inner()

        for function, expected in ((answers, warns), (sometimes, warns), (notes, 0)):
            rule = Rule(kind, "rule", [], [FunctionHandler(function)], [])
            found = [problem.id for problem in Policy([rule]).problems()]
            assert found.count("W033") == expected, function
        assert [
            one.id for one in Policy([Rule(kind, "r", [], [], [DefaultMessageReplier()])]).problems()
        ].count("W033") == warns
