"""``manage.py djmessenger subscribe``: subscribe a Page to the webhook fields that its rules need."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from djmessenger import bot, models
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.management.targets import add_page_arguments, chosen, command_errors, each_page
from djmessenger.operations import profile_apply as profile
from djmessenger.operations import subscriptions

help = (  # noqa: A001 - as every verb names it
    "Subscribe the Page to the webhook fields that the rules need. Messages, postbacks, echoes and receipts are always "
    "included. Other fields, such as reactions, edits, referrals and standby, are included if a rule waits for them or "
    "DJM_WEBHOOK_FIELDS contains them. The whole set is written, so fields that no rule needs are removed. Meta "
    "delivers only fields that are also ticked for the app in the App Dashboard; with DJM_APP_ID set, those are "
    "compared too. --check compares and writes nothing: the exit code is 1 if the sets differ, and 2 if an error "
    "prevents the comparison."
)


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--check", action="store_true", help="compare and change nothing")
    parser.add_argument(
        "--list", action="store_true", help="print the fields that the rules need, without a call to Meta"
    )
    add_page_arguments(parser)


def handle(command: BaseCommand, **options: Any) -> int:
    def act(page_id: str) -> bool:
        page = profile.page_of(page_id)
        if not options["list"]:
            return _one(command, page, check=options["check"])
        for name in sorted(subscriptions.wanted_fields(page)):
            command.stdout.write(name)
        return False

    with command_errors():
        return int(each_page(command, chosen(options), act))


def _one(command: BaseCommand, page: models.Page, *, check: bool) -> bool:
    """Compare the fields of a Page, write them unless ``check`` is set, and return whether a difference remains."""
    client = bot.get_client(page)
    name = f"Page {page.page_id or client.page_id}"
    comparison = subscriptions.Comparison(
        subscriptions.wanted_fields(page), subscriptions.subscribed_fields(client, page.get_app_id())
    )
    for field in comparison.missing:
        command.stdout.write(f"  + {field}")
    for field in comparison.superfluous:
        command.stdout.write(f"  - {field}")
    if comparison.agrees:
        command.stdout.write(f"{name}: subscribed to {len(comparison.wanted)} fields, as the rules need")
    elif check:
        command.stdout.write(f"{name}: the fields differ; manage.py djmessenger subscribe sets them")
    else:
        client.subscribe(sorted(comparison.wanted))
        command.stdout.write(f"{name}: subscribed to {len(comparison.wanted)} fields")
    missing = _missing_at_the_app(page, comparison.wanted)
    if missing:
        command.stdout.write(
            f"{name}: the app itself lacks {', '.join(missing)}; tick them in the App Dashboard (Messenger, Webhooks)"
        )
    return bool(missing) or (check and not comparison.agrees)


def _missing_at_the_app(page: models.Page, wanted: frozenset[str]) -> list[str]:
    try:
        client = bot.get_app_client(page)
    except DJMInvalidConfigException:
        return []
    present = subscriptions.app_fields(client, page.configured("channel"))
    return sorted(wanted - present) if present is not None else []
