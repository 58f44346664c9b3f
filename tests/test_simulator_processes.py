"""The simulator on a site of two web processes: one conversation, whichever of them is asked."""

from __future__ import annotations

import contextlib
import http.cookiejar
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from djmessenger.simulator import shared_process

ROOT = Path(__file__).parent.parent
SITE = "from djmessenger.demo.settings import *\n\nSECRET_KEY = 'the same in both processes'\n"
LOOKS = 3_000
"""Number of looks at a screen before the test fails."""


class Site:
    """One of the processes, with the browser that visits it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        found = (re.search(r"server at (http://127\.0\.0\.1:\d+)/", line) for line in lines)
        self.address = next(one.group(1) for one in found if one)
        # The rest of the output must not fill the pipe.
        self._reader = threading.Thread(target=process.stdout.read, daemon=True)
        self._reader.start()
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.browser = urllib.request.build_opener(cookies)

    def end(self) -> None:
        self.process.kill()
        self._reader.join()

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> bytes:
        request = urllib.request.Request(f"{self.address}/simulator/{path}", body, headers)  # noqa: S310
        with self.browser.open(request, timeout=60) as answer:
            return bytes(answer.read())

    def perform(self, name: str, /, **values: Any) -> Any:
        token = re.search(r'data-csrf="(\w+)"', self.ask("").decode())
        assert token is not None
        kind = {"Content-Type": "application/json", "X-CSRFToken": token.group(1)}
        return json.loads(self.ask(f"orders/{name}", json.dumps(values).encode(), **kind))

    def says(self, person: str, text: str) -> None:
        self.perform("act", person=person, act="says", args=[text])

    def state(self, person: str = "") -> Any:
        return json.loads(self.ask(f"state?person={person}"))["state"]

    def thread(self, person: str, until: int) -> list[Any]:
        """Return the conversation on the screen as soon as it has ``until`` messages."""
        for _ in range(LOOKS):
            thread: list[Any] = self.state(person)["screen"]["thread"]
            if len(thread) >= until:
                return thread
        raise AssertionError(f"{len(thread)} messages, not {until}: {thread[-3:]}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site_of_two.py").write_text(SITE, encoding="utf-8")
    return tmp_path


@pytest.fixture
def sites(folder: Path) -> Iterator[tuple[Site, Site]]:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "site_of_two",
        "DJM_DEMO_FOLDER": str(folder),
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "src")]),
        "PYTHONUNBUFFERED": "1",
    }
    django = [sys.executable, "-m", "django"]
    subprocess.run([*django, "migrate", "--verbosity=0"], env=environment, check=True)
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(2):
            process = subprocess.Popen(
                [*django, "runserver", "--noreload", "127.0.0.1:0"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            found.append(Site(process))
            stack.callback(found[-1].end)
        first, second = found
        yield first, second


def in_database(folder: Path, question: str) -> Any:
    with sqlite3.connect(folder / "demo.sqlite3") as database:
        (answer,) = database.execute(question).fetchone()
    database.close()
    return answer


def answer_to(number: int) -> str:
    return f"There is no order {number} of yours."


def test_two_processes_show_one_conversation(sites, folder):
    one, other = sites
    mari = one.perform("person", name="Mari Tamm", locale="en_GB")["id"]
    assert [person["name"] for person in other.state(mari)["persons"]] == ["Ana Torres", "Mari Tamm"]
    for number in range(10):
        asked, watched = (one, other) if number % 2 else (other, one)
        asked.says(mari, f"order {number}")
        assert watched.thread(mari, 2 * number + 2)[-1]["text"] == answer_to(number)
    wanted = [text for number in range(10) for text in (f"order {number}", answer_to(number))]
    threads = [site.thread(mari, 20) for site in sites]
    assert [[bubble["text"] for bubble in thread] for thread in threads] == [wanted, wanted]
    assert one.state(mari)["process"] == other.state(mari)["process"]

    # Two persons at once, each by another process.
    lin = other.perform("person", name="Lin")["id"]

    def chats(site: Site, person: str) -> None:
        for number in range(10, 20):
            site.says(person, f"order {number}")

    chatting = [threading.Thread(target=chats, args=pair) for pair in ((one, mari), (other, lin))]
    for thread in chatting:
        thread.start()
    for thread in chatting:
        thread.join()
    for site, person, count in ((other, mari, 40), (one, lin, 20)):
        texts = [bubble["text"] for bubble in site.thread(person, count)]
        assert sorted(texts[count - 20 :]) == sorted(
            text for number in range(10, 20) for text in (f"order {number}", answer_to(number))
        )
    assert in_database(folder, "SELECT count(*) FROM djmessenger_messaging WHERE type = 'SIMPLE_TEXT'") == 30
    # An answer is on the screen a moment before its row is settled.
    unsent = "SELECT count(*) FROM djmessenger_reply WHERE state != 'sent'"
    assert any(in_database(folder, unsent) == 0 for _ in range(LOOKS))
    assert in_database(folder, "SELECT count(*) FROM djmessenger_reply") == 30

    # The shared process ends; the other takes its place, and the conversations begin anew.
    kept = one.state()["process"]
    one.end()
    one.process.wait()
    begun = other.perform("person", name="Ben Yilmaz")["id"]
    other.says(begun, "order 7")
    assert other.thread(begun, 2)[-1]["text"] == answer_to(7)
    assert other.state(begun)["process"] != kept


def test_a_port_of_another_program_is_not_used(monkeypatch, rf, caplog):
    """The listener must prove that it has the secret of the site before it gets a cookie."""
    monkeypatch.setattr(connections["default"], "is_in_memory_db", lambda: False, raising=False)
    with socket.create_server((shared_process.HOST, 0)) as stranger:
        monkeypatch.setattr(shared_process, "_port", lambda: stranger.getsockname()[1])
        heard = []

        def answer() -> None:
            for _ in range(2):
                client, _address = stranger.accept()
                with client:
                    heard.append(client.recv(65_536))
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

        listening = threading.Thread(target=answer)
        listening.start()
        assert shared_process.forward(rf.get("/simulator/", headers={"Cookie": "sessionid=made-up"})) is None
        listening.join()
    assert not any(b"made-up" in request for request in heard)
    assert "Another program listens" in caplog.text
