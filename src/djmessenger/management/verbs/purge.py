"""``manage.py djmessenger purge``: delete rows that are older than the settings allow."""

from __future__ import annotations

import logging
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from djmessenger.pipeline import retention

logger = logging.getLogger("djmessenger.operations")

help = (  # noqa: A001 - what the command asks a verb for
    "Delete raw callbacks, handled events, finished replies and their attempts that are older than the DJM_KEEP_* "
    "settings allow. Run it daily. It uses small transactions, so the bot keeps running, and it never deletes waiting "
    "rows. The keys of events are kept for as long as Meta may send an event again, so that no event is handled twice."
)
needs_checks = False


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="count the rows, and delete nothing")


def handle(command: BaseCommand, *, dry_run: bool, verbosity: int, **options: Any) -> None:
    for step in retention.steps():
        if dry_run:
            command.stdout.write(f"{step.what}: {step.rows.count()} would be deleted")
            continue
        total = 0
        for removed in retention.purge(step):
            total += removed
            if verbosity > 1 or (total and total % (10 * retention.CHUNK) == 0):
                command.stdout.write(f"{step.what}: {total} so far")
        command.stdout.write(f"{step.what}: {total}")
        if total:
            logger.info(
                "purged: %s %s",
                total,
                step.what,
                extra={"action": "purged", "what": step.what, "rows": total},
            )
