"""Internal: the webhook, with verification by GET and callbacks by POST, and the health page for monitors."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from djmessenger import webhook
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.operations.status import read_health
from djmessenger.secret import Secret
from djmessenger.settings import app_settings

logger = logging.getLogger(__name__)

_BEARER = "bearer "
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{1,256}", re.ASCII)


def _outside_transactions(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Return a view that runs outside of ``ATOMIC_REQUESTS`` of each database."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


class DJMBotView(View):
    """The webhook.

    The status of a POST depends on method, size, signature and the database, never on the content of a signed body.
    Meta unsubscribes a Page whose endpoint fails for an hour. The view runs outside of ``ATOMIC_REQUESTS``,
    because the answer 200 promises a committed row.
    """

    http_method_names = ["get", "head", "options", "post"]  # noqa: RUF012 - as Django declares it

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """Return the view with its decorators applied once; decorators of ``dispatch`` would run in each request."""
        return csrf_exempt(login_not_required(_outside_transactions(super().as_view(**initkwargs))))

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answer Meta's verification with its challenge. A request without ``hub.mode`` gets a sentence.

        Its status is 200, because it comes from a monitor or a browser. Django would log each 400. HEAD is answered in
        the same manner.
        """
        if "hub.mode" not in request.GET:
            return _text(
                "This is the webhook of a Messenger bot; Meta verifies it with hub.mode=subscribe.", 200
            )
        challenge = request.GET.get("hub.challenge", "")
        if (
            request.GET["hub.mode"] == "subscribe"
            and _token("DJM_ENDPOINT_VERIFY_TOKEN").matches(request.GET.get("hub.verify_token", ""))
            and _CHALLENGE.fullmatch(challenge)
        ):
            return _text(challenge, 200)
        logger.warning(
            "The verification of the webhook failed: compare the verify token in the App Dashboard with "
            "DJM_ENDPOINT_VERIFY_TOKEN",
            extra={"action": "verification_refused"},
        )
        return _text("", 403)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Store a callback and answer 200; refuse a wrong one with 400, 403, 411 or 413.

        Answer 503 if ``DJM_APP_SECRET`` is empty or cannot be used, or the database fails, so that Meta delivers the
        callback again.
        The cheap checks come first: header, size, signature. The row is committed before the dispatcher runs.
        """
        try:
            (status,) = webhook.acknowledge([webhook.receive(request)])
        except webhook.Refused as refusal:
            status = refusal.status
        return _text("", status)


@csrf_exempt
@login_not_required
@_outside_transactions
@never_cache
@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """Return 200 if the database answers and no work is late, otherwise 503; the body has the figures as JSON.

    Allowed for a request with ``Authorization: Bearer`` and ``DJM_HEALTH_TOKEN``, and for signed-in staff;
    otherwise 403. A paused Page is in the figures but causes no 503, because a restart of the bot would not help.
    """
    max_wait = app_settings.DJM_HEALTH_MAX_WAIT
    try:
        if not _may_see_health(request):
            return JsonResponse({}, status=403)
        figures = read_health()
    except DatabaseError:
        logger.exception(
            "The database did not answer a health request; the answer is 503",
            extra={"action": "database_away"},
        )
        return JsonResponse({"ok": False, "problem": "the database does not answer"}, status=503)
    ok = figures["oldest_wait"] <= max_wait
    problem = "" if ok else f"something waits longer than {max_wait:g} s: does a worker run?"
    return JsonResponse({"ok": ok, "problem": problem, **figures}, status=200 if ok else 503)


def _may_see_health(request: HttpRequest) -> bool:
    # No variable holds what was sent, because it may be the token, and a traceback would show it.
    is_bearer = request.headers.get("Authorization", "").lower().startswith(_BEARER)
    if is_bearer and _token("DJM_HEALTH_TOKEN").matches(
        request.headers["Authorization"][len(_BEARER) :].strip()
    ):
        return True
    user = getattr(request, "user", None)
    return bool(user is not None and user.is_active and user.is_staff)


def _token(name: str) -> Secret:
    """Return the secret of a setting. If it cannot be used, log that and return an empty one, which matches nothing."""
    try:
        token: Secret = getattr(app_settings, name)
    except DJMInvalidConfigException as error:
        logger.error("%s", error, extra={"action": "unusable_secret"})
        return Secret()
    return token


def _text(text: str, status: int) -> HttpResponse:
    # Encoded here, because Django would search the headers of each answer for a charset.
    return HttpResponse(text.encode(), status=status, headers=webhook.HEADERS)
