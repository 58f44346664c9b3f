"""``manage.py djmessenger doctor``: why does the bot not answer?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from djmessenger.management.targets import add_page_arguments, chosen
from djmessenger.operations.doctor import FAIL, OK, WARN, Finding
from djmessenger.operations.doctor_local import LocalDoctor
from djmessenger.operations.doctor_remote import RemoteDoctor

help = (  # noqa: A001 - as every verb names it
    "Examine the whole chain from a person to an answer: settings, Graph version, database, dispatcher, queues, last "
    "callback, token and its scopes, Page, app secret, app mode, webhook fields at both levels, the callback from "
    "outside, the clock. One line for each, ok, warn or fail, and the cure under what is not ok. Exit code 1 where "
    "something failed; --strict counts warnings too. --offline asks nobody outside."
)
needs_checks = False

_STYLES = {OK: "SUCCESS", WARN: "WARNING", FAIL: "ERROR"}


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--offline", action="store_true", help="only what needs no network")
    parser.add_argument("--strict", action="store_true", help="exit code 1 for warnings too")
    parser.add_argument("--url", default="", help="address of the webhook, where Meta does not tell it")
    add_page_arguments(parser)


make_remote_doctor = RemoteDoctor
"""Makes the one who asks outside; another way to fetch comes in here."""


def handle(command: BaseCommand, **options: Any) -> int:
    worst = OK
    for finding in _findings(options):
        style = getattr(command.style, _STYLES[finding.status])
        command.stdout.write(f"{style(f'{finding.status:<4}')}  {finding.link:<10}  {_plain(finding.what)}")
        if finding.cure and finding.status != OK:
            command.stdout.write(f"{'':18}{_plain(finding.cure)}")
        worst = max(worst, finding.status, key=[OK, WARN, FAIL].index)
    return int(worst == FAIL or (options["strict"] and worst == WARN))


def _findings(options: dict[str, Any]) -> Iterator[Finding]:
    broken = False
    for finding in LocalDoctor().findings():
        broken |= finding.link == "database" and finding.status == FAIL
        yield finding
    if options["offline"]:
        return
    if broken:
        yield Finding(
            WARN, "graph", "Meta was not asked, for the Pages are in the database", "Mend that first."
        )
        return
    for page_id in chosen(options):
        yield from make_remote_doctor(page_id=page_id, url=options["url"]).findings()


def _plain(text: str) -> str:
    """Keep each finding on one line, and what a terminal would obey out of it."""
    return "".join(char if char.isprintable() else " " for char in text)
