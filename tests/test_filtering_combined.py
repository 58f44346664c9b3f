"""Filters combined: logic, names, verdicts, and their hints for the index of rules."""

from __future__ import annotations

import json
import string
import sys
import unicodedata
from typing import Any

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from djmessenger import filtering
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.filtering import (
    AttachmentFilter,
    AuthenticationFilter,
    BaseFilter,
    EmailFilter,
    FunctionFilter,
    LanguageFilter,
    LocationFilter,
    MultimediaFilter,
    PatternFilter,
    PostbackFilter,
    ReactionFilter,
    ReferralFilter,
    SimpleTextRegexFilter,
    TappedFilter,
    TextFilter,
    ThumbUpFilter,
    TypeFilter,
    base,
    patterns,
)
from djmessenger.filtering.base import as_filter, literal_key, literal_keys
from djmessenger.receiving import Messaging, ReceivingType
from djmessenger.routing import Policy, Rule, TargetFilterClass
from tests.events import (
    OrderPayload,
    every_kind,
    quick_reply,
    text,
)


class Broken(BaseFilter):
    def should_pass(self, messaging: Messaging) -> bool:
        raise RuntimeError("no")


YES = FunctionFilter(lambda event: True)
NO = FunctionFilter(lambda event: False)


def is_customer(messaging: Messaging) -> dict[str, int]:
    return {"customer": 7}


class TestCombining:
    @given(
        st.recursive(
            st.sampled_from([True, False]),
            lambda inner: st.one_of(
                st.tuples(st.just("~"), inner),
                st.tuples(st.just("&"), inner, inner),
                st.tuples(st.just("|"), inner, inner),
            ),
        )
    )
    def test_combines_as_logic_does(self, tree: Any) -> None:
        def build(node: Any) -> tuple[BaseFilter, bool]:
            if isinstance(node, bool):
                return (YES if node else NO), node
            parts = [build(item) for item in node[1:]]
            if node[0] == "~":
                return ~parts[0][0], not parts[0][1]
            if node[0] == "&":
                return parts[0][0] & parts[1][0], parts[0][1] and parts[1][1]
            return parts[0][0] | parts[1][0], parts[0][1] or parts[1][1]

        item, expected = build(tree)
        assert item.should_pass(text("hi")) is item.check(text("hi")).passed is expected

    def test_names_read_like_what_the_author_typed(self) -> None:
        item = TextFilter("hi", "hello") & (ThumbUpFilter() | ~LanguageFilter("de")) & is_customer
        assert item.describe() == ("text('hi', 'hello') & (ThumbUpFilter() | ~language('de')) & is_customer")
        assert str(~(YES & NO)) == "~(<lambda> & <lambda>)"
        assert str(TappedFilter("A", OrderPayload)) == "tapped('A', OrderPayload)"
        assert str(SimpleTextRegexFilter("^hi$")) == "SimpleTextRegexFilter(regex='^hi$')"

    def test_the_verdict_names_the_operand_that_said_no(self) -> None:
        item = TextFilter("hi") & (TextFilter("ho") | ~TextFilter("hi"))
        verdict = item.check(text("hi"))
        assert not verdict.passed
        assert [child.passed for child in verdict.children] == [True, False]
        assert verdict.culprit.name == "text('ho') | ~text('hi')"
        assert (TextFilter("hi") & ~TextFilter("hi")).check(text("hi")).culprit.name == "~text('hi')"
        assert json.loads(json.dumps(verdict.json()))["children"][1]["children"][1]["children"][0]["passed"]

    def test_operands_after_the_answer_are_not_asked(self) -> None:
        assert len((NO & Broken()).check(text("hi")).children) == 1
        assert len((YES | Broken()).check(text("hi")).children) == 1

    def test_functions_are_filters(self) -> None:
        messaging = text("hi")
        assert (is_customer & TextFilter("hi")).should_pass(messaging)
        assert messaging.context["customer"] == 7
        assert (TextFilter("ho") | is_customer).should_pass(text("hi"))
        assert (is_customer | TextFilter("ho")).should_pass(text("hi"))
        for wrong in (3, "hi", ThumbUpFilter):
            with pytest.raises(TypeError):
                TextFilter("hi") & wrong  # type: ignore[operator]
            with pytest.raises(TypeError):
                as_filter(wrong)  # type: ignore[arg-type]

    def test_a_failing_filter_passes_neither_way_and_is_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        for item in (Broken(), ~Broken(), YES & Broken(), ~(YES & Broken()), NO | Broken(), ~(NO | Broken())):
            verdict = item.check(text("hi"))
            assert not verdict.passed
            assert verdict.error == "RuntimeError: no"
        assert (Broken() | YES).should_pass(text("hi"))
        assert all(record.exc_info for record in caplog.records)
        assert {record.__dict__["action"] for record in caplog.records} == {"filter_failed"}

    def test_captures_of_a_refused_filter_are_dropped(self) -> None:
        for item in (SimpleTextRegexFilter("(?P<a>h)") & NO, ~SimpleTextRegexFilter("(?P<a>h)")):
            messaging = text("hi")
            messaging.context["mine"] = 1
            assert not item.should_pass(messaging)
            assert messaging.context == {"mine": 1}

    def test_filters_serialize_as_a_policy_writes_them(self) -> None:
        item = (SimpleTextRegexFilter("^hi$") | ThumbUpFilter()) & ~FunctionFilter(is_customer)
        assert item.json() == {
            "all": [
                {
                    "any": [
                        {"name": "djmessenger.filtering.SimpleTextRegexFilter", "args": {"regex": "^hi$"}},
                        {"name": "djmessenger.filtering.ThumbUpFilter"},
                    ]
                },
                {"not": {"name": "tests.test_filtering_combined.is_customer"}},
            ]
        }

    def test_a_wrong_argument_of_a_policy_is_refused(self) -> None:
        with pytest.raises(DJMInvalidConfigException, match="did you mean 'regex'"):
            SimpleTextRegexFilter.deserialize({"regx": "^hi$"})
        with pytest.raises(DJMInvalidConfigException, match="no argument 'should_pass'"):
            ThumbUpFilter.deserialize({"should_pass": 1})
        assert SimpleTextRegexFilter.deserialize({"regex": "^hi$"}) == SimpleTextRegexFilter("^hi$")

    def test_the_documented_path_is_the_name(self) -> None:
        for name in filtering.__all__:
            found = getattr(filtering, name)
            if isinstance(found, type):
                assert found.__module__ == "djmessenger.filtering"


SAMPLES: list[BaseFilter] = [
    MultimediaFilter(), LocationFilter(), PostbackFilter(), AuthenticationFilter(), ThumbUpFilter(),
    TappedFilter(), TappedFilter("order"), TappedFilter("GET_STARTED"), TappedFilter(OrderPayload),
    TextFilter("hello"), TextFilter("Order", "tap"), PatternFilter("^hello$"), SimpleTextRegexFilter("^tap$"),
    SimpleTextRegexFilter("(?i)^(HELLO|x)$"), ReactionFilter(), ReferralFilter(), TypeFilter("ANY"),
    TypeFilter("READ", "IMAGE"), EmailFilter(), AttachmentFilter(), YES, NO,
]  # fmt: skip


class TestIndex:
    @given(
        st.recursive(
            st.sampled_from(SAMPLES),
            lambda inner: st.one_of(
                inner.map(lambda item: ~item),
                st.tuples(inner, inner).map(lambda pair: pair[0] & pair[1]),
                st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
            ),
            max_leaves=5,
        )
    )
    def test_types_and_literals_never_lose_a_match(self, item: BaseFilter) -> None:
        types, literals = item.types(), item.literals()
        for messaging in every_kind().values():
            if item.should_pass(messaging):
                assert types is None or messaging.type in types
                assert literals is None or literals & literal_keys(messaging)

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("^hi$", {"hi"}),
            (r"\Ahi\Z", {"hi"}),
            ("(?i)^Hi There$", {"hi there"}),
            ("^(hi|Hello)$", {"hi", "hello"}),
            ("^(?:hi|ho)$", {"hi", "ho"}),
            (r"^what\?$", {"what?"}),
            ("^你好$", {"你好"}),
            ("hi", None),
            ("^hi", None),
            ("^h.$", None),
            ("^hi|ho$", None),
            ("^(a)|(b)$", None),
            (r"^(hi\|ho)$", None),
            (r"^\d$", None),
            (r"^hi\$", None),
            ("(?m)^hi$", None),
            ("(?i)^straße$", None),
            ("^(?P<a>hi)$", None),
            ("^" + "a" * 501 + "$", None),
            ("$", None),
            (None, None),
        ],
    )
    def test_literals_of_patterns(self, pattern: str | None, expected: set[str] | None) -> None:
        found = SimpleTextRegexFilter(pattern).literals()
        assert found == (None if expected is None else frozenset(expected))

    @given(
        st.text(st.sampled_from("ab iIkKsS?.\\ \n$^(|)ßéİıſK"), max_size=8),
        st.text(st.sampled_from("ab iIkKsS?. \nßéİıſK"), max_size=4),
        st.booleans(),
    )
    def test_no_text_that_matches_lacks_the_literal(self, literal: str, typed: str, ignore: bool) -> None:
        pattern = f"{'(?i)' if ignore else ''}^{regex.escape(literal)}$"
        literals = patterns.literals_of(pattern)
        if literals is None:
            return
        keys = {literal_key(item) for item in literals}
        for candidate in (typed, literal, literal + "\n", literal.swapcase()):
            if regex.search(pattern, candidate):
                assert literal_key(candidate) in keys

    def test_engines_fold_no_ascii_letter_further_than_the_key(self) -> None:
        cased = "".join(chr(code) for code in range(0x2FFF) if chr(code).lower() != chr(code).upper())
        for letter in string.ascii_letters:
            for found in regex.findall(f"(?i){letter}", cased):
                assert literal_key(found) == literal_key(letter)

    def test_combined_types(self) -> None:
        both = TextFilter("hi") | TappedFilter("HI")
        assert both.types() == {ReceivingType.SIMPLE_TEXT} | TappedFilter().types()  # type: ignore[operator]
        assert both.literals() == {"hi"}
        assert (TextFilter("hi") & YES).types() == {ReceivingType.SIMPLE_TEXT}
        assert (TextFilter("hi") | YES).types() is None
        assert (~TextFilter("hi")).types() is None
        assert (~TextFilter("hi")).literals() is None


ODD = (
    "aI\u0130\u0131 \t\u3000\u2019\u201c\u200d\ufe0f\u00ad\u0307\u0301\u0316"
    "\uff21\ufdfa\u1100\u1161\u11a8\u00df\U0001f468"
)
"""Characters that folding removes, replaces, moves, joins or expands."""


class Counted:
    """``unicodedata`` that counts the characters it normalises."""

    def __init__(self) -> None:
        self.characters = 0

    def normalize(self, form: Any, text: str) -> str:
        self.characters += len(text)
        return unicodedata.normalize(form, text)


class TestLongTexts:
    @given(st.text(ODD, min_size=1, max_size=30), st.integers(1, 2000))
    def test_up_to_the_bound_the_key_is_that_without_a_bound(self, part: str, length: int) -> None:
        typed = (part * length)[:length]
        bounded = literal_key(typed)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(base, "MAX_LENGTH", sys.maxsize)
            base._folded.cache_clear()
            assert literal_key(typed) == bounded

    def test_a_longer_text_equals_the_same_text_only(self) -> None:
        assert TextFilter("hi").should_pass(text("hi" + " " * 1998))
        assert not TextFilter("hi").should_pass(text("hi" + " " * 1999))
        assert TextFilter("A" * 3000).should_pass(text("A" * 3000))
        assert not TextFilter("A" * 3000).should_pass(text("a" * 3000))
        payload = TappedFilter("A" * 3000)
        assert payload.should_pass(quick_reply("A" * 3000))
        assert payload.literals() == literal_keys(quick_reply("A" * 3000)) - {literal_key("Tap")}

    @pytest.mark.parametrize("is_payload", [False, True], ids=["text", "payload"])
    @pytest.mark.parametrize("length", [2000, 300_000])
    def test_rules_read_a_bounded_part_once(self, length: int, is_payload: bool, monkeypatch: Any) -> None:
        counted = Counted()
        monkeypatch.setattr(base, "unicodedata", counted)
        base._folded.cache_clear()
        messaging = (quick_reply if is_payload else text)("\ufdfa" * length)
        words = [TextFilter(f"word {number}") for number in range(50)]
        taps = [TappedFilter(f"PAYLOAD {number}") for number in range(50)]
        rules = [Rule("ANY", str(item), [TargetFilterClass.wrap(item)]) for item in (*words, *taps)]
        Policy(rules).decide(messaging)
        for item in (*words, *taps):
            assert not item.should_pass(messaging)
        # U+FDFA becomes 18 characters, and the fold normalises twice.
        assert counted.characters <= 2000 * (1 + 18)


def test_a_text_beside_a_filter_is_refused_with_what_to_write():
    for combine in (lambda: TextFilter("hi") | "hello", lambda: TextFilter("hi") & "hello"):  # type: ignore[operator]
        with pytest.raises(TypeError, match=r"'hello' is a text, not a filter; write text\('hello'\)"):
            combine()
