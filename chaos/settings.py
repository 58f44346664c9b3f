"""Settings of the processes of a pass: those of the tests, with leases and waits of seconds."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, postgresql_database, sqlite_file_database

if "CHAOS_POSTGRESQL" in os.environ:
    socket, _, name = os.environ["CHAOS_POSTGRESQL"].partition("#")
    DATABASES = {"default": {**postgresql_database(socket), "NAME": name}}
else:
    DATABASES = {"default": sqlite_file_database(os.environ.get("CHAOS_SQLITE", ":memory:"))}

INSTALLED_APPS = [*INSTALLED_APPS, "chaos"]
DJM_DISPATCHER = os.environ.get("CHAOS_DISPATCHER", "worker")
DJM_APP_ID = "883041772661055"
DJM_GRAPH_URL = os.environ.get("CHAOS_GRAPH", "http://127.0.0.1:1")
DJM_GRAPH_TIMEOUT = 0.8
DJM_LEASE = 3.0
DJM_ECHO_WAIT = float(os.environ.get("CHAOS_ECHO_WAIT", "9"))
DJM_POLL = 0.1
DJM_SWEEP = 1.0
DJM_SAVE_USER_PROFILE = False
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
