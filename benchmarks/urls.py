"""URLs of the webhook and of three bare views over the same bytes."""

from __future__ import annotations

import hashlib
import hmac
import json

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from benchmarks.plain_sender import INSERT
from djmessenger import bot


def _is_signed(request: HttpRequest) -> bool:
    secret = next(iter(bot.app_secrets().values())).reveal().encode()
    expected = "sha256=" + hmac.new(secret, request.body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, request.headers["X-Hub-Signature-256"])


@csrf_exempt
def bare_decode(request: HttpRequest) -> HttpResponse:
    assert _is_signed(request)
    assert json.loads(request.body)["entry"]
    return HttpResponse()


@csrf_exempt
def bare_insert(request: HttpRequest) -> HttpResponse:
    assert _is_signed(request)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO bare VALUES (%s)", [request.body])
    return HttpResponse()


@csrf_exempt
def plain(request: HttpRequest) -> HttpResponse:
    """Insert the callback for ``benchmarks.plain_sender``."""
    assert _is_signed(request)
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [request.body])
    return HttpResponse()


# Django compares paths in this order. The webhook is first, so it costs no more comparisons than a bare view.
urlpatterns = [
    path("", include("djmessenger.urls")),
    path("plain", plain),
    path("bare-decode", bare_decode),
    path("bare-insert", bare_insert),
]
