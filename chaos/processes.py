"""Processes of a pass: started, killed by failpoints, frozen, restarted."""

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
from collections.abc import Callable, Iterator, Sequence
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
COMMAND_POINTS = {
    "purge_between_chunks": ["purge"],
    "replay_between_rows": ["replay", "--state", "failed"],
}
"""Arguments of the command in which each failpoint is."""

CELERY = [sys.executable, "-m", "celery", "-A", "chaos.celery_app"]
_QUIET = ["--without-gossip", "--without-mingle", "--without-heartbeat"]


class Process:
    """Process that is restarted when it ends, with the failpoints armed that have killed no process yet."""

    def __init__(self, processes: Processes, name: str, command: list[str], points: list[str]) -> None:
        self._processes = processes
        self.name = name
        self._command = command
        self._points = points
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # The process leads a group, so that Celery's children are killed and frozen with it.
        self.process = self._processes.run(self.name, self._command, self._points)

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def frozen(self) -> bool:
        return is_frozen(self.process.pid if self.process else 0)

    def signal(self, number: int) -> None:
        """Send a signal to the process and its children."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM, after SIGCONT for a frozen process."""
        if self.process is not None:
            self.signal(signal.SIGCONT)
            self.process.terminate()

    def wait(self, timeout: float) -> int | None:
        """Wait for the end and return the exit status; kill the process after ``timeout`` and return None."""
        if self.process is None:
            return 0
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout)
        self.kill()
        return None

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()


class Processes:
    """All processes of a pass, and a thread that restarts dead ones."""

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        seed: int,
        *,
        workers: int,
        dispatcher: str,
        intakes: Sequence[bool],
    ) -> None:
        self.folder = folder
        self.hits = folder / "hits"
        self.hits.mkdir()
        self.environment = environment
        self.armed = False
        self.deaths: Counter[str] = Counter()
        self._choose = random.Random(f"crew {seed}")
        self._ended = threading.Event()
        self._lock = threading.Lock()
        embedded, celery = dispatcher == "embedded", dispatcher == "celery"
        self.webs = []
        for number in range(1, 1 + (workers if embedded else 2)):
            port = free_port()
            points = [*WEB_POINTS, *(WORKER_POINTS if embedded else [])]
            words = [str(port), *(["intake"] if intakes[number % len(intakes)] else [])]
            web = Process(self, f"web{number}", [sys.executable, "-m", "chaos.web", *words], points)
            web.port = port
            self.webs.append(web)
        command = [*CELERY, "worker", "-P", "prefork", "-c", "2", "-l", "INFO", *_QUIET]
        if not celery:
            command = [sys.executable, "-m", "chaos.worker"]
        self.workers = [
            Process(
                self,
                f"worker{number}",
                [*command, *(["-n", f"worker{number}"] if celery else [])],
                WORKER_POINTS,
            )
            for number in range(1, 1 + (0 if embedded else workers))
        ]
        self.handling = self.webs if embedded else self.workers
        """Processes that handle events."""
        beat = [*CELERY, "beat", "-l", "INFO", "-s", str(folder / "schedule"), "--pidfile="]
        self.others = [Process(self, "beat", beat, [])] if celery else []
        self._watch = threading.Thread(target=self._restart, daemon=True)

    @property
    def all(self) -> list[Process]:
        return [*self.workers, *self.others, *self.webs]

    def run(self, name: str, command: list[str], points: list[str]) -> subprocess.Popen[bytes]:
        """Start a process that dies at the first of these failpoints that has killed no process yet."""
        environment = {
            **self.environment,
            "CHAOS_NAME": name,
            "DJM_FAILPOINT": ",".join(point for point in points if self.armed and not self.has_killed(point)),
            "DJM_FAILPOINT_HITS": str(self.hits),
        }
        with (self.folder / f"{name}.log").open("ab") as output:
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
            )

    def urls(self) -> list[str]:
        """Return the addresses of the web processes that are not frozen, as a proxy with health checks uses them."""
        well = [web for web in self.webs if not web.frozen()] or self.webs
        return [f"http://127.0.0.1:{web.port}/messenger" for web in well]

    def has_killed(self, point: str) -> bool:
        return (self.hits / point).exists()

    def killed(self) -> list[str]:
        return sorted(path.name for path in self.hits.iterdir())

    def missing(self) -> list[str]:
        return [point for point in WEB_POINTS + WORKER_POINTS if not self.has_killed(point)]

    def watch(self) -> None:
        self._watch.start()

    def _restart(self) -> None:
        while not self._ended.wait(0.05):
            with self._lock:
                for process in self.all:
                    if process.process is not None and not process.alive() and not self._ended.is_set():
                        self.deaths[process.name] += 1
                        # Celery's children outlive their parent, so the group is killed too.
                        process.kill()
                        process.start()

    def freeze_one(self, seconds: float) -> str:
        """Freeze a process that handles events for ``seconds``, longer than its leases; then continue it."""
        process = self._choose.choice(self.handling)
        process.signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.signal(signal.SIGCONT)
        return process.name

    def kill_one(self) -> str:
        """Kill a process that handles events at a random point."""
        process = self._choose.choice(self.handling)
        process.signal(signal.SIGKILL)
        return process.name

    def command(self, *words: str, points: list[str]) -> subprocess.Popen[bytes]:
        """Start a management command of the bot."""
        command = [sys.executable, "-m", "django", "djmessenger", *words]
        return self.run(words[0], command, points)

    def stop(self, timeout: float) -> dict[str, int | None]:
        with self._lock:
            self._ended.set()
        end = time.monotonic() + timeout
        for process in self.all:
            process.terminate()
        return {process.name: process.wait(max(0.0, end - time.monotonic())) for process in self.all}

    def kill(self) -> None:
        with self._lock:
            self._ended.set()
        for process in self.all:
            process.kill()

    def logs(self) -> Iterator[tuple[str, str]]:
        for path in sorted(self.folder.glob("*.log")):
            yield path.stem, path.read_text(errors="replace")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _stat(process_id: int) -> list[str]:
    """Return the fields of a process that follow its name in ``/proc``; empty without the process or ``/proc``."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return []


def is_frozen(process_id: int) -> bool:
    """Return whether a signal has stopped a process. False on systems without ``/proc``."""
    return _stat(process_id)[:1] == ["T"]


def cpu_seconds(process_id: int) -> float:
    """Return the seconds of CPU time that a process has used. Zero on systems without ``/proc``."""
    return sum(map(int, _stat(process_id)[11:13])) / os.sysconf("SC_CLK_TCK")


def wait_while_it_works(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Wait for the end of a process and return its exit status, whatever time a busy machine needs.

    Return None, and kill the process, if it uses no CPU time for ``seconds``, or more than ``seconds`` in all.
    """
    used, last = 0.0, time.monotonic()
    while (code := process.poll()) is None:
        if (now_used := cpu_seconds(process.pid)) > used:
            used, last = now_used, time.monotonic()
        if used > seconds or time.monotonic() - last > seconds:
            process.kill()
            process.wait()
            return None
        time.sleep(0.05)
    return code


def until(condition: Callable[[], bool], seconds: float, *, every: float = 0.05) -> bool:
    """Wait until the condition is true, and return False after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


def environment(**more: str) -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": paths, "DJANGO_SETTINGS_MODULE": "chaos.settings", **more}
