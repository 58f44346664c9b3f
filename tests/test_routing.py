"""The policy: what is decided, in which order it acts, and what the outcome and the check say of it."""

from __future__ import annotations

import concurrent.futures
import copy
import json
import logging
import os
import types

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st
from testapp import handling

from djmessenger import models, routing
from djmessenger.admin.outcome import as_tree
from djmessenger.exceptions import DJMException, DJMInvalidConfigException
from djmessenger.filtering import BaseFilter
from djmessenger.filtering.base import literal_key, literal_keys
from djmessenger.handling import BaseHandler
from djmessenger.operations.profile_declaration import read_declaration
from djmessenger.payload import PersistentMenuOnePayload
from djmessenger.receiving import Messaging, ReceivingType
from djmessenger.replying import BaseButtonReplier, BaseQuickReplyReplier, CommonReplier, ReplyActionReplier
from djmessenger.routing import InvalidPolicy, Policy, Rule, TargetFilterClass, TargetHandlerClass
from djmessenger.routing.functions import FunctionHandler
from djmessenger.routing.outcome import Outcome, Step
from djmessenger.rules import registry
from djmessenger.testing.explanation import explained
from djmessenger.utils.default_routing_policy import DJM_DEFAULT_ROUTING_POLICY, RUNNABLE_ROUTING_POLICY

THIS = __name__
NOW = 1_790_000_000_000


def event(**parts):
    return Messaging.from_item(
        {"sender": {"id": "1001"}, "recipient": {"id": "2002"}, "timestamp": NOW, **parts}, entry_id="2002"
    )


def said(text):
    return event(message={"mid": "m_1", "text": text})


def echo(text="hi"):
    return Messaging.from_item(
        {
            "sender": {"id": "2002"},
            "recipient": {"id": "1001"},
            "timestamp": NOW,
            "message": {"mid": "m_2", "text": text, "is_echo": True},
        },
        entry_id="2002",
    )


def standby(text="hi"):
    return Messaging.from_item(
        {
            "sender": {"id": "1001"},
            "recipient": {"id": "2002"},
            "timestamp": NOW,
            "message": {"mid": "m_3", "text": text},
        },
        entry_id="2002",
        container="standby",
        is_standby=True,
    )


def read():
    return event(read={"watermark": NOW})


class Note(BaseHandler):
    def __init__(self, log, word, *, slow=False, fails=False):
        self.log, self.word, self.slow, self.fails = log, word, slow, fails

    def handle(self, messaging):
        self.log.append(self.word)
        if self.fails:
            raise LookupError(self.word)


class Say(CommonReplier):
    def __init__(self, log, word):
        self.log, self.word = log, word

    def get_message(self, messaging):
        return {"text": self.word}

    def get_reply_type(self):
        raise NotImplementedError

    def reply(self, messaging):
        self.log.append(self.word)


class Ask(BaseFilter):
    """Notes that it was asked, and answers as told."""

    def __init__(self, answer=True, log=None, word="asked"):
        self.answer, self._log, self._word = answer, log, word

    def should_pass(self, messaging):
        if self._log is not None:
            self._log.append(self._word)
        return self.answer


class Is(BaseFilter):
    """Passes one literal text or payload."""

    def __init__(self, literal):
        self.literal = literal

    def should_pass(self, messaging):
        return literal_key(self.literal) in literal_keys(messaging)

    def literals(self):
        return frozenset([literal_key(self.literal)])


class Unindexed(Is):
    """The same without telling what it needs."""

    def literals(self):
        return None


class Broken(BaseFilter):
    def should_pass(self, messaging):
        raise RuntimeError("broken on purpose")


class Picky(BaseFilter):
    def __init__(self, word, count=1):
        if not isinstance(word, str):
            raise TypeError("word is a text")
        self.word, self.count = word, count

    def should_pass(self, messaging):
        return True


class PayloadOnly(BaseFilter):
    def should_pass(self, messaging):
        return True

    def types(self):
        return frozenset([ReceivingType.QUICK_REPLY])


class LongTitle(BaseButtonReplier):
    BUTTONS = {"a title of twenty-five....": "https://shop.example/"}  # noqa: RUF012 - as authors write it


class NothingToTap(BaseButtonReplier):
    pass


class ElevenReplies(BaseQuickReplyReplier):
    QUICK_REPLIES = {str(number): PersistentMenuOnePayload() for number in range(11)}  # noqa: RUF012


SOME_TEXT = {"localized_string": {"base_string": "Choose", "translations": {}}}


def passes(event):
    return True


def answer(event):
    return None


def takes_nothing():
    return None


def hi(event):
    return "Hello!"


async def later(event):
    return None


def wants_size(event, size):
    return None


def rule(kind, name, log, *, filters=(), handlers=None, **flags):
    return Rule(
        kind,
        name,
        filters=list(filters),
        handlers=[Note(log, f"{name} handles")] if handlers is None else handlers,
        repliers=[Say(log, f"{name} replies")],
        **flags,
    )


class TestDecideFirst:
    def test_all_filters_are_asked_before_any_handler_runs(self):
        log = []
        policy = Policy(
            [
                rule("SIMPLE_TEXT", "one", log, filters=[Ask(log=log, word="one asked")]),
                rule("SIMPLE_TEXT", "two", log, filters=[Ask(log=log, word="two asked")]),
            ]
        )
        policy.route(said("hi"))
        assert log == ["one asked", "two asked", "one handles", "one replies", "two handles", "two replies"]

    def test_deciding_has_no_effect(self):
        log = []
        decision = Policy([rule("SIMPLE_TEXT", "one", log)]).decide(said("hi"))
        assert log == []
        assert [item.name for item in decision.applied] == ["one"]

    def test_a_handler_cannot_change_what_was_decided(self):
        log, state = [], {"open": True}

        class Close(BaseHandler):
            def handle(self, messaging):
                state["open"] = False

        class Open(BaseFilter):
            def should_pass(self, messaging):
                return state["open"]

        policy = Policy(
            [
                rule("SIMPLE_TEXT", "one", log, filters=[Open()], handlers=[Close()]),
                rule("SIMPLE_TEXT", "two", log, filters=[Open()]),
            ]
        )
        policy.apply(said("hi"))
        assert log == ["one replies", "two handles", "two replies"]

    def test_the_same_decision_twice(self):
        policy = Policy([rule("SIMPLE_TEXT", "one", [], filters=[Is("hi")])])
        messaging = said("hi")
        first, second = policy.decide(messaging), policy.decide(messaging)
        assert [item.name for item in first.applied] == [item.name for item in second.applied] == ["one"]


class TestDefault:
    def policy(self, log, **flags):
        return Policy(
            [
                rule("SIMPLE_TEXT", "one", log),
                rule("SIMPLE_TEXT", "two", log),
                rule("DEFAULT", "default", log, **flags),
                rule("READ", "seen", log),
                rule("ECHO", "echo", log),
                rule("STANDBY", "standby", log),
            ]
        )

    def test_its_handlers_run_first_once_and_its_repliers_last_once(self):
        log = []
        self.policy(log).apply(said("hi"))
        assert log == [
            "default handles",
            "one handles",
            "one replies",
            "two handles",
            "two replies",
            "default replies",
        ]

    def test_one_refusal_ends_the_matter(self):
        log = []
        outcome = self.policy(log, filters=[Ask(), Ask(answer=False)]).route(said("hi"))
        assert log == []
        assert outcome.refused
        assert not outcome.unhandled
        assert "default" in outcome.summary()

    def test_its_repliers_answer_only_what_a_person_authored(self):
        log = []
        self.policy(log).apply(read())
        assert log == ["default handles", "seen handles", "seen replies"]

    def test_echoes_and_standby_do_not_meet_it(self):
        log = []
        policy = self.policy(log, filters=[Ask(answer=False)])
        policy.apply(echo())
        policy.apply(standby())
        assert log == ["echo handles", "echo replies", "standby handles", "standby replies"]

    def test_the_first_is_given(self):
        log = []
        assert self.policy(log).get_default_rule().name == "default"
        assert Policy().get_default_rule() == []


class TestEchoAndStandby:
    @pytest.mark.parametrize("messaging", [echo(), standby()])
    def test_they_reach_only_rules_that_ask_for_them(self, messaging):
        log = []
        policy = Policy(
            [
                rule(kind, kind, log)
                for kind in ("SIMPLE_TEXT", "ANY", "FALLBACK", "DEFAULT", "IMAGE", "UNKNOWN")
            ]
        )
        outcome = policy.route(messaging)
        assert log == []
        assert not outcome.unhandled


class TestRulesOfAType:
    def test_all_apply_in_order(self):
        log = []
        Policy([rule("SIMPLE_TEXT", name, log) for name in "abc"]).apply(said("hi"))
        assert [word for word in log if "replies" in word] == ["a replies", "b replies", "c replies"]

    def test_a_rule_needs_all_its_filters(self):
        log = []
        Policy([rule("SIMPLE_TEXT", "one", log, filters=[Ask(), Ask(answer=False)])]).apply(said("hi"))
        assert log == []

    def test_one_of_another_type_is_not_asked(self):
        log = []
        Policy([rule("IMAGE", "one", log, filters=[Ask(log=log)])]).apply(said("hi"))
        assert log == []

    def test_several_types(self):
        log = []
        policy = Policy([rule(["READ", "SIMPLE_TEXT"], "one", log)])
        policy.apply(said("hi"))
        policy.apply(read())
        assert log == ["one handles", "one replies"] * 2
        assert policy.rules[0].get_receiving_type() is ReceivingType.READ
        assert [item.name for item in policy.get_rules("SIMPLE_TEXT")] == ["one"]

    def test_any_is_whatever_a_person_authored(self):
        log = []
        policy = Policy([rule("ANY", "one", log)])
        policy.apply(said("hi"))
        policy.apply(read())
        assert log == ["one handles", "one replies"]

    def test_stop(self):
        log = []
        policy = Policy(
            [
                rule("SIMPLE_TEXT", "one", log, filters=[Ask(answer=False)], stop=True),
                rule("SIMPLE_TEXT", "two", log, stop=True),
                rule("SIMPLE_TEXT", "three", log, filters=[Ask(log=log)]),
                rule("DEFAULT", "default", log),
            ]
        )
        outcome = policy.route(said("hi"))
        assert log == ["default handles", "two handles", "two replies", "default replies"]
        assert outcome.stopped_by == "two"

    def test_a_filter_that_raises_is_a_no(self, caplog):
        log = []
        with caplog.at_level(logging.CRITICAL):
            outcome = Policy([rule("SIMPLE_TEXT", "one", log, filters=[Broken()])]).route(said("hi"))
        assert log == []
        assert "RuntimeError" in outcome.rules[0].verdicts[0].error

    def test_a_capture_of_a_rule_stays_with_that_rule(self):
        seen = []

        def captures(number):
            return lambda event: {"number": number}

        def handler(event, number=None):
            seen.append(number)

        policy = Policy(
            [
                Rule("SIMPLE_TEXT", "one", [TargetFilterClass.wrap(_filter(captures(1)))], [_run(handler)]),
                Rule("SIMPLE_TEXT", "two", [TargetFilterClass.wrap(_filter(captures(2)))], [_run(handler)]),
                Rule("SIMPLE_TEXT", "three", [], [_run(handler)]),
            ]
        )
        policy.apply(said("hi"))
        assert seen == [1, 2, None]


def _filter(function):
    return routing.targets.FunctionFilter(function)


def _run(function, **flags):
    return TargetHandlerClass.wrap(FunctionHandler(function, **flags))


class TestFallback:
    def policy(self, log):
        return Policy(
            [
                rule("FALLBACK", "fallback", log),
                rule("SIMPLE_TEXT", "hi", log, filters=[Is("hi")]),
                rule("READ", "seen", log, filters=[Ask(answer=False)]),
                rule("DEFAULT", "default", log),
            ]
        )

    def test_when_no_rule_but_default_applied(self):
        log = []
        outcome = self.policy(log).route(said("what?"))
        assert log == ["default handles", "fallback handles", "fallback replies", "default replies"]
        assert outcome.fell_back
        assert not outcome.unhandled

    def test_not_when_another_applied(self):
        log = []
        self.policy(log).apply(said("hi"))
        assert "fallback handles" not in log

    def test_not_for_what_no_person_authored(self):
        log = []
        self.policy(log).apply(read())
        assert log == ["default handles"]


class TestSlow:
    def test_slow_handlers_run_before_the_others(self):
        log = []
        policy = Policy(
            [
                rule("SIMPLE_TEXT", "one", log),
                rule("SIMPLE_TEXT", "two", log, handlers=[Note(log, "slow", slow=True), Note(log, "quick")]),
                rule("SIMPLE_TEXT", "three", log, slow=True),
            ]
        )
        messaging = said("hi")
        decision = policy.decide(messaging)
        decision.run_slow(messaging)
        assert log == ["slow", "three handles"]
        log.clear()
        decision.act(messaging)
        assert log == ["one handles", "one replies", "quick", "two replies", "three replies"]

    def test_acting_alone_runs_them_too(self):
        log = []
        messaging = said("hi")
        Policy([rule("SIMPLE_TEXT", "one", log, slow=True)]).decide(messaging).act(messaging)
        assert log == ["one handles", "one replies"]

    def test_typing_is_shown_before_anything_else(self, monkeypatch):
        log, messaging = [], said("hi")
        monkeypatch.setattr(ReplyActionReplier, "reply", lambda self, messaging: log.append(str(self.action)))
        rules = [
            rule("SIMPLE_TEXT", "one", log, slow=True),
            rule("SIMPLE_TEXT", "two", log, typing=True),
            rule("SIMPLE_TEXT", "three", log, typing=True),
        ]
        decision = Policy(rules).decide(messaging)
        decision.run_slow(messaging)
        assert log == ["typing_on", "one handles"]

    def test_a_decision_says_whether_it_will_wait(self):
        def decide(**flags):
            return Policy([rule("SIMPLE_TEXT", "one", [], **flags)]).decide(said("hi"))

        assert not decide().is_slow(said("hi"))
        assert decide(slow=True).is_slow(said("hi"))
        assert decide(handlers=[Note([], "", slow=True)]).is_slow(said("hi"))

    def test_slow_work_may_be_repeated(self):
        log = []
        messaging = said("hi")
        decision = Policy([rule("SIMPLE_TEXT", "one", log, slow=True)]).decide(messaging)
        decision.run_slow(messaging)
        decision.run_slow(messaging)
        decision.act(messaging)
        assert log == ["one handles", "one handles", "one replies"]
        assert [step.kind for step in decision.outcome.rules[0].steps] == ["slow handler", "replier"]


class TestFailing:
    def policy(self, log, **flags):
        return Policy(
            [
                rule("SIMPLE_TEXT", "one", log, handlers=[Note(log, "broken", fails=True, **flags)]),
                rule("SIMPLE_TEXT", "two", log),
            ]
        )

    def test_an_exception_propagates(self):
        log, messaging = [], said("hi")
        decision = self.policy(log).decide(messaging)
        with pytest.raises(LookupError):
            decision.act(messaging)
        assert log == ["broken"]
        assert decision.outcome.errors == ["one: LookupError: broken"]
        assert "Traceback" in decision.outcome.error

    @pytest.mark.django_db
    def test_with_savepoints_the_others_go_on(self, caplog):
        log, messaging = [], said("hi")
        decision = self.policy(log).decide(messaging)
        with caplog.at_level(logging.ERROR, "djmessenger.routing"):
            decision.act(messaging, savepoints=True)
        assert log == ["broken", "two handles", "two replies"]
        assert decision.outcome.errors == ["one: LookupError: broken"]
        assert caplog.records[0].exc_info

    @pytest.mark.django_db
    def test_a_broken_slow_handler_silences_only_its_rule(self, caplog):
        log, messaging = [], said("hi")
        decision = self.policy(log, slow=True).decide(messaging)
        with caplog.at_level(logging.CRITICAL):
            decision.run_slow(messaging, savepoints=True)
            decision.act(messaging, savepoints=True)
        assert log == ["broken", "two handles", "two replies"]

    @pytest.mark.django_db
    def test_changes_of_the_state_by_a_broken_rule_are_rolled_back(self, caplog):
        class Conversation:
            def __init__(self):
                self.state = {"step": 1}

        class Step(BaseHandler):
            def __init__(self, fails):
                self.fails = fails

            def handle(self, messaging):
                messaging.conversation.state["step"] += 10
                if self.fails:
                    raise LookupError

        messaging = said("hi")
        messaging.bind(conversation=Conversation())
        policy = Policy([Rule("SIMPLE_TEXT", handlers=[Step(fails)]) for fails in (False, True, False)])
        with caplog.at_level(logging.CRITICAL):
            policy.decide(messaging).act(messaging, savepoints=True)
        assert messaging.conversation.state == {"step": 21}

    def test_a_rule_that_failed_once_may_succeed_in_the_next_try(self):
        log, messaging = [], said("hi")
        handler = Note(log, "handles", fails=True)
        decision = Policy([rule("SIMPLE_TEXT", "one", log, handlers=[handler])]).decide(messaging)
        with pytest.raises(LookupError):
            decision.act(messaging)
        handler.fails = False
        decision.act(messaging)
        assert log == ["handles", "handles", "one replies"]
        assert (decision.outcome.error, decision.outcome.errors) == ("", [])

    @pytest.mark.django_db
    def test_messages_that_were_taken_back_are_not_counted(self, conversation, caplog):
        def fail(event):
            yield "one"
            yield 2

        messaging = said("hi")
        messaging.bind(conversation=conversation, person=conversation.person)
        policy = Policy(
            [Rule("SIMPLE_TEXT", function.__name__, handlers=[_run(function)]) for function in (fail, hi)]
        )
        decision = policy.decide(messaging)
        with caplog.at_level(logging.CRITICAL):
            decision.act(messaging, savepoints=True)
        assert [(reply.rule, reply.data["message"]) for reply in models.Reply.objects.all()] == [
            ("hi", {"text": "Hello!"})
        ]
        assert decision.outcome.messages == 1

    def test_acting_again_starts_the_record_anew(self):
        log, messaging = [], said("hi")
        decision = Policy([rule("SIMPLE_TEXT", "one", log)]).decide(messaging)
        decision.act(messaging)
        decision.act(messaging)
        assert len(decision.outcome.rules[0].steps) == 2


class TestOutcome:
    def outcome(self) -> Outcome:
        log = []
        policy = Policy(
            [
                rule("DEFAULT", "default", log, filters=[Ask()]),
                rule("SIMPLE_TEXT", "hello", log, filters=[Is("hello")]),
                rule("SIMPLE_TEXT", "nested", log, filters=[Ask() & (Ask(answer=False) | ~Picky("a"))]),
                rule("SIMPLE_TEXT", "hi", log, filters=[Is("hi")]),
            ]
        )
        return policy.route(said("hi"))

    def test_it_is_json_ready(self):
        data = self.outcome().json()
        assert json.loads(json.dumps(data)) == data
        assert data["type"] == "SIMPLE_TEXT"
        assert data["applied"] == ["hi"]
        assert data["skipped"] == 1
        assert [item["name"] for item in data["rules"]] == ["nested", "hi"]
        assert data["rules"][1]["steps"][0] == {
            "kind": "handler",
            "name": f"{THIS}.Note",
            "seconds": data["rules"][1]["steps"][0]["seconds"],
        }

    def test_the_operand_that_said_no_is_named(self):
        nested = self.outcome().rules[0]
        assert not nested.applied
        assert nested.refusal == str(Ask(answer=False) | ~Picky("a"))
        assert self.outcome().json()["rules"][0]["refusal"] == nested.refusal

    def test_the_summary_is_one_line_without_what_was_said(self):
        policy = Policy([rule("SIMPLE_TEXT", "one", [], filters=[Ask(answer=False)])])
        summary = policy.route(said("my secret\nwords")).summary()
        assert "\n" not in summary
        assert "secret" not in summary

    @pytest.mark.parametrize(
        ("messaging", "line"),
        [
            (said('say "hi"'), '@rule(text("say \\"hi\\""))'),
            (said('it"s\n\u202e'), "@rule(text('it\"s\\n\\u202e'))"),
            (event(postback={"payload": "ORDER", "title": "Order"}), '@rule(tapped("ORDER"))'),
            (
                event(message={"mid": "m", "attachments": [{"type": "image", "payload": {}}]}),
                "@rule(image())",
            ),
            (event(referral={"ref": "x", "source": "SHORTLINK", "type": "OPEN_THREAD"}), "@rule(referral())"),
        ],
    )
    def test_an_unhandled_event_gets_a_rule_to_paste(self, messaging, line, caplog):
        with override_settings(DEBUG=True), caplog.at_level(logging.WARNING, "djmessenger.routing"):
            outcome = Policy().route(messaging)
        assert outcome.unhandled
        assert line in outcome.suggestion
        compile(outcome.suggestion, "suggestion", "exec")
        assert line in caplog.text

    @given(
        st.builds(said, st.text(min_size=1, max_size=100).filter(str.strip))
        | st.builds(lambda text: event(postback={"payload": text, "title": "x"}), st.text(min_size=1))
        | st.sampled_from(
            [
                event(message={"mid": "m", "quick_reply": {"payload": ""}, "text": "x"}),
                event(message={"mid": "m", "sticker_id": 369239263222822}),
                event(optin={"ref": "x"}),
            ]
        )
    )
    def test_the_rule_to_paste_is_for_that_event(self, messaging):
        with override_settings(DEBUG=True):
            outcome = Policy().decide(messaging).outcome
        module = types.ModuleType("pasted.messenger")
        try:
            exec(outcome.suggestion, module.__dict__)  # noqa: S102
            policy = registry.policy_from_modules([module])
        finally:
            registry.forget(module)
        assert outcome.unhandled
        assert policy.decide(messaging).applied

    @pytest.mark.parametrize(
        ("messaging", "line"),
        [
            (said("my secret words"), '@rule(text("..."))'),
            (event(postback={"payload": "secret", "title": "Tap"}), '@rule(tapped("..."))'),
        ],
    )
    def test_outside_debug_the_log_holds_nothing_that_was_said(self, messaging, line, caplog):
        with caplog.at_level(logging.DEBUG, "djmessenger.routing"):
            outcome = Policy().route(messaging)
        assert line in outcome.suggestion
        assert "secret" not in caplog.text
        assert "secret" not in json.dumps(outcome.json())

    def test_an_event_that_is_not_authored_gets_no_suggestion(self, caplog):
        with caplog.at_level(logging.WARNING, "djmessenger.routing"):
            outcome = Policy().route(read())
        assert not outcome.unhandled
        assert not caplog.records


class TestThreads:
    def test_one_policy_serves_all_of_them(self):
        policy = Policy(
            [Rule("SIMPLE_TEXT", str(number), [Is(str(number))], [Note([], "")]) for number in range(50)]
        )
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            outcomes = pool.map(lambda number: policy.route(said(str(number))).applied, range(50))
            assert list(outcomes) == [[str(number)] for number in range(50)]


class TestIndex:
    def test_a_rule_that_needs_another_text_is_not_asked(self):
        log = []
        rules = [rule("SIMPLE_TEXT", str(number), log, filters=[Is(str(number))]) for number in range(1000)]
        outcome = Policy(rules).route(said("7"))
        assert outcome.applied == ["7"]
        assert outcome.skipped == 999
        assert len(outcome.rules) == 1

    words = st.sampled_from(["hi", "HI", " hi ", "hello", "Straße", "STRASSE", "ﬁ", "fi", "ı", "İ", "x", ""])
    rules = st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from("?!=&|~"), words, words), max_size=3),
            st.booleans(),
            st.sampled_from(["SIMPLE_TEXT", "ANY", "FALLBACK", "DEFAULT", "IMAGE", ["SIMPLE_TEXT", "READ"]]),
        ),
        max_size=8,
    )

    @given(rules, words)
    def test_the_index_changes_no_decision(self, described, text):
        def build(literal):
            def one(sign, a, b):
                match sign:
                    case "?":
                        return Ask(answer=bool(a))
                    case "!":
                        return ~literal(a)
                    case "=":
                        return literal(a)
                    case "&":
                        return literal(a) & literal(b)
                    case "|":
                        return literal(a) | literal(b)
                return ~(literal(a) | literal(b))

            seen_default = False
            rules = []
            for number, (filters, stop, kind) in enumerate(described):
                if kind == "DEFAULT":
                    if seen_default:
                        continue
                    seen_default = True
                rules.append(
                    Rule(kind, str(number), [one(*item) for item in filters], [Note([], "")], stop=stop)
                )
            return Policy(rules)

        indexed, naive = build(Is).decide(said(text)), build(Unindexed).decide(said(text))
        assert [item.name for item in indexed.applied] == [item.name for item in naive.applied]
        assert indexed.outcome.refused == naive.outcome.refused
        assert indexed.outcome.fell_back == naive.outcome.fell_back
        asked = len(indexed.outcome.rules) + indexed.outcome.skipped
        assert indexed.outcome.stopped_by or asked == len(naive.outcome.rules)


def problems_of(*rules):
    return Policy.problems_of({"rules": list(rules)})


def a_rule(**entries):
    return {"type": "SIMPLE_TEXT", "name": "one", "handlers": [{"name": f"{THIS}.answer"}], **entries}


A_BUTTON = {"type": "postback", "title": "Order", "payload": "ORDER"}


def a_message(**parts):
    message = {"type": "button", "text": "Choose", **parts}
    return {"name": "djmessenger.replying.MessageReplier", "args": {"message": message}}


class TestProblems:
    @pytest.mark.parametrize(
        ("rule", "id_", "position", "says"),
        [
            (
                a_rule(filters=[{"name": "djmessenger.filtering.ThumpUpFilter"}]),
                "E035",
                ".filters[0]",
                "ThumbUpFilter",
            ),
            (a_rule(filters=[{"name": "no.such.module.Filter"}]), "E035", ".filters[0]", "no.such.module"),
            (a_rule(filters=[{"name": "nodots"}]), "E035", ".filters[0]", "nodots"),
            (a_rule(filters=[{"name": f"{THIS}.Note"}]), "E036", ".filters[0]", '"handlers"'),
            (
                a_rule(handlers=[{"name": f"{THIS}.NOW"}]),
                "E036",
                ".handlers[0]",
                "neither a class nor a function",
            ),
            (
                a_rule(filters=[{"name": "djmessenger.filtering.BaseFilter"}]),
                "E036",
                ".filters[0]",
                "abstract",
            ),
            (a_rule(filters=[{"name": f"{THIS}.Picky"}]), "E037", ".filters[0]", "needs the argument 'word'"),
            (
                a_rule(filters=[{"name": f"{THIS}.Picky", "args": {"word": 1}}]),
                "E037",
                ".filters[0]",
                "word is a text",
            ),
            (
                a_rule(filters=[{"name": f"{THIS}.Picky", "args": {"word": "a", "cuont": 1}}]),
                "E037",
                ".filters[0]",
                "Did you mean count?",
            ),
            (
                a_rule(filters=[{"any": [{"all": [{"name": "x.y"}]}]}]),
                "E035",
                ".filters[0].any[0].all[0]",
                "x.y",
            ),
            (a_rule(filters=[{"any": []}]), "E031", ".filters[0]", "contains no filter"),
            (a_rule(filters=[{"args": {}}]), "E031", ".filters[0]", "has no name of a class"),
            (a_rule(filters=["text"]), "E031", ".filters[0]", "dict"),
            (a_rule(filters={"name": "x"}), "E031", ".filters", "list"),
            (
                a_rule(filters=[{"name": f"{THIS}.Ask", "arg": {}}]),
                "E032",
                ".filters[0]",
                "Did you mean args?",
            ),
            (a_rule(filter=[]), "E032", "", "Did you mean filters?"),
            (a_rule(stop="yes"), "E031", ".stop", "true or false"),
            (a_rule(type="SIMPLE_TEXTS"), "E033", ".type", "Did you mean SIMPLE_TEXT?"),
            (a_rule(type=["IMAGE", "VIDOE"]), "E033", ".type", "VIDOE"),
            (a_rule(type=None), "E033", ".type", "no type"),
            (a_rule(type=[]), "E033", ".type", "no type"),
            (
                a_rule(handlers=[{"name": f"{THIS}.takes_nothing"}]),
                "E040",
                ".handlers[0]",
                "has no parameter for the event",
            ),
            (a_rule(handlers=[{"name": f"{THIS}.wants_size"}]), "E040", ".handlers[0]", "size"),
            (a_rule(handlers=[{"name": f"{THIS}.later"}]), "E041", ".handlers[0]", "async"),
            (a_rule(filters=[{"name": f"{THIS}.later"}]), "E041", ".filters[0]", "async"),
            (a_rule(filters=[{"name": f"{THIS}.takes_nothing"}]), "E040", ".filters[0]", "event"),
            (
                a_rule(repliers=[a_message(buttons=[A_BUTTON | {"title": "x" * 25}])]),
                "E039",
                ".repliers[0]",
                "title",
            ),
            (
                a_rule(repliers=[{"name": f"{THIS}.LongTitle", "args": SOME_TEXT}]),
                "E039",
                ".repliers[0]",
                "title",
            ),
            (
                a_rule(repliers=[{"name": f"{THIS}.NothingToTap", "args": SOME_TEXT}]),
                "E037",
                ".repliers[0]",
                "no choices",
            ),
            (
                a_rule(repliers=[{"name": f"{THIS}.ElevenReplies", "args": SOME_TEXT}]),
                "E037",
                ".repliers[0]",
                "11",
            ),
            (a_rule(repliers=[a_message(buttons=[A_BUTTON] * 4)]), "E039", ".repliers[0]", "buttons"),
            (a_rule(repliers=[a_message(buttons=[A_BUTTON], txt="")]), "E037", ".repliers[0]", "txt"),
            (a_rule(handlers=[]), "W030", "", "neither handlers nor repliers"),
            (a_rule(filters=[{"name": f"{THIS}.PayloadOnly"}]), "W031", ".filters[0]", "never applies"),
            (
                a_rule(filters=[{"name": "djmessenger.filtering.SimpleTextRegexFilter"}]),
                "W031",
                ".filters[0]",
                "no regular expression",
            ),
            ("rule", "E031", "", "dict"),
        ],
    )
    def test_each_mistake_has_its_place_and_a_sentence(self, rule, id_, position, says):
        ok = a_rule()
        (problem,) = problems_of(ok, rule)
        assert problem.id == id_
        assert problem.position == f"rules[1]{position}"
        assert says in str(problem)
        assert problem.docs.startswith("policy.html#")
        if problem.is_error:
            with pytest.raises(InvalidPolicy) as error:
                Policy.from_dict({"rules": [ok, rule]})
            assert error.value.problems == [problem]
            assert isinstance(error.value, DJMInvalidConfigException)

    def test_every_mistake_is_reported(self):
        found = problems_of(
            a_rule(type="NO"), a_rule(filters=[{"name": "no.such"}, {"name": f"{THIS}.Note"}], stpo=True)
        )
        assert [problem.id for problem in found] == ["E033", "E032", "E035", "E036"]

    def test_a_second_default(self):
        (problem,) = problems_of(a_rule(type="DEFAULT"), a_rule(type=["READ", "DEFAULT"]))
        assert (problem.id, problem.position) == ("E034", "rules[1]")

    def test_rule_objects_are_examined_too(self):
        policy = Policy(
            [Rule("NO_SUCH_TYPE", handlers=[Note([], "")]), Rule("IMAGE", filters=[Note([], "")])]
        )
        assert [problem.id for problem in policy.problems()] == ["E033", "E031", "W030"]
        with pytest.raises(InvalidPolicy):
            policy.decide(said("hi"))

    @pytest.mark.parametrize(
        "source", [None, 3, "", "no/such/file.json", [], {}, {"rules": {}}, {"rules": 3}]
    )
    def test_a_source_that_is_no_policy_is_reported(self, source):
        assert [problem.id for problem in Policy.problems_of(source)] == ["E030"]

    def test_a_file(self, tmp_path):
        path = tmp_path / "policy.json"
        path.write_text(json.dumps({"rules": [a_rule()]}))
        assert [item.name for item in Policy.load(path).rules] == ["one"]
        assert [item.name for item in Policy.from_file(str(path)).rules] == ["one"]
        path.write_text("{")
        with pytest.raises(InvalidPolicy, match=r"policy\.json"):
            Policy.from_file(path)

    def test_nesting_has_an_end(self):
        entry = {"name": f"{THIS}.Ask"}
        for _ in range(1000):
            entry = {"not": entry}
        (problem,) = problems_of(a_rule(filters=[entry]))
        assert problem.id == "E031"


NAMES = [
    "djmessenger.filtering.LocationFilter",
    f"{THIS}.Picky",
    f"{THIS}.answer",
    "x.y",
    "os.path",
    "os.getcwd",
    "",
]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(NAMES)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "args", "all", "any", "not", "word", "_built", "json", "__class__"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
rule_like = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["SIMPLE_TEXT", "DEFAULT", "FALLBACK", "members", ["IMAGE"]]) | anything,
        "name": st.text(max_size=5) | anything,
        "filters": st.lists(anything, max_size=3) | anything,
        "handlers": st.lists(anything, max_size=3) | anything,
        "repliers": anything,
        "stop": st.booleans() | anything,
        "other": anything,
    },
)


class TestAnyObject:
    def test_a_filter_that_cannot_say_what_it_passes(self):
        class Odd(Ask):
            def types(self):
                raise RuntimeError("odd on purpose")

        (problem,) = Policy([Rule("READ", filters=[Odd()], handlers=[Note([], "")])]).problems()
        assert problem.id == "E037"

    @pytest.mark.parametrize("thing", [None, 3, "x", object(), Ask, Ask(), passes, [[]], {1: 2}])
    def test_problems_is_total(self, thing):
        for policy in (
            Policy([thing]),
            Policy([Rule(thing)]),
            Policy([Rule("READ", thing, thing, thing, thing)]),
            Policy([Rule("READ", filters=[thing], handlers=[thing], repliers=[thing], stop=thing)]),
        ):
            assert policy.problems()


class TestAnyJson:
    @given(anything | st.fixed_dictionaries({"rules": st.lists(rule_like | anything, max_size=4) | anything}))
    def test_nothing_but_our_exceptions(self, data):
        found = Policy.problems_of(data)
        before = copy.deepcopy(data)
        try:
            policy = Policy.get_instance(data)
            policy.decide(said("hi"))
        except DJMException:
            assert isinstance(data, (str, bytes)) or any(problem.is_error for problem in found)
        else:
            assert isinstance(data, (str, bytes)) or not any(problem.is_error for problem in found)
        assert repr(data) == repr(before)


class TestDocumented:
    def test_the_constructors_share_nothing(self):
        Policy().rules.append(Rule("READ"))
        Rule("READ").filters.append(Ask())
        assert Policy().rules == []
        assert Rule("READ").filters == []

    def test_a_rule_made_with_its_constructor_gives_its_type(self):
        assert Rule("READ").get_receiving_type() is ReceivingType.READ
        assert Rule(ReceivingType.READ).get_receiving_type() is ReceivingType.READ
        with pytest.raises(DJMInvalidConfigException):
            Rule("NOPE").get_receiving_type()

    def test_nested_filters(self):
        data = {
            "rules": [
                a_rule(
                    filters=[
                        {
                            "any": [
                                {"name": f"{THIS}.Is", "args": {"literal": "hi"}},
                                {"not": {"name": f"{THIS}.passes"}},
                            ]
                        }
                    ]
                )
            ]
        }
        policy = Policy.get_instance(data)
        assert policy.decide(said("hi")).applied
        assert not policy.decide(said("hello")).applied
        assert policy.json()["rules"][0]["filters"] == data["rules"][0]["filters"]

    def test_the_instances_are_made_once(self):
        policy = Policy.get_instance({"rules": [a_rule(filters=[{"name": f"{THIS}.Ask"}])]})
        rule = policy.rules[0]
        assert rule.get_filter_instances()[0] is rule.get_filter_instances()[0]
        assert rule.get_filter_wrappers()[0].get_class() is Ask
        assert rule.get_filter_wrappers()[0].get_args() == {}

    @pytest.mark.parametrize("data", [DJM_DEFAULT_ROUTING_POLICY, RUNNABLE_ROUTING_POLICY])
    def test_the_samples_are_without_mistakes_and_survive_json(self, data):
        assert Policy.problems_of(data) == []
        policy = Policy.get_instance(json.dumps(data))
        assert policy.problems() == []
        assert [item.name for item in policy.rules] == [item["name"] for item in data["rules"]]
        assert Policy.get_instance(policy.serialize()) == policy


IN_2016 = 1_460_000_000_000


@pytest.fixture
def conversation(db, settings):
    settings.DJM_SAVE_USER_PROFILE = False
    page = models.Page.objects.create(page_id="2002")
    person = models.FBUserProfile.objects.create(psid="1001", page=page, locale="en_US")
    return models.Conversation.objects.create(page=page, person=person)


@pytest.fixture
def sample():
    handling.handled.clear()
    return Policy.get_instance(DJM_DEFAULT_ROUTING_POLICY)


class TestSamplePolicyRunsWhole:
    """The documented sample, as printed, with the classes that its project brings."""

    def run(self, policy, conversation, timestamp=IN_2016, **parts):
        messaging = Messaging.from_item(
            {"sender": {"id": "1001"}, "recipient": {"id": "2002"}, "timestamp": timestamp, **parts},
            entry_id="2002",
        )
        messaging.bind(conversation=conversation, person=conversation.person, page=conversation.page)
        outcome = policy.route(messaging)
        replies = models.Reply.objects.order_by("pk")
        return outcome, [(reply.rule, reply.type, reply.data["message"]) for reply in replies]

    def test_hi(self, sample, conversation):
        outcome, replies = self.run(sample, conversation, message={"mid": "m", "text": "hi"})
        assert outcome.applied == ["Hi Rule"]
        assert outcome.messages == 1
        assert replies == [("Hi Rule", "simple_text", {"text": "Hi you, too!"})]
        assert models.Messaging.objects.filter(is_kept=True).count() == 1

    def test_a_rule_does_not_answer_outside_its_period(self, sample, conversation):
        outcome, replies = self.run(sample, conversation, timestamp=NOW, message={"mid": "m", "text": "hi"})
        assert outcome.refused
        assert replies == []
        assert models.Messaging.objects.count() == 0

    def test_hello_in_chinese(self, sample, conversation):
        _, replies = self.run(sample, conversation, message={"mid": "m", "text": "你好"})
        assert [message for _, _, message in replies] == [{"text": "Hello to you, too!"}]

    def test_a_thumb_up_counts_and_is_thanked_for(self, sample, conversation):
        _, replies = self.run(sample, conversation, message={"mid": "m", "sticker_id": 369239263222822})
        assert [kind for _, kind, _ in replies] == ["simple_text", "image"]
        conversation.person.refresh_from_db()
        assert conversation.person.thumbups == 1

    def test_buttons(self, sample, conversation):
        _, [(rule, kind, message)] = self.run(sample, conversation, message={"mid": "m", "text": "buttons"})
        assert (rule, kind) == ("buttons Rule", "button")
        titles = [button["title"] for button in message["attachment"]["payload"]["buttons"]]
        assert titles == ["button 1", "button 2"]

    def test_a_location_is_stored(self, sample, conversation):
        place = {"type": "location", "payload": {"coordinates": {"lat": 48.2, "long": 16.37}}}
        outcome, replies = self.run(sample, conversation, message={"mid": "m", "attachments": [place]})
        assert outcome.applied == ["Location Rule"]
        assert replies == []
        assert float(models.UserLocation.objects.get().latitude) == pytest.approx(48.2)

    def test_the_menu_then_a_quick_reply(self, sample, conversation):
        payload = PersistentMenuOnePayload().serialize()
        _, replies = self.run(sample, conversation, postback={"title": "Help", "payload": payload})
        assert [kind for _, kind, _ in replies] == ["simple_text", "quick_reply"]
        tapped = replies[1][2]["quick_replies"][0]
        assert tapped["title"] == "qr 1"
        models.Reply.objects.all().delete()
        _, replies = self.run(
            sample,
            conversation,
            message={"mid": "m", "text": "qr 1", "quick_reply": {"payload": tapped["payload"]}},
        )
        assert handling.handled == ["qr payload 1"]
        assert [message for _, _, message in replies] == [{"text": "Thanks for the quick reply"}]


def test_a_pipe_in_the_place_of_a_file_is_refused(tmp_path):
    path = tmp_path / "policy.json"
    os.mkfifo(path)
    with pytest.raises(InvalidPolicy, match="no regular file"):
        Policy.load(str(path))
    with pytest.raises(DJMInvalidConfigException, match="no regular file"):
        read_declaration(path)


def test_one_message_and_one_rule_are_singular():
    assert "1 more rule needs" in explained({"skipped": 1})
    assert as_tree({"skipped": 1}).notes == [
        "1 more rule of this type was not checked: it needs another text or payload."
    ]
    outcome = Policy([Rule("SIMPLE_TEXT", "greet")]).decide(said("hi")).outcome
    outcome.rules[0].steps.append(Step("handler", "greet", messages=1))
    assert " 1 message," in outcome.summary()
