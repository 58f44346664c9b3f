"""Signed bodies of any kind are answered 200 and stored, and the events beside them are handled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from django.test import Client

from djmessenger import models, signatures
from tests.faults import hostile

pytestmark = pytest.mark.django_db

SECRET = "0123456789abcdef0123456789abcdef"


def post(body: bytes) -> int:
    headers = {"X-Hub-Signature-256": signatures.sign(SECRET, body)}
    return Client().post("/messenger", body, content_type="application/json", headers=headers).status_code


@pytest.mark.parametrize(("name", "body"), [pytest.param(*case, id=case[0]) for case in hostile.corpus()])
def test_every_body_is_kept_and_answered_200(name, body, emulator, caplog):
    modules = set(sys.modules)
    assert post(body) == 200
    callback = models.Callback.objects.get()
    assert bytes(callback.body) == body
    assert callback.state != models.Callback.State.NEW
    assert not models.Messaging.objects.filter(state=models.Messaging.State.NEW).exists()
    if "timestamp" not in name:
        assert not models.Messaging.objects.filter(reason__startswith="older than").exists()
    failed = models.Messaging.objects.filter(state=models.Messaging.State.FAILED)
    assert not failed, failed[0].error
    assert "antigravity" not in set(sys.modules) - modules
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("entrance", ["view", "limit", "intake-wsgi", "intake-asgi"])
def test_each_entrance_keeps_every_body_within_cpu_and_memory_that_grow_with_its_size(
    entrance, file_database
):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(["src", ".", "tests/project"]),
        "DJANGO_SETTINGS_MODULE": "tests.celery_settings",
        "DJM_TEST_DISPATCHER": "inline",
        "DJM_TEST_NOW": str(hostile.NOW),
        "DJM_TEST_DATABASE_NAME": str(file_database["NAME"]),
    }
    if "sqlite" in file_database["ENGINE"]:
        environment["DJM_TEST_SQLITE"] = str(file_database["NAME"])
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.hostile_process", entrance],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-5000:]
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    names = dict([*hostile.corpus(), *hostile.large()])
    assert {row["name"] for row in rows} == {*names}
    assert [row for row in rows if row["status"] != 200] == []
    assert [row for row in rows if row["cpu"] > hostile.most_cpu(row["size"])] == []
    assert [row for row in rows if row["memory"] > hostile.most_memory(row["size"])] == []
    stored = [bytes(body) for body in models.Callback.objects.values_list("body", flat=True)]
    assert {*names.values()} == {*stored} - {hostile.dumps(hostile.text(hostile.FIRST_WORDS))}
    assert not models.Callback.objects.filter(state=models.Callback.State.NEW).exists()
    old = models.Messaging.objects.filter(reason__startswith="older than")
    assert old.count() <= sum("timestamp" in name for name in names)
    assert not models.Messaging.objects.filter(state=models.Messaging.State.NEW).exists()
    failed = models.Messaging.objects.filter(state=models.Messaging.State.FAILED)
    assert [row.error for row in failed if "the event has no person" not in row.error] == []


def test_a_broken_third_item_of_five_leaves_four_answers(emulator, settings):
    settings.DJM_ROUTING_POLICY = {
        "rules": [
            {
                "type": "SIMPLE_TEXT",
                "name": "echo",
                "repliers": [{"name": "djmessenger.replying.DefaultMessageReplier"}],
            }
        ]
    }
    people = [emulator.add_person(emulator.pages[hostile.PAGE], f"Person {number}") for number in range(5)]
    emulator.enforce_window = False
    now = int(time.time() * 1000)
    items = [
        hostile.item(f"m_{number}") | {"sender": {"id": person.id}, "timestamp": now}
        for number, person in enumerate(people)
    ]
    items[2] = {"sender": ["broken"], "message": {"mid": {"no": "text"}, "text": 5}}
    assert post(hostile.dumps(hostile.callback(*items))) == 200
    answered = set(models.Reply.objects.filter(state="sent").values_list("recipient_id", flat=True))
    assert answered == {person.id for number, person in enumerate(people) if number != 2}


@pytest.mark.parametrize("words", hostile.TEXT.values(), ids=hostile.TEXT)
def test_texts_of_persons_stay_text_in_the_database(words, emulator):
    assert post(hostile.dumps(hostile.text(words))) == 200
    row = models.Messaging.objects.get()
    clean = words.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
    assert row.body["entry"][0]["messaging"][0]["message"]["text"] == clean
    assert json.dumps(row.body)
