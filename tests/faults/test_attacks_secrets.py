"""Attacks on secrets: their form in the settings, and what an error tracker collects of secrets and of bodies."""

from __future__ import annotations

import asyncio
import hmac
import json
import pickle
import pprint
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import DatabaseError
from django.test import Client, RequestFactory
from django.views.debug import ExceptionReporter

import djmessenger
from djmessenger import bot, intake, intake_app, models, signatures
from djmessenger.bot.pages import app_secrets
from djmessenger.emulator import EmulatorTransport
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.graph.client import Client as GraphClient
from djmessenger.graph.errors import NotSent, UnknownFate
from djmessenger.graph.wire import Call, Request, Response, Upload
from djmessenger.pipeline import handling, split, store
from djmessenger.secret import Body, Secret
from djmessenger.settings import app_settings
from djmessenger.sql import connection
from djmessenger.views import health
from messenger_emulator import Emulator
from tests import pipeline_tools as tools
from tests.faults import hostile

PACKAGE = str(Path(djmessenger.__file__).parent)
APP_SECRET = "c0ffee00c0ffee00c0ffee00c0ffee00"
TOKEN = "made-up-canary-token"
VERIFY_TOKEN = "canary verify töken"
HEALTH_TOKEN = "canary-health-token"
PROOF = signatures.appsecret_proof(TOKEN, APP_SECRET)
SECRETS = (APP_SECRET, TOKEN, VERIFY_TOKEN, HEALTH_TOKEN, PROOF)
WORDS = "canary words of a person"


def body(number: int = 1) -> bytes:
    item = hostile.item(message={"mid": f"m_{number}", "text": WORDS}) | {
        "timestamp": int(time.time() * 1000)
    }
    return hostile.dumps(hostile.callback(item))


def environ_of(content: bytes) -> dict[str, Any]:
    kind = "application/json"
    return RequestFactory().post("/messenger", content, content_type=kind, headers=headers(content)).environ


def headers(content: bytes) -> dict[str, str]:
    return {"X-Hub-Signature-256": signatures.sign(Secret(APP_SECRET), content)}


def post(content: bytes) -> int:
    return (
        Client()
        .post("/messenger", content, content_type="application/json", headers=headers(content))
        .status_code
    )


@pytest.fixture(autouse=True)
def project(settings: Any) -> Any:
    settings.DJM_PAGE_ID = hostile.PAGE
    settings.DJM_APP_SECRET = f"{APP_SECRET}\n"
    settings.DJM_PAGE_ACCESS_TOKEN = f" {TOKEN}\r\n"
    settings.DJM_ENDPOINT_VERIFY_TOKEN = f"{VERIFY_TOKEN}\n"
    settings.DJM_HEALTH_TOKEN = f"{HEALTH_TOKEN} "
    return settings


@pytest.fixture
def meta(project: Any) -> Iterator[Emulator]:
    world = Emulator(enforce_window=False)
    world.add_page(hostile.PAGE, TOKEN, app_secret=APP_SECRET, require_proof=True)
    world.add_person(hostile.PAGE, person_id=hostile.PERSON)
    bot.use_transport(EmulatorTransport(world))
    yield world
    bot.use_transport(None)


# Variables as a tracker keeps them


def collected(value: Any, depth: int = 4) -> Iterator[str]:
    """Yield what trackers keep of a variable: containers item by item, any other value by its representation."""
    try:
        yield repr(value)
        yield pprint.pformat(value)
    except Exception as error:  # noqa: BLE001 - a tracker keeps such a variable without its content
        yield type(error).__name__
    if depth and isinstance(value, Mapping):
        for key, item in list(value.items()):
            yield from collected(key, depth - 1)
            yield from collected(item, depth - 1)
    elif depth and isinstance(value, (Sequence, Set)) and not isinstance(value, (str, bytes, memoryview)):
        for item in list(value):
            yield from collected(item, depth - 1)


def leaks(frame: FrameType, sought: Sequence[str]) -> list[str]:
    """Return module, function and variable of each local variable of a frame that shows a text that is sought."""
    where = f"{frame.f_code.co_filename}:{frame.f_code.co_name}"
    return [
        f"{where}: {name} shows {text[:6]}"
        for name, value in list(frame.f_locals.items())
        for shown in collected(value)
        for text in sought
        if text in shown or json.dumps(text)[1:-1] in shown
    ]


def frames_of(error: BaseException) -> Iterator[FrameType]:
    """Yield the frames of an exception and of its causes, but those of tests and of Django's test client."""
    while error is not None:
        step = error.__traceback__
        while step is not None:
            name = step.tb_frame.f_code.co_filename
            if name != __file__ and "django/test/" not in name:
                yield step.tb_frame
            step = step.tb_next
        error = error.__cause__ or error.__context__


class TestFormOfSecrets:
    @pytest.mark.django_db
    @pytest.mark.parametrize(
        "value",
        [f"{APP_SECRET}\n", f" \t{APP_SECRET}\r\n", [f"{APP_SECRET} "], {"1": f"\n{APP_SECRET}"}],
        ids=["line break", "blanks", "list", "dict"],
    )
    def test_blanks_at_the_ends_count_for_nothing(self, settings, value):
        settings.DJM_APP_SECRET = value
        settings.DJM_DISPATCHER = "worker"
        assert post(body()) == 200
        assert [secret.reveal() for secret in app_secrets().values()] == [APP_SECRET]

    @pytest.mark.django_db
    @pytest.mark.parametrize("blank", ["", " ", "\n", " \t\r\n", [" ", ""], {"1": "\n"}, []])
    def test_blanks_alone_are_no_key(self, settings, blank, caplog):
        settings.DJM_APP_SECRET = blank
        content = body()
        for key in ("", " ", "\n", " \t\r\n"):
            digest = hmac.new(key.encode(), content, "sha256").hexdigest()
            answer = Client().post(
                "/messenger",
                content,
                content_type="application/json",
                headers={"X-Hub-Signature-256": f"sha256={digest}"},
            )
            assert answer.status_code == 503
        assert not models.Callback.objects.exists()
        assert "DJM_APP_SECRET is empty" in caplog.text

    @pytest.mark.django_db
    @pytest.mark.parametrize(
        "wrong",
        [APP_SECRET.encode(), 7, f"{APP_SECRET}\ud800", f"{APP_SECRET} {APP_SECRET}", [APP_SECRET, None]],
        ids=["bytes", "int", "half a pair", "two words", "None in a list"],
    )
    def test_what_cannot_be_a_secret_is_a_clear_refusal(self, settings, wrong, caplog):
        settings.DJM_APP_SECRET = wrong
        assert post(body()) == 503
        assert "DJM_APP_SECRET" in caplog.text
        assert "manage.py check" in caplog.text
        assert APP_SECRET not in caplog.text
        with pytest.raises(DJMInvalidConfigException) as raised:
            app_secrets()
        assert [leak for frame in frames_of(raised.value) for leak in leaks(frame, SECRETS)] == []

    @pytest.mark.django_db
    @pytest.mark.parametrize("name", ["DJM_PAGE_ACCESS_TOKEN", "DJM_PAGES", "DJM_APP_SECRET"])
    @pytest.mark.parametrize("wrong", [TOKEN.encode(), f"{TOKEN}\ud800", f"{TOKEN} {TOKEN}"])
    def test_no_frame_of_the_refusal_of_a_token_shows_it(self, settings, name, wrong):
        setattr(settings, name, {hostile.PAGE: {"token": wrong}} if name == "DJM_PAGES" else wrong)
        with pytest.raises(DJMInvalidConfigException) as raised:
            bot.get_client(models.Page(page_id=hostile.PAGE))
        assert name in str(raised.value)
        assert TOKEN not in str(raised.value)
        assert [leak for frame in frames_of(raised.value) for leak in leaks(frame, SECRETS)] == []

    @pytest.mark.parametrize(("sent", "status"), [(VERIFY_TOKEN, 200), (f"{VERIFY_TOKEN}\n", 403), ("", 403)])
    def test_a_verify_token_has_no_blanks_at_its_ends(self, sent, status):
        query = {"hub.mode": "subscribe", "hub.challenge": "7", "hub.verify_token": sent}
        assert Client().get("/messenger", query).status_code == status

    @pytest.mark.parametrize("wrong", ["\n", b"token", f"{VERIFY_TOKEN}\ud800"])
    def test_a_verify_token_that_cannot_be_used_matches_nothing(self, settings, wrong):
        settings.DJM_ENDPOINT_VERIFY_TOKEN = wrong
        for sent in ("", "\n", "token", VERIFY_TOKEN):
            query = {"hub.mode": "subscribe", "hub.challenge": "7", "hub.verify_token": sent}
            assert Client().get("/messenger", query).status_code == 403

    @pytest.mark.django_db
    def test_a_health_token_has_no_blanks_at_its_ends(self, settings):
        def status(sent: str) -> int:
            return health(RequestFactory().get("/health", headers={"Authorization": sent})).status_code

        assert [status(f"Bearer {HEALTH_TOKEN}"), status("Bearer "), status(HEALTH_TOKEN)] == [200, 403, 403]
        settings.DJM_HEALTH_TOKEN = " "
        assert [status("Bearer "), status("Bearer")] == [403, 403]

    def test_a_wrapped_secret_is_in_no_text_and_in_no_pickle(self):
        for wrapped in (Secret(APP_SECRET), Body(APP_SECRET.encode())):
            texts = (repr(wrapped), str(wrapped), f"{wrapped}", format(wrapped), pprint.pformat([wrapped]))
            assert not any(APP_SECRET in text for text in texts)
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                with pytest.raises(TypeError, match="cannot be pickled"):
                    pickle.dumps(wrapped, protocol)


# Errors inside of each layer


@contextmanager
def breaking(pattern: str) -> Iterator[None]:
    """Make each statement that matches fail in the database's driver, below the frames that have its parameters."""

    def run(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if re.search(pattern, sql):
            raise DatabaseError("broken on purpose")
        return execute(sql, params, many, context)

    with connection().execute_wrapper(run):
        yield


class Unexpected(BaseException):
    """Not caught by code that handles errors, so that it passes all frames."""


def raise_unexpected(*args: Any, **options: Any) -> Any:
    raise Unexpected("on purpose")


def through_view(environ: dict[str, Any]) -> None:
    WSGIHandler()(environ, lambda *_: None)


def through_wsgi(environ: dict[str, Any]) -> None:
    application = intake.WSGIIntake(WSGIHandler())
    try:
        application(environ, lambda *_: None)
    finally:
        # Its thread keeps a session, with which PostgreSQL cannot drop the database of the tests.
        application._groups.stop()


@pytest.mark.django_db
class TestFramesOfErrors:
    """An error is raised inside of each layer, and all variables of all its frames are searched."""

    SOUGHT = (*SECRETS, WORDS)

    def check(self, function: Callable[[], object]) -> None:
        with pytest.raises(BaseException) as raised:  # noqa: PT011 - each layer has its own
            function()
        frames = list(frames_of(raised.value))
        assert any(frame.f_code.co_filename.startswith(PACKAGE) for frame in frames), raised.value
        assert [leak for frame in frames for leak in leaks(frame, self.SOUGHT)] == []
        report = ExceptionReporter(None, *raised._excinfo).get_traceback_text()  # type: ignore[misc]
        assert not any(secret in report for secret in SECRETS)

    @pytest.mark.parametrize("way", [through_view, through_wsgi])
    def test_in_the_comparison_of_a_signature(self, monkeypatch, way):
        monkeypatch.setattr(hmac, "compare_digest", raise_unexpected)
        environ = environ_of(body())
        self.check(lambda: way(environ))

    @pytest.mark.parametrize("way", [through_view, through_wsgi])
    def test_in_the_read_of_a_body(self, monkeypatch, way):
        class Broken:
            def __init__(self) -> None:
                self.parts = [body()]

            def read(self, size: int = -1) -> bytes:
                return self.parts.pop() if self.parts else raise_unexpected()

            readline = read

        environ = environ_of(body())
        environ |= {
            "wsgi.input": Broken(),
            "wsgi.input_terminated": True,
            "HTTP_TRANSFER_ENCODING": "chunked",
        }
        environ.pop("CONTENT_LENGTH")
        self.check(lambda: way(environ))

    def test_in_the_read_of_a_body_of_asgi(self):
        parts = [{"type": "http.request", "body": body(), "more_body": True}]

        async def receive() -> dict[str, Any]:
            return parts.pop() if parts else raise_unexpected()

        app = intake_app.asgi(ASGIHandler())
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/messenger",
            "headers": [(b"x-hub-signature-256", headers(body())["X-Hub-Signature-256"].encode())],
        }
        self.check(lambda: asyncio.run(app(scope, receive, None)))

    def test_in_the_statement_that_stores(self):
        def fail() -> None:
            with breaking("INSERT INTO .*callback"):
                store.store(body())

        self.check(fail)

    @pytest.mark.parametrize("statement", ["SELECT", "INSERT INTO .*messaging", "UPDATE .*callback"])
    def test_in_a_statement_of_the_split(self, settings, statement):
        settings.DJM_DISPATCHER = "worker"
        assert post(body()) == 200

        callback, engine = models.Callback.objects.get().pk, bot.get_engine()

        def fail() -> None:
            with breaking(statement):
                engine.drain_callback(callback)

        self.check(fail)

    @pytest.mark.parametrize(
        "content", [b'{"object": "' + WORDS.encode(), body()], ids=["no JSON", "an event"]
    )
    def test_in_the_decoding_of_a_body(self, settings, monkeypatch, content):
        settings.DJM_DISPATCHER = "worker"
        assert post(content) == 200
        monkeypatch.setattr(json, "loads", raise_memory_error)
        monkeypatch.setattr("djmessenger.receiving.decoding.cleaned", raise_memory_error)
        callback = models.Callback.objects.get().pk

        self.check(lambda: split.split(callback))

    def test_in_the_reading_of_a_stored_event(self, settings, monkeypatch):
        settings.DJM_DISPATCHER = "worker"
        assert post(body()) == 200
        bot.get_engine().split()
        row = models.Messaging.objects.get()
        row.body["entry"][0]["messaging"] = WORDS

        self.check(lambda: handling._read_event(row))

    @pytest.mark.parametrize("method", ["send", "profile"])
    def test_in_a_transport(self, meta, method):
        class Breaking:
            def send(self, request: Any, /) -> Any:
                raise ZeroDivisionError("in the transport")

        bot.use_transport(Breaking())
        client = bot.get_client(models.Page(page_id=hostile.PAGE))
        message = {"message": {"text": "an answer of the bot"}}
        call = (
            (lambda: client.send({"id": hostile.PERSON}, message))
            if method == "send"
            else (lambda: client.profile(hostile.PERSON))
        )
        self.check(call)


def raise_memory_error(*args: Any, **options: Any) -> Any:
    raise MemoryError("on purpose")


# Each line of the package


@contextmanager
def watched(sought: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Search the variables of the package at each line that runs, in all threads. Yields what was found.

    ``sought`` maps a pattern of files to the texts that no variable there may show.
    """
    found: dict[str, None] = {}
    patterns = [(re.compile(pattern), texts) for pattern, texts in sought.items()]

    def in_frame(frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename.removeprefix(PACKAGE)
        for pattern, texts in patterns:
            if pattern.search(name):
                found.update(dict.fromkeys(leaks(frame, texts)))
        return in_frame

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        is_watched = name.startswith(PACKAGE) and not name.endswith("/secret.py")
        return in_frame(frame, event, argument) if is_watched else None

    before = sys.gettrace()
    threading.settrace(on_call)
    sys.settrace(on_call)
    try:
        yield found  # type: ignore[misc]
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]


ENTRY = (
    r"^/(views|webhook|intake|intake_app|signatures)\.py|^/(settings|bot)/|^/models/callbacks\.py|"
    r"^/pipeline/(store|split|participants|engine)\.py"
)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", [through_view, through_wsgi])
def test_no_variable_of_any_line_shows_a_secret_and_none_of_the_entrance_shows_a_body(meta, settings, way):
    settings.DJM_ROUTING_POLICY = {
        "rules": [
            {
                "type": "SIMPLE_TEXT",
                "name": "one",
                "repliers": [{"name": "djmessenger.replying.DefaultMessageReplier"}],
            }
        ]
    }
    bot.get_engine.cache_clear()
    app_settings.forget()
    environ = environ_of(body())
    with watched({"": SECRETS, ENTRY: [WORDS]}) as found:
        way(environ)
        Client().get(
            "/messenger", {"hub.mode": "subscribe", "hub.challenge": "7", "hub.verify_token": VERIFY_TOKEN}
        )
        health(RequestFactory().get("/health", headers={"Authorization": f"Bearer {HEALTH_TOKEN}"}))
    assert "\n".join(found) == ""
    assert models.Reply.objects.get().state == models.Reply.State.SENT


ANSWER = "canary answer to a person"
NAME = "canary name of a person"


class TestFramesOfCalls:
    """A call of Graph fails, and all variables of all frames are searched for the texts in it."""

    SOUGHT = (*SECRETS, ANSWER, NAME)

    @staticmethod
    def client(answer: Any) -> GraphClient:
        """Return a client with a transport that gives this answer, or raises it."""

        class Transport:
            def send(self, request: Request) -> Response:
                if isinstance(answer, Exception):
                    raise answer
                return Response(200, {}, answer)

        return GraphClient(TOKEN, app_secret=APP_SECRET, transport=Transport())

    ANSWERS: ClassVar = {
        "no network": NotSent("no network"),
        "no answer": UnknownFate("no whole answer in time"),
        "a bug of the transport": ZeroDivisionError("a bug"),
        "no JSON": NAME.encode(),
        "no id": json.dumps({"name": NAME}).encode(),
        "a refusal": json.dumps({"error": {"code": 100, "error_data": NAME, "message": "no"}}).encode(),
    }
    BODY: ClassVar = {"messaging_type": "RESPONSE", "message": {"text": ANSWER}}
    CALLS: ClassVar[dict[str, Callable[[GraphClient], object]]] = {
        "send": lambda client: client.send({"id": "1"}, dict(TestFramesOfCalls.BODY)),
        "private reply": lambda client: client.private_reply(dict(TestFramesOfCalls.BODY), comment_id="1"),
        "a file": lambda client: client.send(
            {"id": "1"}, dict(TestFramesOfCalls.BODY), file=Upload("a.txt", ANSWER.encode())
        ),
        "no JSON": lambda client: client.send(
            {"id": "1"}, {"message": {"text": ANSWER, "metadata": object()}}
        ),
        "batch": lambda client: client.batch([Call("POST", "me/messages", dict(TestFramesOfCalls.BODY))] * 2),
        "profile": lambda client: client.profile("1"),
        "message": lambda client: client.message("m_1"),
    }

    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("answer", ANSWERS)
    def test_of_the_client(self, call, answer):
        try:
            self.CALLS[call](self.client(self.ANSWERS[answer]))
        except Exception as error:  # noqa: BLE001 - each has its own
            frames = list(frames_of(error))
            assert any(frame.f_code.co_filename.startswith(PACKAGE) for frame in frames)
            assert [leak for frame in frames for leak in leaks(frame, self.SOUGHT)] == []

    @pytest.mark.django_db
    def test_of_a_reply_in_the_log(self, caplog):
        made = tools.conversation()
        tools.queue(made, ANSWER)
        tools.send(tools.engine(client=lambda page: self.client(ZeroDivisionError("a bug"))), made)
        errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
        assert [getattr(record, "action", "") for record in caplog.records if record.exc_info] == [
            "call_broke"
        ]
        assert [
            leak for one in errors for frame in frames_of(one) for leak in leaks(frame, self.SOUGHT)
        ] == []
