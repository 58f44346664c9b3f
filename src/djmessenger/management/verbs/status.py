"""``manage.py djmessenger status``."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from djmessenger.pipeline.report import report

help = (  # noqa: A001 - as every verb names it
    "Say what waits, what failed and what is paused; the exit code is 1 where somebody should look. For "
    "monitors: --json prints the same figures, --max-age says how old the oldest waiting row may be."
)


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--max-age",
        type=float,
        default=300.0,
        help="seconds that the oldest waiting row may have waited (300)",
    )


def handle(command: BaseCommand, **options: Any) -> None:
    found = report()
    problems = found.problems(options["max_age"])
    if options["json"]:
        command.stdout.write(json.dumps({**found.json(), "problems": problems}, indent=1))
    else:
        for name, value in found.figures.items():
            command.stdout.write(f"{name.replace('_', ' '):<28} {value}")
        for page in found.pages:
            facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in page.items() if value)
            command.stdout.write(f"page: {facts}")
        for problem in problems:
            command.stdout.write(f"! {problem}")
    if problems:
        sys.exit(1)
