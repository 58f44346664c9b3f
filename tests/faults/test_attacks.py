"""Attacks: races of callbacks, texts that no database stores, apps that write to the Pages of others, secrets."""

from __future__ import annotations

import ast
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import Client

from djmessenger import bot, models, signatures
from djmessenger.handling import SaveMessagingHandler
from djmessenger.operations.erasure import forget
from djmessenger.operations.replay import replay_callback
from messenger_emulator import Emulator
from tests.faults import hostile

SECRET = "0123456789abcdef0123456789abcdef"
THUMB = 369239263222822
PERSON = "24000000000000001"

ROOT = Path(__file__).parent.parent.parent
SECURITY = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def rows_of_attacks() -> list[str]:
    table = SECURITY.partition("## Attacks and defences")[2].partition("\n## ")[0]
    return [line for line in table.splitlines() if line.startswith("|")][2:]


def has_test(tree: ast.AST, names: list[str]) -> bool:
    """Return whether classes and a function of these names are defined inside each other."""
    found = [node for node in ast.iter_child_nodes(tree) if getattr(node, "name", None) == names[0]]
    return bool(found) and (len(names) == 1 or has_test(found[0], names[1:]))


@pytest.mark.parametrize("row", rows_of_attacks(), ids=lambda row: row.split("|")[1].strip())
def test_each_row_of_the_table_of_attacks_names_tests_that_exist(row):
    attack, defence, tests = (cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1])
    assert attack
    assert defence
    named = re.findall(r"`([^`]+)`", tests)
    assert named
    for node in named:
        path, *names = re.sub(r"\[.*", "", node).split("::")
        assert names, node
        assert names[-1].startswith("test_"), node
        assert has_test(ast.parse((ROOT / path).read_text(encoding="utf-8")), names), node


def post(*items: dict[str, Any], secret: str = SECRET, kind: str = "page") -> int:
    body = hostile.dumps(hostile.callback(*items) | {"object": kind})
    headers = {"X-Hub-Signature-256": signatures.sign(secret, body)}
    return Client().post("/messenger", body, content_type="application/json", headers=headers).status_code


def item(number: int, **message: Any) -> dict[str, Any]:
    return hostile.item(message={"mid": f"m_{number}", **(message or {"text": "hello"})}) | {
        "sender": {"id": PERSON},
        "timestamp": int(time.time() * 1000),
    }


def at_once(*jobs: Callable[[], int]) -> list[int]:
    """Do all jobs in threads that start together."""
    gate = threading.Barrier(len(jobs))
    answers: list[int] = []

    def run(job: Callable[[], int]) -> None:
        try:
            gate.wait(30)
            answers.append(job())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def drain() -> None:
    """Finish the work that another process left in its queues."""
    engine = bot.get_engine()
    engine.split()
    engine.sweep()
    for conversation in models.Conversation.objects.values_list("pk", flat=True):
        engine.drain_conversation(conversation)


def policy(kind: str, *repliers: str, handlers: tuple[str, ...] = ()) -> dict[str, Any]:
    rule = {
        "type": kind,
        "name": "attacked",
        "handlers": [{"name": name} for name in handlers],
        "repliers": [{"name": name} for name in repliers],
    }
    return {"rules": [rule]}


@pytest.fixture
def door(file_database: dict[str, Any], emulator: Emulator, settings: Any) -> Emulator:
    emulator.enforce_window = False
    settings.DJM_ROUTING_POLICY = policy("SIMPLE_TEXT", "djmessenger.replying.DefaultMessageReplier")
    return emulator


def test_the_same_callback_at_once_is_one_event_with_one_answer(door):
    one = item(1)
    assert at_once(*[lambda: post(one)] * 8) == [200] * 8
    drain()
    # On PostgreSQL a copy is not counted while another one has the row locked.
    copies = models.Callback.objects.get().copies
    assert copies == 8 if connections["default"].vendor == "sqlite" else 1 <= copies <= 8
    assert models.Messaging.objects.get().state == models.Messaging.State.DONE
    assert models.Reply.objects.count() == 1


def test_the_same_event_in_different_bodies_at_once_is_one_event(door):
    one, others = item(0), [item(number) for number in range(1, 7)]
    jobs = [lambda other=other: post(one, other) for other in others]
    assert at_once(*jobs) == [200] * 6
    drain()
    assert models.Messaging.objects.filter(mid="m_0").count() == 1
    assert models.Reply.objects.count() == 7
    assert models.FBUserProfile.objects.count() == 1
    assert models.Conversation.objects.count() == 1
    assert not models.Messaging.objects.exclude(state=models.Messaging.State.DONE).exists()


def test_thumbs_at_once_are_all_counted(door, settings):
    settings.DJM_ROUTING_POLICY = policy("STICKER", handlers=("djmessenger.handling.ThumbUpHandler",))
    thumbs = [
        item(
            number,
            attachments=[{"type": "sticker", "payload": {"sticker_id": THUMB, "url": "https://x.example/"}}],
        )
        for number in range(6)
    ]
    assert at_once(*[lambda thumb=thumb: post(thumb) for thumb in thumbs]) == [200] * 6
    drain()
    assert models.FBUserProfile.objects.get().thumbups == 6


@pytest.fixture
def silence() -> Iterator[None]:
    """Log nothing: what is captured goes through xdist, which takes no half pair either."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("silence")
@pytest.mark.django_db
@pytest.mark.parametrize("dispatcher", ["inline", "worker"])
@pytest.mark.parametrize("words", ["a\x00b", "a\ud800b"], ids=["NUL", "half a pair"])
def test_an_error_that_quotes_what_no_database_takes_is_written_down(
    words, dispatcher, emulator, monkeypatch, settings
):
    def fail(self: Any, messaging: Any) -> None:
        raise ValueError(words)

    settings.DJM_DISPATCHER = dispatcher
    monkeypatch.setattr(SaveMessagingHandler, "handle", fail)
    assert post(item(1)) == 200
    if dispatcher == "worker":
        drain()
    row = models.Messaging.objects.get()
    # Inline there is one try, and the event has failed; elsewhere it is tried again.
    assert row.tries == (dispatcher == "worker")
    assert "ValueError: a\ufffdb" in row.error


@pytest.mark.django_db
@pytest.mark.parametrize("hours", [99.0, -99.0, float("inf"), 24.0, -24.0])
def test_a_person_with_an_invalid_time_zone_is_answered(hours, emulator, settings):
    settings.DJM_ROUTING_POLICY = policy("SIMPLE_TEXT", "djmessenger.replying.DefaultMessageReplier")
    page = models.Page.objects.create(page_id=hostile.PAGE)
    person = models.FBUserProfile.objects.create(psid=PERSON, page=page)
    models.FBUserProfile.objects.filter(pk=person.pk).update(timezone=hours)
    assert post(item(1)) == 200
    row = models.Messaging.objects.get()
    assert row.state == models.Messaging.State.DONE, row.error


@pytest.mark.django_db
@pytest.mark.parametrize(
    "regex", [r"(a+)+$", r"(a|aa)+$", r"(.*a){20}$", r"^(([a-z])+.)+[A-Z]([a-z])+$", r"(x+x+)+y"]
)
def test_a_pattern_that_explodes_is_cut_and_the_event_goes_on(regex, emulator, settings):
    settings.DJM_ROUTING_POLICY = {
        "rules": [
            {
                "type": "SIMPLE_TEXT",
                "name": "exploding",
                "filters": [
                    {"name": "djmessenger.filtering.SimpleTextRegexFilter", "args": {"regex": regex}}
                ],
                "repliers": [{"name": "djmessenger.replying.DefaultMessageReplier"}],
            }
        ]
    }
    assert post(item(1, text="a" * 1900 + "x" * 90 + "!")) == 200
    assert models.Messaging.objects.get().state == models.Messaging.State.DONE


@pytest.mark.django_db
def test_a_row_that_cannot_be_read_back_fails_instead_of_blocking_its_queue(emulator, settings):
    settings.DJM_DISPATCHER = "worker"
    assert post(item(1)) == 200
    bot.get_engine().split()
    models.Messaging.objects.update(body={"entry": [{"messaging": "broken"}]})
    drain()
    row = models.Messaging.objects.get()
    assert (row.tries, "Error" in row.error) == (1, True)


OWN_APP, OTHER_APP = "501", "502"
SECRETS = {OWN_APP: SECRET, OTHER_APP: "fedcba9876543210fedcba9876543210"}


@pytest.mark.django_db
class TestStrangeApp:
    """An app whose secret the project knows makes no row of a Page that is not its own."""

    @pytest.fixture(autouse=True)
    def two_apps(self, emulator, settings):
        settings.DJM_PAGE_ID = settings.DJM_APP_ID = ""
        settings.DJM_APP_SECRET = SECRETS
        settings.DJM_SAVE_USER_PROFILE = False
        return settings

    def page_after(self, number: int, app: str, kind: str = "page") -> str | None:
        """Post a message signed by an app. Return the channel of the Page's row, or None if there is no row."""
        assert post(item(number), secret=SECRETS[app], kind=kind) == 200
        return models.Page.objects.values_list("channel", flat=True).first()

    def test_makes_no_row_of_a_page_that_nothing_names(self):
        assert self.page_after(1, OTHER_APP) is None
        row = models.Messaging.objects.get()
        assert (row.state, row.page, row.conversation, row.queue) == ("ignored", None, None, None)
        assert "names the Page" in row.reason
        assert not models.FBUserProfile.objects.exists()
        assert not models.ConversationQueue.objects.exists()

    def test_does_not_set_the_channel_of_a_named_page_of_another_app(self, settings):
        settings.DJM_PAGES = {hostile.PAGE: {"token": "t", "app_id": OWN_APP}}
        assert self.page_after(1, OTHER_APP, "instagram") is None
        assert self.page_after(2, OWN_APP) == "messenger"

    def test_does_not_set_the_channel_of_the_one_page(self, settings):
        settings.DJM_APP_ID = OWN_APP
        assert self.page_after(1, OTHER_APP, "instagram") is None
        assert self.page_after(2, OWN_APP) == "messenger"

    @pytest.mark.parametrize("place", ["DJM_PAGES", "DJM_PAGE_ID", "row"])
    def test_a_page_that_the_project_names_is_its_own(self, settings, place):
        if place == "row":
            models.Page.objects.create(page_id=hostile.PAGE)
        else:
            setattr(settings, place, {hostile.PAGE: {}} if place == "DJM_PAGES" else hostile.PAGE)
        assert self.page_after(1, OTHER_APP) == "messenger"
        assert models.Messaging.objects.get().state != "ignored"

    @pytest.mark.parametrize(
        "secret", [SECRET, [SECRET], {OWN_APP: SECRET}, {OWN_APP: SECRET, OTHER_APP: ""}]
    )
    def test_with_one_secret_each_signed_page_is_its_own(self, settings, secret):
        settings.DJM_APP_SECRET = secret
        assert self.page_after(1, OWN_APP) == "messenger"
        assert models.Messaging.objects.get().state != "ignored"

    def test_the_event_is_handled_once_the_page_is_named_and_the_callback_replayed(self):
        assert self.page_after(1, OTHER_APP) is None
        models.Page.objects.create(page_id=hostile.PAGE)
        callback = models.Callback.objects.get()
        replay_callback(callback.pk)
        bot.get_engine().split()
        assert models.Messaging.objects.exclude(state="ignored").count() == 1


@pytest.mark.django_db
def test_an_event_of_a_forgotten_person_is_known_after_a_change_of_the_secret_key(emulator, settings):
    settings.SECRET_KEY = "the-first-key"
    assert post(item(1), item(2)) == 200
    forget(PERSON)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "the-second-key", ["the-first-key"]
    assert post(item(1)) == 200
    forget(PERSON)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "the-third-key", ["the-second-key", "the-first-key"]
    assert post(item(2), item(1)) == 200
    assert not models.FBUserProfile.objects.exists()
    assert not models.Messaging.objects.exclude(body={}).exists()
