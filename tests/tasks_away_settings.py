"""Settings of a web process whose Django Tasks have a PostgreSQL of their own. The environment names its port."""

from __future__ import annotations

import os

from tests.tasks_settings import *  # noqa: F403
from tests.tasks_settings import DATABASES

DATABASES["tasks"] = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "tasks",
    "USER": "postgres",
    "HOST": "127.0.0.1",
    "PORT": os.environ["DJM_TEST_AWAY"],
    "OPTIONS": {"sslmode": "disable"},
}


class Router:
    """Router of the models of Django Tasks."""

    def db_for_read(self, model, **hints):
        return "tasks" if model._meta.app_label.startswith("django_tasks") else None

    db_for_write = db_for_read


DATABASE_ROUTERS = ["tests.tasks_away_settings.Router"]
