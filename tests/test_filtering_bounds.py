"""Filters with bounds: patterns under a time limit, periods, times of day."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from djmessenger import models
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.filtering import (
    DailyTimeRangeFilter,
    DatetimeRangeFilter,
    PatternFilter,
    SimpleTextRegexFilter,
    TimeFilter,
    patterns,
)
from djmessenger.filtering.patterns import timeouts
from djmessenger.receiving import Messaging
from djmessenger.routing import Policy, Rule
from tests.events import (
    PERSON,
    SENT,
    event,
    passed_kinds,
    quick_reply,
    text,
)

NAIVE = datetime.datetime(2010, 1, 1)  # noqa: DTZ001 - what must be refused
EVIL = r"(a|a)*$"


class TestPatterns:
    def test_searches_and_leaves_anchors_to_the_author(self) -> None:
        assert SimpleTextRegexFilter("lo").should_pass(text("hello"))
        assert not SimpleTextRegexFilter("^lo").should_pass(text("hello"))
        assert SimpleTextRegexFilter(regex="^你好$").should_pass(text("你好"))

    def test_no_text_is_no_match_and_no_error(self) -> None:
        assert passed_kinds(SimpleTextRegexFilter("")) == {"text", "quick reply"}
        assert passed_kinds(SimpleTextRegexFilter("ORDER")) == set()

    def test_without_a_pattern_nothing_passes(self) -> None:
        assert SimpleTextRegexFilter().regex is None
        assert passed_kinds(SimpleTextRegexFilter()) == set()

    def test_captured_groups_land_in_the_context(self) -> None:
        messaging = text("order 12 of tea please")
        assert SimpleTextRegexFilter(r"order (?P<number>\d+) of (\w+)").should_pass(messaging)
        assert messaging.context == {"match": "order 12 of tea", "groups": ("12", "tea"), "number": "12"}

    def test_pattern_filter_is_for_typed_texts_alone(self) -> None:
        assert PatternFilter("Tap").should_pass(text("Tap"))
        assert not PatternFilter("Tap").should_pass(quick_reply("X"))
        assert SimpleTextRegexFilter("Tap").should_pass(quick_reply("X"))

    @pytest.mark.parametrize("wrong", ["(", "a{2,1}", "[z-a]", "(?P<a>.)(?P<a", 3, []])
    def test_a_bad_pattern_fails_at_construction(self, wrong: Any) -> None:
        with pytest.raises(DJMInvalidConfigException, match="pattern"):
            SimpleTextRegexFilter(wrong)

    def test_only_the_first_2000_characters_are_seen(self) -> None:
        assert SimpleTextRegexFilter("b").should_pass(text("a" * 1999 + "b"))
        assert not SimpleTextRegexFilter("b").should_pass(text("a" * 2000 + "b"))

    @pytest.mark.parametrize(
        ("pattern", "length", "has_clock"),
        [
            (r"^say (?P<words>.*)$", 2000, False),
            (r"(?i)\b(?:order|buy) (\d+)[.!]?", 8, False),
            (r"[^ ]+@[\w.]+\.com", 20, False),
            (r"[^ ]+@[\w.]+\.com", 200, True),
            (r"(a|a)?b", 100, False),
            (r".*.*.*x", 500, True),
            (r"(a|a)*b", 1, True),
            (r"(?:a+)+b", 1, True),
            (r"(a*){2}b", 1, True),
            (r"a*+b", 1, True),
            (r"(?=a+)a+b", 1, True),
            (r"(a+)\1b", 1, True),
            (r"(?P<a>a+)(?P=a)b", 1, True),
            (r"(?:a){e<=2}", 1, True),
            (r"(?r)a+b", 1, True),
            (r"[[a]b]", 1, True),
        ],
    )
    def test_only_a_search_that_may_take_long_has_a_clock(
        self, pattern: str, length: int, has_clock: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[bool] = []

        class Expression:
            def search(self, text: str, timeout: float | None = None) -> None:
                seen.append(timeout is not None)

        monkeypatch.setattr(patterns.regex, "compile", lambda pattern: Expression())
        patterns._for_regex(pattern)("a" * length)
        with override_settings(DJM_REGEX_TIMEOUT=1e-9):
            patterns._for_regex(pattern)("a" * length)
        assert seen == [has_clock, True]

    @given(
        parts=st.lists(
            st.sampled_from(
                [
                    "a",
                    ".",
                    "[ab]",
                    "\\w",
                    "a*",
                    "a+",
                    ".*",
                    ".+?",
                    "[ab]{1,9}",
                    "(a|b)",
                    "(?:a*|b)",
                    "(a+)?",
                    "b",
                    "x",
                ]
            ),
            min_size=1,
            max_size=8,
        ),
        anchor=st.sampled_from(["", "^", "(?i)"]),
        text=st.text("ab", max_size=60),
    )
    def test_a_search_without_a_clock_ends_far_within_the_limit(
        self, parts: list[str], anchor: str, text: str
    ) -> None:
        count_steps = patterns.step_count(pattern := anchor + "".join(parts))
        assert count_steps is not None
        if count_steps(len(text)) <= 0.05 * patterns._STEPS_PER_SECOND:
            # The time of the process, so a busy machine does not count.
            patterns.regex.compile(pattern).search(text, timeout=1.0)

    @override_settings(DJM_REGEX_TIMEOUT=0.001)
    def test_regular_expressions_run_with_a_limit(self, caplog: pytest.LogCaptureFixture) -> None:
        before = timeouts[EVIL]
        item = SimpleTextRegexFilter(EVIL)
        messaging = text("a" * 1500 + "b" + "secret")
        with caplog.at_level(logging.WARNING, "djmessenger.filtering"):
            verdict = item.check(messaging)
        assert not verdict.passed
        assert "time limit" in verdict.error
        assert not item.should_pass(messaging)
        assert not (~item).should_pass(messaging)
        assert timeouts[EVIL] == before + 3
        record = caplog.records[0]
        assert (record.name, record.__dict__["action"]) == ("djmessenger.filtering", "pattern_timeout")
        assert "secret" not in caplog.text

    @override_settings(DJM_REGEX_ENGINE="re2")
    def test_re2_is_an_engine(self) -> None:
        pytest.importorskip("re2", reason="an extra that not every platform has")
        item = SimpleTextRegexFilter(r"^order (?P<number>\d+)$")
        messaging = text("order 7")
        assert item.should_pass(messaging)
        assert messaging.context == {"match": "order 7", "groups": ("7",), "number": "7"}
        assert not SimpleTextRegexFilter(EVIL + "^").should_pass(text("a" * 2000 + "b"))
        assert SimpleTextRegexFilter("^a").should_pass(event(message={"mid": "m", "text": "a\ud800"}))
        with pytest.raises(DJMInvalidConfigException, match="lookaround"):
            SimpleTextRegexFilter("(?=a)")

    @override_settings(DJM_REGEX_ENGINE="re2")
    def test_a_missing_engine_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(patterns, "re2", None)
        with pytest.raises(DJMInvalidConfigException, match="google-re2"):
            SimpleTextRegexFilter("never compiled before")

    @override_settings(DJM_REGEX_ENGINE="re")
    def test_an_unknown_engine_is_refused(self) -> None:
        with pytest.raises(DJMInvalidConfigException, match="DJM_REGEX_ENGINE"):
            SimpleTextRegexFilter("a")

    def test_a_subclass_of_2016_without_the_constructor(self) -> None:
        class Mine(SimpleTextRegexFilter):
            def __init__(self) -> None:
                self.regex = "^a"

        assert Mine().should_pass(text("abc"))

    def test_a_subclass_that_overrides_should_pass_is_asked(self) -> None:
        class Longer(SimpleTextRegexFilter):
            def should_pass(self, messaging: Messaging) -> bool:
                return super().should_pass(messaging) and len(messaging.text) > 3

        item = Longer("^hi$")
        assert not item.should_pass(text("hi"))
        assert not item.check(text("hi")).passed
        assert item.literals() is None

    @given(st.text(max_size=30), st.text(max_size=30))
    def test_never_raises(self, pattern: str, typed: str) -> None:
        try:
            item = SimpleTextRegexFilter(pattern)
        except DJMInvalidConfigException:
            return
        assert item.should_pass(text(typed)) in {True, False}


class TestTimes:
    @staticmethod
    def bound(moment: datetime.datetime) -> str:
        return moment.strftime(TimeFilter.FORMAT)

    def test_the_documented_form(self) -> None:
        assert TimeFilter.FORMAT == "%Y-%m-%dT%H:%M:%SZ%z"
        item = TimeFilter("2016-1-1T00:00:00Z-0800", end_time="2017-1-1T01:00:00Z-0800")
        assert item.should_pass(text("hi"))
        assert not item.should_pass(event(1483261200001, message={"text": "hi", "mid": "m"}))
        assert item.should_pass(event(1483261200000, message={"text": "hi", "mid": "m"}))
        assert (item.start_time, item.end_time) == ("2016-1-1T00:00:00Z-0800", "2017-1-1T01:00:00Z-0800")

    def test_the_later_name(self) -> None:
        assert DatetimeRangeFilter is TimeFilter

    def test_iso_8601_and_datetimes_will_do(self) -> None:
        assert TimeFilter("2016-11-11T23:43:12+00:00", "2016-11-11T23:43:12Z").should_pass(text("hi"))
        noon = datetime.datetime(2016, 11, 11, 12, tzinfo=datetime.UTC)
        assert TimeFilter(noon, noon + datetime.timedelta(hours=12)).should_pass(text("hi"))

    @pytest.mark.parametrize("wrong", ["", "soon", "2016-1-1", "2016-01-01T00:00:00", None, 5, [], NAIVE])
    def test_malformed_bounds_fail_at_construction_and_never_open(self, wrong: Any) -> None:
        with pytest.raises(DJMInvalidConfigException, match="2016-1-1T00:00:00Z-0800"):
            TimeFilter("2016-1-1T00:00:00Z-0800", wrong)
        with pytest.raises(DJMInvalidConfigException):
            TimeFilter.deserialize({"start_time": wrong, "end_time": "2017-1-1T00:00:00Z-0800"})

    def test_a_missing_bound_and_a_period_that_ends_first_are_refused(self) -> None:
        with pytest.raises(DJMInvalidConfigException, match="needs end_time"):
            TimeFilter.deserialize({"start_time": "2016-1-1T00:00:00Z-0800"})
        with pytest.raises(DJMInvalidConfigException, match="before it starts"):
            TimeFilter("2017-1-1T00:00:00Z-0800", "2016-1-1T00:00:00Z-0800")

    @pytest.mark.parametrize("timestamp", [None, 10**30, -(10**30), "soon", float("nan"), True])
    def test_without_a_time_nothing_passes(self, timestamp: Any) -> None:
        messaging = text("hi")
        messaging.timestamp = timestamp
        assert not TimeFilter("0001-01-02T00:00:00Z", "9999-12-30T00:00:00Z").should_pass(messaging)
        assert not DailyTimeRangeFilter("00:00", "24:00", "UTC").should_pass(messaging)

    @given(
        st.datetimes(NAIVE, NAIVE.replace(year=2040)),
        st.integers(-(10**6), 10**6),
    )
    def test_a_period_holds_what_lies_in_it(self, naive: datetime.datetime, seconds: int) -> None:
        start = naive.replace(tzinfo=datetime.UTC, microsecond=0)
        end = start + datetime.timedelta(days=3)
        moment = start + datetime.timedelta(seconds=seconds)
        messaging = event(int(moment.timestamp() * 1000), message={"text": "hi", "mid": "m"})
        item = TimeFilter(self.bound(start), self.bound(end))
        assert item.should_pass(messaging) == (start <= moment <= end)

    @pytest.mark.parametrize(
        ("start", "end", "zone", "expected"),
        [
            ("23:43", "23:44", "UTC", True),
            ("23:44", "23:43", "UTC", False),
            ("22:00", "06:00", "UTC", True),
            ("06:00", "22:00", "UTC", False),
            ("00:00", "01:00", "Europe/Vienna", True),
            ("15:43:12", "15:43:13", -8, True),
            ("15:43:13", "15:43:12", -8, False),
            ("05:13", "05:14", 5.5, True),
            ("00:00", "24:00", "UTC", True),
            ("18:00", "00:00", "UTC", True),
            (datetime.time(23), datetime.time(23, 59), datetime.UTC, True),
        ],
    )
    def test_daily_range_looks_at_the_message_across_midnight(
        self, start: Any, end: Any, zone: Any, expected: bool
    ) -> None:
        assert DailyTimeRangeFilter(start, end, zone).should_pass(text("hi")) is expected

    @given(*[st.integers(0, 24 * 60 - 1)] * 3)
    def test_a_daily_range_and_its_reverse_share_the_day(self, start: int, end: int, minute: int) -> None:
        if start == end:
            return
        first, last = (f"{value // 60:02}:{value % 60:02}" for value in (start, end))
        messaging = event(SENT - SENT % 86_400_000 + minute * 60_000, message={"text": "hi", "mid": "m"})
        one = DailyTimeRangeFilter(first, last, "UTC").should_pass(messaging)
        other = DailyTimeRangeFilter(last, first, "UTC").should_pass(messaging)
        assert one != other
        if start < end:
            assert one == (start <= minute < end)

    @pytest.mark.parametrize(
        "wrong",
        [
            ("25:00", "26:00"),
            ("9", "10"),
            ("", "10:00"),
            (900, 1000),
            ("09:00", "09:00"),
            ("24:00", "00:00"),
            ("09:00", "10:00", "Mars/Olympus"),
            ("09:00", "10:00", 30),
            ("09:00", "10:00", True),
            ("09:00", "10:00", ""),
            ("09:00", "10:00", "../etc/passwd"),
        ],
    )
    def test_a_malformed_daily_range_is_refused(self, wrong: tuple[Any, ...]) -> None:
        with pytest.raises(DJMInvalidConfigException):
            DailyTimeRangeFilter(*wrong)

    @pytest.mark.django_db
    def test_the_time_zone_is_the_persons_else_the_projects(self) -> None:
        person = models.FBUserProfile.objects.create(psid=PERSON, timezone=-8)
        morning = DailyTimeRangeFilter("15:00", "16:00")
        assert morning.should_pass(text("hi"))
        bound = text("hi")
        bound.bind(person=models.FBUserProfile(psid=PERSON, timezone=5.5))
        assert not morning.should_pass(bound)
        models.FBUserProfile.objects.filter(pk=person.pk).update(timezone=None)
        assert not morning.should_pass(text("hi"))
        with override_settings(TIME_ZONE="America/Los_Angeles"):
            assert morning.should_pass(text("hi"))
        bound.bind(person=models.FBUserProfile(psid=PERSON, timezone=99))
        assert DailyTimeRangeFilter("23:00", "24:00").should_pass(bound)


def test_a_thread_that_waited_its_turn_has_not_run_out_of_time(monkeypatch):
    """The engine's clock runs for all threads; on a busy machine it ends a search that has hardly begun."""

    class Busy:
        goes = 0

        def search(self, text, timeout):
            self.goes += 1
            if self.goes < 3:
                raise TimeoutError
            return "found"

    monkeypatch.setattr(patterns.regex, "compile", lambda *args, **kwargs: Busy())
    monkeypatch.setattr(patterns.time, "thread_time", lambda: 0.0)
    assert patterns._for_regex("(a)*b")("axb") == "found"


class TestPatternsThatTakeTooLong:
    @pytest.fixture(autouse=True)
    def fresh(self) -> Iterator[None]:
        for kept in (patterns._switched_off, patterns._ended_in_time, patterns.timeouts):
            kept.clear()
        yield
        patterns._switched_off.clear()

    @override_settings(DJM_REGEX_TIMEOUT=0.001)
    def test_a_pattern_that_never_ends_in_time_is_switched_off_with_one_line(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        item, messaging = SimpleTextRegexFilter(EVIL), text("a" * 1500 + "b")
        for _ in range(30):
            assert not item.check(messaging).passed
        actions = [record.__dict__["action"] for record in caplog.records]
        assert actions.count("pattern_off") == 1
        assert len(actions) == timeouts[EVIL] == patterns._MOST_TIMEOUTS
        assert "switched off" in item.check(messaging).error

    @override_settings(DJM_REGEX_TIMEOUT=0.001)
    def test_a_pattern_that_ended_in_time_once_is_not_switched_off(self) -> None:
        """A person could otherwise switch it off for all others."""
        item, messaging = SimpleTextRegexFilter(EVIL), text("a" * 1500 + "b")
        assert item.check(text("aaa")).passed
        for _ in range(30):
            assert not item.check(messaging).passed
        assert item.check(text("aaa")).passed

    @override_settings(DJM_REGEX_TIMEOUT=0.01)
    def test_the_patterns_of_an_event_share_their_time(self) -> None:
        evil = [f"{EVIL}{number}" for number in range(40)]
        policy = Policy(
            [Rule("SIMPLE_TEXT", pattern, [SimpleTextRegexFilter(pattern)], [], []) for pattern in evil]
        )
        policy.decide(text("a" * 1500 + "b"))
        assert sum(timeouts[pattern] for pattern in evil) <= 2 * patterns._SHARES
