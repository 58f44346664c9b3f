"""Callbacks of shapes that Meta's pages do not show, seen at public receivers."""

import json
from pathlib import Path

import pytest

from djmessenger.receiving import Messaging
from djmessenger.receiving.parsing import split

OTHERS = Path(__file__).parent / "wire" / "others"

TYPES = {
    "ad_reel_story_and_text_at_once": "SIMPLE_TEXT",
    "changes_and_messaging_in_one_entry": "SIMPLE_TEXT SIMPLE_TEXT",
    "changes_with_field_only": "CHANGE CHANGE",
    "dashboard_test_as_change": "SIMPLE_TEXT",
    "dashboard_test_as_messaging": "SIMPLE_TEXT",
    "dashboard_test_without_event": "CHANGE",
    "echo_of_a_button_template_page_as_recipient": "ECHO",
    "echo_of_a_receipt": "ECHO",
    "echo_person_as_sender": "ECHO",
    "fallback_url_that_is_none": "LINK",
    "ig_unsupported_type": "UNSUPPORTED",
    "image_fallback_and_place": "IMAGE",
    "message_product_referral_alone": "REFERRAL",
    "message_without_mid": "SIMPLE_TEXT",
    "noise_batch": "MESSAGE_DELETED UNSUPPORTED READ REACTION SIMPLE_TEXT ECHO",
    "optin_user_ref_no_sender": "AUTHENTICATION",
    "photo_voice_sticker_video": "STICKER",
    "postback_user_ref": "POSTBACK",
    "reel_relative_url": "REEL",
    "referral_seconds": "REFERRAL",
    "referral_without_ref": "REFERRAL",
    "standby_items_without_event": "SIMPLE_TEXT UNKNOWN UNKNOWN",
    "standby_postback_without_payload": "STANDBY",
    "text_with_link_and_nlp": "SIMPLE_TEXT",
    "text_with_nlp": "SIMPLE_TEXT",
    "text_with_prior_message": "SIMPLE_TEXT",
    "text_with_product_template": "SIMPLE_TEXT",
    "times_as_iso_text": "SIMPLE_TEXT",
    "two_texts_and_a_read_without_recipient": "SIMPLE_TEXT SIMPLE_TEXT READ",
    "unsupported_with_empty_attachments": "UNSUPPORTED",
}


def messagings(name):
    items = list(split(json.loads((OTHERS / f"{name}.json").read_text(encoding="utf-8"))))
    assert [item.error for item in items] == [""] * len(items)
    return [item.messaging for item in items]


def message(channel="messenger", **parts):
    body = {"sender": {"id": "7"}, "recipient": {"id": "1"}, "timestamp": 1795425304000}
    return Messaging.from_item({**body, "message": {"mid": "m_1", **parts}}, entry_id="1", channel=channel)


def attached(kind, channel="messenger", **payload):
    return message(channel, attachments=[{"type": kind, "payload": payload}])


def test_each_sample_is_in_the_table():
    assert {path.stem for path in OTHERS.glob("*.json")} == TYPES.keys()


@pytest.mark.parametrize("name", TYPES)
def test_type(name):
    assert [each.type.name for each in messagings(name)] == TYPES[name].split()


@pytest.mark.parametrize("name", TYPES)
def test_an_event_is_the_same_after_it_was_stored(name):
    for messaging in messagings(name):
        (again,) = [item.messaging for item in split(json.loads(json.dumps(messaging.envelope())))]
        assert again.raw == messaging.raw
        assert again.key() == messaging.key()
        assert again.type is messaging.type


class TestWhatAPersonSent:
    """A person who sends something that this version cannot read gets an answer."""

    @pytest.mark.parametrize("kind", ["unsupported_type", "poll", ""])
    def test_an_unknown_attachment_is_authored(self, kind):
        assert attached(kind).type.name == "UNSUPPORTED"
        assert attached(kind).authored

    def test_a_product_alone_is_authored(self):
        (messaging,) = messagings("message_product_referral_alone")
        assert messaging.authored
        assert messaging.referral.product == {"id": "3564977419"}

    def test_a_known_attachment_beside_an_unknown_one_decides(self):
        both = [{"type": "poll", "payload": {}}, {"type": "reel", "payload": {"url": "https://a.example"}}]
        assert message(attachments=both).type.name == "REEL"

    def test_a_text_beside_an_unknown_attachment_decides(self):
        assert message(text="hello", attachments=[{"type": "poll"}]).type.name == "SIMPLE_TEXT"

    def test_a_message_without_any_content_is_unknown(self):
        assert message().type.name == "UNKNOWN"


class TestAddresses:
    def test_a_relative_url_gets_the_host_of_its_channel(self):
        (reel,) = messagings("reel_relative_url")
        assert reel.get_url() == "https://www.facebook.com/reel/496146647292721/"
        assert (
            attached("ig_reel", "instagram", url="/reel/Cx/").get_url()
            == "https://www.instagram.com/reel/Cx/"
        )

    @pytest.mark.parametrize("url", ["https://a.example/b", "//a.example/b", "My Documents/foo.doc"])
    def test_any_other_url_is_left(self, url):
        assert attached("fallback", url=url).get_url() == url

    def test_url_in_capitals(self):
        (messaging,) = messagings("image_fallback_and_place")
        assert messaging.attachments[1].best_url == "<URL_OF_THE_ATTACHMENT>"
        assert messaging.json() == messaging.raw

    def test_a_story_that_is_shared(self):
        story = attached("ig_story", "instagram", url="https://cdn.example/s", story_media_id="18")
        assert story.type.name == "POST"
        assert story.get_url() == "https://cdn.example/s"


def test_times_as_iso_text():
    (messaging,) = messagings("times_as_iso_text")
    assert messaging.timestamp == messaging.entry_time == 1631082844000


@pytest.mark.parametrize(
    "text",
    ["2021-99-08T06:34:04+0000", "2021-09-08T06:34:04", "1969-09-08T06:34:04Z", "-".join("9" * 4000), "٢٠٢١"],
)
def test_a_text_that_is_no_time_with_a_zone(text):
    body = {"sender": {"id": "7"}, "recipient": {"id": "1"}, "timestamp": text, "message": {"text": "a"}}
    assert Messaging.from_item(body, entry_id="1", entry_time=1795425304000).timestamp == 1795425304000


def test_several_media_of_one_message():
    (messaging,) = messagings("photo_voice_sticker_video")
    assert [each.type for each in messaging.attachments] == ["image", "audio", "image", "video"]


@pytest.mark.parametrize("name", [name for name in TYPES if name.startswith("dashboard_test")])
def test_the_test_button_of_the_app_dashboard_is_recognised(name):
    (messaging,) = messagings(name)
    assert messaging.is_dashboard_test


@pytest.mark.parametrize("name", [name for name in TYPES if not name.startswith("dashboard_test")])
def test_no_other_callback_is_taken_for_the_test_button(name):
    assert not any(messaging.is_dashboard_test for messaging in messagings(name))


@pytest.mark.parametrize(
    ("mark", "kind"), [({"delivery": {"watermark": 5}}, "DELIVERED"), ({"read": {"watermark": 5}}, "READ")]
)
def test_a_receipt_with_the_page_as_sender_is_a_receipt_of_the_person(mark, kind):
    item = {"sender": {"id": "1"}, "recipient": {"id": "7"}, "timestamp": 1795425304000, **mark}
    messaging = Messaging.from_item(item, entry_id="1")
    assert messaging.type.name == kind
    assert messaging.get_psid() == "7"
