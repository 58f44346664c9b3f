"""``manage.py check``: each mistake has its id, and each message contains the remedy."""

from __future__ import annotations

import datetime
import re
import sys
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core import checks as django_checks
from django.db import connection
from django.utils.translation import gettext_lazy

from djmessenger import checks, database_checks, models, page_checks, rulebook, secret_checks
from djmessenger.outgoing import ImageGrid, Text
from djmessenger.routing.problems import Problem
from djmessenger.rulebook.facts import NEWS_READ
from djmessenger.settings.declared import RENAMED, SETTINGS

ROOT = Path(__file__).parent.parent
CHECKS = [
    checks.check_settings,
    checks.check_webhook,
    checks.check_secrets,
    checks.check_graph,
    checks.check_rulebook,
    checks.check_endings,
    checks.check_profile,
    checks.check_dispatcher,
    page_checks.check_pages,
    secret_checks.check_form_of_secrets,
    checks.check_thread,
    checks.check_policy,
    database_checks.check_database,
]


def run():
    return [message for check in CHECKS for message in check()]


def ids():
    return [message.id.removeprefix("djmessenger.") for message in run()]


@pytest.fixture(autouse=True)
def no_policy_of_its_own(monkeypatch):
    monkeypatch.setattr(checks, "policy_problems", list)
    monkeypatch.setattr(checks, "policy_uses", list)


def test_a_good_project_gets_no_message():
    assert ids() == []


def test_all_are_registered():
    registered = {check.__name__ for check in django_checks.registry.registry.get_checks()}
    assert {check.__name__ for check in CHECKS} <= registered


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DJM_ENDPOINT", None, "E001"),
        ("DJM_ENDPOINT", b"messenger", "E001"),
        ("DJM_ENDPOINT", "", "E002"),
        ("DJM_ENDPOINT", "/", "E002"),
        ("DJM_ENDPOINT", "//", "E002"),
        ("DJM_ENDPOINT", " ", "E003"),
        ("DJM_ENDPOINT", " messenger", "E003"),
        ("DJM_ENDPOINT", "messenger\n", "E003"),
        ("DJM_ENDPOINT", "/messenger", "E003"),
        ("DJM_ENDPOINT", "a b", "E003"),
        ("DJM_ENDPOINT", "^messenger$", "E003"),
        ("DJM_ENDPOINT", "a//b", "E003"),
        ("DJM_ENDPOINT", "bot?x=1", "E003"),
        ("DJM_ENDPOINT", "bôt", "E003"),
        ("DJM_ENDPOINT", "..", "E003"),
        ("DJM_ENDPOINT", "a/./b", "E003"),
        ("DJM_APP_SECRET", "", "E004"),
        ("DJM_APP_SECRET", [], "E004"),
        ("DJM_APP_SECRET", {"1": ""}, "E004"),
        ("DJM_APP_SECRET", {"1": None, "2": "two"}, "E001"),
        ("DJM_APP_SECRET", "secret", "W062"),
        ("DJM_APP_SECRET", ["0123456789abcdef0123456789abcdef", "secret"], "W062"),
        ("DJM_APP_SECRET", b"0123456789abcdef0123456789abcdef", "E001"),
        ("DJM_APP_SECRET", "0123456789abcdef\ud800", "E001"),
        ("DJM_APP_SECRET", {"1": "0123456789abcdef0123456789abcdef", "2": " "}, "E061"),
        ("DJM_TOKEN_KEYS", " ", "E061"),
        ("DJM_HEALTH_TOKEN", "\n", "E061"),
        ("DJM_APP_SECRET", ["one", "\ud800"], "E001"),
        ("DJM_APP_SECRET", {"secret": "1001"}, "E001"),
        ("DJM_PAGE_ACCESS_TOKEN", "to ken", "E001"),
        ("DJM_ENDPOINT_VERIFY_TOKEN", "to\nken", "E001"),
        ("DJM_HEALTH_TOKEN", "tok en", "E001"),
        ("DJM_PAGE_ID", "my-page", "E001"),
        ("DJM_APP_ID", "1001\n", "E001"),
        ("DJM_GRAPH_URL", "", "E001"),
        ("DJM_GRAPH_URL", "https://[bad", "E001"),
        ("DJM_INSTAGRAM_GRAPH_URL", "graph.instagram.com", "E001"),
        ("DJM_SIMULATOR_CALLBACK", "localhost:8000", "E001"),
        ("DJM_PAGE_ACCESS_TOKEN", "", "E005"),
        ("DJM_VERIFY_SIGNATURE", False, "E006"),
        ("DJM_VERIFY_SIGNATURE", 1, "E001"),
        ("DJM_ENDPOINT_VERIFY_TOKEN", "djmessenger_verify_token", "W007"),
        ("DJM_GRAPH_VERSION", "26", "W008"),
        ("DJM_GRAPH_VERSION", "v20.0", "W009"),
        ("DJM_GRAPH_URL", "http://graph.facebook.com", "W010"),
        ("DJM_GRAPH_TIMEOUT", 0, "E001"),
        ("DJM_GRAPH_TIMEOUT", True, "E001"),
        ("DJM_MAX_BODY", -1, "E001"),
        ("DJM_MAX_EVENT_AGE", 7, "E001"),
        ("DJM_MAX_EVENT_AGE", datetime.timedelta(0), "E001"),
        ("DJM_MAX_EVENT_AGE", datetime.timedelta.max, "E001"),
        ("DJM_KEEP_BODIES", datetime.timedelta(days=-1), "E001"),
        ("DJM_KEEP_BODIES", None, "E001"),
        ("DJM_WHEN_UNSURE", "parked", "E001"),
        ("DJM_POLL", 0, "E001"),
        ("DJM_POLL", float("nan"), "E001"),
        ("DJM_POLL", float("inf"), "E001"),
        ("DJM_SWEEP", -5, "E001"),
        ("DJM_ECHO_WAIT", -1, "E001"),
        ("DJM_TRIES", 0, "E001"),
        ("DJM_TRIES", True, "E001"),
        ("DJM_TRIES", 2.5, "E001"),
        ("DJM_MAX_PENDING", 0, "E001"),
        ("DJM_MAX_PENDING", None, "E001"),
        ("DJM_WEBHOOK_FIELDS", ["feed", 7], "E001"),
        ("DJM_WEBHOOK_FIELDS", ["Feed"], "E001"),
        ("DJM_TOKEN_KEYS", [b"key"], "E001"),
        ("DJM_RULEBOOK", {"button.count": 4}, "E011"),
        ("DJM_RULEBOOK", {"buttons.count": "four"}, "E011"),
        ("DJM_DISPATCHER", "embeded", "E008"),
        ("DJM_DISPATCHER", "no.such.Thing", "E008"),
        ("DJM_DISPATCHER", "", "E008"),
        ("DJM_DISPATCHER", ".", "E008"),
        ("DJM_DISPATCHER", "..", "E008"),
        ("DJM_DISPATCHER", "datetime.datetime", "E008"),
        ("DJM_REGEX_ENGINE", "pcre", "E001"),
        ("DJM_OUTGOING_CHECKS", "maybe", "E001"),
        ("DJM_THREAD_GREETINGS_TEXT", "x" * 161, "E013"),
        ("DJM_THREAD_PERSISTENT_MENUS", "menu", "E001"),
        ("DJM_THREAD_PERSISTENT_MENUS", ["menu"], "E014"),
        ("DJM_THREAD_PERSISTENT_MENUS", [{"title": ""}], "E014"),
        ("DJM_THREAD_PERSISTENT_MENUS", [{"type": "web_url", "title": "Shop", "url": ""}], "E014"),
        ("DJM_THREAD_PERSISTENT_MENUS", [{"title": "One"}] * 21, "E014"),
        ("DJM_PROFILE", [], "E001"),
        ("DJM_PROFILE", {"greetings": "Hi"}, "E018"),
        ("DJM_PROFILE", {"greeting": "x" * 161}, "E018"),
        ("DJM_PROFILE", {"pages": {"1": {"persistent_menu": [{"title": "x" * 31}]}}}, "E018"),
        ("DJM_PROFILE", "no-such-file.toml", "E018"),
        ("DJM_ROUTING_POLICY", 7, "E001"),
        ("DJM_ROUTNG_POLICY", {}, "W001"),
        ("DJM_SECOND_OPINION", True, "E023"),
        ("DJM_POST_MESSAGE_URL", "https://x", "W001"),
    ],
)
def test_each_mistake_has_its_id_and_says_what_to_do(settings, name, value, expected):
    setattr(settings, name, value)
    assert ids() == [expected]
    (message,) = run()
    assert name.split("_")[0] in message.msg
    assert isinstance(message, django_checks.Error if expected[0] == "E" else django_checks.Warning)
    assert message.hint
    assert (ROOT / message.hint.rpartition("See ")[2]).is_file()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DJM_ENDPOINT", "bots/shop-1/"),
        ("DJM_ENDPOINT", "a.c~x_y"),
        ("DJM_APP_SECRET", ["0" * 32, "1" * 32]),
        ("DJM_APP_SECRET", {"1001": f" {'0' * 32}\n"}),
        ("DJM_GRAPH_URL", "http://127.0.0.1:8000"),
        ("DJM_GRAPH_VERSION", "v26.0"),
        ("DJM_GRAPH_VERSION", "v99.0"),
        ("DJM_RULEBOOK", {"buttons.count": 4}),
        ("DJM_THREAD_GREETINGS_TEXT", gettext_lazy("Hello")),
        (
            "DJM_THREAD_PERSISTENT_MENUS",
            [{"title": "One"}, {"type": "web_url", "title": "Two", "url": "https://x.example"}],
        ),
        ("DJM_GRAPH_TIMEOUT", 5),
        ("DJM_KEEP_TEXTS", None),
        ("DJM_KEEP_BODIES", datetime.timedelta(0)),
        ("DJM_DISPATCHER", "djmessenger.pipeline.dispatch.InlineDispatcher"),
    ],
)
def test_an_allowed_value_gets_no_message(settings, name, value):
    setattr(settings, name, value)
    assert ids() == []


def test_a_name_in_small_letters_is_met_with_the_right_one(monkeypatch):
    monkeypatch.setattr(sys.modules[django_settings.SETTINGS_MODULE], "djm_endpoint", "bot", raising=False)
    (message,) = run()
    assert message.id == "djmessenger.W001"
    assert "DJM_ENDPOINT" in message.hint


def test_a_misspelt_name_is_met_with_the_right_one(settings):
    settings.DJM_MAX_BODI = 1
    (message,) = run()
    assert "DJM_MAX_BODY" in message.hint


@pytest.mark.parametrize(("former", "now"), RENAMED.items())
def test_a_former_name_is_met_with_the_new_one(settings, former, now):
    setattr(settings, former, SETTINGS[now].default)
    (message,) = run()
    assert message.msg == f"{former} is now {now}."
    assert SETTINGS[now].meaning in message.hint


def test_debug_needs_no_secret(settings):
    settings.DEBUG = True
    settings.DJM_APP_SECRET = settings.DJM_PAGE_ACCESS_TOKEN = ""
    settings.DJM_ENDPOINT_VERIFY_TOKEN = "djmessenger_verify_token"
    assert ids() == []


def test_debug_warns_where_verification_is_off(settings):
    settings.DEBUG = True
    settings.DJM_VERIFY_SIGNATURE = False
    assert ids() == ["W006"]


def test_a_test_runner_that_turns_debug_off_does_not_ask_for_secrets(settings, monkeypatch):
    from django.test import utils  # noqa: PLC0415

    monkeypatch.setattr(utils._TestState.saved_data, "debug", True)
    settings.DJM_APP_SECRET = ""
    assert ids() == []


def test_no_message_shows_a_secret(settings):
    settings.DJM_APP_SECRET = 12345678901
    settings.DJM_PAGE_ACCESS_TOKEN = ["canary"]
    settings.DJM_ENDPOINT_VERIFY_TOKEN = b"canary"
    settings.DJM_HEALTH_TOKEN = "canary two"
    settings.DJM_TOKEN_KEYS = ["canary"]
    settings.DJM_PAGES = {
        "canary": "1001",
        "1002": "canary",
        "1003": {"canary": ""},
        "1004": {"token": "ca nary"},
    }
    shown = "".join(f"{message.msg}{message.hint}" for message in run())
    assert shown.count("E001") == 0
    assert "canary" not in shown
    assert "12345678901" not in shown


@pytest.mark.parametrize(
    ("days", "expected"), [(-1, ["ENDED"]), (0, ["ENDED"]), (1, ["ends"]), (90, ["ends"]), (91, [])]
)
def test_the_end_of_a_version_is_a_warning_in_good_time(days, expected):
    end = rulebook.row("graph.v21.0").until
    found = checks.version_messages("v21.0", end - datetime.timedelta(days=days))
    assert [type(message) for message in found] == [django_checks.Warning] * len(expected)
    assert [
        word for message in found for word in message.msg.split() if word in {"ENDED", "ends"}
    ] == expected


@pytest.mark.parametrize(("days", "expected"), [(120, []), (121, ["djmessenger.W070"])])
def test_an_old_rulebook_is_a_warning(monkeypatch, days, expected):
    monkeypatch.setattr(checks, "_today", lambda: NEWS_READ + datetime.timedelta(days=days))
    assert [message.id for message in checks.check_age_of_rulebook()] == expected


def test_a_date_never_makes_an_error(settings):
    for key in rulebook.table:
        if key.startswith("graph."):
            settings.DJM_GRAPH_VERSION = key.removeprefix("graph.")
            assert not [message for message in run() if message.level >= django_checks.ERROR]


def test_sqlite_with_threads_asks_for_wal_and_immediate(settings, monkeypatch):
    settings.DJM_DISPATCHER = "embedded"
    good = {
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
    }
    for options, expected in (
        ({}, ["W012"]),
        ({"transaction_mode": "IMMEDIATE"}, ["W012"]),
        ({"init_command": good["init_command"]}, ["W012"]),
        (good, []),
    ):
        monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.sqlite3")
        monkeypatch.setitem(settings.DATABASES["default"], "OPTIONS", options)
        assert ids() == expected
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.postgresql")
    monkeypatch.setitem(settings.DATABASES["default"], "OPTIONS", {})
    assert ids() == []


def test_the_engine_has_to_be_installed(settings, monkeypatch):
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda name: None)
    settings.DJM_REGEX_ENGINE = "re2"
    (message,) = run()
    assert message.id == "djmessenger.E009"
    assert "google-re2" in message.hint


def test_a_menu_without_the_button_is_a_warning(settings):
    settings.DJM_THREAD_PERSISTENT_MENUS = [{"title": "Help"}]
    settings.DJM_THREAD_ENABLE_GET_STARTED_BUTTON = False
    assert ids() == ["W015"]


def test_problems_of_the_policy_keep_their_id_and_place(monkeypatch):
    problems = [
        Problem(
            rule="Hi",
            position="rules[3].filters[0]",
            message="there is no class x.Y",
            id="E035",
            hint="Look.",
        ),
        Problem(rule="", position="rules", message="2 rules were left out", id="W032"),
    ]
    monkeypatch.setattr(checks, "policy_problems", lambda: problems)
    first, second = checks.check_policy()
    assert first.id == "djmessenger.E035"
    assert first.msg == "rules[3].filters[0] (Hi): there is no class x.Y"
    assert first.hint == "Look. See docs/policy.md#unknown-class"
    assert isinstance(second, django_checks.Warning)


def test_every_setting_of_the_table_can_be_checked_at_its_default(settings):
    for name, row in SETTINGS.items():
        if not row.secret and name != "DJM_ENDPOINT":
            setattr(settings, name, row.default)
    settings.DJM_DISPATCHER = "inline"
    assert ids() == []


def test_every_id_is_in_the_documentation():
    printed = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    source = "".join(
        Path(module.__file__).read_text(encoding="utf-8")
        for module in (checks, database_checks, page_checks, secret_checks)
    )
    for number in set(re.findall(r'"([EW]0\d\d)"', source)):
        assert f"`djmessenger.{number}`" in printed


def test_the_policy_of_the_settings_is_looked_at(settings, monkeypatch):
    monkeypatch.undo()
    filters = [{"name": "no.such.Filter"}]
    repliers = [{"name": "djmessenger.replying.DefaultMessageReplier"}]
    settings.DJM_ROUTING_POLICY = {
        "rules": [{"type": "SIMPLE_TEXT", "filters": filters, "repliers": repliers}]
    }
    (message,) = checks.check_policy()
    assert message.id == "djmessenger.E035"
    assert "rules[0].filters[0]" in message.msg
    assert "docs/policy.md#" in message.hint


def test_the_default_policy_has_no_mistake(monkeypatch):
    monkeypatch.undo()
    assert checks.check_policy() == []


class TestEndings:
    """Features in use that Meta withdraws: a warning in good time, a louder one from the day on, never an error."""

    END = datetime.date(2027, 3, 31)

    @pytest.fixture(autouse=True)
    def rules(self, settings, monkeypatch):
        monkeypatch.undo()
        settings.DJM_RULEBOOK = {"tag.ACCOUNT_UPDATE": self.END, "tag.POST_PURCHASE_UPDATE": None}
        self.frozen = monkeypatch

    def policy(self, settings, **rule):
        settings.DJM_ROUTING_POLICY = {
            "rules": [{"type": "SIMPLE_TEXT", "name": "tell", "filters": [], **rule}]
        }

    def check(self, days: int) -> list:
        self.frozen.setattr(checks, "_today", lambda: self.END - datetime.timedelta(days=days))
        found = checks.check_endings()
        assert all(message.level < django_checks.ERROR for message in found)
        assert all((ROOT / message.hint.rpartition("See ")[2]).is_file() for message in found)
        return found

    def message_rule(self, **message):
        replier = "djmessenger.replying.MessageReplier"
        return [{"name": replier, "args": {"message": {"type": "text", "text": "Done", **message}}}]

    @pytest.mark.parametrize(
        ("days", "expected"), [(91, []), (90, ["W016"]), (1, ["W016"]), (0, ["W017"]), (-400, ["W017"])]
    )
    def test_the_passing_of_its_day_changes_the_verdict(self, settings, days, expected):
        self.policy(settings, repliers=self.message_rule(tag="ACCOUNT_UPDATE"))
        found = self.check(days)
        assert [message.id.removeprefix("djmessenger.") for message in found] == expected
        for message in found:
            assert "The rule tell uses in Text: message tag ACCOUNT_UPDATE" in message.msg
            assert ("THIS HAS ENDED" in message.msg) == (days <= 0)
            assert "2027-03-31" in message.msg

    def test_an_end_on_instagram_is_reported_for_pages_of_instagram(self, settings):
        self.policy(settings, repliers=self.message_rule(quick_replies=[{"content_type": "user_email"}]))
        assert self.check(0) == []
        settings.DJM_PAGES = {"17": {"channel": "instagram"}}
        (found,) = self.check(0)
        assert found.id == "djmessenger.W017"
        assert "e-mail address on Instagram" in found.msg

    def test_an_override_moves_the_day_or_lifts_it(self, settings):
        self.policy(settings, repliers=self.message_rule(tag="ACCOUNT_UPDATE"))
        settings.DJM_RULEBOOK = {"tag.ACCOUNT_UPDATE": "2028-01-01"}
        assert self.check(0) == []
        settings.DJM_RULEBOOK = {"tag.ACCOUNT_UPDATE": None}
        assert self.check(-400) == []
        settings.DJM_RULEBOOK = {"tag.ACCOUNT_UPDATE": "2027-01-01"}
        assert "THIS HAS ENDED on 2027-01-01" in self.check(0)[0].msg

    def test_the_day_itself_leaves_the_policy_without_a_mistake(self, settings):
        """An error here would stop migrate, and with it the bot, on a day without a change of the project."""
        settings.DJM_RULEBOOK = {}
        self.policy(settings, repliers=self.message_rule(tag="POST_PURCHASE_UPDATE"))
        assert checks.check_policy() == []
        assert [message.id for message in checks.check_endings()] == ["djmessenger.W017"]

    @pytest.mark.parametrize(
        ("function", "name"),
        [
            ("tagged_inside", "tagged_inside"),
            ("tagged_constant", "tagged_constant"),
            ("tagged_by_a_helper", "_helper"),
        ],
    )
    def test_the_code_of_functions_is_looked_through(self, settings, function, name):
        self.policy(settings, handlers=[{"name": f"{__name__}.{function}"}], repliers=[])
        (message,) = self.check(30)
        assert f"{name}: message tag ACCOUNT_UPDATE" in message.msg
        assert "ends in 30 days" in message.msg

    def test_a_template_and_a_class_of_a_message(self, settings):
        settings.DJM_RULEBOOK = {"template.image_grid": self.END}
        self.policy(settings, handlers=[{"name": f"{__name__}.gridded"}], repliers=[])
        (message,) = self.check(10)
        assert "image grid template" in message.msg

    def test_the_same_word_without_a_tag_is_no_use(self, settings):
        self.policy(settings, handlers=[{"name": f"{__name__}.untagged"}], repliers=[])
        assert self.check(0) == []

    def test_a_policy_with_mistakes_is_left_to_its_own_check(self, settings):
        settings.DJM_ROUTING_POLICY = {"rules": 7}
        assert self.check(0) == []


TAGGED = Text("Done", tag="ACCOUNT_UPDATE")


def tagged_inside(event):
    return Text("Done", tag="ACCOUNT_UPDATE")


def tagged_constant(event):
    yield TAGGED


def tagged_by_a_helper(event):
    return [_helper() for _number in range(2)]


def _helper():
    return Text("Done", tag="ACCOUNT_UPDATE")


def gridded(event):
    return ImageGrid(images=[])


def untagged(event):
    return "ACCOUNT_UPDATE"


def test_a_lease_that_a_call_could_outlast_is_an_error(settings):
    settings.DJM_LEASE, settings.DJM_GRAPH_TIMEOUT = 15.0, 10.0
    settings.DJM_UPLOAD_TIMEOUT = 14.0
    assert ids() == ["E027"]
    settings.DJM_LEASE = 20.0
    assert ids() == []


def test_an_upload_that_could_outlast_the_lease_is_an_error(settings):
    settings.DJM_UPLOAD_TIMEOUT = settings.DJM_LEASE = 50.0
    assert ids() == ["E019"]
    settings.DJM_LEASE = 50.1
    assert ids() == []


def test_keys_that_are_kept_longer_than_set_are_a_warning(settings):
    settings.DJM_KEEP_KEYS, settings.DJM_MAX_EVENT_AGE = (
        datetime.timedelta(days=7),
        datetime.timedelta(days=7),
    )
    assert ids() == ["W021"]
    settings.DJM_KEEP_KEYS = datetime.timedelta(days=8)
    assert ids() == []


class TestWhoDoesTheWork:
    def test_inline_outside_tests_is_a_surprise(self, settings, monkeypatch):
        settings.DJM_DISPATCHER = "inline"
        assert "W028" not in ids()
        monkeypatch.setattr("djmessenger.checks._is_test", lambda: False)
        assert "W028" in ids()
        settings.DJM_DISPATCHER = "worker"
        assert "W028" not in ids()

    def test_a_database_in_memory_is_seen_by_no_worker(self, settings, monkeypatch):
        memory = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        monkeypatch.setattr(django_settings, "DATABASES", memory)
        for name, is_warned in [("worker", True), ("embedded", False)]:
            settings.DJM_DISPATCHER = name
            assert ("W029" in ids()) is is_warned


class TestDatabase:
    @pytest.mark.parametrize(
        ("dispatcher", "pool", "hint"),
        [
            ("embedded", True, "8"),
            ("worker", True, "12"),
            ("worker", {"min_size": 2}, "12"),
            ("worker", {"min_size": 2, "max_size": 11}, "12"),
        ],
    )
    def test_a_pool_smaller_than_the_engine_is_a_warning(self, dispatcher, pool, hint, settings, monkeypatch):
        settings.DJM_DISPATCHER = dispatcher
        monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"pool": pool})
        (message,) = database_checks.check_database()
        assert message.id == "djmessenger.W053"
        assert f'{{"max_size": {hint}}}' in message.hint

    @pytest.mark.parametrize(
        ("dispatcher", "pool"),
        [
            ("embedded", {"max_size": 8}),
            ("worker", {"min_size": 12}),
            ("worker", {"min_size": 2, "max_size": 12}),
            ("worker", False),
            ("inline", True),
        ],
    )
    def test_a_pool_that_is_large_enough_gets_no_message(self, dispatcher, pool, settings, monkeypatch):
        settings.DJM_DISPATCHER = dispatcher
        monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"pool": pool})
        assert database_checks.check_database() == []

    def test_another_database_than_postgresql_and_sqlite_is_an_error(self, monkeypatch):
        monkeypatch.setattr(connection, "vendor", "mysql")
        monkeypatch.setattr(connection, "display_name", "MariaDB")
        (message,) = database_checks.check_database()
        assert (message.id, message.level) == ("djmessenger.E054", django_checks.ERROR)
        assert "MariaDB" in message.msg

    @pytest.mark.parametrize("direction", ["db_for_read", "db_for_write"])
    def test_a_router_that_parts_the_models_is_an_error(self, direction, settings):
        def route(model, **hints):
            return "other" if model is models.Reply else None

        settings.DATABASE_ROUTERS = [type("Router", (), {direction: staticmethod(route)})()]
        (message,) = database_checks.check_database()
        assert (message.id, message.level) == ("djmessenger.E051", django_checks.ERROR)
        assert "between default, other:" in message.msg

    @pytest.mark.parametrize(
        "tenants",
        [
            {"TENANT_APPS": ["djmessenger"]},
            {"TENANT_APPS": ("djmessenger.apps.DjmessengerConfig",), "SHARED_APPS": ["djmessenger"]},
            {"TENANT_TYPES": {"public": {"APPS": []}, "shop": {"APPS": ["djmessenger"]}}},
        ],
    )
    def test_tables_in_the_schemas_of_tenants_are_an_error(self, tenants, settings):
        for name, value in tenants.items():
            setattr(settings, name, value)
        (message,) = database_checks.check_database()
        assert (message.id, message.level) == ("djmessenger.E056", django_checks.ERROR)
        assert "SHARED_APPS" in message.hint

    @pytest.mark.parametrize(
        "tenants",
        [
            {"SHARED_APPS": ["djmessenger"], "TENANT_APPS": ["shop"]},
            {"TENANT_TYPES": {"public": {"APPS": ["djmessenger"]}, "shop": {"APPS": ["shop"]}}},
            {"TENANT_TYPES": {"all": {"APPS": ["djmessenger"]}}, "PUBLIC_SCHEMA_NAME": "all"},
        ],
    )
    def test_tables_in_the_public_schema_get_no_message(self, tenants, settings):
        for name, value in tenants.items():
            setattr(settings, name, value)
        assert database_checks.check_database() == []

    @pytest.mark.sqlite("PostgreSQL stores moments, whatever Django makes of them")
    @pytest.mark.parametrize(
        ("use_tz", "zone", "expected"),
        [
            (False, "Europe/Vienna", ["djmessenger.W055"]),
            (False, "Australia/Sydney", ["djmessenger.W055"]),
            (False, "Asia/Kathmandu", []),
            (False, "UTC", []),
            (True, "Europe/Vienna", []),
        ],
    )
    def test_local_times_that_jump_are_a_warning(self, use_tz, zone, expected, settings):
        settings.USE_TZ, settings.TIME_ZONE = use_tz, zone
        assert [message.id for message in database_checks.check_database()] == expected
