"""Filters: what each documented and each composable one passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import translation
from django.utils.functional import Promise, lazystr

from djmessenger import models
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.filtering import (
    AttachmentFilter,
    AuthenticationFilter,
    BaseFilter,
    EmailFilter,
    LanguageFilter,
    LocationFilter,
    MultimediaFilter,
    PageFilter,
    PostbackFilter,
    ReactionFilter,
    ReferralFilter,
    StateFilter,
    StickerFilter,
    TappedFilter,
    TextFilter,
    ThumbUpFilter,
    TypeFilter,
)
from djmessenger.receiving import ReceivingType
from djmessenger.utils.utils import LocalizedString
from tests.events import (
    PERSON,
    GiftPayload,
    OrderPayload,
    event,
    every_kind,
    passed_kinds,
    postback,
    quick_reply,
    sticker,
    text,
)


class StrictPayload(OrderPayload):
    def __init__(self, number: int) -> None:
        if number < 0:
            raise ValueError("below zero")
        super().__init__(number)


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
        # Sorted, so that the processes of xdist agree on the names.
        ids=lambda given: ", ".join(sorted(given)) if isinstance(given, set) else str(given),
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

    def test_a_subclass_may_name_the_last_three_digits(self) -> None:
        class Cats(StickerFilter):
            STICKER_IDS = ("084",)

        assert Cats().should_pass(sticker("126361874215084"))
        assert not Cats().should_pass(sticker("126361874215085"))
        assert not StickerFilter("084").should_pass(sticker("126361874215084"))

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

    def test_a_payload_that_its_class_refuses_does_not_pass(self) -> None:
        assert TappedFilter(StrictPayload).should_pass(postback(StrictPayload(3).serialize()))
        refused = postback(StrictPayload(3).serialize().replace("3", "-3"))
        assert not TappedFilter(StrictPayload).should_pass(refused)
        assert refused.context == {}

    def test_payloads_are_known_in_advance_for_texts_alone(self) -> None:
        assert TappedFilter("A", "B").literals() == {"a", "b"}
        assert TappedFilter().literals() is None
        assert TappedFilter("A", OrderPayload).literals() is None

    @pytest.mark.parametrize("item", [TappedFilter("A", OrderPayload), TappedFilter(OrderPayload(3))])
    def test_payloads_survive_a_policy_file(self, item: TappedFilter) -> None:
        assert TappedFilter.deserialize(json.loads(json.dumps(item.json()))).payloads == item.payloads

    @pytest.mark.parametrize("wrong", [3, None, "", str, {"payload_class": "nowhere.Order"}, {}])
    def test_a_value_that_is_no_payload_is_refused(self, wrong: Any) -> None:
        with pytest.raises(DJMInvalidConfigException, match=r"tapped\(\.\.\.\)"):
            TappedFilter(wrong)

    def test_referrals_by_ref_and_source(self) -> None:
        came = every_kind()["referral"]
        assert ReferralFilter("shop", source="shortlink").should_pass(came)
        assert not ReferralFilter("other").should_pass(came)
        assert not ReferralFilter(source="ADS").should_pass(came)
        first = event(postback={"title": "Go", "payload": "X", "referral": {"ref": "shop", "source": "ADS"}})
        assert ReferralFilter("shop").should_pass(first)

    def test_reactions_by_word_and_emoji(self) -> None:
        love = every_kind()["reaction"]
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
    @pytest.mark.parametrize(
        "typed",
        [
            "What\u2019s new?",
            "WHAT\u2018S NEW?",
            "what\u02bcs new?",
            "\u200ewhat's\u200b new?\ufe0f",
            "what\u00b4s new?",
        ],
    )
    def test_text_as_phones_write_it(self, typed: str) -> None:
        assert TextFilter("what's new?").should_pass(text(typed))
        assert TextFilter(typed).should_pass(text("what's new?"))

    def test_an_emoji_with_and_without_its_variation(self) -> None:
        assert TextFilter("\u2764").should_pass(text("\u2764\ufe0f"))

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
    def test_a_value_that_is_no_text_is_refused(self, words: Any) -> None:
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

    @pytest.mark.parametrize(("locale", "language"), [("", "de"), ("fr_FR", "fr")])
    def test_the_page_has_the_language_until_that_of_the_person_is_known(
        self, locale: str, language: str
    ) -> None:
        messaging = text("hi")
        messaging.bind(
            person=models.FBUserProfile(psid=PERSON, locale=locale),
            page=models.Page(page_id="900", language="de-at"),
        )
        assert LanguageFilter(language).should_pass(messaging)
        assert not LanguageFilter("en").should_pass(messaging)

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


def _language() -> str:
    return (translation.get_language() or "").partition("-")[0]


def _lazy(function: Callable[[], str]) -> Promise:
    class Text:
        def __str__(self) -> str:
            return function()

    return lazystr(Text())  # type: ignore[return-value]
