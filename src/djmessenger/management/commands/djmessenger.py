"""``manage.py djmessenger <verb>``: the command for all operations without a documented command of their own."""

from __future__ import annotations

import argparse
import functools
import importlib
import pkgutil
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from djmessenger.management import verbs
from djmessenger.management.output import clean_output
from djmessenger.management.targets import database_errors


@functools.cache
def known_verbs() -> Mapping[str, ModuleType]:
    """Return the modules of ``djmessenger.management.verbs`` by the name on the command line."""
    names = sorted(
        name for _finder, name, is_package in pkgutil.iter_modules(verbs.__path__) if not is_package
    )
    return {
        name.replace("_", "-"): importlib.import_module(f"{verbs.__name__}.{name}")
        for name in names
        if not name.startswith("_")
    }


class Command(BaseCommand):
    help = "Run and maintain a Messenger bot. For the help of a verb: manage.py djmessenger VERB --help."

    def add_arguments(self, parser: CommandParser) -> None:
        # Django's CommandParser adds to each subparser the keywords that it requires.
        subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
        for name, verb in known_verbs().items():
            inner = subparsers.add_parser(name, help=verb.help.partition(". ")[0], description=verb.help)
            verb.add_arguments(inner)
            _add_options_of_django(inner)

    def execute(self, *args: Any, **options: Any) -> Any:
        if not getattr(known_verbs()[options["verb"]], "needs_checks", True):
            options["skip_checks"] = True
        return super().execute(*args, **options)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        with clean_output(self), database_errors():
            code = known_verbs()[verb].handle(self, **options)
        if code:
            sys.exit(code)


def _add_options_of_django(parser: CommandParser) -> None:
    """Accept Django's own options after the verb too, where people write them for each other command.

    Without a default, so that an option before the verb keeps its value.
    """
    add = functools.partial(parser.add_argument, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    add("-v", "--verbosity", type=int, choices=range(4))
    add("--settings")
    add("--pythonpath")
    for flag in ("--traceback", "--no-color", "--force-color"):
        add(flag, action="store_true")
