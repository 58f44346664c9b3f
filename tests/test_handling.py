"""Handlers: what each stores, and what happens when Graph or the event does not play along."""

from __future__ import annotations

import datetime
import decimal
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from djmessenger import handling, models
from djmessenger.clock import as_stored
from djmessenger.graph.client import Client
from djmessenger.graph.context import bound as bound_client
from djmessenger.graph.errors import NotSent, UnknownFate
from djmessenger.graph.wire import Request, Response
from djmessenger.handling import (
    BaseHandler,
    BasePayloadHandler,
    BasePostbackHandler,
    BaseQuickReplyHandler,
    LocationHandler,
    SaveMessagingHandler,
    ThumbUpHandler,
    UserProfileHandler,
)
from djmessenger.outgoing.data import as_messages
from djmessenger.payload import Payload
from djmessenger.receiving import Messaging

PAGE, PERSON = "900", "111"
SENT = 1478907792000
PROFILE = {
    "id": PERSON,
    "first_name": "Ada",
    "last_name": "Byron",
    "profile_pic": "https://example.com/ada.png",
    "locale": "en_GB",
    "timezone": 5.5,
    "gender": "female",
}
States = models.FBUserProfile.ProfileState


class OrderPayload(Payload):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def event(**parts: Any) -> Messaging:
    raw = {"sender": {"id": PERSON}, "recipient": {"id": PAGE}, "timestamp": SENT, **parts}
    return Messaging.from_item(raw, entry_id=PAGE)


def text(typed: str = "hi", mid: str = "m_1") -> Messaging:
    return event(message={"mid": mid, "text": typed})


def place(payload: Any, **message: Any) -> Messaging:
    attachment = {"type": "location", "title": "Ada's", "url": "https://example.com/map", "payload": payload}
    return event(message={"mid": "m_2", "seq": 7, "attachments": [attachment], **message})


class FakeTransport:
    """Answers each request with the next answer; the last one stays."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []

    def send(self, request: Request, /) -> Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return Response(status, {}, json.dumps(body).encode())


@pytest.fixture
def transport() -> Iterator[FakeTransport]:
    fake = FakeTransport((200, PROFILE))
    with bound_client(Client("made-up", transport=fake)):
        yield fake


def person() -> models.FBUserProfile:
    return models.FBUserProfile.objects.get(pk=PERSON)


@pytest.mark.django_db
class TestUserProfile:
    def test_is_slow_for_it_waits_for_graph(self) -> None:
        assert UserProfileHandler.slow
        assert not BaseHandler.slow

    def test_the_profile_is_fetched_once_and_stored(self, transport: FakeTransport) -> None:
        messaging = text()
        UserProfileHandler().handle(messaging)
        UserProfileHandler().handle(messaging)
        UserProfileHandler().handle(text(mid="m_3"))
        found = person()
        assert (found.first_name, found.last_name, found.locale) == ("Ada", "Byron", "en_GB")
        assert (found.timezone, found.gender, found.profile_pic) == (5.5, "female", PROFILE["profile_pic"])
        assert found.profile_state == States.FETCHED
        assert found.page is not None
        assert found.page.page_id == PAGE
        assert len(transport.requests) == 1
        assert f"/{PERSON}?fields=" in transport.requests[0].url

    def test_the_bound_person_has_the_language_at_once(self, transport: FakeTransport) -> None:
        conversation = models.Conversation.objects.between(PAGE, PERSON)
        messaging = text()
        messaging.bind(conversation=conversation, person=conversation.person)
        UserProfileHandler().handle(messaging)
        assert messaging.person.locale == "en_GB"
        assert messaging.person is conversation.person

    def test_unknown_keys_and_an_absent_timezone_do_not_lose_the_profile(
        self, transport: FakeTransport
    ) -> None:
        transport.answers = [(200, {"id": PERSON, "first_name": "Ada", "last_ad_referral": {"ad_id": "6"}})]
        UserProfileHandler().handle(text())
        assert (person().first_name, person().timezone) == ("Ada", None)

    def test_a_value_that_is_too_long_is_cut_and_one_of_another_type_left_out(
        self, transport: FakeTransport
    ) -> None:
        answer = {
            "first_name": "A" * 300,
            "last_name": 7,
            "locale": "x" * 99,
            "timezone": "soon",
            "gender": None,
        }
        transport.answers = [(200, answer)]
        UserProfileHandler().handle(text())
        assert (person().first_name, person().locale) == ("A" * 255, "x" * 16)
        assert (person().last_name, person().timezone, person().gender) == ("", None, "")

    def test_what_a_project_set_stays(self, transport: FakeTransport) -> None:
        models.FBUserProfile.objects.create(
            psid=PERSON, first_name="Ada Lovelace", locale="de_DE", timezone=0.0
        )
        UserProfileHandler().handle(text())
        assert (person().get_full_name(), person().locale, person().timezone) == (
            "Ada Lovelace",
            "de_DE",
            0.0,
        )
        assert (person().gender, person().profile_pic) == ("female", PROFILE["profile_pic"])
        assert person().profile_state == States.FETCHED

    def test_a_whole_name_is_better_than_none(self, transport: FakeTransport) -> None:
        transport.answers = [(200, {"name": "Ada Byron"})]
        UserProfileHandler().handle(text())
        assert person().get_full_name() == "Ada Byron"

    @override_settings(DJM_SAVE_USER_PROFILE=False)
    def test_without_save_user_profile_only_the_psid_is_stored(self, transport: FakeTransport) -> None:
        UserProfileHandler().handle(text())
        assert (person().first_name, person().timezone, person().profile_state) == ("", None, States.NEW)
        assert transport.requests == []

    @pytest.mark.parametrize(
        "answer",
        [
            (200, {}),
            (200, {"id": PERSON}),
            (400, {"error": {"code": 100, "error_subcode": 33, "type": "GraphMethodException"}}),
            (400, {"error": {"code": 100, "error_subcode": 2018218}}),
            (403, {"error": {"code": 10, "error_subcode": 2018336}}),
            (403, {"error": {"code": 200, "message": "missing permission"}}),
            (400, {"error": {"code": 2018247}}),
        ],
    )
    def test_a_refusal_is_harmless_and_remembered(self, transport: FakeTransport, answer: Any) -> None:
        transport.answers = [answer]
        UserProfileHandler().handle(text())
        asked = len(transport.requests)
        UserProfileHandler().handle(text(mid="m_3"))
        assert person().profile_state == States.REFUSED
        assert len(transport.requests) == asked

    def test_a_refusal_is_not_for_ever(self, transport: FakeTransport) -> None:
        models.FBUserProfile.objects.create(
            psid=PERSON,
            profile_state=States.REFUSED,
            date_profile=timezone.now() - handling.ASK_AGAIN - datetime.timedelta(minutes=1),
        )
        UserProfileHandler().handle(text())
        assert person().first_name == "Ada"

    @pytest.mark.parametrize(
        "failure",
        [
            NotSent("refused"),
            UnknownFate("gone"),
            OSError("broken"),
            TimeoutError(),
            (500, {}),
            (400, {"error": {"code": 4}}),
            (400, {"error": {"code": 190}}),
            (200, "rubbish"),
        ],
        ids=str,
    )
    def test_a_connection_error_is_harmless_and_tried_again(
        self, transport: FakeTransport, failure: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        transport.answers = [failure, (200, PROFILE)]
        UserProfileHandler().handle(text())
        assert person().profile_state in {States.NEW, States.REFUSED}
        if person().profile_state == States.NEW:
            assert caplog.records[-1].__dict__["action"] == "profile_failed"
            UserProfileHandler().handle(text(mid="m_3"))
            assert person().first_name == "Ada"

    def test_without_a_client_the_person_is_still_stored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("djmessenger.graph.context._default", None)
        UserProfileHandler().handle(text())
        assert person().profile_state == States.NEW

    def test_a_profile_that_another_worker_found_meanwhile_stays(self, transport: FakeTransport) -> None:
        messaging = text()
        models.FBUserProfile.objects.create(psid=PERSON)
        messaging.bind(person=person())
        models.FBUserProfile.objects.update(first_name="Grace", profile_state=States.FETCHED, thumbups=3)
        UserProfileHandler().handle(messaging)
        assert (person().first_name, person().thumbups) == ("Grace", 3)
        assert messaging.person.first_name == "Grace"

    def test_only_who_wrote_is_asked_about(self, transport: FakeTransport) -> None:
        UserProfileHandler().handle(event(read={"watermark": SENT}))
        assert person().profile_state == States.NEW
        assert transport.requests == []

    def test_an_event_without_a_sender_is_ignored(self, transport: FakeTransport) -> None:
        UserProfileHandler().handle(
            Messaging.from_item({"optin": {"ref": "a", "user_ref": "b"}}, entry_id=PAGE)
        )
        assert not models.FBUserProfile.objects.exists()


@pytest.mark.django_db
class TestSaveMessaging:
    def test_the_row_of_the_engine_is_kept(self) -> None:
        row = models.Messaging.objects.create(type="SIMPLE_TEXT", body={}, timestamp=SENT)
        messaging = text()
        messaging.bind(row=row)
        SaveMessagingHandler().handle(messaging)
        assert row.is_kept
        assert models.Messaging.objects.get().is_kept

    def test_a_messaging_built_in_code_becomes_one_row(self) -> None:
        for _ in range(2):
            SaveMessagingHandler().handle(text("hello"))
        row = models.Messaging.objects.get()
        assert (row.type, row.mid, row.timestamp, row.state) == ("SIMPLE_TEXT", "m_1", SENT, "done")
        assert row.is_kept
        assert row.conversation is not None
        assert (row.conversation.person_id, row.conversation.page.page_id) == (PERSON, PAGE)
        assert Messaging.from_row(row.body, row).text == "hello"

    def test_a_row_that_waits_stays_waiting(self) -> None:
        row = models.Messaging.objects.create(type="SIMPLE_TEXT", body={}, timestamp=SENT, key=text().key())
        SaveMessagingHandler().handle(text())
        row.refresh_from_db()
        assert (row.is_kept, row.state) == (True, "new")

    def test_an_event_without_a_sender_is_stored_too(self) -> None:
        SaveMessagingHandler().handle(
            Messaging.from_item({"optin": {"ref": "a", "user_ref": "b"}}, entry_id=PAGE)
        )
        assert models.Messaging.objects.get().conversation is None


@pytest.mark.django_db
class TestThumbUp:
    def test_the_first_thumb_of_an_unknown_person_counts(self) -> None:
        ThumbUpHandler().handle(text())
        assert person().thumbups == 1

    def test_thumbs_at_the_same_time_all_count_and_nothing_else_is_written(self) -> None:
        models.FBUserProfile.objects.create(psid=PERSON, first_name="Ada")
        stale = [text(), text()]
        for messaging in stale:
            messaging.bind(person=person())
        models.FBUserProfile.objects.update(first_name="Grace")
        for messaging in stale:
            ThumbUpHandler().handle(messaging)
        assert (person().thumbups, person().first_name) == (2, "Grace")
        assert stale[1].person.thumbups == 2

    def test_a_thumb_without_a_sender_is_ignored(self) -> None:
        ThumbUpHandler().handle(Messaging.from_item({}, entry_id=PAGE))
        assert not models.FBUserProfile.objects.exists()


@pytest.mark.django_db
class TestLocation:
    def test_the_whole_location_is_stored_url_included(self) -> None:
        LocationHandler().handle(place({"coordinates": {"lat": 37.483872693672, "long": -122.14900441942}}))
        row = models.UserLocation.objects.get()
        assert row.user == person()
        assert (row.latitude, row.longitude) == (
            decimal.Decimal("37.483872693672"),
            decimal.Decimal("-122.14900441942"),
        )
        assert (row.title, row.url, row.mid, row.seq) == ("Ada's", "https://example.com/map", "m_2", 7)
        assert row.timestamp == as_stored(datetime.datetime(2016, 11, 11, 23, 43, 12, tzinfo=datetime.UTC))

    @pytest.mark.parametrize(
        "payload",
        [
            None,
            {},
            {"coordinates": None},
            {"coordinates": {}},
            {"coordinates": {"lat": 91, "long": 0}},
            {"coordinates": {"lat": 0, "long": -180.5}},
            {"coordinates": {"lat": "north", "long": 0}},
        ],
    )
    def test_a_place_that_is_none_is_logged_and_left_out(
        self, payload: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        LocationHandler().handle(place(payload))
        assert not models.UserLocation.objects.exists()
        assert caplog.records[-1].__dict__["action"] == "location_refused"

    def test_a_location_without_a_sender_is_ignored(self) -> None:
        messaging = place({"coordinates": {"lat": 1, "long": 2}})
        messaging.sender = None
        messaging.recipient = None
        LocationHandler().handle(messaging)
        assert not models.UserLocation.objects.exists()

    def test_a_text_that_is_too_long_is_cut(self) -> None:
        messaging = place({"coordinates": {"lat": 1, "long": 2}})
        assert messaging.message is not None
        messaging.message.mid = "m" * 300
        messaging.attachments[0].title = "t" * 300
        LocationHandler().handle(messaging)
        SaveMessagingHandler().handle(messaging)
        row = models.UserLocation.objects.get()
        assert (row.title, row.mid) == ("t" * 255, "m" * 255)
        assert models.Messaging.objects.get().mid == "m" * 255

    def test_other_messagings_have_no_place(self) -> None:
        LocationHandler().handle(text())
        assert not models.UserLocation.objects.exists()

    @given(st.floats(-90, 90), st.floats(-180, 180))
    def test_every_place_on_earth_fits_the_columns(self, latitude: float, longitude: float) -> None:
        LocationHandler().handle(place({"coordinates": {"lat": latitude, "long": longitude}}))
        row = models.UserLocation.objects.latest("id")
        assert float(row.latitude) == pytest.approx(latitude, abs=1e-12)
        assert float(row.longitude) == pytest.approx(longitude, abs=1e-12)


class Ordered(BaseQuickReplyHandler):
    def handle(self, messaging: Messaging) -> None: ...


class Pressed(BasePostbackHandler):
    def handle(self, messaging: Messaging) -> None: ...


class TestPayloads:
    @staticmethod
    def quick_reply(payload: str) -> Messaging:
        return event(message={"mid": "m", "text": "Order 3", "quick_reply": {"payload": payload}})

    def test_quick_reply(self) -> None:
        messaging = self.quick_reply(OrderPayload(3).serialize())
        assert Ordered().get_payload(messaging) == OrderPayload(3)
        assert Ordered().get_text(messaging) == "Order 3"
        assert Ordered().get_payload_string_from_messaging(messaging) == OrderPayload(3).serialize()

    def test_postback(self) -> None:
        messaging = event(postback={"title": "Order 3", "payload": OrderPayload(3).serialize()})
        assert Pressed().get_payload(messaging) == OrderPayload(3)

    @pytest.mark.parametrize(
        ("payload", "error"),
        [
            ("", ValueError),
            ("ORDER", ValueError),
            ("[]", ValueError),
            ("{}", ValueError),
            ('{"payload_class": "not.loaded.Order"}', ImportError),
            ('{"payload_class": "djmessenger.payload.Nothing"}', AttributeError),
            ('{"payload_class": "os.system"}', (ValueError, AttributeError)),
        ],
    )
    def test_get_payload_swallows_no_error(self, payload: str, error: Any) -> None:
        with pytest.raises(error):
            Ordered().get_payload(self.quick_reply(payload))

    def test_other_messagings_carry_no_payload(self) -> None:
        assert Ordered().get_payload_string_from_messaging(text()) == ""
        assert Pressed().get_payload_string_from_messaging(text()) == ""
        with pytest.raises(ValueError, match="empty"):
            Pressed().get_payload(text())

    @pytest.mark.parametrize(
        "cls", [BaseHandler, BasePayloadHandler, BasePostbackHandler, BaseQuickReplyHandler]
    )
    def test_parents_are_abstract(self, cls: type[BaseHandler]) -> None:
        with pytest.raises(TypeError):
            cls()


@pytest.mark.django_db
def test_profiles_and_messages_stay_out_of_the_log(
    transport: FakeTransport, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "djmessenger")
    messaging = place({"coordinates": {"lat": 37.483872693672, "long": 2}}, text="my secret")
    for handler in (UserProfileHandler(), SaveMessagingHandler(), ThumbUpHandler(), LocationHandler()):
        handler.handle(messaging)
    transport.answers = [(400, {"error": {"code": 100, "message": "Ada is secret"}})]
    models.FBUserProfile.objects.update(profile_state=States.NEW)
    UserProfileHandler().handle(text("my secret"))
    for word in ("Ada", "Byron", "my secret", "37.48", "made-up"):
        assert word not in caplog.text.replace("Ada is secret", "")


def test_a_generator_is_exhausted_before_its_items_are_examined():
    """Its rule may have opened a transaction around its items."""
    ended = []

    def answers():
        try:
            yield "one"
            yield object()
        finally:
            ended.append(True)

    with pytest.raises(TypeError) as refused:
        as_messages(answers())
    assert ended == [True], refused.value
