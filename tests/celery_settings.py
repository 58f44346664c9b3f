"""Settings of the processes that tests start: workers, and those of Celery."""

from __future__ import annotations

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

if "DJM_TEST_DATABASE_NAME" in os.environ:
    DATABASES["default"]["NAME"] = os.environ["DJM_TEST_DATABASE_NAME"]
DATABASES["default"] |= json.loads(os.environ.get("DJM_TEST_DATABASE_MORE", "{}"))

DJM_DISPATCHER = os.environ.get("DJM_TEST_DISPATCHER", "celery")
DJM_GRAPH_URL = os.environ.get("DJM_TEST_GRAPH", "http://127.0.0.1:9")
DJM_SWEEP = 2.0
DJM_ROUTING_POLICY = {
    "rules": [
        {
            "type": "DEFAULT",
            "name": "profile",
            "handlers": [{"name": "djmessenger.handling.UserProfileHandler"}],
        },
        {
            "type": "SIMPLE_TEXT",
            "name": "answer",
            "repliers": [{"name": "djmessenger.replying.DefaultMessageReplier"}],
        },
    ]
}
globals().update(json.loads(os.environ.get("DJM_TEST_SETTINGS", "{}")))
