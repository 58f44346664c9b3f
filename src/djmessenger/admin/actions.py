"""Actions of staff that put rows back into their waiting state, each with an entry in the admin's log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import ngettext

from djmessenger import bot
from djmessenger.exceptions import DJMException
from djmessenger.sql import atomic, on_commit

if TYPE_CHECKING:
    from djmessenger.models import Callback, Messaging, Reply


class Logging(Protocol):
    """The methods of an admin that an action uses: its log, and messages to the member of staff."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any: ...

    def message_user(self, request: HttpRequest, message: str, level: int = ...) -> None: ...


def do_over(
    page: Logging,
    request: HttpRequest,
    rows: QuerySet[Any],
    put_back: Callable[[int], Callback | Messaging | Reply | None],
    change_message: str,
) -> None:
    """Put rows back into their waiting state, oldest first, and wake a driver after each commit.

    Each row has a transaction of its own, with its entry in the admin's log. Rows for which ``put_back`` returns None
    are counted and reported as skipped.
    """
    queued = skipped = 0
    for pk in list(rows.order_by("pk").values_list("pk", flat=True)):
        try:
            with atomic():
                row = put_back(pk)
                if row is not None:
                    page.log_change(request, row, change_message)
        except DJMException as error:
            page.message_user(request, str(error), messages.WARNING)
            row = None
        if row is None:
            skipped += 1
            continue
        queued += 1
        on_commit(lambda row=row: bot.wake(row))  # type: ignore[misc]
    if queued:
        page.message_user(
            request,
            ngettext("%d was queued again.", "%d were queued again.", queued) % queued,
            messages.SUCCESS,
        )
    if skipped:
        page.message_user(
            request,
            ngettext(
                "%d was skipped: it is already waiting, already done, or its content was purged.",
                "%d were skipped: they are already waiting, already done, or their content was purged.",
                skipped,
            )
            % skipped,
            messages.WARNING,
        )


def may(request: HttpRequest, permission: str) -> bool:
    """Return whether this member of staff has a permission of this app."""
    user: Any = request.user
    return bool(user.has_perm(f"djmessenger.{permission}"))
