"""``manage.py djmessenger purge``."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from djmessenger.pipeline import upkeep

help = (  # noqa: A001 - as every verb names it
    "Remove old rows, as DJM_KEEP_CALLBACKS and DJM_KEEP_ROWS say; for a daily job. Works in small steps "
    "beside a running bot. Rows that are still to be handled or sent are never touched, nor those that a rule "
    "marked as kept, nor what failed or was set aside."
)


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say how many rows it would be")


def handle(command: BaseCommand, **options: Any) -> None:
    removed: Counter[str] = Counter()
    for name, count in upkeep.purge(dry_run=options["dry_run"]):
        removed[name] += count
    word = "would be removed" if options["dry_run"] else "removed"
    command.stdout.write(
        ", ".join(f"{count} {name}" for name, count in removed.items() if count) or "nothing"
    )
    command.stdout.write(word)
