"""Record of changes by commands: a line in the log, and with ``--user`` an entry in the admin's log."""

from __future__ import annotations

import getpass
import logging
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser
from django.db.models import Model

logger = logging.getLogger("djmessenger.operations")


def add_user_argument(parser: CommandParser) -> None:
    parser.add_argument(
        "--user", metavar="NAME", help="also write the change to the admin's log, under this username"
    )


def find_user(name: str | None) -> Any:
    """Return the user with this name, None without a name.

    Raises ``CommandError`` if the user does not exist or the admin is not installed.
    """
    if not name:
        return None
    if not apps.is_installed("django.contrib.admin"):
        raise CommandError("--user needs django.contrib.admin, whose log it writes to.")
    users = get_user_model()
    try:
        return users._default_manager.get_by_natural_key(name)
    except users.DoesNotExist:
        raise CommandError(f"There is no user {name!r}.") from None


def note(action: str, row: Model, user: Any = None) -> None:
    """Log an action on a row; with ``user`` insert an entry into the admin's log too."""
    model = row._meta.model_name or ""
    logger.info(
        "%s: %s %s",
        action,
        model,
        row.pk,
        extra={"action": action, model: row.pk, "by": user.pk if user else _account()},
    )
    if user is not None:
        entries = apps.get_model("admin", "LogEntry")._default_manager
        entries.log_actions(user.pk, [row], 2, change_message=action, single_object=True)


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def forget_entries(psid: str) -> None:
    """Remove a person's id and name from the admin's log. The entries remain without them."""
    if not apps.is_installed("django.contrib.admin"):
        return
    entries = apps.get_model("admin", "LogEntry")._default_manager.filter(
        content_type__app_label="djmessenger", content_type__model="fbuserprofile", object_id=psid
    )
    entries.update(object_id="", object_repr="", change_message="")
