"""Which Pages a command is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError, CommandParser

from djmessenger import bot, graph
from djmessenger.exceptions import DJMException
from djmessenger.operations.profile_apply import explained

COULD_NOT_ASK = 2
"""Exit code where there is no verdict, for Graph or the settings did not let the command come to one."""


def add_page_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        "--page",
        action="append",
        default=[],
        metavar="PAGE_ID",
        dest="pages",
        help="the Page, by its id; may be repeated. Left out: the Page of the settings",
    )
    parser.add_argument("--all", action="store_true", help="every Page that the bot knows")


def chosen(options: Mapping[str, Any], *, more: Iterable[str] = ()) -> list[str]:
    """Give the ids of the Pages that the options name, empty for the one of the settings; ``more`` are known too."""
    if not options["all"]:
        return list(dict.fromkeys(options["pages"])) or [""]
    known = [page.page_id for page in bot.all_pages()]
    return list(dict.fromkeys(filter(None, [*known, *more]))) or [""]


@contextmanager
def told() -> Iterator[None]:
    """End the command with what Graph said and the cure, or with the mistake in the settings."""
    try:
        yield
    except graph.GraphError as error:
        raise CommandError(explained(error), returncode=COULD_NOT_ASK) from error
    except DJMException as error:
        raise CommandError(str(error), returncode=COULD_NOT_ASK) from error
