"""The commands for the Messenger Profile: what reaches Graph, in which order, and what a refusal looks like."""

from __future__ import annotations

import io
import json
import logging
import re
from urllib.parse import urlsplit

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db.models.signals import post_migrate
from django.utils import translation
from django.utils.functional import lazy

from djmessenger import bot, payload
from djmessenger.exceptions import DJMInvalidConfigException, LimitExceeded
from djmessenger.graph.client import Client
from djmessenger.graph.errors import NotSent
from djmessenger.graph.wire import Request, Response
from djmessenger.operations import profile_apply as profile
from djmessenger.operations import profile_thread_settings as thread
from messenger_emulator import Emulator, VirtualClock

pytestmark = pytest.mark.django_db

WORDS = {"en": "Hello", "de": "Hallo", "zh-hant": "您好", "es": "Hola"}


def _word() -> str:
    """Fall back from es-mx to es, as gettext does."""
    language = translation.get_language()
    return WORDS.get(language) or WORDS.get(language.partition("-")[0], "Hello")


hello = lazy(_word, str)()


class Graph:
    """The emulator behind the transport, with one Page and what its profile holds."""

    def __init__(self) -> None:
        self.emulator = Emulator(VirtualClock())
        self.page = self.emulator.add_page("1234567", "made-up-token")
        self.broken: Exception | None = None

    def send(self, request: Request) -> Response:
        if self.broken:
            raise self.broken
        url = urlsplit(request.url)
        answer = self.emulator.handle(
            request.method, url.path, url.query, request.headers, request.body or b""
        )
        return Response(*answer)

    def client(self, of=None) -> Client:
        return Client("made-up-token", page_id=(of.page_id if of else "") or "me", transport=self)

    @property
    def profile(self) -> dict:
        return self.page.platform()

    @property
    def sent(self) -> list[tuple[str, dict]]:
        """Return the calls that changed the profile, or tried to."""
        return [(call.method, call.body) for call in self.emulator.calls if call.method != "GET"]

    @property
    def calls(self) -> list:
        return self.emulator.calls


@pytest.fixture
def page(monkeypatch):
    page = Graph()
    monkeypatch.setattr(bot, "get_client", page.client)
    return page


def run(name, *args):
    out = io.StringIO()
    call_command(name, *args, stdout=out, no_color=True)
    return out.getvalue()


class TestRandomEndpoint:
    def test_prints_fifty_characters_that_serve_in_a_url(self):
        printed = {run("get_random_endpoint") for _ in range(20)}
        assert len(printed) == 20
        assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{49}\n", line) for line in printed)


class TestGreetings:
    def test_a_plain_text_is_the_default_entry(self, page, settings):
        settings.DJM_THREAD_GREETINGS_TEXT = "Hi {{user_first_name}}"
        assert "greeting is set" in run("configure_greetings")
        assert page.sent == [
            ("POST", {"greeting": [{"locale": "default", "text": "Hi {{user_first_name}}"}]})
        ]

    def test_a_lazy_text_is_sent_in_the_languages_that_translate_it(self, page, settings):
        settings.DJM_THREAD_GREETINGS_TEXT = hello
        settings.LANGUAGES = [("en", "English"), ("de", "German"), ("zh-hant", "Chinese"), ("fr", "French")]
        run("configure_greetings")
        ((_method, body),) = page.sent
        entries = {entry["locale"]: entry["text"] for entry in body["greeting"]}
        assert next(iter(entries)) == "default"
        assert entries == {"default": "Hello", "de_DE": "Hallo", "zh_TW": "您好", "zh_HK": "您好"}

    def test_one_language_serves_all_its_countries(self):
        entries = {
            entry["locale"]: entry["text"] for entry in thread.greeting_entries(hello, ["en", "es"], "en")
        }
        assert entries["es_LA"] == entries["es_ES"] == entries["es_MX"] == "Hola"
        assert "fr_FR" not in entries

    @pytest.mark.parametrize("text", ["x" * 161, lazy(lambda: "ü" * 161, str)()])
    def test_a_longer_one_than_meta_takes_is_refused_here(self, page, settings, text):
        settings.DJM_THREAD_GREETINGS_TEXT = text
        with pytest.raises(CommandError, match="161 characters, at most 160"):
            run("configure_greetings")
        assert page.calls == []

    def test_one_that_is_too_long_in_a_translation_only_is_refused_too(self):
        long_in_german = lazy(lambda: "x" * (200 if translation.get_language() == "de" else 5), str)()
        with pytest.raises(LimitExceeded, match=r"\(de_DE\)"):
            thread.greeting_entries(long_in_german, ["en", "de"], "en")

    def test_an_empty_one_says_which_setting_to_fill(self, page):
        with pytest.raises(CommandError, match="DJM_THREAD_GREETINGS_TEXT"):
            run("configure_greetings")

    def test_dry_run_prints_json_and_sends_nothing(self, page, settings):
        settings.DJM_THREAD_GREETINGS_TEXT = "Grüß Gott"
        printed = run("configure_greetings", "--dry-run")
        assert json.loads(printed) == {"greeting": [{"locale": "default", "text": "Grüß Gott"}]}
        assert "Grüß" in printed
        assert page.calls == []

    def test_remove(self, page):
        page.profile.update({"greeting": [{"locale": "default", "text": "Hi"}]})
        run("configure_greetings", "--remove")
        assert page.sent == [("DELETE", {"fields": ["greeting"]})]


class TestGetStartedButton:
    def test_sends_the_documented_payload(self, page):
        run("configure_get_started_button")
        ((_method, body),) = page.sent
        named = json.loads(body["get_started"]["payload"])
        assert named["payload_class"] == "djmessenger.payload.GetStartedPayload"
        assert payload.find_payload_class(body["get_started"]["payload"]) is payload.GetStartedPayload

    @pytest.mark.parametrize("way", ["setting", "option"])
    def test_removes_it(self, page, settings, way):
        page.profile.update({"get_started": {"payload": "x"}})
        settings.DJM_THREAD_ENABLE_GET_STARTED_BUTTON = way != "setting"
        run("configure_get_started_button", *(["--remove"] if way == "option" else []))
        assert page.sent == [("DELETE", {"fields": ["get_started"]})]

    def test_keeps_it_while_a_menu_needs_it_and_says_what_to_do(self, page):
        page.profile.update({"get_started": {"payload": "x"}, "persistent_menu": [{"locale": "default"}]})
        with pytest.raises(CommandError, match="configure_persistent_menu --remove"):
            run("configure_get_started_button", "--remove")
        assert page.sent == []


MENU = [
    {"type": "postback", "title": "Help"},
    {"type": "postback", "title": "Order"},
    {"type": "web_url", "title": "Shop", "url": "https://shop.example/"},
    {"type": "postback", "title": "Hours", "payload": "HOURS"},
    {"title": "Human"},
]


class TestPersistentMenu:
    def test_the_menu_of_2016_gets_numbered_payloads(self, page, settings):
        settings.DJM_THREAD_PERSISTENT_MENUS = MENU
        run("configure_persistent_menu")
        menu = page.profile["persistent_menu"]
        assert [entry["locale"] for entry in menu] == ["default"]
        items = menu[0]["call_to_actions"]
        assert [item["title"] for item in items] == ["Help", "Order", "Shop", "Hours", "Human"]
        found = [payload.find_payload_class(item.get("payload", "")) for item in items]
        assert found == [
            payload.PersistentMenuOnePayload,
            payload.PersistentMenuTwoPayload,
            None,
            None,
            payload.PersistentMenuFivePayload,
        ]
        assert items[2] == {"type": "web_url", "title": "Shop", "url": "https://shop.example/"}
        assert items[3]["payload"] == "HOURS"

    def test_the_button_goes_first_where_it_is_missing(self, page, settings):
        settings.DJM_THREAD_PERSISTENT_MENUS = MENU
        printed = run("configure_persistent_menu")
        assert [list(body) for _method, body in page.sent] == [["get_started"], ["persistent_menu"]]
        assert "get-started button is set" in printed

    def test_a_button_that_is_there_is_left_alone(self, page, settings):
        settings.DJM_THREAD_PERSISTENT_MENUS = MENU
        page.profile.update({"get_started": {"payload": "MINE"}})
        run("configure_persistent_menu")
        assert [list(body) for _method, body in page.sent] == [["persistent_menu"]]
        assert page.profile["get_started"] == {"payload": "MINE"}

    def test_twenty_entries_are_allowed_and_one_more_is_not(self):
        entry = {"title": "x", "payload": "P"}
        (menu,) = thread.menu_entries([entry] * 20, [], "en")
        assert len(menu["call_to_actions"]) == 20
        with pytest.raises(LimitExceeded, match="21 given, at most 20"):
            thread.menu_entries([entry] * 21, [], "en")

    @pytest.mark.parametrize(
        ("entry", "said"),
        [
            ({"type": "web_url", "title": "Shop", "url": ""}, "url: is missing"),
            ({"type": "web_url", "title": "Shop"}, "url: is missing"),
            ({"type": "web_url", "title": "Shop", "url": "javascript:alert(1)"}, "begins with https://"),
            (
                {"type": "web_url", "title": "Shop", "url": "https://x.example", "payload": "P"},
                "no key 'payload'",
            ),
            ("Shop", "needs a dict, not str"),
            ({"type": []}, "neither postback nor web_url"),
            ({"type": "nested", "title": "More"}, "neither postback nor web_url"),
            ({"title": ""}, "title: is missing"),
            ({"title": "x" * 31}, "31 characters, at most 30"),
            ({"title": "x", "payload": "p" * 1001}, "1001 characters, at most 1000"),
            ({"title": "x", "payload": {"a": 1}}, "a Payload, not dict"),
        ],
    )
    def test_a_mistake_is_named_with_its_place(self, entry, said):
        with pytest.raises(DJMInvalidConfigException) as caught:
            thread.menu_entries([{"title": "Fine"}, entry], [], "en")
        assert "DJM_THREAD_PERSISTENT_MENUS[1]" in str(caught.value)
        assert said in str(caught.value)

    def test_the_sixth_entry_needs_a_payload(self):
        with pytest.raises(DJMInvalidConfigException, match="payload: is missing"):
            thread.menu_entries([{"title": "x"}] * 6, [], "en")

    def test_titles_are_translated(self):
        menu = thread.menu_entries([{"title": hello}], ["en", "de"], "en")
        assert [(entry["locale"], entry["call_to_actions"][0]["title"]) for entry in menu] == [
            ("default", "Hello"),
            ("de_DE", "Hallo"),
        ]

    def test_an_empty_url_makes_a_postback_and_never_an_address(self):
        (menu,) = thread.menu_entries([{"title": "Help", "url": ""}], [], "en")
        assert menu["call_to_actions"][0]["type"] == "postback"

    def test_a_payload_object_is_written_out(self):
        (menu,) = thread.menu_entries([{"title": "x", "payload": payload.GetStartedPayload()}], [], "en")
        assert "GetStartedPayload" in menu["call_to_actions"][0]["payload"]

    def test_an_empty_menu_says_which_setting_to_fill(self, page):
        with pytest.raises(CommandError, match="DJM_THREAD_PERSISTENT_MENUS"):
            run("configure_persistent_menu")

    def test_dry_run_asks_graph_nothing(self, page, settings):
        settings.DJM_THREAD_PERSISTENT_MENUS = MENU
        assert "persistent_menu" in json.loads(run("configure_persistent_menu", "--dry-run"))
        assert page.calls == []

    def test_remove(self, page):
        page.profile.update({"get_started": {"payload": "x"}, "persistent_menu": [{"locale": "default"}]})
        assert "menu is removed" in run("configure_persistent_menu", "--remove")
        assert page.sent == [("DELETE", {"fields": ["persistent_menu"]})]

    def test_a_property_that_is_set_already_is_not_sent_again(self, page, settings):
        settings.DJM_THREAD_PERSISTENT_MENUS = MENU
        run("configure_persistent_menu")
        sent = len(page.sent)
        assert "menu was set already" in run("configure_persistent_menu")
        assert len(page.sent) == sent

    def test_the_declared_menu_comes_before_that_of_the_thread_settings(self, page, settings):
        settings.DJM_THREAD_PERSISTENT_MENUS = MENU
        settings.DJM_PROFILE = {"persistent_menu": [{"title": "Mine", "payload": "MINE"}]}
        run("configure_persistent_menu")
        assert page.profile["persistent_menu"][0]["call_to_actions"][0]["payload"] == "MINE"


COMMANDS = ["configure_greetings", "configure_get_started_button", "configure_persistent_menu"]


@pytest.fixture
def full(settings):
    settings.DJM_THREAD_GREETINGS_TEXT = "Hello"
    settings.DJM_THREAD_PERSISTENT_MENUS = [{"title": "Help"}]
    return settings


@pytest.mark.parametrize("name", COMMANDS)
class TestRefusals:
    def test_a_refusal_says_code_message_and_cure(self, page, full, name):
        page.page.token_error = 463
        with pytest.raises(CommandError) as caught:
            run(name)
        said = str(caught.value)
        assert "190" in said
        assert "463" in said
        assert page.calls[-1].error["message"] in said
        assert len(said.splitlines()) == 2
        assert caught.value.returncode != 0
        assert "made-up-token" not in said

    def test_a_broken_network_is_no_traceback(self, page, full, name):
        page.broken = NotSent("the connection was refused")
        with pytest.raises(CommandError, match="the connection was refused"):
            run(name)

    def test_a_missing_token_says_which_setting(self, full, name):
        full.DJM_PAGE_ACCESS_TOKEN = ""
        with pytest.raises(CommandError, match="DJM_PAGE_ACCESS_TOKEN"):
            run(name)

    def test_another_page(self, page, full, name):
        run(name, "--page", "1234567")
        assert {call.path.partition("/v26.0")[2] for call in page.calls} == {"/1234567/messenger_profile"}

    def test_a_page_that_is_no_number(self, page, full, name):
        with pytest.raises(CommandError, match="--page"):
            run(name, "--page", "../me")
        assert page.calls == []

    def test_the_help_teaches(self, name, capsys):
        with pytest.raises(SystemExit):
            call_command(name, "--help")
        printed = capsys.readouterr().out
        assert "DJM_THREAD_" in printed
        assert "--dry-run" in printed
        assert "--page" in printed


class TestAutoConfig:
    @pytest.fixture(autouse=True)
    def no_test_database(self, monkeypatch, full):
        full.DJM_THREAD_ENABLE_AUTO_CONFIG = True
        monkeypatch.setattr(profile, "is_test_database", lambda using: False)

    def test_sends_everything_in_order(self, page):
        profile.auto_configure("default")
        assert [list(body) for _method, body in page.sent] == [
            ["greeting"],
            ["get_started"],
            ["persistent_menu"],
        ]

    def test_a_property_that_is_set_already_is_not_sent_again(self, page):
        profile.auto_configure("default")
        sent = len(page.sent)
        profile.auto_configure("default")
        assert len(page.sent) == sent

    def test_migrate_never_waits(self, page, caplog):
        for _call in range(10):
            page.client().get_messenger_profile()
        profile.auto_configure("default")
        assert "run the command again" in caplog.text

    def test_is_connected_to_migrate(self, page):
        mine = apps.get_app_config("djmessenger")
        receivers, _async_receivers = post_migrate._live_receivers(mine)
        assert profile.auto_configure in receivers
        sent = {"app_config": mine, "verbosity": 1, "interactive": False, "using": "default", "plan": []}
        profile.auto_configure(sender=mine, signal=post_migrate, **sent)
        assert len(page.sent) == 3

    def test_is_off_by_default(self, page, settings):
        del settings.DJM_THREAD_ENABLE_AUTO_CONFIG
        profile.auto_configure("default")
        assert page.calls == []

    def test_never_for_a_test_database(self, page, monkeypatch):
        monkeypatch.undo()
        calls = []
        monkeypatch.setattr(bot, "get_client", lambda *args: calls.append(args))
        assert profile.is_test_database("default")
        profile.auto_configure("default")
        assert calls == []

    def test_only_for_the_database_of_the_models(self, page):
        profile.auto_configure("replica")
        assert page.calls == []

    @pytest.mark.parametrize("trouble", [None, NotSent("no network"), RuntimeError("a bug")])
    def test_trouble_is_a_warning_and_never_an_error(self, page, caplog, trouble):
        page.page.token_error, page.broken = 463, trouble
        with caplog.at_level(logging.WARNING):
            profile.auto_configure("default")
        (record,) = [record for record in caplog.records if record.name == profile.logger.name]
        assert record.levelno == logging.WARNING
        assert "configure_" in record.getMessage()
        assert "made-up-token" not in caplog.text

    def test_a_wrong_setting_is_a_warning_too(self, page, settings, caplog):
        settings.DJM_THREAD_GREETINGS_TEXT = "x" * 161
        profile.auto_configure("default")
        assert "161 characters" in caplog.text

    def test_nothing_to_send_is_fine(self, page, settings):
        settings.DJM_THREAD_GREETINGS_TEXT = ""
        settings.DJM_THREAD_PERSISTENT_MENUS = []
        settings.DJM_THREAD_ENABLE_GET_STARTED_BUTTON = False
        profile.auto_configure("default")
        assert page.calls == []


class TestTestDatabases:
    @pytest.mark.parametrize(
        ("name", "test_name", "expected"),
        [
            ("shop", None, False),
            ("/srv/shop/db.sqlite3", None, False),
            ("contest_shop", None, False),
            ("test_shop", None, True),
            ("/tmp/test_db.sqlite3", None, True),
            (":memory:", None, True),
            ("file:memorydb_default?mode=memory&cache=shared", None, True),
            ("trial", "trial", True),
        ],
    )
    def test_are_known_by_name_where_no_runner_tells(self, monkeypatch, name, test_name, expected):
        import sys  # noqa: PLC0415

        from django.db import connections  # noqa: PLC0415

        monkeypatch.setitem(sys.modules, "django.test.utils", None)
        monkeypatch.setitem(connections["default"].settings_dict, "NAME", name)
        monkeypatch.setitem(connections["default"].settings_dict, "TEST", {"NAME": test_name})
        assert profile.is_test_database("default") is expected
