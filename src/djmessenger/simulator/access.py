"""Who may use the simulator, and the headers of everything it answers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from djmessenger.settings import app_settings
from djmessenger.simulator.shared_process import forward

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the page and of all it loads."""

View = Callable[..., HttpResponseBase]


def is_enabled() -> bool:
    """Whether there is a simulator here at all."""
    return bool(settings.DEBUG or app_settings.DJM_SIMULATOR)


def is_open_to(request: HttpRequest) -> bool:
    """Whether this visitor may use it: anybody in DEBUG, else staff where ``DJM_SIMULATOR`` is on."""
    if settings.DEBUG:
        return True
    user = getattr(request, "user", None)
    return bool(app_settings.DJM_SIMULATOR and user is not None and user.is_active and user.is_staff)


def for_visitors(view: View) -> View:
    """Answer 404 to those who may not use the simulator, and ask for the CSRF token on every POST."""

    @csrf_protect
    @functools.wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return _with_headers(view(request, *args, **kwargs))

    @functools.wraps(view)
    def outer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not is_open_to(request):
            raise Http404
        return forward(request) or inner(request, *args, **kwargs)

    # The rule above stands in for a login, whatever middleware the project has; and strangers get their 404
    # before anything is said about a token, which ``inner`` asks for.
    return csrf_exempt(login_not_required(outer))


def for_machines(view: View) -> View:
    """Answer 404 where there is no simulator; the view itself looks at the token that it was called with."""

    @functools.wraps(view)
    def outer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not is_enabled():
            raise Http404
        return forward(request) or _with_headers(view(request, *args, **kwargs))

    return login_not_required(outer)


def _with_headers(response: HttpResponseBase) -> HttpResponseBase:
    for name, value in (
        ("Content-Security-Policy", POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "same-origin"),
        ("Cache-Control", "no-store"),
    ):
        response.headers.setdefault(name, value)
    return response
