"""The webhook fields that follow from the rules, and whether Meta then delivers what the rules wait for."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command

from djmessenger import bot, models
from djmessenger.filtering import FunctionFilter, ReferralFilter, TypeFilter
from djmessenger.operations.subscriptions import fields_for
from djmessenger.receiving import ReceivingType
from djmessenger.routing import Policy, Rule
from djmessenger.routing.wants import wanted_types
from messenger_emulator.state import FIELDS as PAGE_FIELDS
from messenger_emulator.state import INSTAGRAM_FIELDS

BASE = {"messages", "messaging_postbacks", "message_echoes", "message_deliveries", "message_reads"}
PAGE, ACCOUNT = "104233987650012", "17841400000000000"

pytestmark = pytest.mark.django_db


def policy(*rules: dict) -> dict:
    return {
        "rules": [{"name": f"rule {number}", "repliers": [], **rule} for number, rule in enumerate(rules)]
    }


def fields_of(*rules: Rule, channel: str = "messenger") -> set[str]:
    return set(fields_for(wanted_types(Policy(list(rules))), channel))


@pytest.fixture
def page(emulator, settings):
    settings.DJM_PAGE_ID = PAGE
    return emulator.pages[PAGE]


def run(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("djmessenger", "subscribe", *arguments, stdout=out, no_color=True)
    except SystemExit as end:
        return int(end.code), out.getvalue()
    return 0, out.getvalue()


class TestFields:
    def test_a_bot_without_rules_needs_the_fields_of_the_engine(self):
        assert fields_of() == BASE

    @pytest.mark.parametrize(
        ("kind", "field"),
        [
            ("REACTION", "message_reactions"),
            ("MESSAGE_EDIT", "message_edits"),
            ("REFERRAL", "messaging_referrals"),
            ("AUTHENTICATION", "messaging_optins"),
            ("ONE_TIME_NOTIFICATION", "messaging_optins"),
            ("ACCOUNT_LINKING", "messaging_account_linking"),
            ("FEEDBACK", "messaging_feedback"),
            ("CUSTOMER_INFORMATION", "messaging_customer_information"),
            ("CART", "send_cart"),
            ("PASS_THREAD_CONTROL", "messaging_handovers"),
            ("POLICY_ENFORCEMENT", "messaging_policy_enforcement"),
        ],
    )
    def test_a_rule_brings_its_field(self, kind, field):
        assert fields_of(Rule(kind)) == BASE | {field}

    def test_standby_only_where_a_rule_asks(self):
        assert "standby" not in fields_of(Rule("SIMPLE_TEXT"), Rule("ANY"), Rule("FALLBACK"))
        assert fields_of(Rule("STANDBY")) == BASE | {"standby", "messaging_handovers"}

    def test_the_names_of_instagram(self):
        every = [
            Rule(kind) for kind in ("REACTION", "MESSAGE_EDIT", "REFERRAL", "PASS_THREAD_CONTROL", "STANDBY")
        ]
        assert fields_of(*every, channel="instagram") == {
            "messages",
            "messaging_postbacks",
            "messaging_seen",
            "message_reactions",
            "message_edit",
            "messaging_referral",
            "messaging_handover",
            "standby",
        }

    def test_filters_say_what_a_rule_for_anything_waits_for(self):
        assert fields_of(Rule("ANY", filters=[TypeFilter("CART") | TypeFilter("FEEDBACK")])) == BASE | {
            "send_cart",
            "messaging_feedback",
        }

    def test_a_rule_that_can_never_apply_asks_for_nothing(self):
        assert fields_of(Rule(["SIMPLE_TEXT", "REACTION"], filters=[TypeFilter("SIMPLE_TEXT")])) == BASE

    def test_a_referral_comes_by_its_own_field_too(self):
        asked = Rule("ANY", filters=[ReferralFilter("shop") & FunctionFilter(bool)])
        assert "messaging_referrals" in fields_of(asked)
        assert "messaging_referrals" not in fields_of(Rule("ANY", filters=[~ReferralFilter("shop")]))

    def test_a_rule_for_anything_waits_for_nothing_of_its_own(self):
        assert fields_of(Rule("ANY"), Rule("FALLBACK"), Rule("DEFAULT")) == BASE

    def test_each_name_is_one_that_meta_knows(self):
        for kind in ReceivingType.get_members().values():
            for field in kind.webhook:
                assert field.messenger in PAGE_FIELDS
                assert not field.instagram or field.instagram in INSTAGRAM_FIELDS

    def test_each_type_of_an_event_has_a_field_or_a_reason(self):
        without = {kind for kind in ReceivingType.get_members().values() if not kind.webhook}
        assert {kind.name for kind in without} <= {
            "CHANGE", "UNKNOWN", "DEFAULT", "FALLBACK", "ANY",
            *(name for name in ReceivingType.get_members() if name not in _documented()),
        }  # fmt: skip


def _documented() -> set[str]:
    """Return the names of the types of the package; tests register more."""
    return {name for name in vars(ReceivingType) if name.isupper()}


class TestCommand:
    def test_sets_what_the_rules_need(self, page, settings):
        settings.DJM_ROUTING_POLICY = policy({"type": "REACTION"})
        code, printed = run()
        assert code == 0
        assert page.subscribed_fields == BASE | {"message_reactions"}
        assert "subscribed to 6 fields" in printed

    def test_check_writes_nothing_and_has_an_exit_code(self, emulator, page, settings):
        settings.DJM_ROUTING_POLICY = policy({"type": "REACTION"})
        page.subscribed_fields = BASE | {"standby"}
        code, printed = run("--check")
        assert code == 1
        assert "+ message_reactions" in printed
        assert "- standby" in printed
        assert {call.method for call in emulator.calls} == {"GET"}
        run()
        assert run("--check")[0] == 0

    def test_removing_the_last_rule_for_reactions_changes_the_set(self, emulator, page, settings):
        """And with it what Meta delivers."""
        ana = emulator.add_person(page)
        ana.says("hi")

        def reactions() -> int:
            mid = page_says(page, ana)
            before = len(emulator.waiting)
            ana.reacts("❤", mid)
            return len(emulator.waiting) - before

        def page_says(page, person) -> str:
            bot.get_client().send({"id": person.id}, {"message": {"text": "hello"}})
            return person.received[-1].mid

        settings.DJM_ROUTING_POLICY = policy({"type": "REACTION"}, {"type": "SIMPLE_TEXT"})
        run()
        assert reactions() == 1
        settings.DJM_ROUTING_POLICY = policy({"type": "SIMPLE_TEXT"})
        assert run("--check")[0] == 1
        run()
        assert page.subscribed_fields == BASE
        assert reactions() == 0

    def test_more_fields_by_setting(self, page, settings):
        settings.DJM_ROUTING_POLICY = policy({"type": "SIMPLE_TEXT"})
        settings.DJM_WEBHOOK_FIELDS = ["standby", "feed"]
        run()
        assert page.subscribed_fields == BASE | {"standby", "feed"}

    def test_an_instagram_account(self, emulator, page, settings, monkeypatch):
        models.Page.objects.create(page_id=PAGE, channel="instagram")
        page.channel = "instagram"
        settings.DJM_ROUTING_POLICY = policy({"type": ["REFERRAL", "READ"]})
        settings.DJM_WEBHOOK_FIELDS = ["messaging_handovers"]
        run()
        assert page.subscribed_fields == {
            "messages",
            "messaging_postbacks",
            "messaging_seen",
            "messaging_referral",
            "messaging_handover",
        }

    def test_list_makes_no_call(self, emulator, page, settings):
        settings.DJM_ROUTING_POLICY = policy({"type": "REACTION"})
        assert run("--list") == (0, "".join(f"{name}\n" for name in sorted(BASE | {"message_reactions"})))
        assert emulator.calls == []

    def test_the_level_of_the_app_is_compared_too(self, emulator, page, settings):
        settings.DJM_ROUTING_POLICY = policy({"type": "REACTION"})
        settings.DJM_APP_ID = page.app_id
        emulator.apps[page.app_id].callback_url = "https://shop.example/messenger"
        page.app_fields = BASE
        code, printed = run()
        assert code == 1
        assert "the app itself lacks message_reactions" in printed
        assert "App Dashboard" in printed
        page.app_fields = None
        assert run("--check")[0] == 0

    def test_a_token_without_the_permission(self, page):
        page.permissions.discard("pages_manage_metadata")
        with pytest.raises(CommandError, match="pages_manage_metadata") as caught:
            run()
        assert caught.value.returncode == 2


def test_a_page_that_meta_refuses_does_not_stop_the_others(emulator, page, settings, capsys):
    bad, good = "104233987650098", "104233987650099"
    emulator.add_page(good, "another-token", app_secret=settings.DJM_APP_SECRET, require_proof=True)
    settings.DJM_PAGES = {bad: {"token": "dead-token"}, good: {"token": "another-token"}}
    with pytest.raises(CommandError, match=rf"1 of 3 Pages failed: {bad}\. The others are done") as caught:
        call_command("djmessenger", "subscribe", "--all", no_color=True)
    assert caught.value.returncode == 2
    assert f"Page {bad}: " in capsys.readouterr().err
    assert set(emulator.pages[good].subscribed_fields) >= BASE
    assert set(emulator.pages[PAGE].subscribed_fields) >= BASE
