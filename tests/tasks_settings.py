"""Settings of the process in which the tests of Django Tasks run: the backend with its table and worker."""

from __future__ import annotations

import os

from tests.celery_settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django_tasks_db"]
TASKS = {"default": {"BACKEND": os.environ.get("DJM_TEST_TASKS", "django_tasks_db.DatabaseBackend")}}
DJM_DISPATCHER = "tasks"
DJM_SWEEP = 2.0
