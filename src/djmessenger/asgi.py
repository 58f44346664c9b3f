"""Limit of bodies for a project that runs under ASGI.

Django's ASGI handler stores a body of any size on disk before a view runs. It wraps the application in ``asgi.py``::

    application = asgi.limit(get_asgi_application())
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.utils.module_loading import import_string

__all__ = ["limit"]


def limit(application: Callable[..., Any]) -> Callable[..., Any]:
    """Return an ASGI application that answers 413 to a body of the webhook over ``DJM_MAX_BODY``.

    A smaller body is held in memory until it is complete, and then ``application`` gets it. All other requests and
    protocols pass through. Call it after Django is set up, as by ``get_asgi_application()``.
    """
    # A project imports this file before Django is set up. Models cannot be imported then, so the import is here.
    limited: Callable[..., Any] = import_string("djmessenger.intake.ASGILimit")(application)
    return limited
