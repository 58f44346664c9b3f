"""Celery app of a pass. Its workers can also die between a request and its answer."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chaos.settings")

from celery.signals import worker_process_init

from chaos.worker import die_with_the_request_written, freeze_in_a_split
from tests.celery_app import make

app = make(os.environ.get("CHAOS_BROKER", "memory://"))
die_with_the_request_written()
worker_process_init.connect(lambda **_: freeze_in_a_split(), weak=False)
