"""Celery app of a pass. Its workers can also die between a request and its answer."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chaos.settings")

from chaos.worker import die_with_the_request_written
from tests.celery_app import make

app = make(os.environ.get("CHAOS_BROKER", "memory://"))
die_with_the_request_written()
