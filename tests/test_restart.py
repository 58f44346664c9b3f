"""A restart of PostgreSQL between two callbacks: the second one is stored over a new connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection

from djmessenger import intake_app, models
from djmessenger.pipeline import store
from djmessenger.pipeline.connections import own_connection
from tests.doors import Request, ask_wsgi

pytestmark = pytest.mark.postgresql("SQLite has no server that ends connections")


def end_all_sessions() -> None:
    other = own_connection()
    try:
        with other.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            assert cursor.fetchall()
    finally:
        other.close()


@pytest.fixture(params=["kept", "pool"])
def kept(request, file_database, monkeypatch) -> Iterator[str]:
    """Keep connections between requests, by their age or in a pool."""
    options: Any = {"CONN_MAX_AGE": 600}
    if request.param == "pool":
        pytest.importorskip("psycopg_pool")
        options = {"OPTIONS": {**connection.settings_dict["OPTIONS"], "pool": {"min_size": 3, "max_size": 3}}}
    connection.close()
    for name, value in options.items():
        monkeypatch.setitem(connection.settings_dict, name, value)
    yield request.param
    connection.close()
    if request.param == "pool":
        connection.close_pool()


def test_the_first_callback_after_a_restart_of_the_database_is_stored_by_the_view(kept):
    application = WSGIHandler()
    assert ask_wsgi(application, Request(b"1")).status == 200
    end_all_sessions()
    assert ask_wsgi(application, Request(b"2")).status == 200
    assert sorted(models.Callback.objects.values_list("body", "copies")) == [(b"1", 1), (b"2", 1)]


def test_the_first_callback_after_a_restart_of_the_database_is_stored_by_the_intake(file_database):
    application = intake_app.wsgi(WSGIHandler())
    try:
        assert ask_wsgi(application, Request(b"1")).status == 200
        connection.close()
        end_all_sessions()
        assert ask_wsgi(application, Request(b"2")).status == 200
    finally:
        application._groups.stop()  # type: ignore[attr-defined]
    assert sorted(models.Callback.objects.values_list("body", "copies")) == [(b"1", 1), (b"2", 1)]


def test_a_database_that_is_away_is_not_asked_for_each_kept_connection(kept, monkeypatch):
    assert ask_wsgi(WSGIHandler(), Request(b"1")).status == 200
    tries = []
    store_many = store.store_many
    monkeypatch.setattr(store, "store_many", lambda group: [tries.append(len(group)), store_many(group)][1])
    connection.close()
    if kept == "pool":
        connection.close_pool()
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {})
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", "9")
    assert ask_wsgi(WSGIHandler(), Request(b"2")).status == 503
    assert tries == []
