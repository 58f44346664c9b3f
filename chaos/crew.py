"""The processes of a pass: started, killed by failpoints, frozen, started again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WEB_POINTS = ["intake_body_read", "intake_stored"]
WORKER_POINTS = [
    "intake_splitting",
    "inbox_claimed",
    "inbox_in_handler",
    "inbox_before_commit",
    "inbox_before_release",
    "outbox_claimed",
    "outbox_attempt_committed",
    "outbox_request_written",
    "outbox_answer_read",
    "outbox_before_release",
    "outbox_resolving",
]
FREEZE = 4.0
"""Seconds; longer than a lease."""


class Process:
    """One process that is started again when it ends, with the failpoints armed that killed nobody yet."""

    def __init__(self, crew: Crew, name: str, command: list[str], points: list[str]) -> None:
        self._crew = crew
        self.name = name
        self._command = command
        self._points = points
        self.port = 0
        self.log = crew.folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            **self._crew.environment,
            "DJM_FAILPOINT": ",".join(self._crew.points_left(self._points)),
            "DJM_FAILPOINT_HITS": str(self._crew.hits),
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self._command], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def end(self, timeout: float) -> int | None:
        """Ask it to end; its exit status, None when it had to be killed."""
        if self.process is None:
            return 0
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


class Crew:
    """All processes of a pass, and a thread that watches over them."""

    def __init__(self, folder: Path, environment: dict[str, str], seed: int, *, workers: int) -> None:
        self.folder = folder
        self.hits = folder / "hits"
        self.hits.mkdir()
        self.environment = environment
        self.armed = False
        self.deaths: Counter[str] = Counter()
        self._choose = random.Random(f"crew {seed}")
        self._ended = threading.Event()
        self._freeze = threading.Lock()
        self.webs = []
        for number in (1, 2):
            port = free_port()
            web = Process(self, f"web{number}", ["-m", "chaos.web", str(port)], WEB_POINTS)
            web.port = port
            self.webs.append(web)
        self.workers = [
            Process(self, f"worker{number}", ["-m", "chaos.worker"], WORKER_POINTS)
            for number in range(1, workers + 1)
        ]
        self._watch = threading.Thread(target=self._restart, daemon=True)

    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{web.port}/messenger" for web in self.webs]

    def points_left(self, points: list[str]) -> list[str]:
        """Give the failpoints that have not killed anybody yet."""
        return [point for point in points if self.armed and not (self.hits / point).exists()]

    def missing(self) -> list[str]:
        return [point for point in WEB_POINTS + WORKER_POINTS if not (self.hits / point).exists()]

    def start(self, processes: list[Process]) -> None:
        for process in processes:
            process.start()

    def watch(self) -> None:
        self._watch.start()

    def _restart(self) -> None:
        while not self._ended.wait(0.05):
            for process in [*self.webs, *self.workers]:
                if process.process is not None and not process.alive() and not self._ended.is_set():
                    self.deaths[process.name] += 1
                    process.start()

    def freeze_one(self) -> str:
        """Stop a worker for longer than its leases last, then let it go on."""
        process = self._choose.choice(self.workers)
        with self._freeze:
            process.signal(signal.SIGSTOP)
            self._ended.wait(FREEZE)
            process.signal(signal.SIGCONT)
        return process.name

    def stop(self) -> dict[str, int | None]:
        self._ended.set()
        if self._watch.is_alive():
            self._watch.join()
        return {process.name: process.end(30) for process in [*self.workers, *self.webs]}

    def logs(self) -> Iterator[tuple[str, str]]:
        for process in [*self.webs, *self.workers]:
            if process.log.exists():
                yield process.name, process.log.read_text(errors="replace")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def environment(**more: str) -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": paths, "DJANGO_SETTINGS_MODULE": "chaos.settings", **more}
