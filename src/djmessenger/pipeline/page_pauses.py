"""Pauses of Pages: stop all sends of a Page for a time, and end the pause of a token that was replaced."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db.models import F
from django.db.models.functions import Coalesce, Greatest

from djmessenger import models
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.graph import errors
from djmessenger.graph.client import Client
from djmessenger.logs import error_label, hidden
from djmessenger.models.queues import seconds_from_now
from djmessenger.pipeline.settling import storable
from djmessenger.project_code import announce
from djmessenger.signals import page_paused
from djmessenger.sql import Now, atomic

logger = logging.getLogger(__name__)

ClientFor = Callable[[models.Page], Client]
"""Function that returns the Graph client of a Page. Raises ``DJMInvalidConfigException`` without a token."""

_NO_TOKEN = "none"  # noqa: S105 - the absence of one
"""Value of ``Page.paused_token`` if the Page had no token when it was paused."""


def pause(page: models.Page, seconds: float, error: errors.GraphError, client_for: ClientFor) -> None:
    """Pause all sends of a Page for at least ``seconds``, and send the signal ``page_paused``."""
    until = seconds_from_now(seconds)
    models.Page.objects.filter(pk=page.pk).update(
        # A call that began before a restriction of days may be throttled for seconds. The later end counts.
        # test_a_short_pause_does_not_end_a_long_one
        paused_until=Greatest(Coalesce(F("paused_until"), until), until),
        pause_reason=storable(str(error))[:2000],
        paused_token=_token_of(page, client_for) if isinstance(error, errors.TokenError) else "",
    )
    page.refresh_from_db(fields=["paused_until", "pause_reason", "paused_token"])
    logger.error(
        "Page %s is paused: no reply is sent for %.0f s because of %s",
        page.pk,
        seconds,
        f"{error_label(error)}. {error.action}",
        extra={"action": "page_paused", "page": hidden(page.page_id), "seconds": round(seconds)},
    )
    announce(page_paused, models.Page, page=page)


def _token_of(page: models.Page, client_for: ClientFor) -> str:
    try:
        return client_for(page).token_hash
    except DJMInvalidConfigException:
        return _NO_TOKEN


def resume(client_for: ClientFor) -> int:
    """End the pauses that a missing or refused token caused, if the Page has another token now.

    The outgoing queues of these Pages become due. Returns the number of Pages.
    """
    resumed = 0
    for page in models.Page.objects.filter(paused_until__gt=Now()).exclude(paused_token=""):
        if _token_of(page, client_for) == page.paused_token:
            continue
        with atomic():
            # The new token may have been refused meanwhile, which pauses the Page under that token. The update
            # ends only the pause that was read.
            # test_a_pause_under_a_new_token_is_not_ended_with_the_pause_of_the_old_one
            resumed += models.Page.objects.filter(pk=page.pk, paused_token=page.paused_token).update(
                paused_until=None, pause_reason="", paused_token=""
            )
            waiting = models.Reply.objects.filter(conversation__page=page, state__in=models.Reply.OPEN)
            conversation_ids = waiting.order_by().values_list("conversation_id", flat=True).distinct()
            models.ConversationQueue.objects.wake(
                [pk for pk in conversation_ids if pk is not None], models.ConversationQueue.Kind.OUT
            )
    return resumed
