"""Selection of the Pages of a command, and the end of a command on an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from djmessenger.bot.pages import all_pages
from djmessenger.exceptions import DJMException
from djmessenger.graph.errors import GraphError
from djmessenger.operations.profile_apply import explained

NO_RESULT = 2
"""Exit code if a comparison has no result because of an error of Graph or of the settings."""


def add_page_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        "--page",
        action="append",
        default=[],
        metavar="PAGE_ID",
        dest="pages",
        help="id of a Page; may be repeated. By default the Page of the settings",
    )
    parser.add_argument("--all", action="store_true", help="all Pages in the settings and in the database")


def chosen(options: Mapping[str, Any], *, more: Iterable[str] = ()) -> list[str]:
    """Return the ids of the Pages that the options select. An empty id stands for the Page of the settings.

    With ``--all``, the ids in ``more`` are included.
    """
    if not options["all"]:
        return list(dict.fromkeys(options["pages"])) or [""]
    page_ids = [page.page_id for page in all_pages()]
    return list(dict.fromkeys(filter(None, [*page_ids, *more]))) or [""]


def each_page(command: BaseCommand, page_ids: Sequence[str], act: Callable[[str], bool]) -> bool:
    """Call ``act`` with each id, and return whether any call returned True.

    With several Pages an error of one is printed with its Page, and the others are done. Raises ``CommandError`` at the
    end if a Page failed.
    """
    if len(page_ids) == 1:
        return act(page_ids[0])
    differs = False
    failed: list[str] = []
    for page_id in page_ids:
        try:
            differs |= act(page_id)
        except (GraphError, DJMException) as error:
            failed.append(page_id)
            text = explained(error) if isinstance(error, GraphError) else str(error)
            command.stderr.write(f"Page {page_id}: {' '.join(text.splitlines())}")
    if failed:
        raise CommandError(
            f"{len(failed)} of {len(page_ids)} Pages failed: {', '.join(failed)}. The others are done.",
            returncode=NO_RESULT,
        )
    return differs


@contextmanager
def command_errors() -> Iterator[None]:
    """Raise ``CommandError`` for an error of Graph, settings or database in the block, with the action to take."""
    try:
        with database_errors(NO_RESULT):
            yield
    except GraphError as error:
        raise CommandError(explained(error), returncode=NO_RESULT) from error
    except DJMException as error:
        raise CommandError(str(error), returncode=NO_RESULT) from error


@contextmanager
def database_errors(returncode: int = 1) -> Iterator[None]:
    """Raise ``CommandError`` with one line for an error of the database in the block."""
    try:
        yield
    except Error as error:
        what = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise CommandError(
            f"The database failed: {what}. Check DATABASES and run manage.py migrate; --traceback shows the place.",
            returncode=returncode,
        ) from error
