"""Django Tasks as the driver: a task is a wake-up, and the last task of a process sets the next one."""

from __future__ import annotations

import datetime
import importlib
import json
import os
import subprocess
import sys

import pytest
from django.core.checks import run_checks
from django.utils import timezone

from djmessenger import bot

pytest.importorskip(
    "django_tasks_db", reason="the extra tasks is not installed: NOTHING OF DJANGO TASKS IS TESTED"
)


def test_the_worker_of_the_database_backend_answers_and_finds_work_without_a_wake_up(tmp_path):
    environment = {**os.environ, "DJM_TEST_DATABASE_NAME": str(tmp_path / "tasks.sqlite3")}
    environment.pop("DJM_TEST_POSTGRESQL", None)
    process = subprocess.run(
        [sys.executable, "-m", "tests.tasks_process"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout.splitlines()[-1]) == {
        "statuses": [200, 200, 200],
        "texts in the request": 0,
        "one to three tasks after three callbacks": True,
        "texts": 3,
        "failed tasks": 0,
        "tasks for later": 1,
        "all later": True,
        "last text": "without a wake-up",
    }


@pytest.fixture
def tasks(monkeypatch):
    module = importlib.import_module("djmessenger.contrib.tasks")
    monkeypatch.setattr(module, "_next_at", None)
    return module


def test_idle_tasks_leave_one_task_for_later(tasks, monkeypatch):
    enqueued = []

    class Later:
        def using(self, *, run_after):
            enqueued.append(run_after)
            return self

        def enqueue(self):
            pass

    monkeypatch.setattr(tasks, "work", Later())
    soon = timezone.now() + datetime.timedelta(seconds=60)
    earlier, later = soon - datetime.timedelta(seconds=30), soon + datetime.timedelta(seconds=30)
    for moment in (soon, soon, later, earlier, soon):
        tasks._enqueue_at(moment)
    assert enqueued == [soon, earlier]
    tasks._next_at = timezone.now() - datetime.timedelta(seconds=1)
    tasks._enqueue_at(soon)
    assert enqueued == [soon, earlier, soon]


@pytest.mark.django_db  # since Django 6.1 each check asks the database
@pytest.mark.parametrize(
    ("backend", "found"),
    [
        ("ImmediateBackend", ["djmessenger.W048"]),
        ("DummyBackend", ["djmessenger.W048"]),
        ("DatabaseBackend", []),
    ],
)
def test_a_backend_without_a_worker_is_reported(tasks, settings, monkeypatch, backend, found):
    settings.DJM_DISPATCHER = "tasks"
    monkeypatch.setattr(tasks, "task_backends", {"default": type(backend, (), {})()})
    monkeypatch.setattr(tasks, "default_task_backend", type(backend, (), {"supports_defer": True})())
    assert isinstance(bot.get_dispatcher(), tasks.TasksDispatcher)
    reported = [message.id for message in run_checks(tags=["djmessenger"])]
    assert [name for name in reported if name == "djmessenger.W048"] == found
