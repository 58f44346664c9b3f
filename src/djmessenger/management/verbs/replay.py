"""``manage.py djmessenger replay``."""

from __future__ import annotations

import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from djmessenger import models
from djmessenger.pipeline import upkeep

STATES = ("failed", "ignored", "done")

help = (  # noqa: A001 - as every verb names it
    "Let failed events be handled once more, or callbacks that were not understood be split once more. "
    "Whatever a failed try did inside the database was rolled back; calls to others that its rules made are "
    "repeated. Events that were done are handled a second time only with --again, answers included."
)


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--id", type=int, nargs="+", help="keys of events, as in the admin")
    parser.add_argument("--state", choices=STATES, default="failed", help="events in this state (failed)")
    parser.add_argument("--since", help="received since then: a date and time, or hours such as 24h")
    parser.add_argument("--limit", type=int, help="at most so many")
    parser.add_argument("--rate", type=float, help="at most so many a second")
    parser.add_argument("--again", action="store_true", help="events that were done too")
    parser.add_argument("--dry-run", action="store_true", help="say which, and do nothing")
    parser.add_argument(
        "--quarantined", action="store_true", help="callbacks that were not understood instead"
    )


def handle(command: BaseCommand, **options: Any) -> None:
    since = _since(options["since"])
    if options["quarantined"]:
        callbacks = models.Callback.objects.all()
        callbacks = callbacks.filter(date_received__gte=since) if since else callbacks
        if options["dry_run"]:
            count = callbacks.filter(state=models.Callback.State.QUARANTINED).count()
        else:
            count = upkeep.understand_again(callbacks)
        command.stdout.write(f"{count} callbacks")
        return
    rows = models.Messaging.objects.all()
    if options["id"]:
        rows = rows.filter(pk__in=options["id"])
        if not options["again"]:
            rows = rows.exclude(state=models.Messaging.State.DONE)
    else:
        if options["state"] == "done" and not options["again"]:
            raise CommandError(
                "These events were done: handling them again answers again. Add --again to do so."
            )
        rows = rows.filter(state=options["state"])
    if since:
        rows = rows.filter(date_received__gte=since)
    count = 0
    again = upkeep.replay(rows, dry_run=options["dry_run"], limit=options["limit"], rate=options["rate"])
    for row in again:
        count += 1
        if options["dry_run"]:
            command.stdout.write(f"{row.pk}: {row}")
    command.stdout.write(f"{count} events {'would be' if options['dry_run'] else 'are'} handled again")


def _since(text: str | None) -> datetime.datetime | None:
    if not text:
        return None
    if text.endswith("h") and text[:-1].isdigit():
        return timezone.now() - datetime.timedelta(hours=int(text[:-1]))
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise CommandError(f"--since {text!r} is no time: write 2026-05-01T12:00 or 24h")
    return found if timezone.is_aware(found) else timezone.make_aware(found)
