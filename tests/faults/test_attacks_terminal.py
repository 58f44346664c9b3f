"""Attacks on the terminal of the staff: control characters in the texts of others."""

from __future__ import annotations

import io
import json
import logging
import re
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from djmessenger import bot, models
from djmessenger.management.commands.djmessenger import known_verbs
from djmessenger.management.output import on_one_line
from messenger_emulator import Emulator
from tests import pipeline_tools as tools

HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\n\x9b31m\u202eevil\u2028\u2066\x00\x7f"
"""ANSI and C1 escapes, line breaks, a NUL, and marks that reverse the direction of text."""
STORED = HOSTILE.replace("\0", "")
"""The same without NUL, which no database stores."""
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

COMMANDS: list[list[str]] = [
    ["status"],
    ["status", "--json"],
    ["status", "--max-paused", "1"],
    ["tokens"],
    ["tokens", "--refresh"],
    ["tokens", "--rotate"],
    ["doctor", "--offline"],
    ["doctor", "--all"],
    ["replay", "--state", "failed", "--dry-run"],
    ["replay", "--state", "failed"],
    ["replay", "--replies", "--state", "failed", "--dry-run"],
    ["replay", "--callbacks", "--state", "quarantined", "--dry-run"],
    ["replay", "--type", STORED],
    ["forget", "--dry-run", tools.PSID],
    ["forget", STORED],
    ["subscribe", "--check", "--all"],
    ["subscribe", "--list", "--all"],
    ["subscribe", "--check", "--page", STORED],
    *(["profile", action, "--all"] for action in ("plan", "check", "rollback")),
    ["profile", "pull"],
    ["profile", "pull", "--json"],
    ["profile", "plan", "--page", STORED],
    ["purge", "--dry-run"],
]
WITHOUT_TEXTS = {"worker"}
"""Verbs that write nothing themselves."""


@pytest.fixture
def hostile(emulator: Emulator, settings: Any) -> None:
    """Rows and a profile at Meta that carry control characters wherever a text fits."""
    settings.DJM_PAGES = {STORED[:64]: {"token": "made-up-page-token", "language": "en"}}
    made = tools.conversation()
    models.Page.objects.create(
        page_id=STORED[:64],
        login="instagram",
        channel="instagram",
        name=STORED,
        app_id=STORED[:64],
        paused_until=timezone.now(),
        pause_reason=STORED,
    )
    models.Page.objects.filter(pk=made.page_id).update(
        name=STORED,
        paused_until=timezone.now() + timezone.timedelta(hours=1),
        pause_reason=STORED,
        token_ciphertext=STORED,
        date_token_expires=timezone.now(),
    )
    models.FBUserProfile.objects.update(first_name=STORED, last_name=STORED, locale=STORED[:8])
    models.Messaging.objects.create(
        type=STORED[:64],
        body={"message": {"text": STORED}},
        mid=STORED,
        conversation=made,
        page=made.page,
        timestamp=tools.now_ms(),
        state="failed",
        error=STORED,
    )
    models.Reply.objects.create(
        recipient=made.person,
        conversation=made,
        type=STORED[:32],
        data={"message": {"text": STORED}},
        state="failed",
        error=STORED,
        rule=STORED,
    )
    models.Callback.objects.create(body=STORED.encode(), state="quarantined", app_id=STORED[:64])
    page = emulator.pages[tools.PAGE]
    page.name = STORED
    page.platform()["greeting"] = [{"locale": "default", "text": STORED}]


def test_every_verb_is_tried():
    assert {command[0] for command in COMMANDS} | WITHOUT_TEXTS == set(known_verbs())


@pytest.mark.django_db
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_no_verb_writes_a_control_character(arguments, hostile, caplog):
    caplog.set_level(logging.DEBUG, logger="djmessenger")
    written = io.StringIO()
    try:
        call_command("djmessenger", *arguments, stdout=written, stderr=written)
    except CommandError as error:
        written.write(str(error))
    except SystemExit:
        pass
    lines = written.getvalue().split("\n")
    assert any(lines) or "--refresh" in arguments
    assert [line for line in lines if FORBIDDEN.search(line) or line.startswith("evil")] == []
    assert [record.getMessage() for record in caplog.records if FORBIDDEN.search(record.getMessage())] == []
    if "--json" in arguments:
        json.loads(written.getvalue())


@pytest.mark.django_db
def test_no_line_of_the_log_of_a_worker_has_one(emulator, hostile, caplog):
    caplog.set_level(logging.DEBUG, logger="djmessenger")
    models.Page.objects.update(paused_until=None)
    tools.receive(tools.text("m_1", STORED), tools.text(STORED, STORED, psid="7099"))
    tools.receive({**tools.text("m_3"), STORED: {STORED: STORED}})
    tools.receive({"field": STORED, "value": {"item": STORED}}, container="changes")
    emulator.faults.on("refused", times=1, code=100, message=STORED)
    bot.get_engine().drain()
    assert caplog.records
    assert [record.getMessage() for record in caplog.records if FORBIDDEN.search(record.getMessage())] == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Ana Größe 您好 👩\u200d🚀\u00a0!", "Ana Größe 您好 👩\u200d🚀\u00a0!"),
        ("\x1b[2J", "\\u001b[2J"),
        ("a\r\nb", "a\\r\\nb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
    ],
)
def test_a_text_on_one_line(text, line):
    assert on_one_line(text) == line
