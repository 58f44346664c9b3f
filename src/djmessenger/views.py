"""Internal: the webhook, with verification by GET and callbacks by POST, and the health page for monitors."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable
from typing import Any

import msgspec
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, RawPostDataException
from django.http.response import HttpResponseBase
from django.utils.crypto import constant_time_compare
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from djmessenger import bot, signatures
from djmessenger.bot.pages import app_secrets
from djmessenger.operations.status import read_health
from djmessenger.settings import app_settings

logger = logging.getLogger(__name__)

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{1,256}", re.ASCII)
_WELL_FORMED_SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}", re.ASCII)
_UNESCAPED = re.compile(rb"[^\x00-\x7f]|(?<!\\)/")
"""Bytes that Meta escapes in its JSON: those of other letters than ASCII, and a slash."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


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

    http_method_names = ["get", "post"]  # noqa: RUF012 - as Django declares it

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """Return the view with its decorators applied once; decorators of ``dispatch`` would run in each request."""
        return csrf_exempt(login_not_required(_outside_transactions(super().as_view(**initkwargs))))

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
            and app_settings.DJM_ENDPOINT_VERIFY_TOKEN
            and constant_time_compare(token, app_settings.DJM_ENDPOINT_VERIFY_TOKEN)
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
        """Store a callback and answer 200; refuse a wrong one with 403, 411 or 413.

        Answer 503 if ``DJM_APP_SECRET`` is empty or the database fails, so that Meta delivers the callback again.
        The cheap checks come first: header, size, signature. The row is committed before the dispatcher runs.
        """
        must_verify = app_settings.DJM_VERIFY_SIGNATURE
        signature = request.META.get("HTTP_X_HUB_SIGNATURE_256")
        if must_verify and not (signature and _WELL_FORMED_SIGNATURE.fullmatch(signature)):
            return self._refuse("it has no valid X-Hub-Signature-256 header")
        if _is_chunked_and_unreadable(request):
            logger.warning(
                "A callback was refused with 411: its body came in chunks without a Content-Length, and this server "
                "does not pass such bodies on; let the proxy buffer requests",
                extra={"action": "callback_in_chunks"},
            )
            return _text("", 411)
        try:
            body = _read(request, app_settings.DJM_MAX_BODY)
        except (RawPostDataException, OSError):
            return self._refuse("its body could not be read; a middleware may have read it before")
        if body is None:
            logger.warning(
                "A callback is larger than DJM_MAX_BODY and was refused with 413",
                extra={"action": "callback_too_large"},
            )
            return _text("", 413)
        # The secrets are no local variable here, because a traceback of this frame can show its variables in a log.
        app_id = signatures.verify(body, signature, app_secrets()) if must_verify else ""
        if app_id is None:
            return self._refuse(_why_wrong(body))
        try:
            callback_id = bot.get_engine().store(body, app_id)
        except DatabaseError:
            logger.exception(
                "A callback could not be stored; the answer is 503, and Meta delivers it again",
                extra={"action": "callback_not_stored"},
            )
            return _text("", 503)
        try:
            bot.get_dispatcher().callback_stored(callback_id)
        except Exception:
            # The row is committed, so a failure here must not become a 500: Meta would deliver the callback again.
            logger.exception(
                "The dispatcher failed for callback %s; the callback is stored, and the next sweep processes it",
                callback_id,
                extra={"action": "callback_waits"},
            )
        return _text("", 200)

    @staticmethod
    def _refuse(why: str) -> HttpResponse:
        if app_settings.DJM_VERIFY_SIGNATURE and not app_secrets():
            logger.error(
                "A callback was refused with 503, because DJM_APP_SECRET is empty; set it to the App Secret",
                extra={"action": "no_app_secret"},
            )
            return _text("", 503)
        logger.warning("A callback was refused with 403: %s", why, extra={"action": "callback_refused"})
        return _text("", 403)


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
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    health_token = app_settings.DJM_HEALTH_TOKEN
    if health_token and scheme.lower() == "bearer" and constant_time_compare(token.strip(), health_token):
        return True
    user = getattr(request, "user", None)
    return bool(user is not None and user.is_active and user.is_staff)


def _is_without_length(request: HttpRequest) -> bool:
    """Return whether a request of WSGI has no Content-Length. Django passes the body of such a request as empty."""
    return "wsgi.input" in request.META and not request.META.get("CONTENT_LENGTH")


def _is_chunked_and_unreadable(request: HttpRequest) -> bool:
    """Return whether the body came in chunks whose end the web server does not tell. Reading could wait for ever."""
    return (
        _is_without_length(request)
        and bool(request.META.get("HTTP_TRANSFER_ENCODING"))
        and not request.META.get("wsgi.input_terminated")
    )


def _read(request: HttpRequest, limit: int) -> bytes | None:
    """Return the raw body, or ``None`` if it has more than ``limit`` bytes.

    The stream is read directly, because Django's own limit answers 400 and is too small for a full callback. The body
    stays available as ``request.body`` for middlewares; it is empty there if it was too large.
    """
    body = _read_stream(request, limit)
    kept = body if body is not None and len(body) <= limit else None
    # A middleware may read `request.body` after the view. Without this, Django raises and Meta gets a 500.
    # test_a_middleware_may_read_the_body_after_the_view
    if not getattr(request, "_body", b""):
        request._body = kept or b""
        request._stream = io.BytesIO(kept or b"")
    return kept


def _read_stream(request: HttpRequest, limit: int) -> bytes | None:
    """Return up to ``limit + 1`` bytes, or ``None`` if the announced length exceeds the limit."""
    if _is_without_length(request) and request.META.get("wsgi.input_terminated"):
        # Also if a middleware has asked for the body: Django gave it an empty one and left the stream unread.
        return _read_terminated(request.META["wsgi.input"], limit + 1)
    if hasattr(request, "_body"):
        return request.body
    try:
        if int(request.META.get("CONTENT_LENGTH") or 0) > limit:
            return None
    except ValueError:
        # Django reads no body either if CONTENT_LENGTH is not a number.
        return b""
    return request.read(limit + 1)


def _read_terminated(stream: Any, size: int) -> bytes:
    """Read up to ``size`` bytes. One read of such a stream may return less than there is."""
    body = b""
    while len(body) < size and (chunk := stream.read(size - len(body))):
        body += chunk
    return body


def _why_wrong(body: bytes) -> str:
    """Return the probable reason of a wrong signature."""
    if not body:
        return "its body is empty; a middleware may have read it before"
    if _is_written_again(body):
        return (
            "its signature is not made with DJM_APP_SECRET over these bytes, and its JSON is not written as Meta "
            "writes it; a proxy may have parsed the body and written it again, and must pass it on unchanged"
        )
    return "its signature is not made with DJM_APP_SECRET"


def _is_written_again(body: bytes) -> bool:
    """Return whether the body is JSON, but not compact or not escaped, as that of Meta is."""
    try:
        # `Raw` checks the notation without making objects, which would take many times the memory of the body.
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return bool(_UNESCAPED.search(body)) or len(_STRING.sub(b"", body).split()) > 1


def _text(text: str, status: int) -> HttpResponse:
    response = HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
    response["X-Content-Type-Options"] = "nosniff"
    return response
