"""``manage.py djmessenger forget``: erase a person."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import ProtectedError

from djmessenger.logs import hidden
from djmessenger.management.audit import add_user_argument, find_user, forget_entries
from djmessenger.operations.erasure import forget

logger = logging.getLogger("djmessenger.operations")

help = (  # noqa: A001 - what the command asks a verb for
    "Erase a person: profile, conversations, events, replies, locations, and the raw callbacks that contain the "
    "person's id. If Meta sends an erased event again, nothing is stored. Tables of your own project are not touched: "
    "erase the person there yourself. If the person writes again, new rows are stored."
)
needs_checks = False


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("psids", nargs="+", metavar="PSID", help="page-scoped id, as the admin shows it")
    parser.add_argument("--dry-run", action="store_true", help="count the rows, and erase nothing")
    add_user_argument(parser)


def handle(
    command: BaseCommand, *, psids: list[str], dry_run: bool, user: str | None, **options: Any
) -> None:
    staff = find_user(user)
    for psid in psids:
        if not (psid.isascii() and psid.isdigit()):
            raise CommandError("A page-scoped id is digits only.")
    for psid in psids:
        try:
            erased = dataclasses.asdict(forget(psid, dry_run=dry_run))
        except ProtectedError as error:
            models = ", ".join(sorted({row._meta.label for row in error.protected_objects}))
            raise CommandError(
                f"Rows of {models} refer to this person and are protected: delete them first."
            ) from error
        counts = ", ".join(f"{count} {what}" for what, count in erased.items())
        command.stdout.write(f"{counts}{' would be erased' if dry_run else ' erased'}")
        if not dry_run:
            forget_entries(psid)
            logger.info(
                "erased: person %s",
                hidden(psid),
                extra={
                    "action": "erased",
                    "person": hidden(psid),
                    "by": staff.pk if staff else None,
                    **erased,
                },
            )
