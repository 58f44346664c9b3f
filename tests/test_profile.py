"""The Messenger Profile as code: what is planned, what is sent and in which order, and how it is taken back."""

from __future__ import annotations

import functools
import io
import json
import tomllib

import pytest
from django.core.management import CommandError, call_command
from django.utils import translation
from django.utils.functional import lazy
from hypothesis import given
from hypothesis import strategies as st

from djmessenger import bot, models
from djmessenger.emulator import EmulatorTransport
from djmessenger.exceptions import DJMInvalidConfigException, InvalidField, LimitExceeded
from djmessenger.graph.client import Client
from djmessenger.graph.errors import NotSent, UnknownFate
from djmessenger.graph.wire import Request, Response
from djmessenger.operations import profile_apply as profile
from djmessenger.operations import profile_declaration as declaration
from djmessenger.operations import profile_plan
from djmessenger.utils.utils import LocalizedString
from messenger_emulator import Emulator, VirtualClock

pytestmark = pytest.mark.django_db

PAGE, OTHER = "104233987650012", "104233987650013"
WORDS = {"en": "Hello", "de": "Hallo"}
hello = lazy(lambda: WORDS.get(translation.get_language(), "Hello"), str)()

FULL = {
    "greeting": hello,
    "get_started": "START",
    "persistent_menu": [
        {"title": "Help", "payload": "HELP"},
        {"title": "Shop", "url": "https://shop.example/", "messenger_extensions": True},
    ],
    "ice_breakers": [{"question": "When are you open?", "payload": "HOURS"}],
    "commands": [{"name": "help", "description": "What the bot can do"}],
    "whitelisted_domains": ["https://shop.example"],
    "account_linking_url": "https://shop.example/login",
}


class Meta:
    """The emulator on a clock of its own, with what was sent to it."""

    def __init__(self) -> None:
        self.world = Emulator(VirtualClock(1_795_000_000))
        self.page = self.world.add_page(PAGE, "made-up-page-token", app_secret="0123456789abcdef" * 2)
        self.world.enforce_rates = False
        self.waits: list[float] = []
        self.calls_left: int | None = None
        self.loses_answers = False

    def send(self, request: Request) -> Response:
        """Send the calls about the profile until none is left; then raise, as if the process died."""
        if self.calls_left is not None and "messenger_profile" in request.url:
            self.calls_left -= 1
            if self.calls_left < 0 and not self.loses_answers:
                raise NotSent("interrupted")
        answer = EmulatorTransport(self.world).send(request)
        if self.calls_left is not None and self.calls_left < 0:
            raise UnknownFate("interrupted")
        return answer

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.world.clock.advance(seconds=seconds)

    def take_sent(self) -> list[tuple[str, dict]]:
        """Return the calls since the last time that changed the profile, or tried to."""
        sent = [
            (call.method, {key: value for key, value in call.body.items() if key != "appsecret_proof"})
            for call in self.world.calls
            if call.method != "GET"
        ]
        self.world.calls.clear()
        return sent

    @property
    def profile(self) -> dict:
        return self.page.platform()


@pytest.fixture
def meta(monkeypatch, settings):
    meta = Meta()
    bot.use_transport(meta)
    monkeypatch.setattr(
        profile, "make_budget", functools.partial(profile_plan.Budget, clock=meta.world.clock, wait=meta.wait)
    )
    settings.LANGUAGES = [("en", "English"), ("de", "German")]
    settings.DJM_PROFILE = FULL
    yield meta
    bot.use_transport(None)


def run(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("djmessenger", "profile", *arguments, stdout=out, stderr=out, no_color=True)
    except SystemExit as end:
        return int(end.code), out.getvalue()
    return 0, out.getvalue()


class TestApply:
    def test_sends_each_property_after_what_it_needs(self, meta):
        run("apply")
        names = [next(iter(body)) for _method, body in meta.take_sent()]
        assert sorted(names) == sorted(FULL)
        assert names.index("whitelisted_domains") < names.index("persistent_menu")
        assert names.index("get_started") < names.index("persistent_menu")

    def test_a_person_sees_the_applied_greeting(self, meta):
        run("apply")
        ana = meta.world.add_person(meta.page, "Ana", locale="de_DE")
        assert ana.greeting == "Hallo"
        assert meta.world.add_person(meta.page, "Ben", locale="fr_FR").greeting == "Hello"
        assert meta.profile["get_started"] == {"payload": "START"}
        assert [entry["locale"] for entry in meta.profile["greeting"]] == ["default", "de_DE"]

    def test_a_second_time_makes_only_gets(self, meta):
        run("apply")
        meta.take_sent()
        code, printed = run("apply")
        assert (code, meta.take_sent()) == (0, [])
        assert "nothing to change" in printed

    def test_sends_only_what_differs(self, meta, settings):
        run("apply")
        meta.take_sent()
        settings.DJM_PROFILE = {**FULL, "account_linking_url": "https://shop.example/sign-in"}
        run("apply")
        assert meta.take_sent() == [("POST", {"account_linking_url": "https://shop.example/sign-in"})]

    def test_an_empty_value_removes_and_one_that_is_not_declared_is_left_alone(self, meta, settings):
        run("apply")
        meta.take_sent()
        settings.DJM_PROFILE = {"get_started": "START", "commands": [], "ice_breakers": None}
        _code, printed = run("plan")
        assert "not declared, so not changed: whitelisted_domains" in printed
        run("apply")
        ((method, body),) = meta.take_sent()
        assert (method, set(body["fields"])) == ("DELETE", {"commands", "ice_breakers"})
        assert "persistent_menu" in meta.profile

    def test_menu_and_button_go_together(self, meta, settings):
        run("apply")
        settings.DJM_PROFILE = {"get_started": False, "persistent_menu": []}
        assert run("apply")[0] == 0
        assert not {"get_started", "persistent_menu"} & set(meta.profile)

    def test_a_button_that_a_menu_needs_is_refused_here(self, meta, settings):
        run("apply")
        meta.take_sent()
        settings.DJM_PROFILE = {"get_started": False}
        with pytest.raises(CommandError, match="persistent_menu: needs get_started") as caught:
            run("apply")
        assert caught.value.returncode == 2
        assert meta.take_sent() == []

    @pytest.mark.parametrize("loses_answers", [False, True])
    @pytest.mark.parametrize("calls", range(8))
    def test_interrupted_anywhere_and_repeated_it_converges(self, meta, calls, loses_answers):
        meta.calls_left, meta.loses_answers = calls, loses_answers
        with pytest.raises(CommandError, match="interrupted"):
            run("apply")
        assert len(meta.profile) == max(calls - 1 + loses_answers, 0)
        meta.calls_left = None
        run("apply")
        assert run("check")[0] == 0
        assert set(meta.profile) == set(FULL)

    def test_only_one_property(self, meta):
        run("apply", "--only", "greeting")
        assert [next(iter(body)) for _method, body in meta.take_sent()] == ["greeting"]

    def test_a_refusal_says_code_and_cure_and_no_token(self, meta):
        meta.page.token_error = 463
        with pytest.raises(CommandError) as caught:
            run("apply")
        assert "190, subcode 463" in str(caught.value)
        assert "made-up-page-token" not in str(caught.value)


class TestPlan:
    def test_makes_only_gets_and_shows_the_difference(self, meta):
        code, printed = run("plan")
        assert code == 0
        assert {call.method for call in meta.world.calls} == {"GET"}
        assert f"Page {PAGE}: 7 changes" in printed
        assert "+ greeting" in printed
        assert '+ de_DE: "Hallo"' in printed
        assert meta.profile == {}

    def test_names_the_item_that_changes_and_no_other(self, meta, settings):
        run("apply")
        settings.DJM_PROFILE = {
            "persistent_menu": [{"title": "Hours", "payload": "HOURS"}, *FULL["persistent_menu"]]
        }
        printed = run("plan", "--only", "persistent_menu")[1]
        assert "~ persistent_menu" in printed
        assert "HOURS" in printed
        assert "HELP" not in printed

    def test_defaults_that_graph_adds_are_no_difference(self, meta):
        run("apply")
        for item in meta.profile["persistent_menu"][0]["call_to_actions"]:
            item["webview_height_ratio"] = "full"
        meta.profile["persistent_menu"][0].pop("composer_input_disabled", None)
        meta.profile["whitelisted_domains"] = ["https://Shop.example/"]
        meta.profile["greeting"].reverse()
        meta.profile["ice_breakers"] = list(FULL["ice_breakers"])
        assert run("check") == (0, f"Page {PAGE}: nothing to change\n")

    def test_another_order_is_a_difference(self, meta):
        run("apply")
        meta.profile["persistent_menu"][0]["call_to_actions"].reverse()
        assert "the order changes" in run("plan")[1]

    def test_control_sequences_of_a_terminal_are_escaped(self, meta):
        meta.profile["greeting"] = [{"locale": "default", "text": "a\x1b[2J\x9b2J"}]
        printed = run("plan")[1]
        assert "\x1b" not in printed
        assert "\x9b" not in printed


class TestCheck:
    def test_exit_codes(self, meta):
        assert run("check")[0] == 1
        run("apply")
        assert run("check")[0] == 0
        meta.profile["greeting"][0]["text"] = "Changed by hand"
        code, printed = run("check")
        assert code == 1
        assert "Changed by hand" in printed
        assert meta.profile["greeting"][0]["text"] == "Changed by hand"

    def test_no_answer_is_no_verdict(self, meta):
        meta.world.faults.on("unreachable")
        with pytest.raises(CommandError) as caught:
            run("check")
        assert caught.value.returncode == 2


class TestBudget:
    @pytest.fixture(autouse=True)
    def limited(self, request):
        if "meta" in request.fixturenames:
            request.getfixturevalue("meta").world.enforce_rates = True

    def test_over_it_it_waits_says_so_and_goes_on(self, meta):
        for _call in range(8):
            bot.get_client().get_messenger_profile()
        code, printed = run("apply")
        assert code == 0
        assert meta.waits == [600.0]
        assert "10 calls in 10 minutes" in printed
        assert "the next call follows in 600 seconds" in printed
        assert set(meta.profile) == set(FULL)

    def test_it_counts_its_own_calls_and_waits_only_as_long_as_needed(self):
        clock = VirtualClock(0)
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            clock.advance(seconds=seconds)

        budget = profile_plan.Budget(say=str, clock=clock, wait=wait)
        made = []
        for number in range(12):
            budget.call(lambda number=number: made.append(number))
            clock.advance(seconds=10)
        assert made == list(range(12))
        assert waits == [500.0]

    def test_without_waiting_it_says_when(self):
        budget = profile_plan.Budget(say=str, clock=VirtualClock(0), wait=None)
        for _call in range(10):
            budget.call(int)
        with pytest.raises(profile_plan.OverBudget, match="in 600 seconds"):
            budget.call(int)

    def test_it_waits_as_long_as_meta_says(self, meta):
        meta.world.faults.on("throttled", where="messenger_profile", times=1)
        run("apply")
        assert meta.waits == [300.0]

    def test_a_limit_that_never_ends_ends_the_command(self, meta):
        meta.world.faults.on("throttled", where="messenger_profile")
        with pytest.raises(CommandError, match="613"):
            run("apply")

    def test_the_limit_is_a_row_that_a_setting_overrides(self, meta, settings):
        settings.DJM_RULEBOOK = {"rate.profile": 3}
        run("apply")
        assert meta.waits == [600.0, 600.0]


class TestRollback:
    def test_takes_the_last_change_back_and_then_the_one_before(self, meta, settings):
        for text in ("One", "Two", "Three"):
            settings.DJM_PROFILE = {"greeting": text, "get_started": "START"}
            run("apply")
        run("rollback")
        assert meta.profile["greeting"][0]["text"] == "Two"
        run("rollback")
        assert meta.profile["greeting"][0]["text"] == "One"
        run("rollback")
        assert meta.profile == {}
        assert "no change to revert" in run("rollback")[1]

    def test_restores_only_what_the_change_touched(self, meta, settings):
        run("apply")
        settings.DJM_PROFILE = {"greeting": "New"}
        run("apply", "--only", "greeting")
        meta.profile["account_linking_url"] = "https://shop.example/by-hand"
        run("rollback")
        assert meta.profile["account_linking_url"] == "https://shop.example/by-hand"
        assert meta.profile["greeting"][0]["text"] == "Hello"

    def test_an_interrupted_change_is_taken_back_whole(self, meta):
        meta.profile["get_started"] = {"payload": "OLD"}
        meta.calls_left = 4
        with pytest.raises(CommandError):
            run("apply")
        meta.calls_left = None
        run("apply")
        run("rollback")
        assert meta.profile == {"get_started": {"payload": "OLD"}}

    def test_an_interrupted_rollback_is_finished_by_the_next(self, meta):
        meta.profile["greeting"] = [{"locale": "default", "text": "Old"}]
        meta.profile["account_linking_url"] = "https://shop.example/old"
        before = dict(meta.profile)
        run("apply")
        meta.calls_left = 2
        with pytest.raises(CommandError):
            run("rollback")
        meta.calls_left = None
        assert meta.profile["account_linking_url"] == "https://shop.example/old"
        assert meta.profile["greeting"] != before["greeting"]
        run("rollback")
        assert meta.profile == before

    def test_a_reset_can_be_taken_back(self, meta):
        run("apply")
        before = json.dumps(meta.profile, sort_keys=True)
        run("reset")
        assert meta.profile == {}
        run("rollback")
        assert json.dumps(meta.profile, sort_keys=True) == before

    def test_as_many_are_kept_as_promised(self, meta, settings):
        for number in range(models.ProfileSnapshot.KEPT + 3):
            settings.DJM_PROFILE = {"greeting": f"Number {number}"}
            run("apply", "--only", "greeting")
        assert models.ProfileSnapshot.objects.count() == models.ProfileSnapshot.KEPT


class TestPages:
    @pytest.fixture
    def two(self, meta, settings):
        second = meta.world.add_page(OTHER, "another-made-up-token", app_secret=meta.page.app_secret)
        models.Page.objects.create(page_id=PAGE)
        models.Page.objects.create(page_id=OTHER)
        settings.DJM_PROFILE = {
            "greeting": "Hello",
            "get_started": "START",
            "pages": {OTHER: {"greeting": "Ahoy"}},
        }
        return second

    @pytest.fixture
    def tokens(self, monkeypatch, meta):
        tokens = {PAGE: "made-up-page-token", OTHER: "another-made-up-token"}

        def client(page=None):
            page_id = page.page_id if page else PAGE
            return Client(tokens[page_id], page_id=page_id, transport=EmulatorTransport(meta.world))

        monkeypatch.setattr(bot, "get_client", client)

    def test_each_has_its_own_over_what_is_common(self, meta, two, tokens):
        run("apply", "--all")
        assert meta.profile["greeting"][0]["text"] == "Hello"
        assert two.platform()["greeting"][0]["text"] == "Ahoy"
        assert two.platform()["get_started"] == {"payload": "START"}
        assert run("check", "--all")[0] == 0

    def test_one_of_several_differs(self, meta, two, tokens):
        run("apply", "--all")
        two.platform()["greeting"][0]["text"] = "Changed"
        code, printed = run("check", "--all")
        assert code == 1
        assert f"Page {PAGE}: nothing to change" in printed
        assert f"Page {OTHER}: 1 change" in printed

    def test_a_rollback_is_of_its_page(self, meta, two, tokens):
        run("apply", "--all")
        run("rollback", "--page", OTHER)
        assert two.platform() == {}
        assert "greeting" in meta.profile

    def test_an_instagram_account_gets_what_it_knows(self, meta, two, tokens):
        models.Page.objects.filter(page_id=OTHER).update(channel="instagram")
        run("apply", "--page", OTHER)
        assert set(two.platform("instagram")) == {"greeting", "get_started"}, "its own greeting was asked for"
        assert two.platform("messenger") == {}

    def test_pull_wants_one(self, two, tokens):
        with pytest.raises(CommandError, match="--page"):
            run("pull", "--all")


class TestFiles:
    TOML = """
        greeting = "Yes"
        get_started = "START"
        persistent_menu = [{ title = "No", payload = "NO" }]
        [pages.104233987650013]
        greeting = "Ahoy"
    """

    @pytest.fixture
    def file(self, settings, tmp_path):
        settings.BASE_DIR = tmp_path
        settings.DJM_PROFILE = "profile.toml"
        path = tmp_path / "profile.toml"
        path.write_text(self.TOML, encoding="utf-8")
        return path

    def test_its_texts_are_translated_by_gettext(self, meta, file, settings):
        settings.DJM_PROFILE = "profile.toml"
        run("apply")
        texts = {entry["locale"]: entry["text"] for entry in meta.profile["greeting"]}
        assert texts == {"default": "Yes", "de_DE": "Ja"}
        menu = {
            entry["locale"]: entry["call_to_actions"][0]["title"] for entry in meta.profile["persistent_menu"]
        }
        assert menu == {"default": "No", "de_DE": "Nein"}
        assert meta.profile["persistent_menu"][1]["call_to_actions"][0]["payload"] == "NO"

    @pytest.mark.parametrize("text", ["greeting = ", "\xff", None])
    def test_one_that_cannot_be_read_is_named(self, meta, file, text):
        if text is None:
            file.unlink()
        else:
            file.write_bytes(text.encode("latin-1"))
        with pytest.raises(CommandError, match=r"profile\.toml cannot be read"):
            run("plan")

    def test_pull_gives_what_apply_takes(self, meta, file, settings, tmp_path):
        settings.DJM_PROFILE = {
            **FULL,
            "persistent_menu": {
                "default": FULL["persistent_menu"],
                "de_DE": {
                    "call_to_actions": [
                        {"title": "Laden", "url": "https://shop.example/de", "share_button": False}
                    ],
                    "composer_input_disabled": True,
                },
            },
        }
        run("apply")
        run("pull", "--output", str(file))
        settings.DJM_PROFILE = str(file)
        assert run("check") == (0, f"Page {PAGE}: nothing to change\n")
        assert json.loads(run("pull", "--json")[1]) == tomllib.loads(run("pull")[1])


class TestDeclaration:
    def properties(self, declared):
        return declaration.declared_properties(declared, ["en", "de"], "en")

    def test_a_mapping_by_locale_is_accepted(self):
        found = self.properties({"greeting": {"default": "Hi", "es_ES": "Hola"}})
        assert found["greeting"] == [
            {"locale": "default", "text": "Hi"},
            {"locale": "es_ES", "text": "Hola"},
        ]

    def test_a_localized_string_brings_its_locales(self):
        found = self.properties({"greeting": LocalizedString(hello, {"zh_TW": "您好"})})
        assert {entry["locale"]: entry["text"] for entry in found["greeting"]} == {
            "default": "Hello",
            "de_DE": "Hallo",
            "zh_TW": "您好",
        }

    def test_true_is_the_documented_button(self):
        assert "GetStartedPayload" in self.properties({"get_started": True})["get_started"]["payload"]

    @pytest.mark.parametrize(
        ("declared", "said"),
        [
            ({"greetings": "Hi"}, "DJM_PROFILE.greetings: is unknown; the keys are"),
            ({"pages": {"1": {"menu": []}}}, "DJM_PROFILE.pages.1.menu: is unknown"),
            ({"pages": []}, "DJM_PROFILE.pages"),
            ({"pages": {"1": 2}}, "DJM_PROFILE.pages.1"),
        ],
    )
    def test_unknown_keys_are_refused(self, declared, said):
        with pytest.raises(DJMInvalidConfigException) as caught:
            declaration.read_declaration(declared)
        assert said in str(caught.value)

    @pytest.mark.parametrize(
        ("declared", "place"),
        [
            ({"greeting": "x" * 161}, "DJM_PROFILE.greeting[default]"),
            ({"greeting": {"de_DE": "Hallo"}}, "DJM_PROFILE.greeting"),
            ({"greeting": 7}, "DJM_PROFILE.greeting"),
            ({"persistent_menu": "Help"}, "DJM_PROFILE.persistent_menu"),
            ({"persistent_menu": [{"title": "x" * 31}]}, "call_to_actions[0].title"),
            ({"persistent_menu": [{"title": "a", "colour": "red"}]}, "DJM_PROFILE.persistent_menu[0]"),
            ({"persistent_menu": {"default": {"items": []}}}, "persistent_menu[default].items"),
            (
                {"persistent_menu": {"default": {"composer_input_disabled": True}}},
                "persistent_menu[default].call_to_actions",
            ),
            ({"persistent_menu": {"composer_input_disabled": True}}, "call_to_actions"),
            ({"ice_breakers": [{"question": "q", "payload": "p"}] * 5}, "ice_breakers[default]"),
            ({"commands": [{"name": "/help", "description": "d"}]}, "commands[default]"),
            ({"whitelisted_domains": ["http://shop.example"]}, "whitelisted_domains[0]"),
            ({"account_linking_url": "shop"}, "account_linking_url"),
        ],
    )
    def test_a_mistake_is_named_with_its_place(self, declared, place):
        with pytest.raises(InvalidField) as caught:
            self.properties(declared)
        assert caught.value.field.startswith("DJM_PROFILE.")
        assert place in caught.value.field

    def test_a_translation_that_is_too_long_is_named_with_its_locale(self):
        long_in_german = lazy(lambda: "x" * (40 if translation.get_language() == "de" else 5), str)()
        with pytest.raises(LimitExceeded, match=r"persistent_menu\[de_DE\]"):
            self.properties({"persistent_menu": [{"title": long_in_german, "payload": "P"}]})

    @given(
        st.dictionaries(
            st.sampled_from(["default", "de_DE", "pt_BR"]),
            st.text(st.characters(codec="utf-8"), min_size=1, max_size=100),
        ),
        st.lists(st.text(st.characters(codec="utf-8"), max_size=20)),
    )
    def test_any_text_survives_toml(self, texts, payloads):
        written = {
            "greeting": texts,
            "list": payloads,
            "yes": True,
            "menu": [{"payload": p} for p in payloads],
        }
        assert tomllib.loads(declaration.to_toml(written)) == written
