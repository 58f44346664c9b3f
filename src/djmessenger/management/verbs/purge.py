"""What has had its time is removed."""

from __future__ import annotations

import logging
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from djmessenger.pipeline import retention

logger = logging.getLogger("djmessenger.operations")

help = (  # noqa: A001 - what the command asks a verb for
    "Remove what is older than the DJM_KEEP_* settings say: raw callbacks, handled events, finished replies and their "
    "attempts. In small transactions, beside the running bot; nothing that waits is touched, and keys stay as long as "
    "an event that Meta sends again could be taken for a new one. Run it daily."
)
needs_checks = False


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="count what would go, and remove nothing")


def handle(command: BaseCommand, *, dry_run: bool, verbosity: int, **options: Any) -> None:
    for step in retention.steps():
        if dry_run:
            command.stdout.write(f"{step.what}: {step.rows.count()} would go")
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
