"""Intake in front of Django: it answers the callbacks of Meta with a fraction of the CPU that the view needs.

It wraps the project's application in ``wsgi.py`` or ``asgi.py``::

    application = intake_app.wsgi(get_wsgi_application())

A POST whose path leads to the webhook is verified by the rules of the view. Many callbacks are then stored in one
commit, and each is answered 200 after it. Any other request goes to the project's application unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.utils.module_loading import import_string

__all__ = ["asgi", "wsgi"]


def asgi(application: Callable[..., Any]) -> Callable[..., Any]:
    """Return an ASGI application that stores callbacks, and passes all other requests to ``application``.

    Call it after Django is set up, as by ``get_asgi_application()``.
    """
    return _build("ASGIIntake", application)


def wsgi(application: Callable[..., Any]) -> Callable[..., Any]:
    """Return a WSGI application that stores callbacks, and passes all other requests to ``application``.

    Call it after Django is set up, as by ``get_wsgi_application()``.
    """
    return _build("WSGIIntake", application)


def _build(name: str, application: Callable[..., Any]) -> Callable[..., Any]:
    # A project imports this file before Django is set up. Models cannot be imported then, so the import is here.
    built: Callable[..., Any] = import_string(f"djmessenger.intake.{name}")(application)
    return built
