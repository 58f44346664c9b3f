"""``manage.py djmessenger doctor``: search for the reason why a bot does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from djmessenger.management.targets import add_page_arguments, chosen
from djmessenger.operations.doctor import FAIL, OK, WARN, Finding
from djmessenger.operations.doctor_local import LocalDoctor
from djmessenger.operations.doctor_remote import RemoteDoctor

help = (  # noqa: A001 - as every verb names it
    "Find out why the bot does not answer. The verb examines each link from a person to a reply: settings, Graph "
    "version, database, dispatcher, queues, last callback, token and its scopes, Page, app secret, app mode, webhook "
    "fields of app and Page, the address of the webhook, and the clock. It prints one line for each link with ok, warn "
    "or fail, and below a problem the way to solve it. The exit code is 1 if a link failed; with --strict also for a "
    "warning. With --offline it examines only the links that need no network."
)
needs_checks = False

_STYLES = {OK: "SUCCESS", WARN: "WARNING", FAIL: "ERROR"}


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--offline", action="store_true", help="examine only the links that need no network")
    parser.add_argument("--strict", action="store_true", help="exit with code 1 for warnings too")
    parser.add_argument(
        "--url", default="", help="address of the webhook, instead of the one that Meta returns"
    )
    add_page_arguments(parser)


make_remote_doctor = RemoteDoctor
"""Class of the examination over the network. Tests replace it to fetch in another way."""


def handle(command: BaseCommand, **options: Any) -> int:
    worst = OK
    for finding in _findings(options):
        style = getattr(command.style, _STYLES[finding.status])
        command.stdout.write(f"{finding.status:<4}", style, ending="")
        command.stdout.write(f"  {finding.link:<10}  {finding.what}")
        if finding.cure and finding.status != OK:
            command.stdout.write(f"{'':18}{finding.cure}")
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
            WARN,
            "graph",
            "not examined, because the Pages are in the database",
            "Repair the database first.",
        )
        return
    for page_id in chosen(options):
        yield from make_remote_doctor(page_id=page_id, url=options["url"]).findings()
