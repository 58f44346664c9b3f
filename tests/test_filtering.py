"""Filters: each documented behaviour, each fault of the package of 2016, and how filters combine."""

from __future__ import annotations

import datetime
import json
import logging
import string
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import regex
from django.test import override_settings
from django.utils import translation
from django.utils.functional import Promise, lazystr
from hypothesis import given
from hypothesis import strategies as st

from djmessenger import filtering, models
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.filtering import (
    AttachmentFilter,
    AuthenticationFilter,
    BaseFilter,
    DailyTimeRangeFilter,
    DatetimeRangeFilter,
    EmailFilter,
    FunctionFilter,
    LanguageFilter,
    LocationFilter,
    MultimediaFilter,
    PageFilter,
    PatternFilter,
    PostbackFilter,
    ReactionFilter,
    ReferralFilter,
    SimpleTextRegexFilter,
    StateFilter,
    StickerFilter,
    TappedFilter,
    TextFilter,
    ThumbUpFilter,
    TimeFilter,
    TypeFilter,
    literal_key,
    literal_keys,
    patterns,
)
from djmessenger.payload import GetStartedPayload, Payload
from djmessenger.receiving import Messaging, ReceivingType
from djmessenger.utils.utils import LocalizedString

SENT = 1478907792000  # 2016-11-11 23:43:12 UTC
PAGE, PERSON = "900", "111"
NAIVE = datetime.datetime(2010, 1, 1)  # noqa: DTZ001 - what must be refused
EVIL = r"(a|a)*$"


class OrderPayload(Payload):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class GiftPayload(OrderPayload):
    pass


def event(timestamp: Any = SENT, **parts: Any) -> Messaging:
    raw = {"sender": {"id": PERSON}, "recipient": {"id": PAGE}, "timestamp": timestamp, **parts}
    return Messaging.from_item(raw, entry_id=PAGE)


def text(typed: str, **message: Any) -> Messaging:
    return event(message={"mid": "m_1", "text": typed, **message})


def attached(kind: str, payload: Any = None, **message: Any) -> Messaging:
    return event(message={"mid": "m_1", "attachments": [{"type": kind, "payload": payload or {}}], **message})


def sticker(sticker_id: str | int) -> Messaging:
    return attached("sticker", {"url": "https://example.com/s.png", "sticker_id": sticker_id})


def quick_reply(payload: str, title: str = "Tap") -> Messaging:
    return text(title, quick_reply={"payload": payload})


def postback(payload: str) -> Messaging:
    return event(postback={"title": "Tap", "payload": payload})


EVERY_KIND: dict[str, Messaging] = {
    "text": text("hello"),
    "empty text": text(""),
    "quick reply": quick_reply("ORDER"),
    "postback": postback("ORDER"),
    "get started": postback(GetStartedPayload().serialize()),
    "sticker": sticker("369239263222822"),
    "image": attached("image", {"url": "https://example.com/a.png"}),
    "audio": attached("audio", {"url": "https://example.com/a.mp3"}),
    "video": attached("video", {"url": "https://example.com/a.mp4"}),
    "file": attached("file", {"url": "https://example.com/a.pdf"}),
    "location": attached("location", {"coordinates": {"lat": 48.2, "long": 16.4}}),
    "read": event(read={"watermark": SENT}),
    "delivery": event(delivery={"watermark": SENT}),
    "optin": event(optin={"ref": "shop"}),
    "referral": event(referral={"ref": "shop", "source": "SHORTLINK", "type": "OPEN_THREAD"}),
    "reaction": event(reaction={"reaction": "love", "emoji": "❤", "action": "react", "mid": "m_1"}),
    "nothing": event(),
}


def passed_kinds(item: BaseFilter) -> set[str]:
    return {name for name, messaging in EVERY_KIND.items() if item.should_pass(messaging)}


@pytest.fixture(autouse=True)
def _fresh_contexts() -> Iterator[None]:
    yield
    for messaging in EVERY_KIND.values():
        messaging.context.clear()


class Broken(BaseFilter):
    def should_pass(self, messaging: Messaging) -> bool:
        raise RuntimeError("no")


class TestKinds:
    @pytest.mark.parametrize(
        ("item", "expected"),
        [
            (MultimediaFilter(), {"image", "audio", "video", "file"}),
            (LocationFilter(), {"location"}),
            (PostbackFilter(), {"postback"}),
            (AuthenticationFilter(), {"optin"}),
            (StickerFilter(), set()),
            (ThumbUpFilter(), {"sticker"}),
            (TappedFilter(), {"quick reply", "postback", "get started"}),
            (TappedFilter("ORDER"), {"quick reply", "postback"}),
            (TappedFilter("GET_STARTED"), {"get started"}),
            (ReactionFilter(), {"reaction"}),
            (ReferralFilter(), {"referral", "optin"}),
            (TypeFilter("IMAGE", ReceivingType.READ), {"image", "read"}),
        ],
        ids=str,
    )
    def test_passes_exactly(self, item: BaseFilter, expected: set[str]) -> None:
        assert passed_kinds(item) == expected

    def test_any_type_is_what_a_person_authored(self) -> None:
        assert passed_kinds(TypeFilter("ANY")).isdisjoint({"read", "delivery", "reaction", "nothing"})
        assert {"text", "sticker", "postback"} <= passed_kinds(TypeFilter("ANY"))

    @pytest.mark.parametrize("names", [(), ("IMAGINE",), ("DEFAULT",), ("FALLBACK",)])
    def test_a_type_that_no_event_has_is_refused(self, names: tuple[str, ...]) -> None:
        with pytest.raises(DJMInvalidConfigException):
            TypeFilter(*names)

    def test_sticker_ids_are_not_compared_by_their_ending(self) -> None:
        for real in ("369239263222822", "369239343222814", "369239383222810"):
            assert ThumbUpFilter().should_pass(sticker(real))
            assert ThumbUpFilter().should_pass(sticker(int(real)))
        for other in ("144884852352810", "1", "22", "36923926322282"):
            assert not ThumbUpFilter().should_pass(sticker(other))

    def test_the_documented_endings_stay_and_are_ids_of_their_own(self) -> None:
        assert ThumbUpFilter.STICKER_IDS == ("810", "814", "822")
        assert ThumbUpFilter().should_pass(sticker("822"))

    def test_a_subclass_of_2016_lists_ids(self) -> None:
        class Mine(StickerFilter):
            STICKER_IDS: Any = (1234, "5678")

        class Large(ThumbUpFilter):
            STICKER_IDS = ("822",)

        assert Mine().should_pass(sticker(1234))
        assert Mine().should_pass(sticker("5678"))
        assert not Mine().should_pass(sticker("91234"))
        assert Large().should_pass(sticker("369239263222822"))
        assert not Large().should_pass(sticker("369239383222810"))

    def test_stickers_by_id(self) -> None:
        assert StickerFilter(1234).should_pass(sticker("1234"))
        assert StickerFilter.deserialize({"sticker_ids": ["1234"]}) == StickerFilter("1234")
        assert StickerFilter.STICKER_IDS == ()

    @pytest.mark.parametrize(
        "message",
        [
            {"sticker_id": 369239263222822, "attachments": [{"type": "image", "payload": {"url": "u"}}]},
            {"attachments": [{"type": "image", "payload": {"url": "u", "sticker_id": 369239263222822}}]},
            {"attachments": [{"type": "sticker", "payload": {"url": "u", "sticker_id": "369239263222822"}}]},
        ],
        ids=["2016", "2020", "2026"],
    )
    def test_a_sticker_in_every_form_is_a_sticker_and_no_image(self, message: dict[str, Any]) -> None:
        messaging = event(message={"mid": "m_1", **message})
        assert ThumbUpFilter().should_pass(messaging)
        assert AttachmentFilter("sticker").should_pass(messaging)
        assert not AttachmentFilter("image").should_pass(messaging)

    def test_attachments_by_kind(self) -> None:
        assert passed_kinds(AttachmentFilter("image", "location")) == {"image", "location"}
        assert {"image", "audio", "file", "sticker"} <= passed_kinds(AttachmentFilter())
        with pytest.raises(DJMInvalidConfigException, match="imag"):
            AttachmentFilter("imag")

    def test_payload_classes_and_instances(self) -> None:
        tap = quick_reply(OrderPayload(3).serialize())
        assert TappedFilter(OrderPayload).should_pass(tap)
        assert tap.context["payload"] == OrderPayload(3)
        assert TappedFilter(OrderPayload(3)).should_pass(tap)
        assert not TappedFilter(OrderPayload(4)).should_pass(tap)
        assert not TappedFilter(GiftPayload).should_pass(tap)
        assert TappedFilter(OrderPayload).should_pass(postback(GiftPayload(1).serialize()))
        assert not TappedFilter(OrderPayload).should_pass(postback("ORDER"))
        assert not TappedFilter("ORDER").should_pass(text("ORDER"))

    @pytest.mark.parametrize("item", [TappedFilter("A", OrderPayload), TappedFilter(OrderPayload(3))])
    def test_payloads_survive_a_policy_file(self, item: TappedFilter) -> None:
        assert TappedFilter.deserialize(json.loads(json.dumps(item.json()))).payloads == item.payloads

    @pytest.mark.parametrize("wrong", [3, None, "", str, {"payload_class": "nowhere.Order"}, {}])
    def test_what_is_no_payload_is_refused(self, wrong: Any) -> None:
        with pytest.raises(DJMInvalidConfigException, match=r"tapped\(\.\.\.\)"):
            TappedFilter(wrong)

    def test_referrals_by_ref_and_source(self) -> None:
        came = EVERY_KIND["referral"]
        assert ReferralFilter("shop", source="shortlink").should_pass(came)
        assert not ReferralFilter("other").should_pass(came)
        assert not ReferralFilter(source="ADS").should_pass(came)
        first = event(postback={"title": "Go", "payload": "X", "referral": {"ref": "shop", "source": "ADS"}})
        assert ReferralFilter("shop").should_pass(first)

    def test_reactions_by_word_and_emoji(self) -> None:
        love = EVERY_KIND["reaction"]
        assert ReactionFilter("love").should_pass(love)
        assert ReactionFilter("❤️").should_pass(love)
        assert not ReactionFilter("sad").should_pass(love)
        gone = event(reaction={"action": "unreact", "mid": "m_1"})
        assert not ReactionFilter().should_pass(gone)
        assert ReactionFilter(action="unreact").should_pass(gone)
        assert not ReactionFilter("love", action="").should_pass(gone)
        with pytest.raises(DJMInvalidConfigException):
            ReactionFilter(action="like")


class TestTexts:
    @pytest.mark.parametrize("typed", ["hi", "HI", "  Hi\n", "ｈｉ"])
    def test_text_is_compared_as_a_person_would(self, typed: str) -> None:
        assert TextFilter("hi", "good  morning").should_pass(text(typed))

    def test_text_is_typed_and_whole(self) -> None:
        item = TextFilter("hi", "Good  Morning")
        assert item.should_pass(text("good morning"))
        assert not item.should_pass(text("hi there"))
        assert not item.should_pass(quick_reply("X", title="hi"))
        assert not item.should_pass(text("hi", is_echo=True))

    @pytest.mark.parametrize("words", [(), ("",), (3,), (None,)])
    def test_what_is_no_text_is_refused(self, words: Any) -> None:
        with pytest.raises(DJMInvalidConfigException):
            TextFilter(*words)

    def test_a_translatable_text_is_any_of_its_translations(self) -> None:
        label: Promise = _lazy(lambda: {"de": "Bestellen", "fr": "Commander"}.get(_language(), "Order"))
        item = TextFilter(label)
        for typed in ("order", "BESTELLEN", "commander"):
            assert item.should_pass(text(typed))
        localized = TextFilter(LocalizedString("Thanks", {"zh_TW": "謝謝"}))
        assert localized.should_pass(text("謝謝"))
        assert localized.should_pass(text("thanks"))

    def test_texts_from_a_policy(self) -> None:
        item = TextFilter.deserialize({"words": ["hi", {"base_string": "ho", "translations": {"de": "he"}}]})
        assert item.should_pass(text("He"))

    @pytest.mark.parametrize(
        ("typed", "expected"),
        [
            ("a@example.com", True),
            (" a@example.com ", True),
            ("a@", False),
            ("a b@example.com", False),
            ("", False),
        ],
    )
    def test_email_filter_gives_a_plain_yes_or_no(self, typed: str, expected: bool) -> None:
        assert EmailFilter().should_pass(text(typed)) is expected

    def test_email_filter_without_text(self) -> None:
        assert passed_kinds(EmailFilter()) == set()


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

    @override_settings(DJM_REGEX_TIMEOUT=0.001)
    def test_regular_expressions_run_with_a_limit(self, caplog: pytest.LogCaptureFixture) -> None:
        before = filtering.timeouts[EVIL]
        item = SimpleTextRegexFilter(EVIL)
        messaging = text("a" * 1500 + "b" + "secret")
        with caplog.at_level(logging.WARNING, "djmessenger.filtering"):
            verdict = item.check(messaging)
        assert not verdict.passed
        assert "time limit" in verdict.error
        assert not item.should_pass(messaging)
        assert not (~item).should_pass(messaging)
        assert filtering.timeouts[EVIL] == before + 3
        record = caplog.records[0]
        assert (record.name, record.__dict__["action"]) == ("djmessenger.filtering", "pattern_timeout")
        assert "secret" not in caplog.text

    @override_settings(DJM_REGEX_ENGINE="re2")
    def test_re2_is_an_engine(self) -> None:
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
        with pytest.raises(DJMInvalidConfigException, match=r"djmessenger\[re2\]"):
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


class TestPeople:
    @pytest.mark.parametrize(
        ("locale", "language", "expected"),
        [
            ("de_AT", "de", True),
            ("de_DE", "de_DE", True),
            ("de_DE", "de_AT", False),
            ("zh_TW", "zh-hant", True),
            ("zh_TW", "zh-Hans", False),
            ("pt_BR", "pt-br", True),
            ("", "de", False),
            ("xx_YY", "xx", True),
        ],
    )
    def test_language(self, locale: str, language: str, expected: bool) -> None:
        messaging = text("hi")
        messaging.bind(person=models.FBUserProfile(psid=PERSON, locale=locale))
        assert LanguageFilter("fr", language).should_pass(messaging) is expected

    @pytest.mark.django_db
    def test_language_of_an_unknown_person(self) -> None:
        assert not LanguageFilter("en").should_pass(text("hi"))
        models.FBUserProfile.objects.create(psid=PERSON, locale="en_US")
        assert LanguageFilter("en").should_pass(text("hi"))

    def test_page(self) -> None:
        assert PageFilter(900).should_pass(text("hi"))
        assert not PageFilter("901", "902").should_pass(text("hi"))

    @pytest.mark.parametrize(
        ("conditions", "expected"),
        [
            ({"step": "address"}, True),
            ({"step": "name"}, False),
            ({"step": "address", "order__paid": True}, True),
            ({"order__paid": 1}, False),
            ({"order__lines__0": 1}, False),
            ({"missing": None}, True),
            ({"step": None}, False),
            ({"odd__key": 1}, True),
        ],
    )
    def test_state(self, conditions: dict[str, Any], expected: bool) -> None:
        messaging = text("hi")
        state = {"step": "address", "order": {"paid": True, "lines": [1]}, "odd__key": 1}
        messaging.bind(conversation=models.Conversation(state=state))
        assert StateFilter(**conditions).should_pass(messaging) is expected
        assert StateFilter.deserialize({"conditions": conditions}) == StateFilter(conditions)

    def test_state_without_a_conversation_is_empty(self) -> None:
        assert not StateFilter(step="address").should_pass(text("hi"))
        assert StateFilter(step=None).should_pass(text("hi"))

    @pytest.mark.parametrize("make", [StateFilter, LanguageFilter, PageFilter, lambda: LanguageFilter("")])
    def test_an_empty_condition_is_refused(self, make: Callable[[], BaseFilter]) -> None:
        with pytest.raises(DJMInvalidConfigException):
            make()


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
                filtering.as_filter(wrong)  # type: ignore[arg-type]

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

    def test_what_a_refused_filter_captured_is_forgotten(self) -> None:
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
                {"not": {"name": "tests.test_filtering.is_customer"}},
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
        for messaging in EVERY_KIND.values():
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


def _language() -> str:
    return (translation.get_language() or "").partition("-")[0]


def _lazy(function: Callable[[], str]) -> Promise:
    class Text:
        def __str__(self) -> str:
            return function()

    return lazystr(Text())  # type: ignore[return-value]
