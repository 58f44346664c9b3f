"""Tokens of Instagram Login are renewed in time and once, and no token is in a log, a frame or a stored address."""

from __future__ import annotations

import datetime
import io
import logging
import threading

import pytest
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings
from django.urls import include, path, reverse
from django.utils import timezone

from djmessenger import bot, models, page_checks
from djmessenger.bot import renewal, tokens
from djmessenger.bot.pages import token_of
from djmessenger.emulator import EmulatorTransport
from djmessenger.graph.errors import NotSent
from djmessenger.operations.status import read_status
from djmessenger.secret import Secret
from messenger_emulator import Emulator
from messenger_emulator.server import serve
from tests import pipeline_tools as tools
from tests.graph_tools import Recorder, client_of, frames_of, query_of, refusal

urlpatterns = [path("admin/", admin.site.urls), path("", include("djmessenger.urls"))]

LONG = 20.0
ACCOUNT, OTHER, IN_GRAPH = "17841400000000001", "17841400000000002", "27841400000000001"
TOKEN = "canary-0123456789abcdef"
KEY = tokens.new_key()
DAY = datetime.timedelta(days=1)


def world_of(settings, *page_ids):
    settings.DJM_TOKEN_KEYS = [KEY]
    settings.DJM_APP_SECRET = {"883041772661066": "made-up-secret-of-the-app-0123456"}
    settings.DJM_PAGE_ACCESS_TOKEN = ""
    world = Emulator()
    for page_id in page_ids:
        page = world.add_page(
            f"2{page_id[1:]}",
            f"{TOKEN}-{page_id}",
            "883041772661066",
            "made-up-secret-of-the-app-0123456",
            channel="instagram",
            login="instagram",
            account_id=page_id,
            require_proof=True,
        )
        page.token_made -= 40 * 24 * 3600
        row = models.Page(page_id=page_id, channel="instagram", login="instagram", app_id="883041772661066")
        bot.set_token(row, Secret(page.token))
        row.save()
    set_dates(expires=None, renewal=-DAY)
    bot.use_transport(EmulatorTransport(world))
    return world


def set_dates(*, expires, renewal, **more):
    now = timezone.now()
    models.Page.objects.update(
        date_token_expires=None if expires is None else now + expires,
        date_token_renewal=None if renewal is None else now + renewal,
        **more,
    )


@pytest.fixture
def world(db, settings):
    yield world_of(settings, ACCOUNT)
    bot.use_transport(None)


@pytest.fixture
def file_world(file_database, settings):
    """The same in a database that several threads can open."""
    yield world_of(settings, ACCOUNT)
    bot.use_transport(None)


def sweep():
    bot.get_engine().sweep()


def renewals(world):
    return [call for call in world.calls if call.path == "/refresh_access_token"]


def row_of(page_id=ACCOUNT):
    return models.Page.objects.get(page_id=page_id)


def days_until(moment):
    return round((moment - timezone.now()) / DAY, 1)


class Wrapped:
    """A transport that calls a function before each call of an emulator."""

    def __init__(self, world, before):
        self.inner, self.before = EmulatorTransport(world), before

    def send(self, request, /):
        self.before()
        return self.inner.send(request)


class TestSweep:
    @pytest.mark.parametrize(
        ("expires", "due", "is_due"),
        [
            (None, None, True),
            (None, -DAY, True),
            (None, DAY / 2, False),
            (29 * DAY, -DAY, True),
            (31 * DAY, DAY, False),
            (-DAY, -DAY, False),
        ],
    )
    def test_a_token_is_renewed_when_it_is_due(self, world, expires, due, is_due):
        set_dates(expires=expires, renewal=due)
        sweep()
        assert len(renewals(world)) == is_due
        page = world.pages[IN_GRAPH]
        assert token_of(row_of()) == Secret(page.token)
        assert (page.token != f"{TOKEN}-{ACCOUNT}") == is_due
        if is_due:
            row = row_of()
            assert (days_until(row.date_token_expires), days_until(row.date_token_renewal)) == (60, 30)
            assert row.token_claimed_until is None
            sweep()
            assert len(renewals(world)) == 1
            world.add_person(IN_GRAPH, person_id=tools.PSID).says("hi")
            assert bot.get_client(row).send({"id": tools.PSID}, {"message": {"text": "x"}}).message_id

    def test_a_new_token_is_renewed_a_day_after_it_was_stored(self, world):
        row = row_of()
        bot.set_token(row, Secret("another-token-0123456789"))
        row.save(update_fields=models.Page.TOKEN_COLUMNS)
        assert (row.date_token_expires, days_until(row.date_token_renewal)) == (None, 1)

    def test_no_transaction_is_open_during_the_call(self, file_world):
        seen = []
        bot.use_transport(Wrapped(file_world, lambda: seen.append(connection.in_atomic_block)))
        sweep()
        assert seen == [False]

    def test_of_many_processes_one_renews_a_token(self, file_world):
        begun, go_on = threading.Event(), threading.Event()

        def wait():
            begun.set()
            assert go_on.wait(LONG)

        bot.use_transport(Wrapped(file_world, wait))
        errors = []
        first = threading.Thread(target=lambda: errors.extend(tools.threads(sweep)))
        first.start()
        assert begun.wait(LONG)
        # These would wait for ``go_on``, and so for ever, if one of them called Graph.
        assert tools.threads(*[sweep] * 3) == []
        assert tools.threads(self.fails_to_claim) == []
        go_on.set()
        first.join(LONG)
        assert errors == []
        assert len(renewals(file_world)) == 1

    @staticmethod
    def fails_to_claim():
        assert bot.renew_token(row_of()) is False

    def test_a_process_that_read_the_row_before_does_not_renew_it_again(self, world):
        before = row_of()
        assert bot.renew_token(row_of())
        assert bot.renew_token(before) is False
        assert len(renewals(world)) == 1

    def test_a_token_that_is_stored_during_the_call_stays(self, world):
        def store():
            row = row_of()
            bot.set_token(row, Secret("token-of-staff-0123456789"))
            row.save(update_fields=models.Page.TOKEN_COLUMNS)

        bot.use_transport(Wrapped(world, store))
        sweep()
        row = row_of()
        assert token_of(row) == Secret("token-of-staff-0123456789")
        assert row.date_token_expires is None

    @pytest.mark.parametrize(("claimed", "calls"), [(DAY / 2000, 0), (-DAY / 2000, 1), (DAY, 1)])
    def test_the_claim_of_a_process_that_died_ends(self, world, claimed, calls):
        set_dates(expires=None, renewal=-DAY, token_claimed_until=timezone.now() + claimed)
        sweep()
        assert len(renewals(world)) == calls

    def test_a_process_that_dies_after_the_call_costs_a_try(self, world, monkeypatch):
        def die(page_id, token):
            raise SystemExit

        with monkeypatch.context() as patch:
            patch.setattr(renewal, "encrypt", die)
            with pytest.raises(SystemExit):
                sweep()
        row = row_of()
        assert token_of(row) == Secret(f"{TOKEN}-{ACCOUNT}")
        assert row.token_claimed_until > timezone.now()
        sweep()
        assert len(renewals(world)) == 1
        models.Page.objects.update(token_claimed_until=timezone.now())
        sweep()
        assert token_of(row_of()) == Secret(world.pages[IN_GRAPH].token)

    def test_a_refusal_is_tried_again_later(self, world, caplog):
        world.pages[IN_GRAPH].token_made += 39.5 * 24 * 3600
        sweep()
        sweep()
        assert len(renewals(world)) == 1
        row = row_of()
        assert days_until(row.date_token_renewal) == pytest.approx(0.25, abs=0.06)
        assert (row.token_claimed_until, row.date_token_expires) == (None, None)
        assert token_of(row) == Secret(f"{TOKEN}-{ACCOUNT}")
        assert "not renewed" in caplog.text

    def test_if_graph_is_away_no_further_call_is_made(self, db, settings):
        world_of(settings, ACCOUNT, OTHER)
        recorder = Recorder(NotSent("refused"), NotSent("refused"))
        bot.use_transport(recorder)
        sweep()
        assert len(recorder.requests) == 1
        bot.use_transport(None)

    def test_a_renewal_that_changes_no_token_extends_it(self, world):
        bot.use_transport(
            Recorder({"access_token": f"{TOKEN}-{ACCOUNT}", "token_type": "bearer", "expires_in": 5183944})
        )
        sweep()
        row = row_of()
        assert token_of(row) == Secret(f"{TOKEN}-{ACCOUNT}")
        assert days_until(row.date_token_expires) == 60

    def test_the_login_may_be_named_in_the_settings(self, world, settings):
        models.Page.objects.update(login="facebook", channel="messenger")
        sweep()
        assert renewals(world) == []
        settings.DJM_PAGES = {ACCOUNT: {"channel": "instagram", "login": "instagram"}}
        sweep()
        assert len(renewals(world)) == 1

    def test_a_token_of_the_settings_is_not_renewed(self, world, settings):
        settings.DJM_PAGES = {ACCOUNT: {"token": "x", "channel": "instagram", "login": "instagram"}}
        sweep()
        assert renewals(world) == []
        messages = [message for message in page_checks.check_pages() if message.id == "djmessenger.W064"]
        assert len(messages) == 1
        assert f"tokens --set {ACCOUNT}" in messages[0].hint

    def test_tokens_of_facebook_pages_stay(self, world):
        models.Page.objects.update(login="facebook")
        sweep()
        assert renewals(world) == []


class TestClient:
    def test_the_call_is_that_of_the_page_of_meta(self):
        client, recorder = client_of(
            {"access_token": "new", "expires_in": 5}, version="", app_secret="s" * 32
        )
        renewed = client.renew_token()
        assert (renewed.token, renewed.seconds) == (Secret("new"), 5)
        request = recorder.last
        assert request.url.startswith("https://graph.facebook.com/refresh_access_token?")
        query = query_of(request.url)
        assert query.keys() == {"grant_type", "access_token", "appsecret_proof"}
        assert query["grant_type"] == "ig_refresh_token"
        assert "'new'" not in repr(renewed)
        assert "access_token=" not in repr(request)

    @pytest.mark.parametrize("answered", [{}, [], {"access_token": ""}, {"access_token": 7}])
    def test_an_answer_without_a_token_is_an_error(self, answered):
        client, _ = client_of(answered)
        with pytest.raises(Exception, match="no token"):
            client.renew_token()

    @pytest.mark.parametrize("seconds", [None, "x", -1, 10**15])
    def test_an_odd_time_counts_as_unknown(self, seconds):
        client, _ = client_of({"access_token": "new", "expires_in": seconds})
        assert client.renew_token().seconds == 0


class TestSecrecy:
    @pytest.mark.parametrize(
        "answered",
        [
            NotSent("refused"),
            refusal(190, message=f"Malformed access token {TOKEN}-{ACCOUNT}"),
            {"access_token": f"{TOKEN} with blanks", "expires_in": 1},
            [f"{TOKEN}-{ACCOUNT}"],
        ],
    )
    def test_a_failed_renewal_shows_no_token(self, world, caplog, answered):
        caplog.set_level(logging.DEBUG)
        bot.use_transport(Recorder(answered, answered))
        with pytest.raises(Exception) as raised:  # noqa: PT011 - each failure has its own class
            bot.renew_token(row_of())
        sweep()
        assert "canary" not in frames_of(raised.value, but=__file__)
        assert "canary" not in str(raised.value)
        assert "canary" not in caplog.text

    def test_a_failure_of_the_write_shows_no_token(self, world, monkeypatch):
        bot.use_transport(Recorder({"access_token": "canary-new-0123456789", "expires_in": 5183944}))
        monkeypatch.setattr(renewal, "encrypt", lambda page_id, token: 1 / 0)
        with pytest.raises(ZeroDivisionError) as raised:
            bot.renew_token(row_of())
        assert "canary" not in frames_of(raised.value, but=__file__)

    def test_over_http_no_log_has_the_address(self, world, settings, caplog):
        caplog.set_level(logging.DEBUG)
        server = serve(world)
        settings.DJM_GRAPH_URL = server.url
        bot.use_transport(None)
        try:
            assert bot.renew_token(row_of())
        finally:
            server.stop()
        assert token_of(row_of()) == Secret(world.pages[IN_GRAPH].token)
        assert "refresh_access_token?grant_type=ig_refresh_token&access_token=***" in caplog.text
        for word in ("canary", world.pages[IN_GRAPH].token):
            assert word not in caplog.text

    def test_the_log_of_a_renewal_has_no_token(self, world, caplog):
        caplog.set_level(logging.DEBUG)
        models.Page.objects.update(is_logged=True)
        sweep()
        assert "token_renewed" in {record.__dict__.get("action") for record in caplog.records}
        shown = caplog.text + repr([vars(record) for record in caplog.records]) + repr(world.calls)
        out = io.StringIO()
        call_command("dumpdata", stdout=out)
        assert models.GraphCall.objects.exists()
        for word in ("canary", world.pages[IN_GRAPH].token):
            assert word not in shown + out.getvalue()


class TestVerb:
    @staticmethod
    def run(*arguments):
        out = io.StringIO()
        call_command("djmessenger", "tokens", *arguments, stdout=out)
        return out.getvalue()

    def test_renews_now(self, world):
        set_dates(expires=40 * DAY, renewal=10 * DAY)
        assert "renewed, valid until" in self.run("--refresh")
        assert len(renewals(world)) == 1
        assert "renewed less than a day ago, valid until" in self.run("--refresh")
        assert len(renewals(world)) == 1
        assert "valid until" in self.run()

    def test_names_the_reason_of_a_refusal(self, world, capsys):
        world.pages[IN_GRAPH].token_made += 39.5 * 24 * 3600
        with pytest.raises(SystemExit):
            call_command("djmessenger", "tokens", "--refresh")
        assert "less than 24 hours old" in capsys.readouterr().out

    def test_tells_where_a_token_of_the_settings_belongs(self, world, settings, capsys):
        settings.DJM_PAGES = {ACCOUNT: {"token": "x", "channel": "instagram", "login": "instagram"}}
        with pytest.raises(SystemExit):
            call_command("djmessenger", "tokens", "--refresh")
        assert f"tokens --set {ACCOUNT}" in capsys.readouterr().out

    def test_sets_the_dates_of_a_new_token(self, world, monkeypatch):
        set_dates(expires=3 * DAY, renewal=-DAY)
        monkeypatch.setattr("sys.stdin", io.StringIO("canary-token-0123456789\n"))
        self.run("--set", ACCOUNT)
        row = row_of()
        assert (row.date_token_expires, days_until(row.date_token_renewal)) == (None, 1)
        with pytest.raises(CommandError):
            self.run("--set", "shop")


class TestWarnings:
    @pytest.mark.parametrize(("days", "is_ending"), [(13, True), (-1, True), (15, False), (None, False)])
    def test_status_warns_for_14_days(self, world, days, is_ending):
        set_dates(expires=None if days is None else days * DAY, renewal=DAY)
        page = read_status().pages[0]
        assert page.is_token_ending == is_ending
        out = io.StringIO()
        call_command("djmessenger", "status", stdout=out)
        assert ("TOKEN ends on" in out.getvalue()) == is_ending
        with override_settings(DJM_PAGES={ACCOUNT: {"token": "x"}}):
            assert not read_status().pages[0].is_token_ending

    @pytest.mark.urls("tests.test_token_renewal")
    @pytest.mark.parametrize(("days", "is_ending"), [(13, True), (15, False)])
    def test_the_admin_warns_too(self, world, admin_client, days, is_ending):
        set_dates(expires=days * DAY, renewal=DAY)
        for address in (
            reverse("admin:djmessenger_page_changelist"),
            reverse("admin:djmessenger_page_change", args=[row_of().pk]),
        ):
            assert ("it is not renewed" in admin_client.get(address).content.decode()) == is_ending

    @pytest.mark.urls("tests.test_token_renewal")
    def test_a_token_typed_in_the_admin_has_new_dates(self, world, admin_client):
        set_dates(expires=3 * DAY, renewal=-DAY)
        address = reverse("admin:djmessenger_page_change", args=[row_of().pk])
        fields = {"page_id": ACCOUNT, "channel": "instagram", "login": "instagram", "new_token": "t" * 30}
        assert admin_client.post(address, fields).status_code == 302
        row = row_of()
        assert (row.date_token_expires, days_until(row.date_token_renewal)) == (None, 1)
