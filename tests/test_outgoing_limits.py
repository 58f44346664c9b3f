"""Every limit at its value and one over, with numbers typed from Meta's pages by hand."""

from __future__ import annotations

import datetime
import logging
from typing import TYPE_CHECKING, Any

import pytest

from djmessenger import outgoing as o
from djmessenger import rulebook
from djmessenger.exceptions import HasEnded, InvalidField, LimitExceeded
from djmessenger.outgoing.attachments import MediaMessage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

URL = "https://example.com/a.png"
POSTBACK = o.PostbackButton("a", "A")


def feedback(**changes: Any) -> o.CustomerFeedback:
    values: dict[str, Any] = {"title": "a", "question": question(), "privacy_url": URL}
    return o.CustomerFeedback(**{**values, **changes})


def question(**changes: Any) -> o.Question:
    return o.Question(**{"id": "q", "type": "csat", "title": "title", **changes})


def grid(count: int = 2, **changes: Any) -> o.ImageGrid:
    return o.ImageGrid([o.GridImage(URL)] * count, **changes)


def receipt(count: int) -> o.ReceiptTemplate:
    return o.ReceiptTemplate("a", "b", "EUR", "c", 1, elements=[o.ReceiptItem("a", 1)] * count)


LIMITS: list[tuple[str, int, Callable[[int], Any]]] = [
    ("metadata", 919, lambda n: o.Text("a", metadata="x" * n)),
    ("quick_replies", 13, lambda n: o.Text("a", quick_replies=[o.QuickReply("a", "b")] * n)),
    ("title", 20, lambda n: o.QuickReply("x" * n, "b")),
    ("title", 20, lambda n: o.QuickReply("\U0001f600" * n, "b")),
    ("payload", 1000, lambda n: o.QuickReply("a", "x" * n)),
    ("text", 640, lambda n: o.ButtonTemplate("x" * n, [POSTBACK])),
    ("buttons", 3, lambda n: o.ButtonTemplate("a", [POSTBACK] * n)),
    ("title", 20, lambda n: o.UrlButton("x" * n, URL)),
    ("title", 20, lambda n: o.PostbackButton("x" * n, "b")),
    ("payload", 1000, lambda n: o.PostbackButton("a", "x" * n)),
    ("title", 20, lambda n: o.CallButton("x" * n, "+15105551234")),
    ("title", 20, lambda n: o.GamePlayButton("x" * n)),
    ("title", 20, lambda n: o.AudioCallButton("x" * n)),
    ("expires_in_days", 7, lambda n: o.AudioCallButton("a", n)),
    ("elements", 10, lambda n: o.GenericTemplate([o.Element("a", "b")] * n)),
    ("title", 80, lambda n: o.Element("x" * n, "b")),
    ("subtitle", 80, lambda n: o.Element("a", "x" * n)),
    ("buttons", 3, lambda n: o.Element("a", buttons=[POSTBACK] * n)),
    ("buttons", 3, lambda n: o.MediaTemplate("image", attachment_id="1", buttons=[POSTBACK] * n)),
    ("elements", 100, receipt),
    ("product_ids", 10, lambda n: o.ProductTemplate(["1"] * n)),
    ("title", 80, lambda n: o.CouponTemplate("x" * n, coupon_code="a")),
    ("subtitle", 80, lambda n: o.CouponTemplate("a", coupon_code="a", subtitle="x" * n)),
    ("title", 65, lambda n: feedback(title="x" * n)),
    ("subtitle", 80, lambda n: feedback(subtitle="x" * n)),
    ("button_title", 20, lambda n: feedback(button_title="x" * n)),
    ("expires_in_days", 7, lambda n: feedback(expires_in_days=n)),
    ("id", 80, lambda n: question(id="x" * n)),
    ("title", 85, lambda n: question(title="x" * n)),
    ("follow_up", 65, lambda n: question(follow_up="x" * n)),
    ("expires_in_days", 7, lambda n: o.CustomerInformation(["DE"], URL, expires_in_days=n)),
    ("images", 6, grid),
    ("title", 45, lambda n: grid(title="x" * n)),
    ("subtitle", 80, lambda n: grid(subtitle="x" * n)),
    ("buttons", 3, lambda n: grid(buttons=[POSTBACK] * n)),
    ("payload", 1000, lambda n: o.GridImage(URL, payload="x" * n, text="a")),
    ("urls", 30, lambda n: o.Images([URL] * n)),
]


@pytest.mark.parametrize(("field", "most", "make"), LIMITS)
def test_at_the_limit_and_one_over(field: str, most: int, make: Callable[[int], Any]) -> None:
    make(most)
    with pytest.raises(LimitExceeded) as caught:
        make(most + 1)
    assert caught.value.field == field
    assert str(most) in caught.value.limit
    assert caught.value.source.startswith("https://developers.facebook.com/")
    assert "2026" in caught.value.source


@pytest.mark.parametrize(
    ("field", "least", "make"),
    [
        ("images", 2, grid),
        ("title", 5, lambda n: question(title="x" * n)),
    ],
)
def test_at_the_least_and_one_under(field: str, least: int, make: Callable[[int], Any]) -> None:
    make(least)
    with pytest.raises(LimitExceeded) as caught:
        make(least - 1)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("most", "make"),
    [(10, lambda n: o.Images([URL] * n)), (10, lambda n: o.GenericTemplate([o.Element("a", "b")] * n))],
)
def test_limits_of_instagram(most: int, make: Callable[[int], o.OutgoingMessage]) -> None:
    make(most).requests(channel="instagram")
    with pytest.raises(LimitExceeded):
        make(most + 1).requests(channel="instagram")


@pytest.mark.parametrize(("kind", "most"), [(o.Image, 8388608), (o.File, 26214400)])
def test_size_of_files(tmp_path: Path, kind: type[MediaMessage], most: int) -> None:
    path = tmp_path / "large"
    for size in (most, most + 1):
        with path.open("wb") as file:
            file.truncate(size)
        if size == most:
            kind(path=path).requests()
        else:
            with pytest.raises(LimitExceeded, match="bytes"):
                kind(path=path).requests()


REFUSED: list[tuple[str, Callable[[], Any]]] = [
    ("text", lambda: o.Text("")),
    ("text", lambda: o.Text(" \n")),
    ("title", lambda: o.QuickReply("", "a")),
    ("payload", lambda: o.QuickReply("a")),
    ("url", o.Image),
    ("attachment_id", lambda: o.Image(URL, attachment_id="1")),
    ("path", lambda: o.Image(URL, path="a.png")),
    ("url", lambda: o.Image("ftp://example.com/a")),
    ("urls", lambda: o.Images([])),
    ("sticker_id", lambda: o.Sticker(0)),
    ("buttons", lambda: o.ButtonTemplate("a", [])),
    ("text", lambda: o.ButtonTemplate("", [POSTBACK])),
    ("elements", lambda: o.GenericTemplate([])),
    ("title", lambda: o.Element("a")),
    ("title", lambda: o.Element("", "b")),
    ("default_action", lambda: o.Element("a", default_action="javascript:alert(1)")),
    ("media_type", lambda: o.MediaTemplate("audio", attachment_id="1")),
    ("media_type", lambda: o.MediaTemplate("", attachment_id="1")),
    ("url", lambda: o.MediaTemplate("image")),
    ("url", lambda: o.MediaTemplate("image", attachment_id="1", url="https://facebook.com/a")),
    ("url", lambda: o.MediaTemplate("image", url=URL)),
    ("url", lambda: o.MediaTemplate("image", url="https://notfacebook.com/a")),
    ("currency", lambda: o.ReceiptTemplate("a", "b", "", "c", 1)),
    ("price", lambda: o.ReceiptItem("a", float("nan"))),
    ("street_1", lambda: o.Address("", "b", "c", "d", "e")),
    ("product_ids", lambda: o.ProductTemplate([])),
    ("coupon_code", lambda: o.CouponTemplate("a")),
    ("coupon_code", lambda: o.CouponTemplate("a", coupon_code="A B")),
    ("button_title", lambda: feedback(button_title="www.a.example")),
    ("privacy_url", lambda: feedback(privacy_url="")),
    ("expires_in_days", lambda: feedback(expires_in_days=0)),
    ("id", lambda: question(id="a-b")),
    ("type", lambda: question(type="stars")),
    ("score_option", lambda: question(score_option="zero_to_ten")),
    ("score_label", lambda: question(score_label="nice")),
    ("countries", lambda: o.CustomerInformation([], URL)),
    ("countries[0]", lambda: o.CustomerInformation(["de"], URL)),
    ("images", lambda: o.ImageGrid([o.GridImage(URL, is_hero_image=True)] * 2)),
    ("action_url", lambda: o.GridImage(URL, action_url=URL, payload="A", text="a")),
    ("text", lambda: o.GridImage(URL, payload="A")),
    ("payload", lambda: o.GridImage(URL, text="A")),
    ("form_id", lambda: o.InstantForm("")),
    ("name", lambda: o.Utility("", "en_US")),
    ("language", lambda: o.Utility("a", "")),
    ("messaging_type", lambda: o.Utility("a", "en_US", messaging_type="RESPONSE")),
    ("messaging_type", lambda: o.Text("a", messaging_type="UTILITY")),
    ("messaging_type", lambda: o.Text("a", messaging_type="MESSAGE_TAG")),
    ("messaging_type", lambda: o.Text("a", messaging_type="UPDATE", tag="HUMAN_AGENT", by_staff=True)),
    ("messaging_type", lambda: o.Text("a", messaging_type="response")),
    ("notification_type", lambda: o.Text("a", notification_type="LOUD")),
    ("tag", lambda: o.Text("a", tag="NOTHING")),
    ("tag", lambda: o.Text("a", tag="HUMAN_AGENT")),
    ("tag", lambda: o.Text("a", tag="CUSTOMER_FEEDBACK")),
    ("thread_control.control_type", lambda: o.Text("a", thread_control=o.ThreadControl("keep"))),
    ("url", lambda: o.UrlButton("a", "javascript:alert(1)")),
    ("url", lambda: o.UrlButton("a", "data:text/html,a")),
    ("url", lambda: o.UrlButton("a", "//example.com")),
    ("url", lambda: o.UrlButton("a", "https://")),
    ("url", lambda: o.UrlButton("a", "https://exa mple.com")),
    ("url", lambda: o.UrlButton("a", "https://[example")),
    ("url", lambda: o.UrlButton("a", "https://example.com:port")),
    ("url", lambda: o.UrlButton("a", "http://example.com", messenger_extensions=True)),
    ("fallback_url", lambda: o.UrlButton("a", URL, fallback_url=URL)),
    ("webview_height_ratio", lambda: o.UrlButton("a", URL, webview_height_ratio="huge")),
    ("url", lambda: o.LogInButton("http://example.com")),
    ("phone_number", lambda: o.CallButton("a", "0151")),
    ("player_id", lambda: o.GamePlayButton("a", player_id="1", context_id="2")),
    ("action", lambda: o.SenderAction("dance")),
    ("action", lambda: o.SenderAction("")),
    ("message_id", lambda: o.Reaction("")),
    ("reaction", lambda: o.Reaction("m_1", "ok")),
    ("reaction", lambda: o.Reaction("m_1", "\U0001f600\U0001f600")),
]


@pytest.mark.parametrize(("field", "make"), REFUSED)
def test_a_value_that_graph_would_refuse_is_refused(
    field: str, make: Callable[[], Any], settings: Any
) -> None:
    settings.DJM_OUTGOING_CHECKS = "warn"
    with pytest.raises(InvalidField) as caught:
        make()
    assert not isinstance(caught.value, LimitExceeded)
    assert caught.value.field in {field, f"thread_control.{field}", field.removeprefix("thread_control.")}


@pytest.mark.parametrize(
    "make",
    [
        lambda: o.Text(5),  # type: ignore[arg-type]
        lambda: o.Text(b"a"),  # type: ignore[arg-type]
        lambda: o.Text("a", quick_replies="ab"),  # type: ignore[arg-type]
        lambda: o.Text("a", quick_replies=[POSTBACK]),  # type: ignore[list-item]
        lambda: o.ButtonTemplate("a", [o.UrlAction(URL)]),  # type: ignore[list-item]
        lambda: grid(buttons=[o.LogOutButton()]),
        lambda: o.PostbackButton("a", None),  # type: ignore[arg-type]
        lambda: o.PostbackButton("a", payload=True),
        lambda: o.Image(5),  # type: ignore[arg-type]
        lambda: o.AudioCallButton("a", expires_in_days=True),
        lambda: o.ReceiptItem("a", "5"),  # type: ignore[arg-type]
        lambda: o.Text("a", by_staff="yes"),  # type: ignore[arg-type]
    ],
)
def test_wrong_types(make: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match="needs"):
        make()


def test_the_place_is_named_down_to_the_field() -> None:
    element = o.Element.__new__(o.Element)
    for name, value in {"title": "x" * 81, "subtitle": "b", "image_url": "", "default_action": None}.items():
        object.__setattr__(element, name, value)
    object.__setattr__(element, "buttons", ())
    with pytest.raises(LimitExceeded) as caught:
        o.GenericTemplate([o.Element("a", "b"), element])
    assert caught.value.field == "elements[1].title"


def test_a_setting_changes_the_limit_without_code(settings: Any) -> None:
    with pytest.raises(LimitExceeded):
        o.ButtonTemplate("a", [POSTBACK] * 4)
    settings.DJM_RULEBOOK = {"buttons.count": 4}
    o.ButtonTemplate("a", [POSTBACK] * 4)
    with pytest.raises(LimitExceeded, match="at most 4"):
        o.ButtonTemplate("a", [POSTBACK] * 5)


def test_to_warn_lets_a_number_over_a_limit_pass(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.DJM_OUTGOING_CHECKS = "warn"
    with caplog.at_level(logging.WARNING, "djmessenger.outgoing"):
        message = o.ButtonTemplate("a", [POSTBACK] * 4)
        assert caplog.records == []
        (body,) = message.requests()
    assert len(body["message"]["attachment"]["payload"]["buttons"]) == 4
    assert [record.getMessage()[:28] for record in caplog.records] == ["buttons: 4 given, at most 3 "]


def test_a_tag_goes_until_its_day(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    class Clock(datetime.datetime):
        day = 26

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Clock:
            return cls(2026, 4, cls.day, 23, 59, tzinfo=tz)

    monkeypatch.setattr(datetime, "datetime", Clock)
    (body,) = o.Text("a", tag="ACCOUNT_UPDATE").requests()
    assert (body["messaging_type"], body["tag"]) == ("MESSAGE_TAG", "ACCOUNT_UPDATE")
    Clock.day = 27
    made = o.Text("a", tag="ACCOUNT_UPDATE")
    with pytest.raises(HasEnded, match="2026-04-27; use a utility message"):
        made.requests()
    settings.DJM_RULEBOOK = {"tag.ACCOUNT_UPDATE": None}
    made.requests()


def test_feedback_may_carry_its_tag_on_messenger() -> None:
    message = feedback(tag="CUSTOMER_FEEDBACK")
    assert message.requests()[0]["tag"] == "CUSTOMER_FEEDBACK"
    with pytest.raises(InvalidField):
        message.requests(channel="instagram")


def test_the_metadata_leaves_room_for_the_token() -> None:
    assert rulebook.limit("metadata.length") - 919 == 80
