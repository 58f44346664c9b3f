"""``manage.py djmessenger tokens``: list, set and re-encrypt the Page tokens in the database."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from djmessenger import bot, models
from djmessenger.bot import renewal
from djmessenger.bot.pages import all_pages, find_page, token_of
from djmessenger.bot.tokens import new_key
from djmessenger.exceptions import DJMException, DJMInvalidValueException
from djmessenger.secret import Secret
from djmessenger.settings import app_settings

help = (  # noqa: A001 - the name that every verb has
    "Manage the encrypted Page tokens in the database. Without an option, list the Pages and where their tokens are; "
    "the exit code is 1 if a token cannot be read. To change the key: create one with --new-key, put it before the old "
    "key in DJM_TOKEN_KEYS, restart all processes, run --rotate, then remove the old key and restart again."
)
needs_checks = False


def add_arguments(parser: CommandParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--new-key", action="store_true", help="Print a new key for DJM_TOKEN_KEYS.")
    what.add_argument("--rotate", action="store_true", help="Encrypt all tokens again with the newest key.")
    what.add_argument(
        "--refresh",
        action="store_true",
        help="Renew the tokens of Instagram Login in the database now. The sweep of a worker does it in time.",
    )
    what.add_argument(
        "--set",
        metavar="PAGE_ID",
        help="Store the token of a Page. It is read from a prompt or standard input, so no shell history contains it.",
    )


def handle(command: BaseCommand, **options: Any) -> int | None:
    try:
        if options["new_key"]:
            command.stdout.write(new_key())
        elif options["rotate"]:
            changed = bot.rotate_tokens()
            command.stdout.write(
                f"{changed} tokens were encrypted again with the newest key.", command.style.SUCCESS
            )
        elif options["refresh"]:
            return _refresh(command)
        elif options["set"]:
            _set(command, options["set"])
        else:
            return _list(command)
    except DJMException as error:
        raise CommandError(str(error)) from None
    return None


def _set(command: BaseCommand, page_id: str) -> None:
    if not (page_id.isascii() and page_id.isdecimal()):
        raise DJMInvalidValueException(
            f"--set is {page_id!r}; it must be the id of a Page, which is a number"
        )
    token = Secret(getpass.getpass("Page access token: ") if sys.stdin.isatty() else sys.stdin.readline())
    if not token:
        raise DJMInvalidValueException("The token is empty, so nothing is changed; enter the token")
    page = find_page(page_id)
    bot.set_token(page, token)
    if page.pk is None:
        page.save()
    else:
        page.save(update_fields=models.Page.TOKEN_COLUMNS)
    command.stdout.write(f"The token of Page {page_id} is stored, encrypted.", command.style.SUCCESS)


def _refresh(command: BaseCommand) -> int | None:
    """Renew each token of Instagram Login that the database holds. Return 1 if one is not renewed or cannot be."""
    failed = False
    for page in all_pages():
        if not page.has_instagram_login():
            continue
        try:
            state = _renewed(page)
        except (DJMException, OSError) as error:
            state, failed = f"not renewed: {error}", True
        failed |= not renewal.is_renewable(page)
        command.stdout.write(f"{page.page_id}  {state}")
    return 1 if failed else None


def _renewed(page: models.Page) -> str:
    if not renewal.is_renewable(page):
        return f"not renewed: {renewal.IN_SETTINGS.format(page_id=page.page_id)}"
    if renewal.is_young(page):
        return f"renewed less than a day ago, {_end(page)}"
    if not bot.renew_token(page):
        return "another process renews it, or a new token was stored just now"
    page.refresh_from_db()
    return f"renewed, {_end(page)}"


def _end(page: models.Page) -> str:
    end = page.date_token_expires
    return "end unknown until the first renewal" if end is None else f"valid until {end:%Y-%m-%d}"


def _list(command: BaseCommand) -> int | None:
    pages = {page.page_id: page for page in [*all_pages(), *models.Page.objects.all()]}
    is_unreadable = False
    for page_id, page in sorted(pages.items()):
        try:
            state = _state(page)
        except DJMException as error:
            state, is_unreadable = str(error), True
        command.stdout.write(f"{page_id}  {page.configured('channel')}  {state}")
    if not pages:
        command.stdout.write("There is no Page in the settings or the database yet.")
    return 1 if is_unreadable else None


def _state(page: models.Page) -> str:
    token_of(page)
    if app_settings.page_setting(page.page_id, "token"):
        return "token in DJM_PAGES"
    if not page.token_ciphertext:
        return "token in DJM_PAGE_ACCESS_TOKEN"
    old = "" if bot.is_under_newest_key(page) else ", encrypted with an older key: run --rotate"
    end = f", {_end(page)}" if page.has_instagram_login() else ""
    return f"token in the database, ends in …{bot.token_hint(page)}{end}{old}"
