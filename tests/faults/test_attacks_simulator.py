"""Attacks by way of the simulator and of the emulator's server."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile

from djmessenger import bot, models
from djmessenger.graph.wire import Request
from djmessenger.simulator import session as session_module
from djmessenger.simulator.actions import Actions
from djmessenger.simulator.transport import is_simulated
from messenger_emulator import Emulator
from messenger_emulator.control import Control
from messenger_emulator.server import serve
from tests.test_simulator import ana, does, get, network, simulator  # noqa: F401

REAL_SECRET = "0123456789abcdef0123456789abcdef"
CUSTOMER = "7215540983316204"


def event_of(psid: Any, page_id: str, **more: Any) -> dict[str, Any]:
    return {
        "sender": {"id": psid},
        "recipient": {"id": page_id},
        "timestamp": 1_790_000_000_000,
        "message": {"mid": "m_attack", "text": "Cancel my order"},
        **more,
    }


def body_of(page_id: str, *items: Any, container: str = "messaging", **more: Any) -> str:
    entry = {"id": page_id, "time": 1_790_000_000_000, container: list(items), **more}
    return json.dumps({"object": "page", "entry": [entry]})


@pytest.fixture
def real(simulator, settings, transactional_db):  # noqa: F811
    """A session of a DEBUG site whose settings have a real secret, with a simulated person."""
    settings.DJM_APP_SECRET = REAL_SECRET
    session = simulator()
    session.add_person()
    return session


class TestWithARealSecretOnlySimulatedPersonsAreSpokenFor:
    def bodies(self, session: Any) -> list[str]:
        page = session.first_page.id
        (person,) = session.emulator.persons
        own = event_of(person, page)
        real = event_of(CUSTOMER, page)
        comment = {"field": "feed", "value": {"item": "comment", "from": {"id": CUSTOMER}}}
        twice = body_of(page, own).replace(
            f'"sender": {{"id": "{person}"}}',
            f'"sender": {{"id": "{person}"}}, "sender": {{"id": "{CUSTOMER}"}}',
        )
        assert CUSTOMER in twice
        return [
            body_of(page, real),
            body_of(page, own, real),
            body_of(page, own, container="messaging", standby=[real]),
            body_of(page, event_of(int(CUSTOMER), page)),
            body_of(page, event_of(f"{person}1", page)),
            body_of(page, comment, container="changes"),
            body_of(page, own, changes=[comment]),
            body_of(page, {"field": "messages", "value": real}, container="changes"),
            body_of(page, own, **{key: real[key] for key in ("sender", "recipient", "message")}),
            body_of(page, {"optin": {"user_ref": "checkbox", "ref": "x"}, "recipient": {"id": page}}),
            f"[{body_of(page, own)}, {body_of(page, real)}]",
            twice,
            "",
            "[]",
            "{}",
            "no JSON",
            "\ufeff" + body_of(page, real),
        ]

    def test_a_body_about_anybody_else_is_refused(self, real, client):
        for body in self.bodies(real):
            answer = client.post(
                "/simulator/orders/raw", json.dumps({"body": body}), content_type="application/json"
            )
            assert answer.status_code == 400, body
            assert "DJM_APP_SECRET" in answer.json()["error"]
        real.post_due()
        assert not real.emulator.deliveries
        assert not models.Callback.objects.exists()

    def test_whatever_way_a_body_is_queued_it_is_not_signed(self, real):
        for body in self.bodies(real):
            real.emulator.emit_raw(real.first_page, body.encode())
        real.post_due()
        assert {one.status for one in real.emulator.deliveries} == {403}
        assert not models.Callback.objects.exists()

    def test_an_act_cannot_name_another_sender(self, real):
        (person,) = real.emulator.persons.values()
        act = {"person": person.id, "act": "does", "args": ["messages", event_of(CUSTOMER, person.page.id)]}
        Actions(real)("act", act)
        real.post_due()
        assert not models.FBUserProfile.objects.filter(psid=CUSTOMER).exists()

    def test_simulated_persons_still_speak(self, real):
        (person,) = real.emulator.persons.values()
        does(person, "says", "hi")
        assert person.texts
        raw = body_of(person.page.id, event_of(person.id, person.page.id))
        assert Actions(real)("raw", {"body": raw}) == (200, {})
        real.post_due()
        assert real.emulator.deliveries[-1].status == 200

    def test_no_signature_is_shown(self, real, client):
        (person,) = real.emulator.persons.values()
        does(person, "says", "hi")
        for query in ("delivery=0", f"person={person.id}&mid={person.thread[0].mid}"):
            answer = get(client, f"details?{query}").content.decode()
            assert '"deliveries": [{' in answer
            assert "sha256=" not in answer
            assert "Signature" not in answer

    def test_the_page_says_so_and_offers_a_made_up_one(self, real, client, settings):
        assert get(client, "state").json()["state"]["offers_secret"] is True
        settings.DJM_APP_SECRET = ""
        session_module.forget_session()
        assert get(client, "state").json()["state"]["offers_secret"] is False


class TestRowsOfRealPersonsNeedThePermissionsOfTheAdmin:
    @pytest.fixture
    def mids(self, simulator, transactional_db) -> list[str]:  # noqa: F811
        """An event of a real customer, and the answer."""
        conversation = models.Conversation.objects.between("104233987650012", CUSTOMER)
        conversation.state = {"order": "of a real customer"}
        conversation.save()
        event = models.Messaging.objects.create(
            type="SIMPLE_TEXT",
            mid="m_real_in",
            conversation=conversation,
            page=conversation.page,
            body={},
            timestamp=1,
            outcome={},
        )
        models.Reply.objects.create(
            conversation=conversation,
            messaging=event,
            mid="m_real_out",
            state="sent",
            type="text",
            recipient_id=CUSTOMER,
            data={},
        )
        return ["m_real_in", "m_real_out"]

    def texts(self, client: Any, mids: list[str]) -> list[str]:
        return [get(client, f"details?mid={mid}").content.decode() for mid in mids]

    def test_anybody_on_a_debug_site_sees_none(self, mids, client):
        assert not [one for one in self.texts(client, mids) if CUSTOMER in one or "real customer" in one]

    def test_staff_without_permissions_see_none(self, mids, client, settings):
        settings.DEBUG = False
        settings.DJM_SIMULATOR = True
        staff = User.objects.create_user("staff", is_staff=True)
        client.force_login(staff)
        assert not [one for one in self.texts(client, mids) if CUSTOMER in one or "real customer" in one]
        staff.user_permissions.set(
            Permission.objects.filter(content_type__app_label="djmessenger", codename__startswith="view_")
        )
        assert all("real customer" in one for one in self.texts(client, mids))

    def test_a_body_that_was_posted_shows_no_row_of_a_real_person(self, mids, simulator, client):  # noqa: F811
        session = simulator()
        session.add_person()
        session.emulator.emit_raw(
            session.first_page, body_of(session.first_page.id, event_of(CUSTOMER, "1")).encode()
        )
        session.post_due()
        told = get(client, "details?delivery=0").json()
        assert told["deliveries"][0]["status"] == 200
        assert (told["event"], told["rows"]) == (None, [])


class TestTheHostHeaderChoosesNoReceiver:
    @pytest.fixture(autouse=True)
    def _any_host(self, settings):
        settings.ALLOWED_HOSTS = ["*"]

    def test_of_callbacks(self, simulator, client):  # noqa: F811
        get(client, "", headers={"Host": "evil.example:81"})
        assert simulator().callback_url == "http://127.0.0.1:80/messenger"

    def test_of_files(self, ana, client):  # noqa: F811
        png = SimpleUploadedFile("x.png", b"\x89PNG", content_type="image/png")
        client.post("/simulator/files", {"person": ana.id, "file": png}, headers={"Host": "evil.example"})
        (part,) = ana.thread[-1].message["attachments"]
        assert part["payload"]["url"].startswith("http://127.0.0.1:80/simulator/files/")

    def test_of_the_log_in_of_another_visitor(self, ana, client):  # noqa: F811
        get(client, "", headers={"Host": "evil.example"})
        assert "evil" not in session_module.get_session().emulator.linking_page

    def test_outside_debug_the_address_is_configured(self, simulator, client, admin_user, settings):  # noqa: F811
        settings.DEBUG = False
        settings.DJM_SIMULATOR = True
        settings.DJM_PAGE_ACCESS_TOKEN = "made-up-but-set"
        client.force_login(admin_user)
        get(client, "")
        assert simulator().callback_url == ""
        assert "DJM_SIMULATOR_CALLBACK" in simulator().problem
        settings.DJM_SIMULATOR_CALLBACK = "https://shop.example/messenger"
        get(client, "")
        assert simulator().callback_url == "https://shop.example/messenger"


class TestTheRecipientAloneDecidesWhoAnswersACall:
    @pytest.mark.parametrize(
        "message",
        [
            {"text": "Your parcel has the number 9000000001234567890."},
            {"metadata": "9000000001234567890", "text": "x"},
        ],
    )
    def test_an_answer_that_quotes_a_number_goes_to_meta(self, simulator, settings, network, message):  # noqa: F811
        settings.DJM_PAGE_ACCESS_TOKEN = "made-up-but-set"
        bot.get_client().send({"id": CUSTOMER}, {"message": message})
        assert len(network.requests) == 1

    @pytest.mark.parametrize(
        ("method", "target", "kind", "body", "stays"),
        [
            (
                "POST",
                "/v26.0/me/messages",
                "application/json",
                {"recipient": {"id": "9000000001234567890"}},
                True,
            ),
            ("POST", "/v26.0/me/messages", "application/json", {"recipient": {"id": CUSTOMER}}, False),
            ("POST", "/v26.0/8/label", "application/json", {"user": "9000000001234567890"}, True),
            ("POST", "/v26.0/me/x", "application/json", {"user_ids": [{"id": "9000000001234567890"}]}, True),
            ("GET", "/v26.0/9000000001234567890?fields=name", "", None, True),
            ("GET", "/v26.0/me/thread_owner?recipient=9000000001234567890", "", None, True),
            ("GET", "/v26.0/me/conversations?user_id=9000000001234567890", "", None, True),
            ("GET", "/v26.0/me/conversations?after=9000000001234567890", "", None, False),
        ],
    )
    def test_each_kind_of_call(self, method, target, kind, body, stays):
        content = None if body is None else json.dumps(body).encode()
        request = Request(method, f"https://graph.facebook.com{target}", {"Content-Type": kind}, content, 1.0)
        assert is_simulated(request) is stays


class TestAnotherNameReachesNoEmulator:
    """DNS rebinding: the browser sends the name of a web page to a server of this machine."""

    @pytest.mark.parametrize(
        ("name", "status"),
        [
            ("localhost", 200),
            ("LOCALHOST:8001", 200),
            ("127.0.0.1", 200),
            ("[::1]:8001", 200),
            ("meta:8001", 200),
            ("evil.example", 421),
            ("evil.example:8001", 421),
            ("localhost.evil.example", 421),
            ("127.0.0.1@evil.example", 421),
            ("[::1", 421),
            ("", 421),
        ],
    )
    def test_the_host_header_is_checked(self, name, status):
        emulator = Emulator()
        emulator.add_page("104233987650012", "made-up-token")
        server = serve(emulator, names=["Meta"])
        server.control = Control(emulator)
        try:
            connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
            connection.putrequest("GET", "/_emulator/state", skip_host=True)
            connection.putheader("Host", name)
            connection.endheaders()
            assert connection.getresponse().status == status
            connection.close()
        finally:
            server.stop()
