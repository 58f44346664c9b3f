"""Commands that are killed in the middle: the next run finishes what the first began."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.utils import timezone

from djmessenger import models
from tests import pipeline_tools as tools

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).parent.parent


def failed(*mids: str) -> models.Conversation:
    made = tools.conversation()
    tools.receive(*[tools.text(mid, at=tools.now_ms() + number) for number, mid in enumerate(mids)])
    tools.handle(tools.engine(lambda event: 1 / 0, tries=1), made)
    assert set(models.Messaging.objects.values_list("state", flat=True)) == {"failed"}
    return made


def ago(**span: float) -> datetime.datetime:
    return timezone.now() - datetime.timedelta(**span)


@pytest.mark.parametrize(
    ("place", "words"),
    [("purge_between_chunks", ["purge"]), ("replay_between_rows", ["replay", "--state", "failed"])],
)
def test_a_command_that_is_killed_can_be_run_again(place, words, file_database, tmp_path):
    failed("m_1", "m_2")
    if words == ["purge"]:
        models.Messaging.objects.update(state="done", date_received=ago(days=60), timestamp=1)
    environment = {
        **os.environ,
        "DJM_TEST_DATABASE_NAME": str(file_database["NAME"]),
        "DJM_TEST_DISPATCHER": "worker",
        "DJANGO_SETTINGS_MODULE": "tests.celery_settings",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "DJM_FAILPOINT": place,
        "DJM_FAILPOINT_HITS": str(tmp_path),
    }
    if "sqlite" in file_database["ENGINE"]:
        environment["DJM_TEST_SQLITE"] = str(file_database["NAME"])

    def run() -> int:
        words_of_python = [sys.executable, "-m", "django", "djmessenger", *words]
        return subprocess.run(words_of_python, env=environment, cwd=ROOT, check=False).returncode

    assert run() == -signal.SIGKILL
    assert run() == 0
    if words == ["purge"]:
        assert not models.Messaging.objects.exists()
    else:
        assert set(models.Messaging.objects.values_list("state", flat=True)) == {"new"}
