"""Settings of the processes of a pass: those of the tests, with leases and waits of seconds."""

from __future__ import annotations

import datetime
import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, postgresql_database, sqlite_file_database

if "CHAOS_POSTGRESQL" in os.environ:
    DATABASES = {"default": postgresql_database(os.environ["CHAOS_POSTGRESQL"])}
else:
    DATABASES = {"default": sqlite_file_database(os.environ.get("CHAOS_SQLITE", ":memory:"))}
    # Longer than the freeze of a worker, because it can own the only lock; shorter than an outage.
    DATABASES["default"]["OPTIONS"]["timeout"] = 4

INSTALLED_APPS = [*INSTALLED_APPS, "chaos"]
DJM_DISPATCHER = os.environ.get("CHAOS_DISPATCHER", "worker")
DJM_APP_ID = "883041772661055"
DJM_TOKEN_KEYS = os.environ.get("CHAOS_TOKEN_KEY", "")
DJM_GRAPH_URL = os.environ.get("CHAOS_GRAPH", "http://127.0.0.1:1")
DJM_GRAPH_TIMEOUT = float(os.environ.get("CHAOS_GRAPH_TIMEOUT", "0.8"))
DJM_UPLOAD_TIMEOUT = 1.5 * DJM_GRAPH_TIMEOUT
DJM_LEASE = float(os.environ.get("CHAOS_LEASE", "3"))
DJM_ECHO_WAIT = float(os.environ.get("CHAOS_ECHO_WAIT", "9"))
DJM_POLL = 0.1
DJM_SWEEP = 1.0
DJM_TRIES = 12
# A pass has a kill for each lease, so a slow rule is killed as often as it begins. With the default of 3 such an event
# would fail although it ends no process. tests/faults/test_crashes.py shows the limit.
DJM_CRASHES = 30
# The persons of chaos answer as fast as bots.
DJM_FAST_EXCHANGES = 0
DJM_MAX_BODY = 100_000
DJM_SAVE_USER_PROFILE = False
if "CHAOS_KEEP_BODIES" in os.environ:
    DJM_KEEP_BODIES = datetime.timedelta(seconds=float(os.environ["CHAOS_KEEP_BODIES"]))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
