"""Which database the tests use, and the habits that all tests share."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.test import SimpleTestCase, TransactionTestCase
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from djmessenger import bot
from djmessenger.emulator import EmulatorTransport
from messenger_emulator import Emulator
from messenger_emulator.server import serve
from tests import pipeline_tools, postgresql
from tests.settings import LOCAL_TIMES, postgresql_database, sqlite_file_database

DATABASE_FIXTURES = {
    "db",
    "django_db_reset_sequences",
    "django_db_serialized_rollback",
    "empty_database",
    "file_database",
    "transactional_db",
    "two_databases",
}

# Two busy cores are slower than a deadline of milliseconds allows for.
hypothesis_settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
hypothesis_settings.register_profile(
    "long", parent=hypothesis_settings.get_profile("tests"), max_examples=2000
)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=["sqlite", "postgresql"],
        default=os.environ.get("DJM_TEST_DATABASE", "sqlite"),
        help="Database of the tests; postgresql starts a server and runs the tests that touch a database.",
    )
    parser.addoption(
        "--local-times",
        metavar="ZONE",
        help="Run the tests in a project that stores local times of this time zone (USE_TZ = False).",
    )


def pytest_configure(config: pytest.Config) -> None:
    if zone := config.getoption("--local-times"):
        # Processes that tests start find it in the environment, like the workers of xdist.
        os.environ[LOCAL_TIMES] = zone
        settings.USE_TZ, settings.TIME_ZONE = False, zone
        os.environ["TZ"] = zone
        time.tzset()
    config.addinivalue_line("markers", "sqlite: only for SQLite, with the reason as argument")
    config.addinivalue_line("markers", "time_zones: only with USE_TZ = True, with the reason as argument")
    config.addinivalue_line("markers", "postgresql: only for PostgreSQL, with the reason as argument")
    if config.getoption("--database") != "postgresql":
        return
    if not hasattr(config, "workerinput") and "DJM_TEST_POSTGRESQL" not in os.environ:
        stack = contextlib.ExitStack()
        config.add_cleanup(stack.close)
        try:
            socket = stack.enter_context(postgresql.server())
        except postgresql.NoPostgreSQL as error:
            raise pytest.UsageError(str(error)) from error
        # Workers of xdist, and the processes that tests start, find the same server.
        os.environ["DJM_TEST_POSTGRESQL"] = str(socket)
        stack.callback(os.environ.pop, "DJM_TEST_POSTGRESQL", None)
    use_database(postgresql_database(os.environ["DJM_TEST_POSTGRESQL"]))


def use_database(database: dict[str, Any], **others: dict[str, Any]) -> None:
    """Point Django at another database, and at others by their alias; the settings were read before this file was."""
    settings.DATABASES = {"default": database, **others}
    connections.__dict__.pop("settings", None)
    connections._settings = None
    for alias in settings.DATABASES:
        with contextlib.suppress(AttributeError):
            del connections[alias]


def pytest_report_header(config: pytest.Config) -> str:
    return f"database: {config.getoption('--database')}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL run the tests that touch a database: the others are the same on any."""
    database = config.getoption("--database")
    kept, left_out = [], []
    for item in items:
        other = "postgresql" if database == "sqlite" else "sqlite"
        wanted = item.get_closest_marker(other) is None
        if config.getoption("--local-times"):
            wanted = wanted and item.get_closest_marker("time_zones") is None
        if database == "postgresql":
            wanted = wanted and touches_database(item)
            if "file_database" in getattr(item, "fixturenames", ()):
                # Asked for by name only inside the fixture, it would come too late to be heeded.
                item.add_marker(pytest.mark.django_db(transaction=True))
        (kept if wanted else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def touches_database(item: pytest.Item) -> bool:
    if item.get_closest_marker("django_db") or DATABASE_FIXTURES & set(getattr(item, "fixturenames", ())):
        return True
    cls = getattr(item, "cls", None)
    if cls is None or not issubclass(cls, unittest.TestCase):
        return False
    return issubclass(cls, TransactionTestCase) or bool(issubclass(cls, SimpleTestCase) and cls.databases)


@pytest.fixture(scope="session")
def migrated_file(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any
) -> Path:
    """A migrated SQLite file, which the tests copy, because to apply the migrations takes seconds."""
    path = tmp_path_factory.mktemp("migrated") / "test.sqlite3"
    with django_db_blocker.unblock(), used_database(path):
        call_command("migrate", verbosity=0)
    return path


@contextlib.contextmanager
def used_database(path: Path) -> Iterator[None]:
    """Make a SQLite file the default database of the block."""
    before, in_memory = settings.DATABASES["default"], connections["default"]
    use_database(sqlite_file_database(path))
    try:
        yield
    finally:
        connections["default"].close()
        use_database(before)
        connections["default"] = in_memory


@pytest.fixture
def file_database(
    request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: Any
) -> Iterator[dict[str, Any]]:
    """A migrated database that several threads and processes can open; gives its settings.

    On PostgreSQL that is the test database. On SQLite it is a file with the settings that the docs name for production,
    since a database in memory belongs to one connection.
    """
    if settings.DATABASES["default"]["ENGINE"].endswith("postgresql"):
        request.getfixturevalue("transactional_db")
        yield settings.DATABASES["default"]
        return
    path = tmp_path / "test.sqlite3"
    shutil.copyfile(request.getfixturevalue("migrated_file"), path)
    with django_db_blocker.unblock(), used_database(path):
        yield settings.DATABASES["default"]


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """PostgreSQL cannot drop the test database while a session uses it, such as that of the thread of wake-ups."""
    yield
    pipeline_tools.wait_for_publishers()
    with django_db_blocker.unblock():
        pipeline_tools.wait_for_sessions()


@pytest.fixture
def emulator(settings: Any) -> Iterator[Emulator]:
    """Meta, with the Page and the app of the test settings; what the bot sends goes there."""
    world = Emulator()
    world.add_page(
        "104233987650012",
        settings.DJM_PAGE_ACCESS_TOKEN,
        app_secret=settings.DJM_APP_SECRET,
        require_proof=True,
    )
    bot.use_transport(EmulatorTransport(world))
    try:
        yield world
    finally:
        bot.use_transport(None)


@pytest.fixture
def command(
    file_database: dict[str, Any], emulator: Emulator, settings: Any, tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start ``djmessenger worker`` with these options; gives the process. ``log`` is the path of its output.

    ``database`` overrides settings of the database, ``variables`` the environment. Meta is there over HTTP.
    """
    settings.DJM_DISPATCHER = "worker"
    emulator.enforce_window = False
    graph = serve(emulator)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(["src", ".", "tests/project"]),
        "DJANGO_SETTINGS_MODULE": "tests.celery_settings",
        "DJM_TEST_DISPATCHER": "worker",
        "DJM_TEST_GRAPH": graph.url,
        "DJM_TEST_DATABASE_NAME": str(file_database["NAME"]),
    }
    if "sqlite" in file_database["ENGINE"]:
        environment["DJM_TEST_SQLITE"] = str(file_database["NAME"])
    started: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "worker.log"

    def start(
        *options: str,
        database: dict[str, Any] | None = None,
        program: Sequence[str] = ("-m", "django", "djmessenger", "worker"),
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            started.append(
                subprocess.Popen(
                    [sys.executable, *program, *options],
                    env={
                        **environment,
                        "DJM_TEST_DATABASE_MORE": json.dumps(database or {}),
                        **(variables or {}),
                    },
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        return started[-1]

    start.log = log  # type: ignore[attr-defined]
    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        graph.stop()


@pytest.fixture
def empty_database(tmp_path: Path, django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """A database without tables in the place of the default one."""
    before, its_connection = settings.DATABASES["default"], connections["default"]
    with django_db_blocker.unblock():
        if before["ENGINE"].endswith("postgresql"):
            name = f"{its_connection.settings_dict['NAME']}_empty"
            with its_connection.cursor() as cursor:
                cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
                cursor.execute(f'CREATE DATABASE "{name}"')
            use_database({**before, "NAME": name})
        else:
            use_database(sqlite_file_database(tmp_path / "empty.sqlite3"))
        try:
            yield
        finally:
            connections["default"].close()
            use_database(before)
            connections["default"] = its_connection
