"""The doctor: each link of the chain is broken once, and the line of that link names the cure."""

from __future__ import annotations

import datetime
import functools
import inspect
import io
import sys
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3
from django.core.management import call_command
from django.db.migrations.exceptions import NodeNotFoundError
from django.test import Client
from django.utils import timezone

from djmessenger import bot, models, rulebook
from djmessenger.bot.tokens import new_key
from djmessenger.emulator import EmulatorTransport
from djmessenger.graph.errors import GraphError, NotSent, UnknownFate
from djmessenger.management.verbs import doctor as verb
from djmessenger.operations import doctor_local, doctor_remote
from djmessenger.rulebook.facts import NEWS_READ
from djmessenger.secret import Secret
from messenger_emulator import Emulator, VirtualClock

pytestmark = pytest.mark.django_db

PAGE = "104233987650012"
URL = "https://shop.example/messenger"
ACCOUNT, IN_GRAPH = "17841400000000001", "27841400000000001"


class Healthy:
    """A bot with which nothing is wrong: Meta, settings, and the site as seen from outside."""

    def __init__(self, settings) -> None:
        self.settings = settings
        self.clock = VirtualClock(running=True)
        self.world = Emulator(self.clock)
        self.page = self.world.add_page(
            PAGE, settings.DJM_PAGE_ACCESS_TOKEN, app_secret=settings.DJM_APP_SECRET, require_proof=True
        )
        self.app = self.world.apps[self.page.app_id]
        self.app.callback_url = URL
        self.fetched: list[str] = []
        self.outside: Exception | tuple[int, str] | None = None

    def fetch(self, url: str) -> tuple[int, str]:
        self.fetched.append(url)
        if isinstance(self.outside, Exception):
            raise self.outside
        if self.outside is not None:
            return self.outside
        parts = urlsplit(url)
        answer = Client().get(f"{parts.path}?{parts.query}")
        return answer.status_code, answer.content.decode()


@pytest.fixture
def bot_(settings, monkeypatch):
    settings.DJM_APP_ID = "883041772661055"
    settings.DJM_PAGE_ID = PAGE
    settings.DJM_DISPATCHER = "embedded"
    # The age of the table depends on the day; it has tests of its own.
    monkeypatch.setattr(rulebook, "STALE_DAYS", sys.maxsize)
    settings.SILENCED_SYSTEM_CHECKS = ["djmessenger.W012"]
    healthy = Healthy(settings)
    models.Page.objects.create(page_id=PAGE, name="Shop", date_last_callback=timezone.now())
    bot.use_transport(EmulatorTransport(healthy.world))
    monkeypatch.setattr(
        verb, "make_remote_doctor", functools.partial(doctor_remote.RemoteDoctor, fetch=healthy.fetch)
    )
    yield healthy
    bot.use_transport(None)


def run(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("djmessenger", "doctor", *arguments, stdout=out, no_color=True)
    except SystemExit as end:
        return int(end.code), out.getvalue()
    return 0, out.getvalue()


def line(printed: str, *words: str) -> tuple[str, str]:
    """Return status and cure of the line that contains all the words."""
    lines = printed.splitlines()
    for number, text in enumerate(lines):
        if all(word in text for word in words) and not text.startswith(" "):
            following = lines[number + 1] if number + 1 < len(lines) else ""
            return text.split()[0], following.strip() if following.startswith(" ") else ""
    raise AssertionError(f"no line with {words} in:\n{printed}")


def test_nothing_is_wrong(bot_):
    code, printed = run("--strict")
    assert code == 0, printed
    assert {text.split()[0] for text in printed.splitlines()} == {"ok"}, printed
    for link in (
        "settings", "version", "rulebook", "database", "dispatcher", "queue", "callbacks", "token", "page", "secret",
        "scopes", "mode", "fields", "callback", "clock",
    ):  # fmt: skip
        assert f"ok    {link:<10}" in printed


def test_offline_makes_no_call(bot_):
    assert run("--offline")[0] == 0
    assert bot_.world.calls == []
    assert bot_.fetched == []


def test_no_secret_is_printed_or_stands_in_an_address(bot_):
    bot_.page.permissions.clear()
    bot_.outside = (500, "")
    printed = run()[1]
    shown = printed + repr(bot_.world.calls)
    for secret in (
        bot_.settings.DJM_PAGE_ACCESS_TOKEN,
        bot_.settings.DJM_APP_SECRET,
        bot_.settings.DJM_ENDPOINT_VERIFY_TOKEN,
    ):
        assert secret not in shown


class TestWithoutTheNetwork:
    def test_a_system_check_that_fails(self, bot_):
        bot_.settings.DJM_DISPATCHER = "embeded"
        code, printed = run("--offline")
        status, cure = line(printed, "djmessenger.E008")
        assert (code, status) == (1, "fail")
        assert "'embedded'" in cure

    @pytest.mark.parametrize(("version", "status"), [("v20.0", "fail"), ("v26.0", "ok"), ("v99.0", "warn")])
    def test_the_age_of_the_version(self, bot_, version, status):
        bot_.settings.DJM_GRAPH_VERSION = version
        assert line(run("--offline")[1], "version  ", version)[0] == status

    @pytest.mark.parametrize(("days", "status"), [(0, "ok"), (120, "ok"), (121, "warn")])
    @pytest.mark.django_db
    def test_a_rulebook_that_nobody_has_read_for_long(self, days, status):
        newest = datetime.datetime.combine(NEWS_READ, datetime.time(), datetime.UTC)
        doctor = doctor_local.LocalDoctor(now=lambda: newest + datetime.timedelta(days=days))
        (finding,) = [each for each in doctor.findings() if each.link == "rulebook"]
        assert finding.status.lower().startswith(status)
        assert f"{days} days" in finding.what

    def test_a_version_that_ends_soon(self, bot_):
        bot_.settings.DJM_GRAPH_VERSION = "v22.0"
        bot_.settings.DJM_RULEBOOK = {"graph.v22.0": timezone.now().date() + datetime.timedelta(days=30)}
        status, cure = line(run("--offline")[1], "version  ", "in 30 days")
        assert status == "warn"
        assert "DJM_GRAPH_VERSION" in cure

    def test_tables_that_are_missing(self, bot_, monkeypatch):
        class Migration:
            app_label = "djmessenger"

        monkeypatch.setattr(
            doctor_local.MigrationExecutor, "migration_plan", lambda self, targets: [(Migration, False)]
        )
        code, printed = run()
        assert (code, line(printed, "database")[0]) == (1, "fail")
        assert line(printed, "not examined, because")[0] == "warn"
        assert bot_.world.calls == []

    def test_records_of_migrations_that_django_cannot_read(self, bot_, monkeypatch):
        def fail(connection):
            raise NodeNotFoundError("no such migration", ("djmessenger", "0001_initial"))

        monkeypatch.setattr(doctor_local, "MigrationExecutor", fail)
        status, cure = line(run("--offline")[1], "records of migrations")
        assert (status, cure) == ("fail", "Run manage.py migrate, which names them.")

    def test_a_dispatcher_for_tests(self, bot_):
        bot_.settings.DJM_DISPATCHER = "inline"
        status, cure = line(run("--offline")[1], "dispatcher")
        assert status == "warn"
        assert "embedded" in cure

    def test_a_worker_is_judged_by_its_queues(self, bot_):
        bot_.settings.DJM_DISPATCHER = "worker"
        assert line(run("--offline")[1], "dispatcher", "worker")[0] == "ok"

    @pytest.mark.parametrize(("seconds", "status"), [(5, "ok"), (90, "warn"), (3600, "fail")])
    @pytest.mark.parametrize("what", ["stored callbacks", "events", "replies"])
    def test_work_that_waits_too_long_is_reported(self, bot_, what, seconds, status):
        since = timezone.now() - datetime.timedelta(seconds=seconds)
        if what == "stored callbacks":
            models.Callback.objects.create(sha256="a" * 64, body=b"{}", date_received=since)
        else:
            conversation = models.Conversation.objects.between(PAGE, "7001")
            models.ConversationQueue.objects.create(
                conversation=conversation, kind="in" if what == "events" else "out", ready_at=since
            )
        found, cure = line(run("--offline")[1], "queue", f"{what} wait")
        assert found == status
        assert ("worker" in cure) == (status != "ok")

    def test_a_backlog_of_slow_work_needs_more_slow_threads_and_no_other_worker(self, bot_):
        assert "slow" not in run("--offline")[1]
        conversation = models.Conversation.objects.between(PAGE, "7001")
        since = timezone.now() - datetime.timedelta(hours=1)
        models.ConversationQueue.objects.create(
            conversation=conversation, kind="in", ready_at=since, is_slow=True
        )
        text = run("--offline")[1]
        assert "--slow-threads" in line(text, "queue", "events for slow rules wait")[1]
        assert line(text, "queue", "no events wait")[0] == "ok"

    def test_a_page_that_is_paused(self, bot_):
        models.Page.objects.update(
            paused_until=timezone.now() + datetime.timedelta(hours=1), pause_reason="Generate a new token."
        )
        assert line(run("--offline")[1], "nothing is sent before") == ("fail", "Generate a new token.")

    @pytest.mark.parametrize(("days", "said"), [(None, "none has come yet"), (8, "the last came 8 days ago")])
    def test_a_page_of_which_nothing_comes(self, bot_, days, said):
        last = None if days is None else timezone.now() - datetime.timedelta(days=days)
        models.Page.objects.update(date_last_callback=last)
        assert line(run("--offline")[1], "callbacks", said)[0] == "warn"
        models.Page.objects.all().delete()
        assert line(run("--offline")[1], "callbacks", "none has come yet")[0] == "warn"


class TestOverTheNetwork:
    def test_a_dead_token(self, bot_):
        bot_.page.token_error = 460
        code, printed = run()
        status, cure = line(printed, "token", "190/460")
        assert (code, status) == (1, "fail")
        assert cure

    def test_no_token(self, bot_):
        bot_.settings.DJM_PAGE_ACCESS_TOKEN = ""
        assert line(run()[1], "token", "DJM_PAGE_ACCESS_TOKEN")[0] == "fail"

    def test_no_network(self, bot_):
        bot_.world.faults.on("unreachable")
        code, printed = run()
        assert code == 1
        assert line(printed, "graph")[0] == "fail"

    def test_the_token_of_another_page(self, bot_):
        bot_.settings.DJM_PAGE_ID = "104233987650099"
        status, cure = line(run()[1], "page  ", PAGE, "104233987650099")
        assert status == "fail"
        assert "DJM_PAGE_ID" in cure

    def test_the_secret_of_another_app(self, bot_):
        bot_.page.require_proof = False
        bot_.page.app_secret = "f" * 32
        # The proof is made with the wrong secret too, and is the first that Meta refuses.
        code, printed = run()
        assert code == 1
        assert line(printed, "appsecret_proof")[0] == "fail"

    def test_an_app_id_that_does_not_go_with_the_secret(self, bot_):
        bot_.settings.DJM_APP_ID = "883041772661056"
        status, cure = line(run()[1], "secret  ")
        assert status == "fail"
        assert "App settings, Basic" in cure

    def test_without_an_app_id_the_rest_is_examined(self, bot_):
        bot_.page.require_proof = False
        bot_.settings.DJM_APP_ID = ""
        code, printed = run("--url", URL)
        status, cure = line(printed, "app  ")
        assert (code, status) == (0, "warn")
        assert "DJM_APP_ID" in cure
        assert line(printed, "callback  ")[0] == "ok"
        assert line(printed, "fields")[0] == "ok"

    @pytest.mark.parametrize("scope", ["pages_messaging", "pages_manage_metadata"])
    def test_a_scope_that_is_missing(self, bot_, scope):
        bot_.page.permissions.discard(scope)
        status, cure = line(run()[1], "scopes", f"lacks {scope}")
        assert status == "fail"
        assert "App Dashboard" in cure

    @pytest.mark.parametrize("reviewed", [{}, {"pages_messaging": "unapproved"}])
    def test_an_app_in_development_answers_people_with_a_role_only(self, bot_, reviewed):
        bot_.app.reviewed = reviewed
        code, printed = run()
        status, cure = line(printed, "mode", "only people with a role on the app")
        assert (code, status) == (0, "warn")
        assert "app-review" in cure
        assert run("--strict")[0] == 1

    def test_a_page_that_is_not_subscribed(self, bot_):
        bot_.page.subscribed_fields = set()
        status, cure = line(run()[1], "fields", "no callback comes")
        assert status == "fail"
        assert "subscribe" in cure

    def test_fields_at_both_levels(self, bot_):
        bot_.page.subscribed_fields.discard("message_echoes")
        bot_.page.app_fields = {"messages", "messaging_postbacks", "message_echoes", "message_reads"}
        printed = run()[1]
        assert line(printed, "the Page lacks message_echoes")[0] == "fail"
        status, cure = line(printed, "the app lacks message_deliveries")
        assert status == "fail"
        assert "App Dashboard" in cure

    def test_an_app_without_a_webhook(self, bot_):
        bot_.app.callback_url = ""
        printed = run()[1]
        assert line(printed, "webhook", "no callback comes")[0] == "fail"
        assert line(printed, "callback", "not called")[0] == "warn"

    def test_a_webhook_at_another_path(self, bot_):
        bot_.app.callback_url = "https://shop.example/elsewhere"
        printed = run()[1]
        assert line(printed, "webhook", "/elsewhere")[0] == "warn"
        status, cure = line(printed, "callback", "answers 404")
        assert status == "fail"
        assert "djmessenger.urls" in cure

    def test_the_callback_is_asked_with_a_challenge_of_its_own(self, bot_):
        run()
        run()
        asked = [parse_qs(urlsplit(url).query) for url in bot_.fetched]
        assert asked[0]["hub.mode"] == ["subscribe"]
        assert asked[0]["hub.challenge"] != asked[1]["hub.challenge"]

    @pytest.mark.parametrize(
        ("outside", "said", "cure"),
        [
            (OSError("refused"), "cannot be reached: OSError", "firewall"),
            (urllib3.exceptions.HTTPError("certificate"), "cannot be reached", "certificate"),
            ((403, ""), "refuses the verify token", "DJM_ENDPOINT_VERIFY_TOKEN"),
            ((302, ""), "answers 302", "redirect"),
            ((200, "<html>"), "answers 200, but not with the challenge", "log in"),
        ],
    )
    def test_a_callback_that_does_not_answer(self, bot_, outside, said, cure):
        bot_.outside = outside
        code, printed = run()
        status, found = line(printed, "callback", said)
        assert (code, status) == (1, "fail")
        assert cure in found

    def test_a_callback_without_https(self, bot_):
        assert line(run("--url", "http://shop.example/messenger")[1], "is not https")[0] == "fail"

    @pytest.mark.parametrize(
        ("hours", "status", "said"),
        [(0, "ok", "agrees"), (1, "fail", "behind Meta's"), (-1, "fail", "ahead of Meta's")],
    )
    def test_the_clock(self, bot_, hours, status, said):
        bot_.clock.advance(hours=hours)
        found, cure = line(run()[1], "clock", said)
        assert found == status
        assert ("NTP" in cure) == (status == "fail")

    def test_a_version_that_meta_no_longer_serves(self, bot_):
        bot_.settings.DJM_GRAPH_VERSION = "v20.0"
        assert line(run()[1], "Meta answered with v21.0 instead of v20.0")[0] == "warn"

    def test_all_pages(self, bot_):
        bot_.settings.DJM_PAGES = {"104233987650099": {"token": bot_.settings.DJM_PAGE_ACCESS_TOKEN}}
        code, printed = run("--all")
        assert code == 1
        assert line(printed, "page  ", "104233987650099 is configured")[0] == "fail"


def test_an_instagram_account_behind_a_page(bot_):
    account = "17841400000000000"
    bot_.settings.DJM_PAGE_ID = account
    models.Page.objects.create(page_id=account, channel="instagram", date_last_callback=timezone.now())
    bot_.page.channel, bot_.page.account_id = "instagram", account
    bot_.page.subscribed_fields = {"messages", "messaging_postbacks", "messaging_seen"}
    assert line(run()[1], "scopes", "instagram_manage_messages")[0] == "fail"
    bot_.page.permissions.add("instagram_manage_messages")
    code, printed = run()
    assert code == 0, printed
    assert line(printed, "page  ", "is the configured Page")[0] == "ok"
    assert line(printed, "the Page has the 3 fields")[0] == "ok"


def instagram_login(bot_, configured):
    """Configure an account with Instagram Login, whose token is stored in the database, under one of its ids."""
    bot_.settings.DJM_TOKEN_KEYS = [new_key()]
    bot_.settings.DJM_APP_SECRET = {"883041772661066": "ab" * 16}
    page = bot_.world.add_page(
        IN_GRAPH, "made-up-token-of-the-account", "883041772661066", "ab" * 16, login="instagram",
        channel="instagram", account_id=ACCOUNT, require_proof=True,
    )  # fmt: skip
    bot_.world.apps[page.app_id].callback_url = URL
    bot_.settings.DJM_PAGE_ID = configured
    row = models.Page(page_id=configured, channel="instagram", login="instagram", app_id=page.app_id)
    bot.set_token(row, Secret(page.token))
    row.date_last_callback = timezone.now()
    row.save()
    return row


def test_an_account_with_instagram_login(bot_):
    instagram_login(bot_, ACCOUNT)
    code, printed = run()
    assert code == 0, printed
    assert line(printed, "page  ", "is the configured Page")[0] == "ok"
    assert line(printed, "scopes", "instagram_business_manage_messages")[0] == "ok"
    assert line(printed, "mode", "granted instagram_business_manage_messages")[0] == "ok"


def test_an_app_of_instagram_login_about_which_meta_tells_nothing(bot_):
    instagram_login(bot_, ACCOUNT)
    with bot_.world.faults.active("refused", where="debug_token", code=190):
        code, printed = run()
    assert code == 0, printed
    assert line(printed, "app", "scopes, mode and webhook were not examined")[0] == "warn"
    assert line(printed, "fields", "the Page has")[0] == "ok"


def test_of_the_two_ids_of_an_account_the_one_of_callbacks_is_named(bot_):
    instagram_login(bot_, IN_GRAPH)
    code, printed = run()
    status, cure = line(printed, "page  ", f"have the id {ACCOUNT}")
    assert (code, status) == (1, "fail")
    assert f"Name the account {ACCOUNT}" in cure
    assert "user_id" in cure


def test_of_a_page_and_its_account_the_id_of_callbacks_is_named(bot_):
    models.Page.objects.update(channel="instagram")
    bot_.page.channel, bot_.page.account_id = "instagram", ACCOUNT
    status, cure = line(run()[1], "page  ", f"{PAGE} is configured", ACCOUNT)
    assert status == "fail"
    assert "instagram_business_account" in cure


@pytest.mark.parametrize(("days", "status"), [(40, "ok"), (13, "warn"), (-1, "warn")])
def test_the_end_of_a_token_of_instagram_login(bot_, days, status):
    row = instagram_login(bot_, ACCOUNT)
    row.date_token_expires = timezone.now() + datetime.timedelta(days=days)
    row.save()
    found, cure = line(run()[1], "token", "ends on")
    assert found == status
    assert ("tokens --refresh" in cure) == (status == "warn")


def test_a_token_of_instagram_login_in_the_settings_is_a_warning(bot_):
    instagram_login(bot_, ACCOUNT)
    bot_.settings.DJM_PAGES = {ACCOUNT: {"token": "made-up-token-of-the-account"}}
    status, cure = line(run()[1], "token", "is in the settings")
    assert status == "warn"
    assert f"tokens --set {ACCOUNT}" in cure


def test_the_answer_of_metas_token_debugger_is_read(bot_):
    info = bot.get_app_client().debug_token(bot.get_client())
    assert info.is_valid
    assert info.profile_id == PAGE
    assert info.app_id == bot_.page.app_id
    assert "pages_messaging" in info.scopes
    assert info.expires_at is None
    (call,) = [call for call in bot_.world.calls if call.path.endswith("debug_token")]
    assert call.body["input_token"] == "<hidden>"


def test_a_token_is_asked_about_by_the_app_alone(bot_):
    with pytest.raises(Exception, match="app access token"):
        bot.get_client().debug_token(bot.get_client())


@pytest.mark.parametrize("error", [NotSent("no network"), UnknownFate("no answer")])
def test_a_token_that_is_asked_about_is_in_no_frame(bot_, error):
    """An error tracker collects the locals of every frame."""

    class Broken:
        def send(self, request):
            raise error

    bot.use_transport(Broken())
    asking, asked = bot.get_app_client(), bot.get_client()
    with pytest.raises(GraphError) as caught:
        asking.debug_token(asked)
    frames = [frame.frame.f_locals for frame in inspect.getinnerframes(caught.value.__traceback__)]
    shown = "".join(map(repr, frames))
    assert bot_.settings.DJM_PAGE_ACCESS_TOKEN not in shown
    assert bot_.settings.DJM_APP_SECRET not in shown
