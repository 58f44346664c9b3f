"""Attacks by messages: files of this machine in data, and conversations without an end."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from django.utils.safestring import SafeString

from djmessenger import bot, models
from djmessenger.exceptions import InvalidField
from djmessenger.outgoing import File, local_files
from djmessenger.replying import DefaultMessageReplier
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
