"""A project's Celery app for the tests: the broker and the database are those that the environment names."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.celery_settings")


def make(broker: str) -> Celery:
    made = Celery("tests", broker=broker)
    made.conf.update(
        beat_schedule={"djmessenger": {"task": "djmessenger.sweep", "schedule": 1.0}},
        broker_connection_timeout=1.0,
        broker_connection_retry_on_startup=True,
        task_default_queue="djmessenger-tests",
    )
    return made


app = make(os.environ.get("DJM_TEST_BROKER", "memory://"))
