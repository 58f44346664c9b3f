"""Web process of a pass: serves the webhook with the faults inside a process.

The first argument is the port. A second argument ``intake`` puts ``djmessenger.intake_app`` in front of Django.
"""

from __future__ import annotations

import socketserver
import sys
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from django.core.wsgi import get_wsgi_application

from chaos.inside import set_up
from djmessenger import intake_app


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


class Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64


if __name__ == "__main__":
    set_up()
    application = get_wsgi_application()
    if "intake" in sys.argv[2:]:
        application = intake_app.wsgi(application)
    with make_server("127.0.0.1", int(sys.argv[1]), application, Server, Quiet) as server:
        server.serve_forever()
