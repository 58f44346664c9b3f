"""How the bot is doing, for people and for monitors."""

from __future__ import annotations

import argparse
import datetime
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from djmessenger.management.options import above_zero
from djmessenger.operations.status import PageStatus, Status, read_status

help = (  # noqa: A001 - what the command asks a verb for
    "Show what waits, what is stuck and what went wrong. With thresholds it serves a monitor: it ends with 0 where all "
    "are kept, with 2 where one is passed, and with 1 where nothing could be read."
)
needs_checks = False

THRESHOLDS = {
    "backlog": "callbacks, events and replies that wait",
    "oldest_wait": "seconds that the oldest of them waits",
    "blocked": "conversations that are held up",
    "unknown": "replies that Meta may or may not have",
    "parked": "replies set aside within the hours",
    "failed": "events and replies failed within the hours",
    "quarantined": "callbacks that were not understood",
    "duplicates": "messages sent twice within the hours",
    "echo_lag": "seconds until an echo, the slowest Page",
    "silence": "seconds since the last callback, the most silent Page",
    "paused": "Pages for which nothing is sent",
}
PASSED = 2


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument(
        "--hours", type=above_zero, default=24.0, metavar="N", help="how far back failures count (24)"
    )
    for name, meaning in THRESHOLDS.items():
        parser.add_argument(
            f"--max-{name.replace('_', '-')}", type=_number, metavar="N", help=f"most {meaning}"
        )


def handle(command: BaseCommand, **options: Any) -> int | None:
    status = read_status(options["hours"])
    passed = [
        f"{name.replace('_', ' ')} is {_plain(found)}, over {_plain(limit)}"
        for name in THRESHOLDS
        if (limit := options[f"max_{name}"]) is not None and (found := value_of(status, name)) > limit
    ]
    if options["json"]:
        command.stdout.write(json.dumps({**status.json(), "passed": passed}, ensure_ascii=False))
    else:
        for line in _lines(status):
            command.stdout.write(line)
        for line in passed:
            command.stdout.write(f"TOO MUCH: {line}")
    return PASSED if passed else None


def value_of(status: Status, name: str) -> float:
    """Give the number that a threshold is compared with."""
    if name == "paused":
        return len(status.paused)
    return float(getattr(status, "replies_parked" if name == "parked" else name))


def _lines(status: Status) -> list[str]:
    backlog = f"{status.callbacks_waiting} callbacks, {status.events_waiting} events, {status.replies_waiting} replies"
    ended = (
        f"{status.events_failed} events and {status.replies_failed} replies failed, "
        f"{status.replies_parked} parked, {status.replies_expired} expired, {status.duplicates} sent twice"
    )
    return [
        f"backlog       {status.backlog} ({backlog})",
        f"oldest wait   {_span(status.oldest_wait)}",
        f"blocked       {status.blocked} conversations; {status.overdue_queues} queues whose holder is gone",
        f"slow          {status.slow_waiting} conversations wait for a thread for slow work",
        f"unknown       {status.unknown} replies that Meta may have",
        f"quarantined   {status.quarantined} callbacks",
        f"last {_plain(status.hours)} h: {ended}",
        *(_page_line(page) for page in status.pages),
    ]


def _page_line(page: PageStatus) -> str:
    silence = "no callback yet" if page.silence is None else f"last callback {_span(page.silence)} ago"
    lag = "no echo yet" if page.echo_lag is None else f"echo lag {_span(page.echo_lag)}"
    line = f"page {page.page_id}{f' ({page.name})' if page.name else ''}: {silence}, {lag}"
    if page.paused_until is not None:
        until = timezone.localtime(page.paused_until).isoformat(" ", "seconds")
        line += f"; PAUSED until {until}: {' '.join(page.pause_reason.split())}"
    return line


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else str(datetime.timedelta(seconds=round(seconds)))


def _plain(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
