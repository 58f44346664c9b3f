"""Access to the simulator, and the security headers of all its answers."""

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
"""Content-Security-Policy of the page and of its assets."""

_ROWS = ("callback", "messaging", "reply", "attempt", "conversation", "fbuserprofile")
"""Models whose rows the page shows."""

View = Callable[..., HttpResponseBase]


def is_enabled() -> bool:
    """Return whether this site serves the simulator at all."""
    return bool(settings.DEBUG or app_settings.DJM_SIMULATOR)


def is_open_to(request: HttpRequest) -> bool:
    """Return True in DEBUG; otherwise True for active staff if ``DJM_SIMULATOR`` is on."""
    if settings.DEBUG:
        return True
    user = getattr(request, "user", None)
    return bool(app_settings.DJM_SIMULATOR and user is not None and user.is_active and user.is_staff)


def may_see_persons(request: HttpRequest) -> bool:
    """Return whether the visitor may see the rows of real persons, by the permissions of the admin."""
    user = getattr(request, "user", None)
    return (
        user is not None
        and user.is_active
        and user.is_staff
        and all(user.has_perm(f"djmessenger.view_{model}") for model in _ROWS)
    )


def for_visitors(view: View) -> View:
    """Answer 404 to visitors without access, and require the CSRF token on every POST."""

    @csrf_protect
    @functools.wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return _with_headers(view(request, *args, **kwargs))

    @functools.wraps(view)
    def outer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not is_open_to(request):
            raise Http404
        return forward(request) or inner(request, *args, **kwargs)

    # The check above replaces the login of the project's middleware. ``inner`` checks the CSRF token, so a
    # visitor without access gets 404 before an error about the token could show that the page exists.
    return csrf_exempt(login_not_required(outer))


def for_machines(view: View) -> View:
    """Answer 404 if the site serves no simulator; the view itself checks the access token of the call."""

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
