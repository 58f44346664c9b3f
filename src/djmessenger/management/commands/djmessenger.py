"""``manage.py djmessenger <verb>``: run and look after the bot."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from djmessenger.management.verbs import purge, replay, status, worker

VERBS: dict[str, ModuleType] = {"worker": worker, "status": status, "replay": replay, "purge": purge}


class Command(BaseCommand):
    """Dispatches to the module of the verb: its first line is the help, its text the description."""

    help = "Runs and looks after the bot."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
        for name, module in VERBS.items():
            text = module.__doc__ or name
            made = verbs.add_parser(name, help=text.partition("\n")[0], description=text)
            module.add_arguments(made)

    def handle(self, *args: Any, **options: Any) -> None:
        VERBS[options["verb"]].run(self, options)
