"""Renewal of stored tokens of Instagram Login, which end 60 days after Meta made or renewed them.

Source: Instagram Platform, "Refresh Access Token" (17 Jul 2025). Tokens of Facebook Pages do not end by time.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from django.db.models import Q
from django.utils import timezone

from djmessenger import models, rulebook
from djmessenger.bot.tokens import encrypt
from djmessenger.exceptions import DJMException
from djmessenger.graph.client import Client
from djmessenger.graph.results import RenewedToken
from djmessenger.logs import error_label, hidden
from djmessenger.models.queues import seconds_from_now
from djmessenger.settings import app_settings
from djmessenger.sql import Now

logger = logging.getLogger(__name__)

ClientFor = Callable[[models.Page], Client]
"""Function that returns a client for the renewal of a Page's token."""

_DAY: Final = 24 * 3600
_RENEWED_BEFORE_END: Final = 30 * _DAY
"""Seconds before the end of a token from which it is renewed. Half of its life is left for other tries."""
_RETRY: Final = _DAY / 4
_CLAIM_MARGIN: Final = 60
"""Seconds of a claim beyond the time limit of the call."""
_MOST: Final = 20
"""Number of renewals of one sweep."""


IN_SETTINGS: Final = (
    "Its token is in the settings, so it cannot be renewed and ends after 60 days. Store it in the database: "
    "manage.py djmessenger tokens --set {page_id}. Then remove it from the settings."
)


def is_young(page: models.Page) -> bool:
    """Return whether the token was renewed less than a day ago, so that Meta would refuse another renewal."""
    life = datetime.timedelta(days=rulebook.limit("instagram_token.days") - 1)
    return page.date_token_expires is not None and page.date_token_expires > timezone.now() + life


def is_renewable(page: models.Page) -> bool:
    """Return whether the token of a Page is one of Instagram Login, and in use from the Page's row."""
    is_in_settings = bool(app_settings.page_setting(page.page_id, "token"))
    return page.has_instagram_login() and bool(page.token_ciphertext) and not is_in_settings


def renew_due(client_for: ClientFor, submit: Callable[[Callable[[], None]], object]) -> None:
    """Pass a job that renews the tokens that are due to ``submit``, which runs it now or in another thread."""
    # The entry of a Page in DJM_PAGES may name the login, and its row hold the token.
    named = [page_id for page_id in app_settings.DJM_PAGES if app_settings.page_setting(page_id, "login")]
    is_candidate = Q(login=models.Page.Login.INSTAGRAM) | Q(page_id__in=named)
    rows = models.Page.objects.filter(is_candidate, _is_due(), _is_free()).exclude(token_ciphertext="")
    pages = [page for page in rows.order_by("date_token_renewal", "pk") if is_renewable(page)][:_MOST]
    if pages:
        submit(partial(_renew_each, pages, client_for))


def _renew_each(pages: list[models.Page], client_for: ClientFor) -> None:
    for page in pages:
        try:
            renew(page, client_for, only_if_due=True)
        except (DJMException, OSError) as error:
            logger.warning(
                "The token of Page %s is not renewed, next try in %.0f h: %s",
                page.pk,
                _RETRY / 3600,
                error_label(error),
                extra={"action": "token_not_renewed", "page": hidden(page.page_id)},
            )
            if getattr(error, "fate", "refused") != "refused":
                # Graph is away. Each further call would wait for its time limit.
                return


def renew(page: models.Page, client_for: ClientFor, *, only_if_due: bool = False) -> bool:
    """Renew the stored token of a Page by a call outside any transaction. Return False if another process does it.

    After a crash between call and write, the next try after the claim renews the stored token. Raises ``GraphError`` if
    Graph refuses, and ``TokenKeyError`` if the token cannot be decrypted.
    """
    # Guard: two processes find the same token due. The claim is one UPDATE, so only one of them calls Graph. The
    # ciphertext is a fence: a token that was stored or renewed after the read is not renewed again.
    # Test: tests/test_token_renewal.py, test_of_many_processes_one_renews_a_token.
    row = models.Page.objects.filter(pk=page.pk, token_ciphertext=page.token_ciphertext)
    free = row.filter(_is_free(), _is_due() if only_if_due else Q())
    if not free.update(token_claimed_until=seconds_from_now(_claim_seconds())):
        return False
    renewed: RenewedToken | None = None
    try:
        renewed = client_for(page).renew_token()
    finally:
        if renewed is None:
            row.update(token_claimed_until=None, date_token_renewal=seconds_from_now(_RETRY))
    seconds = renewed.seconds or rulebook.limit("instagram_token.days") * _DAY
    # Guard: staff store another token during the call. Theirs stays, because the ciphertext is another one.
    # Test: tests/test_token_renewal.py, test_a_token_that_is_stored_during_the_call_stays.
    is_written = row.update(
        token_ciphertext=encrypt(page.page_id, renewed.token),
        date_token_expires=seconds_from_now(seconds),
        date_token_renewal=seconds_from_now(max(_DAY, seconds - _RENEWED_BEFORE_END)),
        token_claimed_until=None,
    )
    logger.info(
        "The token of Page %s was renewed%s",
        page.pk,
        "" if is_written else " and dropped, because another one was stored meanwhile",
        extra={"action": "token_renewed" if is_written else "token_dropped", "page": hidden(page.page_id)},
    )
    return bool(is_written)


def _claim_seconds() -> float:
    return float(app_settings.DJM_GRAPH_TIMEOUT + _CLAIM_MARGIN)


def _is_due() -> Q:
    is_alive = Q(date_token_expires=None) | Q(date_token_expires__gt=Now())
    return is_alive & (Q(date_token_renewal=None) | Q(date_token_renewal__lte=Now()))


def _is_free() -> Q:
    """Return the condition that no other process renews the token, by the clock of the database."""
    # A claim that ends later than any claim can was made before the clock was set back.
    # See ``SweepManager.claim`` for the test.
    is_impossible = Q(token_claimed_until__gt=seconds_from_now(2 * _claim_seconds()))
    return Q(token_claimed_until=None) | Q(token_claimed_until__lte=Now()) | is_impossible
