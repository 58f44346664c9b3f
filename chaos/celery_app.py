"""Celery app of a pass, with the faults inside its worker processes."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chaos.settings")

from celery.signals import worker_process_init

from chaos.inside import after_models, before_models
from tests.celery_app import make

before_models()
app = make(os.environ.get("CHAOS_BROKER", "memory://"))
worker_process_init.connect(lambda **_: after_models(), weak=False)
