"""Real web servers for tests: their commands, and a process of one of them."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from messenger_emulator.server import Callback
from tests import pipeline_tools as tools
from tests.pipeline_tools import LONG, until

WSGI, ASGI = "tests.served:wsgi", "tests.served:asgi"
GUNICORN = ["-m", "gunicorn", "--bind", "127.0.0.1:{port}"]
UVICORN = ["-m", "uvicorn", "--port", "{port}", "--log-level", "warning"]
GRANIAN = ["-m", "granian", "--port", "{port}", "--interface"]
UWSGI = [
    "--http-socket",
    "127.0.0.1:{port}",
    "--master",
    "--enable-threads",
    "--die-on-term",
    "--module",
    WSGI,
]
UWSGI_PROGRAM = Path(sys.executable).with_name("uwsgi")
WORKER_MODULES = {"uvicorn_worker.UvicornWorker"}
SERVERS: dict[str, list[str]] = {
    "gunicorn-sync": [*GUNICORN, "--workers", "2", WSGI],
    "gunicorn-gthread": [*GUNICORN, "--workers", "2", "--threads", "4", WSGI],
    "gunicorn-preload": [*GUNICORN, "--workers", "2", "--threads", "4", "--preload", WSGI],
    "gunicorn-uvicorn": [*GUNICORN, "--workers", "2", "-k", "uvicorn_worker.UvicornWorker", ASGI],
    "gunicorn-uvicorn-preload": [*GUNICORN, "-k", "uvicorn_worker.UvicornWorker", "--preload", ASGI],
    "uvicorn": [*UVICORN, ASGI],
    "uvicorn-workers": [*UVICORN, "--workers", "2", ASGI],
    # One process each for granian and uWSGI: they lose a SIGTERM that comes while a second one still loads the app, and
    # wait for it for ever.
    "granian-wsgi": [*GRANIAN, "wsgi", "--workers", "1", "--blocking-threads", "4", WSGI],
    "granian-asgi": [*GRANIAN, "asginl", "--workers", "1", ASGI],
    "daphne": ["-m", "daphne", "--port", "{port}", ASGI],
    "uwsgi": ["uwsgi", *UWSGI, "--processes", "1", "--lazy-apps"],
    "uwsgi-threads": ["uwsgi", *UWSGI, "--threads", "4", "--lazy-apps"],
    "wsgiref": ["-m", "chaos.web", "{port}"],
}


def missing(arguments: list[str]) -> str:
    """Return the module that a server lacks, or the empty text."""
    needed = ["uwsgi"] if arguments[0] == "uwsgi" else [arguments[1], *WORKER_MODULES & set(arguments)]
    for module in needed:
        if module == "uwsgi":
            found = UWSGI_PROGRAM.exists()
        else:
            found = importlib.util.find_spec(module.partition(".")[0]) is not None
        if not found:
            return module
    return ""


class Server:
    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        arguments = [argument.format(port=self.port) for argument in arguments]
        is_uwsgi = arguments[0] == "uwsgi"
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(UWSGI_PROGRAM), *arguments[1:]] if is_uwsgi else [sys.executable, *arguments],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(self._answers, "a listening server", log.read_text)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        # The socket listens before the first process has loaded the app, so the answer counts.
        with contextlib.suppress(OSError, http.client.HTTPException):
            return Callback(f"http://127.0.0.1:{self.port}/messenger").get({})[0] == 200
        return False

    def post(self, content: bytes, *, chunked: bool = False, signature: str = "") -> int:
        headers = {"Content-Type": "application/json", **tools.signed(content)}
        if signature:
            headers["X-Hub-Signature-256"] = signature
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG)
        with contextlib.closing(connection):
            # The client sends an iterable in chunks.
            parts = iter([content[:7], content[7:]]) if chunked else content
            connection.request("POST", "/messenger", body=parts, headers=headers, encode_chunked=chunked)
            return connection.getresponse().status

    def children(self) -> set[str]:
        pid = self.process.pid
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
