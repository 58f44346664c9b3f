"""Requests of a person or of Meta do not wait long for a busy database."""

from __future__ import annotations

import threading

import pytest
from django.db import DatabaseError, connection, connections, transaction

from djmessenger import models
from djmessenger.pipeline import engine
from djmessenger.pipeline.connections import statement_timeout
from tests import pipeline_tools as tools

pytestmark = pytest.mark.django_db


@pytest.fixture
def others_hold():
    """Hold a lock in another connection until the test ends; called with what takes it."""
    held, ended = threading.Event(), threading.Event()
    threads = []

    def hold(take):
        def run():
            try:
                with transaction.atomic():
                    take()
                    held.set()
                    ended.wait(30)
            finally:
                connections.close_all()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        assert held.wait(30)

    yield hold
    ended.set()
    for thread in threads:
        thread.join()


@pytest.mark.postgresql("SQLite has one lock for all, which storing the callback needs too")
def test_a_callback_of_a_leased_queue_is_answered_and_left_to_the_sweep(
    file_database, emulator, settings, monkeypatch, others_hold, client
):
    settings.DJM_DISPATCHER = "inline"
    monkeypatch.setattr(engine, "_STATEMENT_TIMEOUT", 0.05)
    someone = emulator.add_person(tools.PAGE, person_id=tools.PSID)
    made = tools.conversation()
    others_hold(
        lambda: list(
            models.ConversationQueue.objects.select_for_update().filter(conversation=made, kind=tools.IN)
        )
    )
    body = tools.body(tools.text("m_1"))
    answer = client.post("/messenger", body, content_type="application/json", headers=tools.signed(body))
    assert answer.status_code == 200
    assert models.Callback.objects.get().state == "new"
    assert (models.Messaging.objects.count(), someone.received) == (0, [])


def test_waiting_ends_and_the_connection_is_as_before(file_database, others_hold):
    page = models.Page.objects.create(page_id="1")
    if connection.vendor == "postgresql":
        shown = "SHOW lock_timeout"
        others_hold(lambda: list(models.Page.objects.select_for_update()))
    else:
        shown = "PRAGMA busy_timeout"
        others_hold(lambda: models.Page.objects.update(name="theirs"))

    def limit():
        with connection.cursor() as cursor:
            cursor.execute(shown)
            return cursor.fetchone()

    before = limit()
    with pytest.raises(DatabaseError), statement_timeout(0.05):
        models.Page.objects.filter(pk=page.pk).update(name="ours")
    assert limit() == before
