"""The Python notation: what a decorated function becomes, and what the check says of mistakes."""

from __future__ import annotations

import importlib
import json
import sys
import textwrap
import types

import pytest
from django.utils.functional import lazy

from djmessenger import rules
from djmessenger.filtering import TextFilter
from djmessenger.receiving import Messaging, ReceivingType
from djmessenger.routing import InvalidPolicy, Policy, Rule
from djmessenger.rules import registry

NOW = 1_790_000_000_000


class Conversation:
    def __init__(self, **state):
        self.state = state


def event(**parts):
    messaging = Messaging.from_item(
        {"sender": {"id": "1001"}, "recipient": {"id": "2002"}, "timestamp": NOW, **parts}, entry_id="2002"
    )
    messaging.bind(conversation=Conversation())
    return messaging


def said(text):
    return event(message={"mid": "m_1", "text": text})


def tapped(payload):
    return event(postback={"payload": payload, "title": "Tap"})


@pytest.fixture(autouse=True)
def queued(monkeypatch):
    """The answers of the rules, in order, in place of rows."""
    answers = []

    def queue(messaging, message, *, rule=""):
        answers.append((rule, message.text))
        return []

    monkeypatch.setattr("djmessenger.routing.decision.queue", queue)
    monkeypatch.setattr("djmessenger.rules.registry.STANDARD_HANDLERS", ("tests.test_rules.note",))
    return answers


def note(event):
    """In place of the handlers of an undeclared DEFAULT rule."""
    event.context["noted"] = True


@pytest.fixture
def write():
    """Write a module and import it."""
    written = []

    def write(source, name="written.messenger"):
        module = types.ModuleType(name)
        sys.modules[name] = module
        written.append(name)
        head = "from djmessenger import rules\nfrom djmessenger.rules import *\n"
        exec(compile(head + textwrap.dedent(source), f"{name}.py", "exec"), module.__dict__)  # noqa: S102
        return module

    yield write
    for name in written:
        registry.forget(name)
        del sys.modules[name]


@pytest.fixture
def policy_of(write):
    return lambda source: registry.policy_from_modules([write(source)])


class TestRule:
    def test_a_function_becomes_a_rule(self, policy_of, queued):
        policy = policy_of(
            """
            @rule(text("hi"), name="greeting")
            def greet(event):
                return f"You said {event.text}"
            """
        )
        default, greeting = policy.rules
        assert (default.get_receiving_type(), greeting.get_receiving_type()) == (
            ReceivingType.DEFAULT,
            ReceivingType.SIMPLE_TEXT,
        )
        assert policy.route(said("Hi")).applied == ["greeting"]
        assert queued == [("greeting", "You said Hi")]

    def test_the_function_stays_a_function(self, write):
        module = write(
            """
            @rule(text("hi"))
            def greet(event):
                return "Hello!"
            """
        )
        assert module.greet(None) == "Hello!"

    @pytest.mark.parametrize(
        ("body", "answers"),
        [
            ("return None", []),
            ("return 'one'", ["one"]),
            ("return ['one', 'two']", ["one", "two"]),
            ("yield 'one'; yield 'two'", ["one", "two"]),
            ("return Text('one')", ["one"]),
            ("return (word for word in ['one', Text('two')])", ["one", "two"]),
        ],
    )
    @pytest.mark.parametrize("slow", [False, True])
    def test_results_of_a_rule_are_queued(self, policy_of, queued, body, answers, slow):
        policy_of(
            f"""
            from djmessenger.outgoing import Text

            @rule(text("hi"), slow={slow})
            def greet(event):
                {body}
            """
        ).apply(said("hi"))
        assert [text for _, text in queued] == answers

    def test_captured_groups_and_context_come_by_name(self, policy_of, queued):
        policy = policy_of(
            r"""
            def weekday(event):
                return {"day": "Monday"}

            @rule(pattern(r"^(?P<count>\d+) (?P<what>\w+)(?P<rest> now)?$") & weekday)
            def order(event, what, count, rest, *, day, noted, size="small"):
                return f"{count} {size} {what} on {day}, {rest}, {noted}"
            """
        )
        policy.apply(said("2 pizzas"))
        assert queued == [("order", "2 small pizzas on Monday, None, True")]

    def test_one_function_under_two_rules(self, policy_of, queued):
        policy = policy_of(
            """
            @rule(text("hi"))
            @rule(tapped("HI"))
            def greet(event):
                return "Hello!"

            for word in ("good morning", "good evening"):
                rule(text(word))(greet)
            """
        )
        for messaging in (said("hi"), tapped("HI"), said("good morning"), said("good evening")):
            policy.apply(messaging)
        assert len(queued) == 4

    def test_types_come_from_the_filter_or_the_author(self, policy_of):
        policy = policy_of(
            """
            def anything(event): return True

            @rule(text("a") | image())
            def one(event): ...

            @rule(anything)
            def two(event): ...

            @rule(anything, types=["READ", "DELIVERED"])
            def three(event): ...

            @rule(anything, types="ECHO")
            def four(event): ...
            """
        )
        kinds = [{str(kind) for kind in rule.get_receiving_types()} for rule in policy.rules]
        assert kinds == [{"DEFAULT"}, {"SIMPLE_TEXT", "IMAGE"}, {"ANY"}, {"READ", "DELIVERED"}, {"ECHO"}]

    def test_flags(self, policy_of):
        rule = policy_of(
            """
            @rule(text("a"), slow=True, typing=True, stop=True)
            def one(event): ...
            """
        ).rules[1]
        assert (rule.slow, rule.typing, rule.stop) == (True, True, True)
        assert rule.json()["stop"] is True


class TestTranslatable:
    def test_a_lazy_text_is_not_read_at_import(self, write):
        asked = []

        def translate():
            asked.append(True)
            return "Hallo"

        write("").__dict__["greeting"] = lazy(translate, str)()
        exec(  # noqa: S102
            "@rule(text(greeting))\ndef greet(event): ...", sys.modules["written.messenger"].__dict__
        )
        assert asked == []
        assert registry.collect(["written"]).route(said("hallo")).applied == ["greet"]


class TestDefaultAndFallback:
    def test_without_a_default_the_person_is_known_and_the_event_kept(self, monkeypatch, write):
        monkeypatch.undo()
        policy = registry.policy_from_modules([write('@rule(text("hi"))\ndef greet(event): ...')])
        assert [item.name for item in policy.get_default_rule().handlers] == [
            "djmessenger.handling.UserProfileHandler",
            "djmessenger.handling.SaveMessagingHandler",
        ]

    def test_a_declared_default_runs_after_the_standard_handlers(self, policy_of, queued):
        policy = policy_of(
            """
            @default(~text("stop"))
            def first(event, noted):
                event.context["seen"] = noted

            @rule(text("hi"))
            def greet(event, seen=False):
                return f"{seen}"
            """
        )
        policy.apply(said("hi"))
        assert queued == [("greet", "True")]
        assert policy.route(said("stop")).refused

    def test_a_default_in_data_counts(self, policy_of):
        policy = policy_of(
            """
            include({"rules": [{"type": "DEFAULT", "handlers": [{"name": "tests.test_rules.note"}]}]})
            """
        )
        assert len(policy.rules) == 1

    def test_fallback(self, policy_of, queued):
        policy = policy_of(
            """
            @fallback()
            def ask(event):
                return "Pardon?"

            @rule(text("hi"))
            def greet(event): ...
            """
        )
        policy.apply(said("hi"))
        policy.apply(said("what"))
        assert queued == [("ask", "Pardon?")]

    def test_two_defaults(self, write):
        write("@default()\ndef one(event): ...\n@default()\ndef two(event): ...")
        (problem,) = registry.problems(["written"])
        assert (problem.id, problem.position) == ("E034", "written.messenger.two")


class TestBothNotations:
    def test_they_make_the_same_rules(self, policy_of):
        written = policy_of(
            """
            @rule(text("hi") | tapped("HI"), name="greeting", stop=True)
            def greet(event): ...
            """
        )
        data = json.loads(written.serialize())
        assert data["rules"][1] == {
            "type": [
                "GET_STARTED_BUTTON",
                "PERSISTENT_MENU_FIVE",
                "PERSISTENT_MENU_FOUR",
                "PERSISTENT_MENU_ONE",
                "PERSISTENT_MENU_THREE",
                "PERSISTENT_MENU_TWO",
                "POSTBACK",
                "QUICK_REPLY",
                "SIMPLE_TEXT",
            ],
            "name": "greeting",
            "filters": [
                {
                    "any": [
                        {"name": "djmessenger.filtering.TextFilter", "args": {"words": ["hi"]}},
                        {"name": "djmessenger.filtering.TappedFilter", "args": {"payloads": ["HI"]}},
                    ]
                }
            ],
            "handlers": [{"name": "written.messenger.greet"}],
            "repliers": [],
            "stop": True,
        }
        assert Policy.get_instance(data) == written

    def test_they_mix_in_the_order_written(self, write, tmp_path, queued):
        path = tmp_path / "more.json"
        entry = {
            "type": "SIMPLE_TEXT",
            "name": "from data",
            "filters": [{"name": "djmessenger.filtering.TextFilter", "args": {"words": ["hi"]}}],
            "handlers": [{"name": "written.messenger.greet"}],
        }
        path.write_text(json.dumps({"rules": [entry]}))
        other = write('@rule(text("hi"))\ndef other(event): return "other"', "written.flows")
        write("", "written.messenger").__dict__.update(other=other, path=path)
        registry.forget("written.messenger")
        exec(  # noqa: S102
            textwrap.dedent(
                """
                from djmessenger.rules import *

                @rule(text("hi"))
                def greet(event):
                    return "first"

                include(path)
                include(other)

                @rule(text("hi"))
                def last(event):
                    return "last"
                """
            ),
            sys.modules["written.messenger"].__dict__,
        )
        policy = registry.collect(["written"])
        assert registry.problems(["written"]) == []
        policy.apply(said("hi"))
        assert queued == [("greet", "first"), ("from data", "first"), ("other", "other"), ("last", "last")]

    def test_a_sample_as_authors_write_it(self, queued):
        registry.forget("shop.messenger")
        sys.modules.pop("shop.messenger", None)
        importlib.import_module("shop.messenger")
        assert registry.problems(["shop"]) == []
        policy = registry.collect(["shop"])
        messaging = said("order 7")
        assert policy.route(messaging).applied == ["order"]
        assert messaging.conversation.state == {"seen": 1}
        assert queued == [("order", "Looking for order 7."), ("order", "It is on its way.")]
        queued.clear()
        assert policy.route(said("help")).applied == ["help"]
        assert queued == [("help", "Hello!")]


class TestCollect:
    def test_the_order_of_the_apps_counts(self, write):
        write('@rule(text("b"))\ndef second(event): ...', "bb.messenger")
        write('@rule(text("a"))\ndef first(event): ...', "aa.messenger")
        write('@rule(text("c"))\ndef inner(event): ...', "aa.messenger.more")
        names = [item.name for item in registry.collect(["aa", "bb", "cc"]).rules]
        assert names == ["default", "first", "inner", "second"]

    def test_apps_without_rules(self, write):
        write("GREETING = 'hi'")
        assert registry.collect(["written", "other"]) is None
        assert registry.problems(["written", "other"]) is None

    def test_an_app_config_will_do(self, write):
        write('@rule(text("b"))\ndef one(event): ...')
        assert len(registry.collect([types.SimpleNamespace(name="written")]).rules) == 2

    def test_rules_beside_messenger_are_reported(self, write):
        write('@rule(text("b"))\ndef one(event): ...')
        write('@rule(text("b"))\ndef one(event): ...', "written.views")
        write('@rule(text("b"))\ndef one(event): ...', "written.not_installed.messenger")
        (problem,) = registry.problems(["written"])
        assert (problem.id, problem.position) == ("W032", "written.views")
        assert len(registry.collect(["written"]).rules) == 2

    def test_a_setting_that_takes_their_place_is_reported(self, write):
        write('@rule(text("b"))\ndef one(event): ...')
        (problem,) = registry.overruled(["written", "other"])
        assert (problem.id, problem.position) == ("W032", "written.messenger")

    def test_a_file_lies_beside_the_module(self, write, tmp_path):
        (tmp_path / "more.json").write_text('{"rules": [{"type": "READ", "name": "more"}]}')
        module = write("")
        module.__file__ = str(tmp_path / "messenger.py")
        exec('include("more.json")', module.__dict__)  # noqa: S102
        assert [item.name for item in registry.collect(["written"]).rules] == ["default", "more"]


class TestMisuse:
    @pytest.mark.parametrize(
        ("source", "id_", "says"),
        [
            ("@rule\ndef greet(event): ...", "E043", "@rule is written without parentheses above greet"),
            ("@fallback\ndef ask(event): ...", "E043", "Write @fallback()"),
            ('rule(text("hi"))', "E043", "decorates no function"),
            ('@rule("hi")\ndef greet(event): ...', "E042", "text('hi')"),
            ("@rule(location)\ndef greet(event): ...", "E042", "location()"),
            ('@rule(text("hi") | location)\ndef greet(event): ...', "E042", "location()"),
            (
                "from djmessenger.filtering import LocationFilter\n@rule(LocationFilter)\ndef greet(event): ...",
                "E042",
                "LocationFilter()",
            ),
            ("@rule(3)\ndef greet(event): ...", "E042", "3 is not a filter"),
            ("@rule(Messaging)\ndef greet(event): ...", "E042", "not a filter"),
            ('@rule(text("hi"))\nasync def greet(event): ...', "E041", "async"),
            ('@rule(text("hi"))\nasync def greet(event):\n    yield "hi"', "E041", "async"),
            ('@rule(text("hi"))\ndef greet(): ...', "E040", "def greet(event):"),
            ('@rule(text("hi"))\ndef greet(event, size): ...', "E040", "size"),
            (
                '@rule(text("hi") | pattern("(?P<size>.)"))\ndef greet(event, size): ...',
                "E040",
                "size",
            ),
            ('@rule(text("hi"))\nclass Greet: ...', "E040", "belongs on a function"),
            ("async def is_open(event): ...\n@rule(is_open)\ndef greet(event): ...", "E041", "is_open"),
            ("def is_open(): ...\n@rule(is_open)\ndef greet(event): ...", "E040", "is_open"),
            ('@rule(pattern("(a"))\ndef greet(event): ...', "E038", "(a"),
            ("@rule(text())\ndef greet(event): ...", "E037", "at least one text"),
            ('@rule(text("a") & at_time("25:00", "26:00"))\ndef greet(event): ...', "E037", "at_time"),
            ('@rule(on("SIMPEL_TEXT"))\ndef greet(event): ...', "E037", "did you mean 'SIMPLE_TEXT'?"),
            ('@rule(on("simple text"))\ndef greet(event): ...', "E037", "did you mean 'SIMPLE_TEXT'?"),
            ('@rule(on("ZZZ"))\ndef greet(event): ...', "E037", "known are"),
            ('@rule(text("hi"), types="IMAGE")\ndef greet(event): ...', "W031", "never applies"),
            ('@rule(text("hi"), types=["IMGAE"])\ndef greet(event): ...', "E033", "IMAGE"),
            ("include({})", "E030", 'include({"rules": [...]})'),
            ('include("no/such/file.json")', "E030", "no/such/file.json"),
            ('include({"rules": [{"type": "READ", "handlers": [{"name": "x.y"}]}]})', "E035", "x.y"),
        ],
    )
    def test_it_fails_at_the_check_not_at_import(self, write, source, id_, says):
        write(source)
        (problem,) = registry.problems(["written"])
        assert problem.id == id_
        assert says in str(problem)
        assert problem.position.startswith("written.messenger")
        if problem.is_error:
            with pytest.raises(InvalidPolicy):
                registry.collect(["written"])

    def test_a_group_in_every_alternative_is_enough(self, write):
        write(
            """
            @rule(pattern("(?P<size>a)") | pattern("(?P<size>b)"))
            def greet(event, size): ...
            """
        )
        assert registry.problems(["written"]) == []


class TestFilters:
    @pytest.mark.parametrize(
        ("condition", "messaging"),
        [
            (rules.text("hi"), said(" HI ")),
            (rules.pattern("h(.)"), said("oh hi")),
            (rules.tapped("A", "B"), tapped("B")),
            (rules.tapped(), tapped("C")),
            (rules.on("POSTBACK"), tapped("C")),
            (rules.page(2002), said("hi")),
            (rules.state(step=None), said("hi")),
            (
                rules.reaction("love"),
                event(reaction={"mid": "m", "action": "react", "reaction": "love", "emoji": "❤"}),
            ),
            (rules.referral("x"), event(referral={"ref": "x", "source": "SHORTLINK", "type": "OPEN_THREAD"})),
            (rules.image() | rules.text("a"), said("a")),
            (~rules.text("a") & rules.text("b"), said("b")),
        ],
    )
    def test_they_pass_what_they_say(self, condition, messaging):
        assert condition.check(messaging).passed
        assert not (~condition).check(messaging).passed

    def test_a_text_is_the_filter_that_data_names(self):
        assert rules.text("hi") == TextFilter("hi")


def test_a_slow_rule_may_say_how_long_how_often_and_what_it_gathers():
    made = Rule("SIMPLE_TEXT", "ask", slow=True, gather=True, timeout=40, tries=2)
    assert Rule.deserialize(made.json()).json() == made.json()
    assert {"gather": True, "timeout": 40, "tries": 2}.items() <= made.json().items()
    assert not {"gather", "timeout", "tries"} & set(Rule("SIMPLE_TEXT", "plain").json())
    bad = {"rules": [{"type": "SIMPLE_TEXT", "name": "x", "handlers": [], "timeout": 0, "tries": "2"}]}
    assert {"rules[0].timeout", "rules[0].tries"} <= {item.position for item in Policy.problems_of(bad)}
