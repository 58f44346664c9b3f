"""One run with marked secrets over good and failing calls; then everything that people can see is searched for them."""

from __future__ import annotations

import io
import logging
import pprint

import pytest
from django.apps import apps
from django.contrib import admin
from django.core.management import call_command
from django.db import DatabaseError
from django.test import override_settings
from django.urls import include, path, reverse
from django.views.debug import ExceptionReporter

from djmessenger import bot, checks, models, page_checks, signatures
from djmessenger.bot import tokens
from djmessenger.bot.pages import client_config_for
from djmessenger.emulator import EmulatorTransport
from djmessenger.graph.errors import NotSent, UnknownFate
from djmessenger.graph.wire import Response
from djmessenger.outgoing import Image
from djmessenger.pipeline import store
from djmessenger.rules import rule, text
from djmessenger.rules.registry import policy_from_modules
from djmessenger.secret import Secret
from messenger_emulator import Emulator
from tests.graph_tools import Recorder, frames_of, refusal
from tests.pipeline_tools import PSID, body, now_ms, pass_time

urlpatterns = [path("admin/", admin.site.urls), path("", include("djmessenger.urls"))]

pytestmark = [pytest.mark.urls("tests.test_token_hygiene"), pytest.mark.django_db]

MARK = "canary"
SETTING, ENTRY, ROW, APP = (f"{MARK}-{kind}-0123456789abcdef" for kind in ("setting", "entry", "row", "app"))
PAGES = {"104233987650012": SETTING, "104233987650013": ENTRY, "104233987650014": ROW}
KEY = tokens.new_key()
PROOFS = [signatures.appsecret_proof(token, APP) for token in PAGES.values()]
SOUGHT = [MARK, KEY, *PROOFS]


class Everything(logging.Handler):
    """A handler that keeps all that log files and error trackers get: messages, extras, exceptions with locals."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.found = []

    def emit(self, record):
        self.found.append(record.getMessage())
        self.found.append(pprint.pformat({k: v for k, v in vars(record).items() if k != "exc_info"}))
        if record.exc_info and record.exc_info[1] is not None:
            self.found.append(frames_of(record.exc_info[1], but=__file__))
            if hasattr(record, "request"):
                # The report that Django mails to ADMINS.
                report = ExceptionReporter(record.request, *record.exc_info, is_email=True)
                self.found.append(report.get_traceback_text())


@pytest.fixture
def seen(settings):
    settings.DJM_PAGE_ID = "104233987650012"
    settings.DJM_PAGE_ACCESS_TOKEN = SETTING
    settings.DJM_APP_SECRET = {"883041772661055": APP}
    settings.DJM_APP_ID = "883041772661055"
    settings.DJM_TOKEN_KEYS = [KEY]
    settings.DJM_PAGES = {"104233987650013": {"token": ENTRY, "log": True}}
    row = models.Page(page_id="104233987650014", is_logged=True)
    bot.set_token(row, Secret(ROW))
    row.save()
    everything = Everything()
    root = logging.getLogger()
    before = root.level
    root.addHandler(everything)
    root.setLevel(logging.DEBUG)
    yield everything.found
    root.removeHandler(everything)
    root.setLevel(before)
    bot.use_transport(None)


def collect(seen, function, *args, **options):
    """Do something that fails, and keep what an error tracker would."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each failure has its own class
        function(*args, **options)
    seen.append(frames_of(raised.value, but=__file__))


def clean(seen):
    everything = "\n".join(seen)
    # Not the text itself: a failing assertion would print all of it.
    assert [
        everything[max(0, at - 300) : at + 100] for word in SOUGHT if (at := everything.find(word)) >= 0
    ] == []
    return everything


def post(client, page_id, mid):
    content = body(
        {
            "sender": {"id": PSID[:-1] + page_id[-1]},
            "recipient": {"id": page_id},
            "timestamp": now_ms(),
            "message": {"mid": mid, "text": "hello"},
        },
        page=page_id,
    )
    answer = client.post(
        "/messenger",
        data=content,
        content_type="application/json",
        headers={"X-Hub-Signature-256": signatures.sign(APP, content)},
    )
    return f"{answer.status_code} {dict(answer.headers)} {answer.content!r}"


class Quoting:
    """A Graph that says back all that it was sent."""

    def send(self, request, /):
        said = f"Malformed access token {request.headers['Authorization']} {request.url} {request.body!r}"
        return refusal(190, message=said)


class Breaking:
    def send(self, request, /):
        raise ZeroDivisionError("in the transport")


NO_ANSWERS = [
    UnknownFate("cut off"),
    NotSent("refused"),
    refusal(190, 463),
    refusal(613),
    refusal(551),
    refusal(10, 2018278),
    Response(500, {}, b"<html>"),
    Response(200, {}, b"{}"),
    Response(302, {"Location": "https://elsewhere.example.com/"}, b""),
]


def world():
    made = Emulator(enforce_window=False)
    for page_id, token in PAGES.items():
        made.add_page(page_id, token, app_secret=APP, require_proof=True)
        made.add_person(page_id, person_id=PSID[:-1] + page_id[-1])
    return made


ANSWERS = []


@rule(text("hello"))
def respond(event):
    if not ANSWERS:
        raise ZeroDivisionError("in a handler")
    return ANSWERS.pop()


def good_calls_and_broken_handlers(seen, client, picture):
    bot.use_transport(EmulatorTransport(world()))
    ANSWERS[:] = ["fine", ["fine", Image(path=picture)]] * 3
    for number in range(3):
        seen += [post(client, page_id, f"m_{number}_{page_id}") for page_id in PAGES]
    assert models.Reply.objects.filter(state="sent").count() == 9
    assert models.Messaging.objects.filter(state="failed").count() == 3


def calls_that_fail(seen, settings):
    settings.DJM_GRAPH_URL = "http://127.0.0.1:9"
    for transport in [Quoting(), Breaking(), *(Recorder(*[answer] * 9) for answer in NO_ANSWERS), None]:
        bot.use_transport(transport)
        for conversation in models.Conversation.objects.select_related("page"):
            models.Reply.objects.queue(conversation, {"message": {"text": "x"}}, type="simple_text")
            pass_time(7 * 3600)
            bot.get_engine().drain_queue("out", conversation.pk)
            # A reply that waits for an echo must not delay the next attempt.
            models.Reply.objects.filter(state__in=models.Reply.OPEN).update(state="failed")
            config = bot.get_client(conversation.page)
            for words in ("x", object()):
                collect(seen, config.send, {"id": PSID}, {"message": {"text": words}})
            seen.append(repr(config))


def mistakes_of_settings(seen, settings):
    """Each is met where a client or a ciphertext is made."""
    for name, value in (
        ("DJM_GRAPH_VERSION", "26"),
        ("DJM_GRAPH_URL", "ftp://graph.facebook.com"),
        ("DJM_PAGES", {"104233987650013": {"token": f"{ENTRY} \n{ENTRY}"}}),
        ("DJM_PAGES", {"104233987650013": {"token": [ENTRY]}}),
    ):
        with override_settings(**{name: value}):
            collect(seen, bot.get_client, models.Page(page_id="104233987650013"))
            seen += [repr(message) for message in checks.check_settings() + page_checks.check_pages()]
    row = models.Page.objects.exclude(token_ciphertext="").get()
    for keys in ([], [tokens.new_key()], [f"x{KEY}"], [KEY.encode()[:9]]):
        settings.DJM_TOKEN_KEYS = keys
        collect(seen, bot.get_client, row)
    settings.DJM_TOKEN_KEYS = []
    collect(seen, bot.set_token, row, Secret(ROW))
    settings.DJM_TOKEN_KEYS = [KEY]
    seen += [repr(one) for one in (row, models.Page.objects.values().get(pk=row.pk), client_config_for(row))]


def a_database_that_takes_nothing(seen, client, monkeypatch):
    """The view's own frames reach the log."""

    def refuse(*args):
        raise DatabaseError("away")

    with monkeypatch.context() as patch:
        patch.setattr(store, "store_many", refuse)
        seen.append(post(client, "104233987650012", "m_last"))


def what_staff_see(seen, admin_client):
    for kind in apps.get_app_config("djmessenger").get_models():
        name = f"admin:djmessenger_{kind._meta.model_name}"
        if not admin.site.is_registered(kind):
            continue
        seen.append(admin_client.get(reverse(f"{name}_changelist")).content.decode())
        for one in kind.objects.all():
            seen.append(admin_client.get(reverse(f"{name}_change", args=[one.pk])).content.decode())


def test_no_token_shows_anywhere(seen, client, admin_client, settings, monkeypatch, tmp_path):
    picture = tmp_path / "a.gif"
    picture.write_bytes(b"GIF89a")
    monkeypatch.setattr(bot, "get_policy", lambda page=None: policy_from_modules([__name__]))
    bot.get_engine.cache_clear()
    good_calls_and_broken_handlers(seen, client, picture)
    calls_that_fail(seen, settings)
    mistakes_of_settings(seen, settings)
    a_database_that_takes_nothing(seen, client, monkeypatch)
    what_staff_see(seen, admin_client)
    assert models.GraphCall.objects.count() > 20
    out = io.StringIO()
    call_command("dumpdata", stdout=out)
    call_command("djmessenger", "tokens", stdout=out)
    text_of_all = clean([*seen, out.getvalue()])
    # The search looked into frames, requests and rows at all.
    for expected in ("in the transport", "in a handler", "Malformed access token", "graph_call", "away"):
        assert expected in text_of_all


def test_the_search_finds_what_there_is(seen):
    logging.getLogger("somebody").warning("the token is %s", ROW)
    with pytest.raises(AssertionError):
        clean(seen)


def test_a_form_that_fails_tells_nothing(seen, admin_client, settings):
    settings.DJM_TOKEN_KEYS = []
    fields = {"page_id": "1", "channel": "messenger", "login": "facebook", "new_token": ROW}
    address = reverse("admin:djmessenger_page_add")
    seen.append(admin_client.post(address, fields).content.decode())
    settings.DJM_TOKEN_KEYS = [KEY]
    seen.append(admin_client.post(address, {**fields, "new_token": f"{ROW} {ROW}"}).content.decode())
    assert admin_client.post(address, fields).status_code == 302
    seen.append(admin_client.get(reverse("admin:index")).content.decode())
    out = io.StringIO()
    call_command("dumpdata", stdout=out)
    clean([*seen, out.getvalue()])


def test_the_report_of_a_failing_form_tells_nothing(seen, admin_client, settings, monkeypatch):
    def break_down(*args, **kwargs):
        raise ZeroDivisionError("while it is saved")

    monkeypatch.setattr(models.Page, "save", break_down)
    admin_client.raise_request_exception = False
    fields = {"page_id": "1", "channel": "messenger", "login": "facebook", "new_token": ROW}
    answer = admin_client.post(reverse("admin:djmessenger_page_add"), fields)
    assert answer.status_code == 500
    seen.append(answer.content.decode())
    clean(seen)
