"""The door for Meta: verification by GET, callbacks by POST."""

from __future__ import annotations

import logging
import re
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, transaction
from django.http import HttpRequest, HttpResponse, RawPostDataException
from django.utils.crypto import constant_time_compare
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from djmessenger import bot, settings, signatures
from djmessenger.pipeline import intake

logger = logging.getLogger(__name__)

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{1,256}", re.ASCII)
_WELL_FORMED_SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}", re.ASCII)


@method_decorator(csrf_exempt, name="dispatch")
@method_decorator(login_not_required, name="dispatch")
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class DJMBotView(View):
    """The webhook.

    The status of a POST depends on method, size, signature and whether the database took the body, never on
    what a correctly signed body says: Meta unsubscribes a Page whose endpoint fails for an hour.
    The view leaves ``ATOMIC_REQUESTS``, since 200 promises a committed row.
    """

    http_method_names = ["get", "post"]  # noqa: RUF012 - as Django declares it

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answer Meta's verification with its challenge."""
        if "hub.mode" not in request.GET:
            return _text(
                "This is the webhook of a Messenger bot; Meta verifies it with hub.mode=subscribe.", 400
            )
        challenge = request.GET.get("hub.challenge", "")
        token = request.GET.get("hub.verify_token", "")
        if (
            request.GET["hub.mode"] == "subscribe"
            and settings.DJM_ENDPOINT_VERIFY_TOKEN
            and constant_time_compare(token, settings.DJM_ENDPOINT_VERIFY_TOKEN)
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
        """Take a callback in: cheap refusals first, then the body, its signature and its row."""
        secrets = bot.app_secrets()
        signed = settings.DJM_VERIFY_SIGNATURE
        if signed and not secrets:
            logger.error(
                "DJM_APP_SECRET is empty, so no callback can be verified", extra={"action": "no_app_secret"}
            )
            return _text("", 503)
        signature = request.headers.get("X-Hub-Signature-256")
        if signed and not (signature and _WELL_FORMED_SIGNATURE.fullmatch(signature)):
            return self._refuse("it carries no X-Hub-Signature-256")
        try:
            body = _read(request, settings.DJM_MAX_BODY)
        except (RawPostDataException, OSError):
            return self._refuse("its body could not be read; a middleware may have read it before")
        if body is None:
            logger.warning("A callback is too large", extra={"action": "callback_too_large"})
            return _text("", 413)
        app_id = signatures.verify(body, signature, secrets) if signed else ""
        if app_id is None:
            return self._refuse("its signature is not made with DJM_APP_SECRET")
        try:
            callback = intake.store(body, app_id)
        except DatabaseError:
            logger.exception("A callback could not be stored", extra={"action": "callback_not_stored"})
            return _text("", 503)
        try:
            bot.get_dispatcher().callback_stored(callback.pk)
        except Exception:
            # The row is committed: a sweep handles what this call could not.
            logger.exception("A stored callback waits", extra={"action": "callback_waits"})
        return _text("", 200)

    @staticmethod
    def _refuse(why: str) -> HttpResponse:
        logger.warning("A callback is refused: %s", why, extra={"action": "callback_refused"})
        return _text("", 403)


def _read(request: HttpRequest, limit: int) -> bytes | None:
    """Give the raw body, or None when it is over the limit, in bytes.

    Read from the stream: Django's own limit answers 400, and is too small for a full batch of Meta's.
    """
    if hasattr(request, "_body"):
        return request.body if len(request.body) <= limit else None
    try:
        if int(request.META.get("CONTENT_LENGTH") or 0) > limit:
            return None
    except ValueError:
        # No number, and none that Django reads by either: there is no body then.
        return b""
    body = request.read(limit + 1)
    return body if len(body) <= limit else None


def _text(text: str, status: int) -> HttpResponse:
    response = HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
    response["X-Content-Type-Options"] = "nosniff"
    return response
