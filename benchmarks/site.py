"""Whole site for a benchmark: database, web processes, worker and Graph as separate processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests import postgresql

ROOT = Path(__file__).parent.parent
PAGE = "104233987650012"
TICKS = os.sysconf("SC_CLK_TCK")

DURABLE = "-c listen_addresses= -c max_connections=150 -c shared_buffers=256MB -c max_wal_size=4GB"
"""Options of the server. All options for durable commits keep their defaults, which are on.

Three workers with all their slow threads and two web processes use about 100 connections.
"""


@contextlib.contextmanager
def database(kind: str, folder: Path) -> Iterator[dict[str, str]]:
    """Yield the environment variables of a new database: ``postgresql`` or ``sqlite``."""
    if kind == "sqlite":
        yield {"DJM_TEST_SQLITE": str(folder / "bench.sqlite3")}
        return
    with postgresql.server(DURABLE) as home:
        yield {"DJM_TEST_POSTGRESQL": str(home)}


def callback(number: int | str, person: int, *, say: str = "") -> str:
    """Return a callback with one text; the bot answers ``say``, by default the number."""
    return batch([(number, person)], say=say)


def batch(events: Sequence[tuple[int | str, int]], *, say: str = "") -> str:
    """Return a callback with one text for each (number, person)."""
    items = [
        {
            "sender": {"id": str(7_000_000_000_000_000 + person)},
            "recipient": {"id": PAGE},
            "timestamp": int(time.time() * 1000),
            "message": {"mid": f"m_in_{number}", "text": say or f"say {number}"},
        }
        for number, person in events
    ]
    return json.dumps({"object": "page", "entry": [{"id": PAGE, "time": 0, "messaging": items}]})


class Site:
    """Processes of a site during a ``with`` block.

    With ``intake`` the application of ``djmessenger.intake_app`` answers the callbacks, in front of Django.
    """

    def __init__(
        self,
        environment: dict[str, str],
        *,
        delay: int = 150,
        web: int = 2,
        workers: int = 1,
        intake: bool = False,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._counts = web, workers
        # A request of the intake waits in its thread for the commit of its group. Two threads would make groups of two.
        self._web_threads = 32 if intake else 2
        self.environment = os.environ | environment
        self.environment |= {
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "BENCH_INTAKE": "1" if intake else "",
        }
        self._delay = delay
        self.processes: dict[str, list[subprocess.Popen[Any]]] = {}

    def __enter__(self) -> Site:
        with contextlib.ExitStack() as stack:
            graph = self._start(
                "graph", ["-m", "benchmarks.graph_standin", str(self._delay)], stdout=subprocess.PIPE
            )
            stack.callback(self.stop)
            self.graph_port = int(graph.stdout.readline())  # type: ignore[union-attr]
            self.environment["BENCH_GRAPH_URL"] = f"http://127.0.0.1:{self.graph_port}"
            web, workers = self._counts
            if web:
                with socket.create_server(("127.0.0.1", 0)) as probe:
                    self.port = probe.getsockname()[1]
                command = ["-m", "gunicorn", "--workers", str(web), "--threads", str(self._web_threads)]
                command += ["--log-level", "error", "--bind", f"127.0.0.1:{self.port}"]
                self._start("web", [*command, "benchmarks.wsgi"])
                self._wait_for_web()
            for _ in range(workers):
                self.start_worker()
            stack.pop_all()
        return self

    def start_worker(self) -> subprocess.Popen[Any]:
        # Ten threads, and one each for polling, splitting, settling and listening: 14 connections.
        return self._start("worker", ["-m", "django", "djmessenger", "worker", "--threads", "10"])

    def _start(self, name: str, arguments: list[str], **options: Any) -> subprocess.Popen[Any]:
        process = subprocess.Popen([sys.executable, *arguments], env=self.environment, cwd=ROOT, **options)
        self.processes.setdefault(name, []).append(process)
        return process

    def _wait_for_web(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise RuntimeError("the web processes do not answer")

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self, names: Sequence[str] = ("web", "worker", "plain", "graph")) -> None:
        for name in names:
            for process in self.processes.get(name, []):
                process.send_signal(signal.SIGTERM)
            for process in self.processes.pop(name, []):
                process.wait(40)

    def graph(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.graph_port}{path}", timeout=30) as answer:
            return json.load(answer)

    def start_plain_sender(self) -> None:
        """Start ``benchmarks.plain_sender`` and wait until it has its connection to the database."""
        process = self._start("plain", ["-m", "benchmarks.plain_sender"], stdout=subprocess.PIPE)
        assert process.stdout.readline()  # type: ignore[union-attr]

    def sender(
        self, bodies: list[str], *, path: str = "messenger", rate: float = 0, connections: int = 8
    ) -> subprocess.Popen[str]:
        """Start to post; ``result`` waits for the end."""
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.sender"],
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        request = {
            "port": self.port,
            "path": path,
            "rate": rate,
            "connections": connections,
            "bodies": bodies,
        }
        process.stdin.write(json.dumps(request))  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]
        return process

    def post(self, bodies: list[str], *, rate: float = 0, connections: int = 8) -> dict[str, Any]:
        """Post all bodies and return the output of ``benchmarks.sender``."""
        return result(self.sender(bodies, rate=rate, connections=connections))

    def cpu(self, name: str) -> float:
        """Return the CPU seconds of all processes of a kind and of their children."""
        return sum(_cpu(pid) for process in self.processes[name] for pid in _family(process.pid))

    def memory(self, name: str) -> float:
        """Return the proportional set size of all processes of a kind and of their children, in megabytes."""
        return sum(_memory(pid) for process in self.processes[name] for pid in _family(process.pid))


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    output: dict[str, Any] = json.load(process.stdout)  # type: ignore[arg-type]
    process.wait()
    return output


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(grandchild for child in children for grandchild in _family(int(child)))]


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _memory(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    pss = next(line for line in lines if line.startswith("Pss:"))
    return int(pss.split()[1]) / 1024


def postgresql_cpu(environment: dict[str, str]) -> float:
    """Return the CPU seconds of the server, including closed connections."""
    home = Path(environment["DJM_TEST_POSTGRESQL"])
    pid = int((home / "data" / "postmaster.pid").read_text().split()[0])
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) / TICKS
    return ended + sum(_cpu(member) for member in _family(pid))


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
