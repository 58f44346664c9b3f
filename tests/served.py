"""WSGI and ASGI applications of the test project, for tests with real web servers."""

from __future__ import annotations

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

from djmessenger import intake_app
from djmessenger.asgi import limit

wsgi = get_wsgi_application()
asgi = get_asgi_application()
limited_asgi = limit(asgi)
intake_wsgi = intake_app.wsgi(wsgi)
intake_asgi = intake_app.asgi(asgi)
