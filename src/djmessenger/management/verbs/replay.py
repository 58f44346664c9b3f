"""``manage.py djmessenger replay``: handle events, split callbacks or send replies again."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet

from djmessenger import bot, models
from djmessenger.management.audit import add_user_argument, find_user, note
from djmessenger.management.options import above_zero, at_least_one, moment
from djmessenger.operations import replay
from djmessenger.outgoing.base import MESSAGES
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.receiving import ReceivingType

help = (  # noqa: A001 - what the command asks a verb for
    "Handle failed events again, after the cause is repaired. Select them by id, or by time, state and type. They "
    "return to their conversation queues in their old order, and the present policy decides. Each rule that applies "
    "runs, also a rule that replied the first time. With --callbacks, split quarantined callbacks again with the "
    "present code. With --replies, send failed, parked or expired replies again unchanged."
)

pause = time.sleep

_Callback, _Event, _Reply = models.Callback.State, models.Messaging.State, models.Reply.State


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of row that can be replayed."""

    rows: QuerySet[Any]
    received: str
    """Column of the time by which rows are selected."""
    states: tuple[str, ...]
    usual: str
    """State of the selected rows without ``--state`` and ids."""

    def say(self, row: Any) -> str:
        if isinstance(row, models.Messaging) and (count := row.replies.count()):
            return f"{row.pk}: {row}, already has {count} replies"
        return f"{row.pk}: {row}"


def _kind(options: dict[str, Any]) -> Kind:
    if options["callbacks"]:
        return Kind(
            rows=models.Callback.objects.exclude(body=b"").order_by("id"),
            received="date_received",
            states=(_Callback.QUARANTINED, _Callback.SPLIT),
            usual=_Callback.QUARANTINED,
        )
    if options["replies"]:
        return Kind(
            rows=models.Reply.objects.exclude(data={}).order_by("id"),
            received="date_sent",
            states=replay.RESENDABLE,
            usual=_Reply.FAILED,
        )
    return Kind(
        rows=models.Messaging.objects.exclude(body={}).order_by("timestamp", "id"),
        received="date_received",
        states=replay.REPLAYABLE if options["again"] else (_Event.FAILED,),
        usual=_Event.FAILED,
    )


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        "ids", nargs="*", type=at_least_one, metavar="ID", help="ids of rows, as the admin shows them"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--callbacks", action="store_true", help="split callbacks instead of handling events")
    what.add_argument("--replies", action="store_true", help="send replies instead of handling events")
    parser.add_argument(
        "--since", type=moment, metavar="TIME", help="rows from this time on: 2h (ago), 7d, 2026-11-25T08:30"
    )
    parser.add_argument("--until", type=moment, metavar="TIME", help="rows before this time")
    parser.add_argument(
        "--state",
        # As texts: argparse prints the repr of each choice in its error.
        choices=list(
            dict.fromkeys(
                map(str, [*replay.REPLAYABLE, *replay.RESENDABLE, _Callback.QUARANTINED, _Callback.SPLIT])
            )
        ),
        help="by default failed, for callbacks quarantined; done and ignored need --again",
    )
    parser.add_argument("--type", metavar="TYPE", help="type of the events or replies, such as SIMPLE_TEXT")
    parser.add_argument(
        "--again",
        action="store_true",
        help="also replay events that were handled: people get new replies a second time",
    )
    parser.add_argument("--limit", type=at_least_one, metavar="N", help="at most N rows, the oldest first")
    parser.add_argument("--rate", type=above_zero, metavar="N", help="at most N rows a second")
    parser.add_argument("--dry-run", action="store_true", help="print the selected rows, and change nothing")
    add_user_argument(parser)


def handle(command: BaseCommand, *, user: str | None, **options: Any) -> int | None:
    staff = find_user(user)
    if not options["ids"] and not any(options[name] for name in ("since", "until", "state", "type")):
        raise CommandError("Select the rows to replay: by ids, or by --since, --until, --state or --type.")
    kind = _kind(options)
    rows = _chosen(kind, options)
    if options["limit"] is not None:
        rows = rows[: options["limit"]]
    ids = list(rows.values_list("pk", flat=True))
    if options["dry_run"]:
        for pk in ids:
            command.stdout.write(kind.say(kind.rows.get(pk=pk)))
        command.stdout.write(f"{len(ids)} would be replayed.")
    else:
        done = sum(_replay(pk, options, staff) for pk in _paced(ids, options["rate"]))
        command.stdout.write(f"{done} replayed.")
    missing = sorted(set(options["ids"]) - set(ids))
    if missing and options["limit"] is None:
        command.stderr.write(
            f"Not found, or not in a state that can be replayed: {', '.join(map(str, missing))}"
        )
        return 1
    return None


def _chosen(kind: Kind, options: dict[str, Any]) -> QuerySet[Any]:
    state = options["state"]
    if state and state not in kind.states:
        if state in replay.AGAIN and not (options["callbacks"] or options["replies"]):
            raise CommandError(
                f"Events in the state {state} did not fail: add --again to replay them anyway."
            )
        raise CommandError(f"--state must be one of {', '.join(kind.states)} here.")
    if options["again"] and (options["callbacks"] or options["replies"]):
        raise CommandError("--again is for events.")
    # With ids, all replayable states are selected. A time span alone selects only the usual state.
    states = [state] if state else list(kind.states) if options["ids"] else [kind.usual]
    rows = kind.rows.filter(state__in=states)
    if options["ids"]:
        rows = rows.filter(pk__in=options["ids"])
    if options["type"]:
        if options["callbacks"]:
            raise CommandError("Callbacks have no --type.")
        known = sorted(MESSAGES if options["replies"] else ReceivingType.members)
        is_known = options["type"].casefold() in map(str.casefold, known)
        # Rows of a version before, or of a class that the project has removed, may have another type.
        if not is_known and not kind.rows.filter(type__iexact=options["type"]).exists():
            raise CommandError(f"There is no type {options['type']}. The types are {', '.join(known)}.")
        rows = rows.filter(type__iexact=options["type"])
    if options["since"]:
        rows = rows.filter(**{f"{kind.received}__gte": options["since"]})
    if options["until"]:
        rows = rows.filter(**{f"{kind.received}__lt": options["until"]})
    return rows


def _paced(ids: list[int], rate: float | None) -> Iterator[int]:
    for number, pk in enumerate(ids):
        if rate and number:
            pause(1 / rate)
        yield pk


def _replay(pk: int, options: dict[str, Any], staff: Any) -> bool:
    """Put one row back into its waiting state, in a transaction of its own, and wake a driver.

    Returns False if the row is not in a replayable state any more.
    """
    row: models.Callback | models.Messaging | models.Reply | None
    if options["callbacks"]:
        row = replay.replay_callback(pk)
    elif options["replies"]:
        row = replay.resend(pk)
    else:
        row = replay.replay_event(pk, again=options["again"])
    if row is None:
        return False
    failpoint("replay_between_rows")
    note("resent" if options["replies"] else "replayed", row, staff)
    bot.wake(row)
    return True
