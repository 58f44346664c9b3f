"""The kit that projects test their bots with."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.db import transaction
from django.test import TestCase, TransactionTestCase, override_settings

from djmessenger import models, rules
from djmessenger.filtering import FunctionFilter
from djmessenger.graph.context import current as current_client
from djmessenger.graph.errors import GraphError
from djmessenger.handling import UserProfileHandler
from djmessenger.outgoing import (
    ButtonTemplate,
    Element,
    GenericTemplate,
    Image,
    PostbackButton,
    QuickReply,
    Text,
    Typing,
)
from djmessenger.routing import Policy, Rule, TargetFilterClass, TargetHandlerClass
from djmessenger.routing.functions import FunctionHandler
from djmessenger.testing import MessengerTestMixin, ReplyRefused, RuleFailed, containing
from messenger_emulator import FAULTS, NotOnScreen

ROOT = Path(__file__).parent.parent
PLUGIN = "djmessenger.pytest_plugin"
PICTURE = "https://cdn.example.com/cup.jpg"


def says(name, words, function, **options):
    """Build a rule for a text, as the decorators do."""
    return Rule(
        ["SIMPLE_TEXT"],
        name,
        filters=[TargetFilterClass.wrap(rules.text(*words.split()))],
        handlers=[TargetHandlerClass.wrap(FunctionHandler(function))],
        **options,
    )


def taps(name, payload, function):
    return Rule(
        ["POSTBACK", "QUICK_REPLY"],
        name,
        filters=[TargetFilterClass.wrap(rules.tapped(payload))],
        handlers=[TargetHandlerClass.wrap(FunctionHandler(function))],
    )


def cards(event):
    drinks = ("Espresso", "Chai")
    return GenericTemplate(
        [Element(drink, buttons=[PostbackButton("Buy", f"BUY {drink}")]) for drink in drinks]
    )


def broken(event):
    raise KeyError("the till is empty")


def refused(event):
    # An attachment that was never uploaded: right in form, so that only Graph can say no.
    return Image(attachment_id="1234567890")


RULES = [
    says("greet", "hi", lambda event: Text("Hello!", quick_replies=[QuickReply("Order", "ORDER")])),
    says("menu", "menu", cards),
    says("choose", "choose", lambda event: ButtonTemplate("Well?", [PostbackButton("Yes", "YES")])),
    says("picture", "picture", lambda event: Image(PICTURE)),
    says("twice", "twice", lambda event: ["one", "two"]),
    says("broken", "broken", broken),
    says("refused", "refused", refused),
    says("long", "long", lambda event: "word " * 900),
    says("think", "think", lambda event: [Typing(), "thought"]),
    taps("order", "ORDER", lambda event: "Ordered."),
    taps("yes", "YES", lambda event: "Good."),
    taps("espresso", "BUY Espresso", lambda event: "Small and black."),
    taps("chai", "BUY Chai", lambda event: "With milk."),
]


@pytest.fixture(autouse=True)
def policy(monkeypatch):
    """The policy of these tests; ``bot`` returns it to all callers."""
    built = Policy(RULES)

    def load(source):
        return built

    monkeypatch.setattr(Policy, "load", load)
    return built


class TestSeeing:
    def test_a_person_says_sees_and_taps(self, messenger):
        ana = messenger.person(locale="de_DE")
        ana.says("hi")
        ana.sees("Hello!", quick_replies=["Order"])
        ana.taps("Order")
        ana.sees("Ordered.")
        ana.sees_nothing()

    def test_an_argument_that_is_left_out_is_not_checked(self, messenger):
        ana = messenger.person()
        ana.says("hi")
        assert ana.sees().quick_replies[0]["payload"] == "ORDER"

    def test_texts_by_pattern_and_any(self, messenger):
        ana = messenger.person()
        ana.says("twice")
        ana.sees(re.compile("^o.e$"))
        ana.sees(...)
        ana.says("hi")
        ana.sees(containing("ello"))

    def test_buttons_cards_and_pictures(self, messenger):
        ana = messenger.person()
        ana.says("choose")
        ana.sees("Well?", buttons=["Yes"], quick_replies=[], image=False)
        ana.says("menu")
        ana.sees(cards={"Espresso": ["Buy"], "Chai": ["Buy"]})
        ana.taps("Buy", on="Chai")
        ana.sees("With milk.")
        ana.says("picture")
        ana.sees(image=PICTURE)

    def test_messages_come_in_order_and_each_is_seen_once(self, messenger):
        ana = messenger.person()
        ana.says("twice")
        with pytest.raises(AssertionError, match="the text is 'one', not 'two'"):
            ana.sees("two")
        ana.sees("one")
        ana.sees("two")
        with pytest.raises(AssertionError, match="no further message came"):
            ana.sees("two")

    def test_a_new_act_leaves_older_messages_behind(self, messenger):
        ana = messenger.person()
        ana.says("twice")
        ana.says("hi")
        ana.sees("Hello!")

    def test_more_than_nothing(self, messenger):
        ana = messenger.person()
        ana.says("twice")
        ana.sees("one")
        with pytest.raises(AssertionError, match=r"was to see nothing, but\n  came: two"):
            ana.sees_nothing()

    @pytest.mark.parametrize(
        ("said", "wish", "problem"),
        [
            ("hi", {"quick_replies": ["Pay"]}, r"the quick replies are \['Order'\], not \['Pay'\]"),
            ("hi", {"quick_replies": []}, r"the quick replies are \['Order'\], not \[\]"),
            ("hi", {"buttons": ["Order"]}, r"the buttons are \[\], not \['Order'\]"),
            ("menu", {"cards": ["Espresso"]}, r"the cards are \['Espresso', 'Chai'\], not \['Espresso'\]"),
            (
                "menu",
                {"cards": {"Espresso": [], "Chai": ["Buy"]}},
                r"the buttons of 'Espresso' are \['Buy'\]",
            ),
            ("hi", {"image": True}, "it is no image but text"),
            (
                "picture",
                {"image": "https://other.example/"},
                "the image is 'https://cdn.example.com/cup.jpg'",
            ),
            ("picture", {"image": False}, "it is an image"),
            ("hi", {"text": re.compile("bye")}, "not a text with 'bye'"),
        ],
    )
    def test_each_difference_is_named(self, messenger, said, wish, problem):
        ana = messenger.person()
        ana.says(said)
        with pytest.raises(AssertionError, match=problem):
            ana.sees(**wish)

    def test_a_mismatch_shows_transcript_and_outcome(self, messenger):
        ana = messenger.person("Ana Torres", locale="de_DE")
        ana.says("hi")
        ana.taps("Order")
        ana.says("hello")
        with pytest.raises(AssertionError) as failure:
            ana.sees("Willkommen")
        text = str(failure.value)
        assert "Ana (de_DE) was to see 'Willkommen', but\n  no further message came" in text
        assert (
            "  Ana   hi\n  Page  Hello! [Order]   < greet\n  Ana   Order\n  Page  Ordered.   < order\n"
            in text
        )
        assert "SIMPLE_TEXT: no rule handled it" in text
        assert "more rules need another text or payload" in text

    def test_why_a_rule_did_not_apply(self, messenger, policy):
        def never(event):
            return False

        policy.rules = [
            *RULES,
            Rule(
                ["SIMPLE_TEXT"],
                "never",
                filters=[TargetFilterClass.wrap(rules.text("hi") & never)],
                handlers=[TargetHandlerClass.wrap(FunctionHandler(lambda event: "no"))],
            ),
        ]
        policy._built = None
        ana = messenger.person()
        ana.says("hi")
        text = str(ana.outcome)
        assert re.search(r"0 greet +applied", text)
        assert re.search(r"13 never +no: .*never", text)


class TestActing:
    def test_only_what_is_on_the_screen_can_be_tapped(self, messenger):
        ana = messenger.person()
        ana.says("hi")
        ana.says("picture")
        with pytest.raises(NotOnScreen, match="sees no quick reply 'Order'"):
            ana.taps("Order")
        with pytest.raises(NotOnScreen, match="sees no button 'Sell' on a card 'Chai'"):
            ana.taps("Sell", on="Chai")

    def test_get_started_and_the_menu_come_from_the_settings(self, settings, request):
        settings.DJM_THREAD_PERSISTENT_MENUS = [{"type": "postback", "title": "Help", "payload": "ORDER"}]
        messenger = request.getfixturevalue("messenger")
        ana = messenger.person()
        ana.gets_started()
        assert ana.outcome.type == "GET_STARTED_BUTTON"
        ana.taps("Help")
        ana.sees("Ordered.")

    def test_so_does_a_declared_profile(self, settings, request):
        settings.DJM_PROFILE = {
            "get_started": True,
            "ice_breakers": [{"question": "Something to drink?", "payload": "ORDER"}],
        }
        ana = request.getfixturevalue("messenger").person()
        ana.taps("Something to drink?")
        ana.sees("Ordered.")

    @pytest.mark.parametrize(
        ("act", "arguments", "kind"),
        [
            ("sends_image", (), "IMAGE"),
            ("sends_audio", (), "AUDIO"),
            ("sends_video", (), "VIDEO"),
            ("sends_file", (), "FILE"),
            ("sends_sticker", (), "STICKER"),
            ("sends_location", (48.2, 16.37), "LOCATION"),
            ("reacts", (), "REACTION"),
            ("edits", ("bye",), "MESSAGE_EDIT"),
            ("opens_link", ("spring",), "REFERRAL"),
            ("does", ("gives_email", "a@example.com"), None),
        ],
    )
    def test_acts_become_events(self, messenger, act, arguments, kind):
        ana = messenger.person()
        ana.says("hi")
        if kind is None:
            with pytest.raises(NotOnScreen):
                getattr(ana, act)(*arguments)
            return
        getattr(ana, act)(*arguments)
        assert ana.outcome.type == kind
        assert ana.outcome.state == "done"

    def test_reading_is_noted_where_it_is_reported(self, messenger):
        ana = messenger.person()
        ana.says("hi")
        ana.reads()
        assert models.Reply.objects.get().date_read is not None

    def test_a_person_has_a_name_a_language_and_a_time_zone(self, messenger, policy):
        policy.rules = [Rule("DEFAULT", "all", handlers=[TargetHandlerClass.wrap(UserProfileHandler())])]
        policy._built = None
        eva = messenger.person("Eva Lang", locale="de_DE", timezone="Asia/Kathmandu")
        eva.says("hi")
        row = eva.row
        assert (row.get_full_name(), row.locale, row.timezone) == ("Eva Lang", "de_DE", 5.75)

    def test_several_persons_have_names_of_their_own(self, messenger):
        names = {messenger.person().name for _ in range(4)}
        assert len(names) == 4

    def test_typing_is_over_when_the_answer_is_there(self, messenger):
        ana = messenger.person()
        ana.says("think")
        ana.sees("thought")
        assert not ana.is_shown_typing
        sent = [call.body for call in messenger.emulator.calls if call.path.endswith("/messages")]
        assert [body.get("sender_action") for body in sent] == ["typing_on", None]


class TestFailures:
    def test_a_rule_that_sends_by_itself_is_named_with_the_line(self, messenger, policy):
        def late(event):
            event.person.send(Image(attachment_id="1234567890"))

        policy.rules = [says("late", "hi", late)]
        policy._built = None
        with pytest.raises(ReplyRefused, match=r"Made by  late .*test_testing\.py:\d+ in .*late$"):
            messenger.person().says("hi")

    def test_a_refused_sender_action(self, messenger):
        ana = messenger.person()
        ana.says("hi")
        current_client().send({"id": ana.psid}, {"sender_action": "typing_on"})
        with pytest.raises(GraphError):
            current_client().send({"id": ana.psid}, {"sender_action": "dance"})
        with pytest.raises(ReplyRefused, match="Graph refused dance"):
            messenger.run()

    def test_a_rule_that_raises_fails_the_test_with_its_traceback(self, messenger):
        ana = messenger.person()
        with pytest.raises(RuleFailed) as failure:
            ana.says("broken")
        text = str(failure.value)
        assert "KeyError: 'the till is empty'" in text
        assert 'raise KeyError("the till is empty")' in text
        assert "broken" in text.partition("Outcome")[2]
        ana.says("hi")
        ana.sees("Hello!")

    def test_a_filter_that_raises_does_too(self, messenger, policy):
        def fails(event):
            raise ZeroDivisionError

        policy.rules = [
            Rule(
                ["SIMPLE_TEXT"],
                "fails",
                filters=[TargetFilterClass.wrap(FunctionFilter(fails))],
                handlers=[TargetHandlerClass.wrap(FunctionHandler(lambda event: "?"))],
            )
        ]
        policy._built = None
        with pytest.raises(RuleFailed, match="ZeroDivisionError"):
            messenger.person().says("hi")

    def test_a_refused_message_fails_the_test_and_names_the_rule(self, messenger):
        ana = messenger.person()
        with pytest.raises(ReplyRefused) as failure:
            ana.says("refused")
        text = str(failure.value)
        assert "Graph refused a message: code 100" in text
        assert re.search(r"Made by +refused\n +.*test_testing\.py:\d+ in refused", text)
        assert "'refused'" in text.partition("Outcome")[2]

    def test_a_webhook_that_is_not_there(self, messenger):
        ana = messenger.person()
        with (
            override_settings(ROOT_URLCONF="django.contrib.staticfiles.urls"),
            pytest.raises(AssertionError, match="the webhook at /messenger answered 404"),
        ):
            ana.says("hi")

    def test_a_message_spoilt_by_a_fault_does_not_fail_the_test(self, messenger):
        ana = messenger.person()
        with messenger.fault("blocked"):
            ana.says("hi")
            ana.sees_nothing()
        assert models.Reply.objects.get().state == "failed"

    @pytest.mark.parametrize("fault", sorted(FAULTS))
    def test_every_fault_is_a_context_manager_and_ends_with_it(self, messenger, fault):
        ana = messenger.person()
        ana.says("hi")
        with messenger.fault(fault):
            ana.says("hi")
            assert messenger.emulator.faults.names() == (fault,)
        assert messenger.emulator.faults.names() == ()
        messenger.travel(hours=2)
        ana.says("hi")
        assert ana.screen.texts[-1] == "Hello!"

    def test_a_person_who_blocks_the_page_fails_nothing(self, messenger):
        ana = messenger.person()
        ana.blocks()
        ana.says("hi")
        ana.sees_nothing()
        ana.unblocks()
        ana.says("hi")
        ana.sees("Hello!")


class TestTime:
    def test_the_window_closes(self, messenger):
        ana = messenger.person()
        assert ana.window.is_closed
        ana.says("hi")
        assert ana.window.is_open
        messenger.travel(hours=23)
        assert ana.window.is_open
        messenger.travel(hours=2)
        assert ana.window.is_closed
        assert ana.window.closes < datetime.datetime.now(datetime.UTC)

    def test_a_message_after_an_ad_opens_the_window_for_seven_days(self, messenger):
        ana = messenger.person()
        ana.says("hi")
        messenger.travel(hours=30)
        ana.opens_link("autumn", source="ADS")
        assert ana.window.is_closed
        ana.says("hi")
        assert ana.window.is_by_ad
        messenger.travel(days=6)
        assert ana.window.is_open
        ana.row.send("Are you there?")
        ana.sees("Hello!")
        ana.sees("Are you there?")
        messenger.travel(days=2)
        assert ana.window.is_closed
        ana.says("hi")
        assert ana.window.is_open
        assert not ana.window.is_by_ad

    def test_a_reaction_opens_the_window_again(self, messenger):
        ana = messenger.person()
        ana.says("hi")
        messenger.travel(hours=30)
        ana.reacts()
        ana.row.send("Are you there?")
        ana.sees("Are you there?")

    def test_an_expired_message_fails_the_test(self, messenger):
        ana = messenger.person()
        ana.says("hi")
        messenger.travel(hours=25)
        ana.row.send("Are you there?")
        with pytest.raises(
            ReplyRefused, match="Meta's window for messages to the person has closed"
        ) as failure:
            messenger.run()
        assert re.search(r"Made by +.*test_testing\.py:\d+ in TestTime\.test_an_expired", str(failure.value))

    def test_within_the_window_it_is_sent(self, messenger):
        ana = messenger.person()
        ana.says("hi")
        messenger.travel(hours=23)
        ana.row.send("Are you there?")
        ana.sees("Hello!")
        ana.sees("Are you there?")

    def test_a_reply_that_had_to_wait_is_sent_on_the_way(self, messenger):
        ana = messenger.person()
        with messenger.fault("server_error"):
            ana.says("hi")
            ana.sees_nothing()
        messenger.travel(hours=30)
        ana.sees("Hello!")
        assert ana.window.is_closed

    def test_a_throttled_page_rests(self, messenger):
        ana = messenger.person()
        with messenger.fault("throttled", times=1):
            ana.says("hi")
        ana.sees_nothing()
        messenger.travel(hours=2)
        ana.sees("Hello!")

    @pytest.mark.parametrize("fault", ["timeout_after", "truncated", "timeout_before"])
    def test_a_reply_of_unknown_fate_comes_once(self, messenger, fault):
        ana = messenger.person()
        with messenger.fault(fault, times=1):
            ana.says("hi")
        messenger.travel(minutes=5)
        ana.sees("Hello!")
        ana.sees_nothing()
        assert models.Reply.objects.get().state == "sent"

    def test_in_a_transaction_of_the_test_time_passes_in_one_step(self, messenger):
        ana = messenger.person()
        ana.says("hi")
        with transaction.atomic():
            ana.row.send("Soon")
            messenger.travel(days=6)
        with pytest.raises(ReplyRefused):
            messenger.run()

    def test_other_models_age_on_request(self, messenger, django_user_model):
        user = django_user_model.objects.create_user("staff")
        messenger.travel(days=3)
        assert django_user_model.objects.get().date_joined == user.date_joined
        messenger.travel(days=3, models=(django_user_model,))
        aged = django_user_model.objects.get().date_joined
        assert aged == user.date_joined - datetime.timedelta(days=3)

    def test_order_survives_travel(self, messenger):
        ana = messenger.person()
        ana.says("hi")
        messenger.travel(hours=1)
        ana.says("twice")
        lines = ana.row.history(10)
        assert [line.text for line in lines] == ["hi", "Hello! [Order]", "twice", "one", "two"]

    def test_events_of_another_time_of_day(self, messenger, policy):
        policy.rules = [
            Rule(
                ["SIMPLE_TEXT"],
                "night",
                filters=[TargetFilterClass.wrap(rules.at_time("22:00", "06:00", timezone="UTC"))],
                handlers=[TargetHandlerClass.wrap(FunctionHandler(lambda event: "We are asleep."))],
            )
        ]
        policy._built = None
        ana = messenger.person()
        tonight = datetime.datetime.now(datetime.UTC).replace(hour=23, minute=30)
        with messenger.at(tonight):
            ana.says("hi")
        ana.sees("We are asleep.")
        with messenger.at(tonight.replace(hour=12)):
            ana.says("hi")
        ana.sees_nothing()
        assert abs(messenger.emulator.clock() - time.time()) < 60


class TestPipeline:
    def test_nothing_is_sent_before_the_tests_own_transaction_ends(self, messenger):
        ana = messenger.person()
        ana.says("hi")
        ana.sees("Hello!")
        with transaction.atomic():
            ana.row.send("Soon")
            ana.sees_nothing()
        ana.sees("Soon")

    def test_a_rollback_takes_it_back(self, messenger):
        ana = messenger.person()
        ana.says("hi")
        ana.sees("Hello!")
        with transaction.atomic():
            ana.row.send("Never")
            transaction.set_rollback(True)
        ana.sees_nothing()

    def test_bytes_of_ones_own_are_signed_and_posted(self, messenger):
        messenger.posts("no JSON at all")
        assert models.Callback.objects.get().state == "quarantined"

    def test_the_same_callback_again(self, messenger):
        ana = messenger.person()
        ana.says("hi")
        ana.sees("Hello!")
        messenger.posts_again()
        ana.sees_nothing()
        assert models.Callback.objects.get().copies == 2

    def test_coverage_names_what_never_fired(self, messenger):
        ana = messenger.person()
        ana.says("hi")
        ana.taps("Order")
        never = messenger.coverage()
        assert "greet" not in never
        assert "order" not in never
        assert never[0] == "menu"
        assert len(never) == len(RULES) - 2

    def test_meta_reports_what_is_asked_for(self, messenger):
        ana = messenger.person()
        messenger.report(echoes=True, deliveries=True, reads=True)
        ana.says("hi")
        kinds = set(models.Messaging.objects.values_list("type", flat=True))
        assert kinds == {"SIMPLE_TEXT", "ECHO", "DELIVERED", "READ"}
        assert ana.outcome.type == "SIMPLE_TEXT"


@pytest.fixture
def nothing_left_behind():
    before = django_settings.DJM_DISPATCHER
    yield
    assert before == django_settings.DJM_DISPATCHER


def test_settings_that_a_test_changes_come_back(nothing_left_behind, settings, messenger):
    """Asked for before the kit, the fixture ``settings`` ends after it."""
    settings.DEBUG = True
    assert django_settings.DJM_DISPATCHER != "inline"


def test_the_plugin_needs_neither_django_set_up_nor_a_second_plugin(tmp_path):
    """Pytest loads the plugin in every project of an environment that contains the package."""
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--fixtures",
            "-p",
            "no:django",
            "-p",
            PLUGIN,
            "-c",
            os.devnull,
            tmp_path,
        ],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "messenger -- " in answer.stdout, answer.stdout + answer.stderr


def test_the_plugin_is_registered_under_its_own_name():
    """So that naming it with -p too, as this project does, is no second registration."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}


@override_settings(DJM_ROUTING_POLICY={})
class InATestCase(MessengerTestMixin, TestCase):
    def test_it_works_though_nothing_is_ever_committed(self):
        ana = self.messenger.person()
        ana.says("think")
        ana.sees("thought")


@override_settings(DJM_ROUTING_POLICY={})
class InATransactionTestCase(MessengerTestMixin, TransactionTestCase):
    def test_it_works_where_everything_is_committed(self):
        ana = self.messenger.person()
        ana.says("think")
        ana.sees("thought")
        with transaction.atomic():
            ana.row.send("later")
        ana.sees("later")
