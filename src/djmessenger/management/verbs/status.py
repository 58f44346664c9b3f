"""``manage.py djmessenger status``: the state of the bot in numbers, for people and for monitors."""

from __future__ import annotations

import datetime
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from djmessenger.management.options import above_zero, any_number
from djmessenger.operations.status import PageStatus, Status, read_status

help = (  # noqa: A001 - what the command asks a verb for
    "Show the numbers of waiting, blocked and failed rows, and the state of each Page. For a monitor, set limits with "
    "the --max options: the exit code is 0 if no number is over its limit, 2 if one is, and 1 if the database could "
    "not be read."
)
needs_checks = False

THRESHOLDS = {
    "backlog": "callbacks, events and replies that wait",
    "oldest_wait": "seconds that the oldest of them waits",
    "blocked": "conversations that wait for another try, an echo or a set time",
    "unknown": "replies of unknown fate, which Meta may have",
    "parked": "replies parked within --hours",
    "failed": "events and replies failed within --hours",
    "quarantined": "callbacks that could not be split",
    "duplicates": "messages sent twice within --hours",
    "echo_lag": "seconds from a message to its echo, on the slowest Page",
    "silence": "seconds since the last callback, of the Page with the oldest one",
    "paused": "Pages whose replies are paused",
}
"""Name of a number to its meaning in the help of its option."""
PASSED = 2
"""Exit code if a number is over its limit."""


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument(
        "--hours", type=above_zero, default=24.0, metavar="N", help="hours back for which failures count (24)"
    )
    for name, meaning in THRESHOLDS.items():
        parser.add_argument(
            f"--max-{name.replace('_', '-')}", type=any_number, metavar="N", help=f"limit of: {meaning}"
        )


def handle(command: BaseCommand, **options: Any) -> int | None:
    status = read_status(options["hours"])
    exceeded = [
        f"{name.replace('_', ' ')} is {_plain(value)}, over {_plain(limit)}"
        for name in THRESHOLDS
        if (limit := options[f"max_{name}"]) is not None and (value := value_of(status, name)) > limit
    ]
    if options["json"]:
        command.stdout.write(json.dumps({**status.json(), "passed": exceeded}, ensure_ascii=False))
    else:
        for line in _lines(status):
            command.stdout.write(line)
        for line in exceeded:
            command.stdout.write(f"TOO MUCH: {line}")
    return PASSED if exceeded else None


def value_of(status: Status, name: str) -> float:
    """Return the number that is compared with the limit of this name."""
    if name == "paused":
        return len(status.paused)
    return float(getattr(status, "replies_parked" if name == "parked" else name))


def _lines(status: Status) -> list[str]:
    backlog = f"{status.callbacks_waiting} callbacks, {status.events_waiting} events, {status.replies_waiting} replies"
    ended = (
        f"{status.events_failed} events and {status.replies_failed} replies failed, "
        f"{status.replies_parked} parked, {status.replies_expired} expired, {status.duplicates} sent twice, "
        f"{status.replies_over_limit} over DJM_MAX_UNASKED"
    )
    return [
        f"backlog       {status.backlog} ({backlog})",
        f"oldest wait   {_span(status.oldest_wait)}",
        f"blocked       {status.blocked} conversations; {status.overdue_queues} queues whose lease expired",
        f"slow          {status.slow_waiting} conversations wait for a thread for slow rules",
        f"fast          {status.fast_exchanges} conversations whose answers wait, because two bots may talk",
        f"unknown       {status.unknown} replies of unknown fate, which Meta may have",
        f"quarantined   {status.quarantined} callbacks",
        f"last {_plain(status.hours)} h: {ended}",
        *(_page_line(page) for page in status.pages),
    ]


def _page_line(page: PageStatus) -> str:
    silence = "no callback yet" if page.silence is None else f"last callback {_span(page.silence)} ago"
    lag = "no echo yet" if page.echo_lag is None else f"echo lag {_span(page.echo_lag)}"
    line = f"page {page.page_id}{f' ({page.name})' if page.name else ''}: {silence}, {lag}"
    if page.paused_until is not None:
        aware = timezone.is_aware(page.paused_until)
        until = timezone.localtime(page.paused_until) if aware else page.paused_until
        line += f"; PAUSED until {until.isoformat(' ', 'seconds')}: {' '.join(page.pause_reason.split())}"
    if page.is_token_ending and page.token_expires is not None:
        line += (
            f"; TOKEN ends on {page.token_expires:%Y-%m-%d}: "
            "run manage.py djmessenger tokens --refresh, or enter a new one"
        )
    return line


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else str(datetime.timedelta(seconds=round(seconds)))


def _plain(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
