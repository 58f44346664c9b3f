"""Done over by staff: failed events handled again, replies sent again, callbacks split again; written to the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import ngettext

from djmessenger import bot
from djmessenger.exceptions import DJMException

if TYPE_CHECKING:
    from djmessenger.models import Callback, Messaging, Reply


class Logging(Protocol):
    """What is needed of an admin: its log, and a word to the member of staff."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any: ...

    def message_user(self, request: HttpRequest, message: str, level: int = ...) -> None: ...


def do_over(
    page: Logging,
    request: HttpRequest,
    rows: QuerySet[Any],
    put_back: Callable[[int], Callback | Messaging | Reply | None],
    said: str,
) -> None:
    """Put each row back to where it waits, oldest first, each in a transaction of its own, and wake who works there.

    Rows in another state are left alone and counted: what is done, or waits, needs nothing.
    """
    done = left = 0
    for pk in list(rows.order_by("pk").values_list("pk", flat=True)):
        try:
            with transaction.atomic():
                row = put_back(pk)
                if row is not None:
                    page.log_change(request, row, said)
        except DJMException as error:
            page.message_user(request, str(error), messages.WARNING)
            row = None
        if row is None:
            left += 1
            continue
        done += 1
        transaction.on_commit(lambda row=row: bot.wake(row))  # type: ignore[misc]
    if done:
        page.message_user(
            request,
            ngettext("%d goes its way again.", "%d go their way again.", done) % done,
            messages.SUCCESS,
        )
    if left:
        page.message_user(
            request,
            ngettext(
                "%d was left alone: it waits, or it is done, or nothing of it is left.",
                "%d were left alone: they wait, or are done, or nothing of them is left.",
                left,
            )
            % left,
            messages.WARNING,
        )


def may(request: HttpRequest, permission: str) -> bool:
    """Whether this member of staff has a permission of this app."""
    user: Any = request.user
    return bool(user.has_perm(f"djmessenger.{permission}"))
