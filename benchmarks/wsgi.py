"""WSGI application of the benchmarks. If ``BENCH_INTAKE`` is set, the intake stands in front of it."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

from djmessenger import intake_app

application = get_wsgi_application()
if os.environ.get("BENCH_INTAKE"):
    application = intake_app.wsgi(application)
