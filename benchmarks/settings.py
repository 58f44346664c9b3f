"""Settings of the benchmarks, as of a production site."""

from __future__ import annotations

import os

from benchmarks.echo_bot.policy import POLICY
from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.echo_bot"]
DATABASES["default"]["CONN_MAX_AGE"] = None
ROOT_URLCONF = "benchmarks.urls"
ALLOWED_HOSTS = ["*"]
DJM_PAGE_ID = "104233987650012"
DJM_GRAPH_URL = os.environ.get("BENCH_GRAPH_URL", "http://127.0.0.1:1")
DJM_DISPATCHER = os.environ.get("BENCH_DISPATCHER", "worker")
DJM_GRAPH_VERSION = "v26.0"
# The persons of a benchmark answer as fast as bots.
DJM_FAST_EXCHANGES = 0
if os.environ.get("BENCH_POLICY") == "data":
    DJM_ROUTING_POLICY = POLICY
    # The rules in messenger.py are not used then, as intended.
    SILENCED_SYSTEM_CHECKS = ["djmessenger.W032"]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"errors": {"class": "logging.StreamHandler", "level": "ERROR"}},
    "root": {"handlers": ["errors"], "level": "WARNING"},
}
