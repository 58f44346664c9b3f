"""The simulator's server side: who may use it, what goes where, and that no act leaves the real engine."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connections
from django.test import Client
from django.urls import include, path

from djmessenger import bot, models
from djmessenger.bot.pages import app_secrets, page_access_token
from djmessenger.graph.errors import GraphError, NotSent, UnknownFate, WindowClosed
from djmessenger.graph.wire import Request, Response
from djmessenger.simulator import access, checks, export, files, samples, screen, transport
from djmessenger.simulator import session as session_module
from djmessenger.simulator.actions import Actions
from djmessenger.testing import Messenger
from messenger_emulator import FAULTS, NoAnswer

urlpatterns = [
    path("simulator/", include("djmessenger.simulator.urls")),
    path("admin/", admin.site.urls),
    path("", include("djmessenger.urls")),
]

WIRE = Path(__file__).parent / "wire"
GETS = [
    "",
    "assets/simulator.js",
    "state",
    "catalogue",
    "sample?name=message_text",
    "details?mid=m_1",
    "traffic",
    "export",
    "linked",
]
POSTS = ["orders/act", "orders/restart", "files"]


class ManualSession(session_module.Session):
    """A session that posts its callbacks to the view when the test calls for it, in this thread."""

    def start(self, callback_url=""):
        self.callback_url = callback_url or self.callback_url

    def _send(self, body, headers):
        named = {key: value for key, value in headers.items() if key != "Content-Type"}
        response = Client().post("/messenger", body, content_type="application/json", headers=named)
        return response.status_code


@pytest.fixture
def simulator(settings, monkeypatch, db):
    settings.DEBUG = True
    settings.DJM_PAGE_ACCESS_TOKEN = ""
    settings.DJM_APP_SECRET = ""
    settings.ROOT_URLCONF = "tests.test_simulator"
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "djmessenger.simulator"]
    monkeypatch.setattr(session_module, "Session", ManualSession)
    session_module.forget_session()
    transport.install()
    yield session_module.get_session
    bot.use_transport(None)
    session_module.forget_session()


@pytest.fixture
def ana(simulator, transactional_db):
    session = simulator()
    return session.add_person(name="Ana Torres", locale="en_US")


def does(person, act, *args, **options):
    session = session_module.get_session()
    status, answer = Actions(session)(
        "act", {"person": person.id, "act": act, "args": list(args), "options": options}
    )
    assert status == 200, answer
    session.post_due()
    return answer


def get(client, name, **kwargs):
    return client.get(f"/simulator/{name}", **kwargs)


def test_details_of_what_no_database_takes_are_empty(ana, client):
    response = get(client, "details", data={"person": "\x00", "mid": "m_\x00"})
    assert response.status_code == 200
    assert response.json()["rows"] == []


# Access


@pytest.mark.parametrize("name", [*GETS, *POSTS, "files/key/name", "graph/v26.0/me/messages"])
def test_404_where_it_is_not_enabled(simulator, settings, client, admin_user, name):
    settings.DEBUG = False
    client.force_login(admin_user)
    assert client.get(f"/simulator/{name}").status_code == 404
    assert client.post(f"/simulator/{name}").status_code == 404


@pytest.mark.parametrize("name", [*GETS, *POSTS])
def test_outside_debug_it_is_for_staff_alone(simulator, settings, client, db, name):
    settings.DEBUG = False
    settings.DJM_SIMULATOR = True
    assert client.get(f"/simulator/{name}").status_code == 404
    assert client.post(f"/simulator/{name}").status_code == 404
    client.force_login(User.objects.create_user("customer"))
    assert client.get(f"/simulator/{name}").status_code == 404
    client.force_login(User.objects.create_user("staff", is_staff=True))
    assert client.get(f"/simulator/{name}").status_code != 404 or name.startswith("sample")


@pytest.mark.parametrize("name", POSTS)
def test_visitors_without_access_get_404_before_an_error_about_the_token(simulator, settings, name):
    settings.DEBUG = False
    settings.DJM_SIMULATOR = True
    strict = Client(enforce_csrf_checks=True)
    assert strict.post(f"/simulator/{name}", "{}", content_type="application/json").status_code == 404


def test_in_debug_it_is_open(simulator, client, db):
    for name in GETS:
        session_module.get_session().add_person()
        wanted = {"sample?name=message_text": 404, "linked": 400}.get(name, 200)
        assert get(client, name).status_code == wanted, name


@pytest.mark.parametrize("name", POSTS)
def test_every_post_needs_the_csrf_token(simulator, name):
    strict = Client(enforce_csrf_checks=True)
    refused = strict.post(f"/simulator/{name}", "{}", content_type="application/json")
    assert refused.status_code == 403
    page = get(strict, "")
    token = page.context["csrf_token"]
    allowed = strict.post(
        f"/simulator/{name}", "{}", content_type="application/json", headers={"X-CSRFToken": str(token)}
    )
    assert allowed.status_code in {200, 400}


@pytest.mark.parametrize("name", GETS)
def test_each_answer_has_the_strict_policy(simulator, client, db, name):
    session_module.get_session().add_person()
    response = get(client, name)
    if response.status_code == 200:
        assert response["Content-Security-Policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https:; "
            "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        )
        assert response["X-Content-Type-Options"] == "nosniff"


def test_the_page_holds_no_inline_script_or_style(simulator, client):
    text = get(client, "").content.decode()
    assert "<style" not in text
    assert "style=" not in text
    assert "onclick" not in text
    assert text.count("<script") == 1


def test_only_the_assets_are_served(simulator, client):
    assert get(client, "assets/simulator.js").status_code == 200
    assert get(client, "assets/session.py").status_code == 404
    assert get(client, "assets/..%2fsession.py").status_code == 404
    packed = get(client, "assets/simulator.css", headers={"Accept-Encoding": "gzip"})
    assert packed["Content-Encoding"] == "gzip"
    again = get(client, "assets/simulator.css", headers={"If-None-Match": packed["ETag"]})
    assert again.status_code == 304


def test_a_check_warns_of_a_live_site(settings):
    settings.DEBUG = False
    settings.DJM_SIMULATOR = True
    assert [one.id for one in checks.check_simulator()] == ["djmessenger.W050"]
    settings.DJM_SIMULATOR = False
    assert checks.check_simulator() == []


# The engine


def test_an_act_takes_the_whole_pipeline(ana, client):
    does(ana, "says", "hi")
    assert ana.texts
    event = models.Messaging.objects.get(type="SIMPLE_TEXT")
    assert event.state == "done"
    delivery = session_module.get_session().emulator.deliveries[0]
    assert bytes(event.callback.body) == delivery.body
    told = get(client, f"details?person={ana.id}&mid={ana.received[-1].mid}").json()
    assert told["event"]["type"] == "SIMPLE_TEXT"
    assert told["event"]["nodes"]
    assert told["deliveries"][0]["headers"]["X-Hub-Signature-256"].startswith("sha256=")
    assert [call["is_this"] for call in told["calls"]].count(True) == 1
    assert {row["name"].split()[0] for row in told["rows"]} >= {"callback", "messaging", "reply", "attempt"}
    assert told["rows"][0]["url"].startswith("/admin/djmessenger/callback/")
    assert told["times"][0] == {"what": "callback posted", "at": 0.0}
    own = get(client, f"details?person={ana.id}&mid={ana.thread[0].mid}").json()
    assert own["event"] == told["event"]


def test_tokens_and_secrets_stand_nowhere_in_the_answers(ana, client):
    does(ana, "says", "hi")
    secrets = [secret.reveal() for secret in (page_access_token(), *app_secrets().values())]
    names = ["", "state", "traffic", "export", f"details?person={ana.id}&mid={ana.thread[0].mid}"]
    names += ["details?call=0", "details?delivery=0"]
    for name in names:
        text = get(client, name).content.decode()
        assert not [one for one in secrets if one in text], name


def test_the_state_is_sent_only_when_it_changed(ana, client):
    first = get(client, "state").json()
    assert first["state"]["screen"]["id"] == ana.id
    assert "state" not in get(client, f"state?known={first['version']}").json()
    does(ana, "says", "hi")
    assert get(client, f"state?known={first['version']}").json()["state"]["screen"]["thread"]


def test_the_bot_sets_its_profile_as_on_a_real_page(simulator, settings):
    settings.DJM_THREAD_GREETINGS_TEXT = "Good day"
    settings.DJM_THREAD_PERSISTENT_MENUS = [{"type": "postback", "title": "Help"}]
    session = simulator()
    session.configure()
    person = session.add_person()
    assert person.greeting == "Good day"
    assert [item["title"] for item in person.menu] == ["Help"]
    second = session.add_page("Second")
    assert session.add_person(second).menu == person.menu


def test_a_declared_profile_is_there_too(simulator, settings):
    settings.DJM_PROFILE = {
        "greeting": "Hello {{user_first_name}}!",
        "get_started": True,
        "ice_breakers": [{"question": "Open today?", "payload": "HOURS"}],
    }
    session = simulator()
    session.configure()
    ben = session.add_person(None, "Ben Yilmaz")
    assert session.problem == ""
    assert ben.greeting == "Hello Ben!"
    assert [item["question"] for item in ben.ice_breakers] == ["Open today?"]


def test_a_second_page_answers_its_own_persons(ana):
    session = session_module.get_session()
    ben = session.add_person(session.add_page("Second"), "Ben Yilmaz")
    does(ben, "says", "hi")
    assert ben.texts
    assert not ana.thread
    assert set(models.Page.objects.values_list("page_id", flat=True)) == {ben.page.id}


def test_a_button_is_pressed_by_its_place(ana):
    session = session_module.get_session()
    message = {
        "attachment": {
            "type": "template",
            "payload": {
                "template_type": "generic",
                "elements": [
                    {
                        "title": name,
                        "subtitle": "x",
                        "buttons": [{"type": "postback", "title": "Order", "payload": name}],
                    }
                    for name in ("A", "B")
                ],
            },
        }
    }
    does(ana, "says", "x")
    bot.get_client().send({"id": ana.id}, {"message": message})
    mid = ana.received[-1].mid
    status, answer = Actions(session)("press", {"person": ana.id, "mid": mid, "index": 1})
    assert status == 200
    assert answer["item"]["postback"]["payload"] == "B"
    assert Actions(session)("press", {"person": ana.id, "mid": mid, "index": 7})[0] == 400
    assert "ana.taps('Order', on='B')" in export.as_test(session, ana.page.id)


def test_a_log_in_page_leads_back_here(ana, client):
    button = {"type": "account_link", "url": "https://shop.example.com/login"}
    payload = {
        "template_type": "button",
        "text": "Who are you?",
        "buttons": [button, {"type": "account_unlink"}],
    }
    does(ana, "says", "x")
    bot.get_client().send(
        {"id": ana.id}, {"message": {"attachment": {"type": "template", "payload": payload}}}
    )
    press = {"person": ana.id, "mid": ana.received[-1].mid, "index": 0}
    opened = client.post("/simulator/orders/press", json.dumps(press), content_type="application/json").json()
    (way_back,) = parse_qs(urlsplit(opened["opened"]).query)["redirect_uri"]
    assert way_back.startswith("http://testserver/simulator/linked?account_linking_token=")
    assert client.get(way_back).status_code == 400
    assert client.get("/simulator/linked?account_linking_token=1&authorization_code=x").status_code == 400
    assert not ana.linked
    assert client.get(f"{way_back}&authorization_code=cust-20177").status_code == 200
    session = session_module.get_session()
    session.post_due()
    assert ana.linked == "cust-20177"
    assert Actions(session)("press", {**press, "index": 1})[0] == 200
    session.post_due()
    assert not ana.linked
    linking = models.Messaging.objects.filter(type="ACCOUNT_LINKING").order_by("id")
    assert [row.body["entry"][0]["messaging"][0]["account_linking"] for row in linking] == [
        {"status": "linked", "authorization_code": "cust-20177"},
        {"status": "unlinked"},
    ]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("act", {}),
        ("act", {"act": "says", "person": "1"}),
        ("act", {"act": "__init__", "args": []}),
        ("act", {"act": "taps", "args": ["Nowhere"]}),
        ("act", {"act": "says", "args": {"text": 1}}),
        ("act", {"act": "says", "args": [1]}),
        ("act", {"act": "says", "args": ["x"], "options": ["x"]}),
        ("act", {"act": "says", "args": ["x"], "options": {"text": 1}}),
        ("act", {"act": "sends_location", "args": ["here", "there"]}),
        ("act", {"act": "sends_attachment", "args": [1]}),
        ("act", {"act": "answers_feedback", "args": ["x"]}),
        ("press", {"mid": "m_1"}),
        ("person", {"name": ""}),
        ("person", {"name": "A", "timezone": 99}),
        ("person", {"name": "A", "page": "1"}),
        ("page", {"name": "P", "channel": "pigeon"}),
        ("clock", {"hours": -1}),
        ("clock", {"hours": "nan"}),
        ("clock", {"hours": 1e300}),
        ("fault", {"name": "gremlins"}),
        ("fault", {"name": "delay", "times": "x"}),
        ("fault", {"name": "delay", "seconds": "long"}),
        ("fault", {"name": "batch", "shape": 1}),
        ("profile", {"properties": {"greeting": 1}}),
        ("set", {"person": "1", "blocked": True}),
    ],
)
def test_a_wrong_order_is_answered_with_a_sentence(ana, client, name, values):
    if name == "act" and "person" not in values:
        values = {**values, "person": ana.id}
    response = client.post(f"/simulator/orders/{name}", json.dumps(values), content_type="application/json")
    assert response.status_code == 400
    assert response.json()["error"]


@pytest.mark.parametrize("body", ["", "[]", "{", "[" * 100_000, '"x"', "\x00"])
def test_any_body_of_an_order_is_survived(simulator, client, body):
    response = client.post("/simulator/orders/act", body, content_type="application/json")
    assert response.status_code == 400
    assert client.post("/simulator/orders/nothing", "{}", content_type="application/json").status_code == 404


def test_start_again_makes_all_persons_new_to_the_bot(ana):
    does(ana, "says", "hi")
    session = session_module.get_session()
    session.add_page("Second")
    assert Actions(session)("restart", {})[0] == 200
    again = next(iter(session.emulator.persons.values()))
    assert (again.name, again.thread) == ("Ana Torres", [])
    assert again.id != ana.id
    assert [page.name for page in session.emulator.pages.values()] == ["Your Page", "Second"]
    does(again, "says", "hi")
    assert again.texts


def test_the_clock_closes_the_window(ana):
    does(ana, "says", "hi")
    session = session_module.get_session()
    assert Actions(session)("clock", {"hours": 25})[0] == 200
    with pytest.raises(WindowClosed):
        bot.get_client().send({"id": ana.id}, {"message": {"text": "too late"}})


def test_the_countdown_follows_the_window_of_each_act(ana):
    session = session_module.get_session()

    def left():
        hours = screen.state(session, ana.id)["persons"][0]["window"] / 3600
        return round(hours)

    does(ana, "says", "hi")
    assert left() == 24
    Actions(session)("clock", {"hours": 30})
    does(ana, "opens_link", "autumn", source="ADS")
    assert left() == -6
    does(ana, "says", "hi")
    assert left() == 7 * 24
    Actions(session)("clock", {"hours": 7 * 24 + 1})
    does(ana, "reacts")
    assert left() == 24


# Raw JSON and the samples


def test_the_samples_are_those_of_the_tests():
    names = {file.stem for file in WIRE.glob("*.json")} - {"MANIFEST", "signature_vectors"}
    assert set(samples.samples()) == names
    for name in names:
        assert samples.samples()[name] == json.loads((WIRE / f"{name}.json").read_text(encoding="utf-8")), (
            name
        )


def test_each_sample_can_be_sent(ana, client):
    session = session_module.get_session()
    for number, name in enumerate(sorted(samples.samples())):
        body = get(client, f"sample?name={name}&person={ana.id}").json()["body"]
        assert Actions(session)("raw", {"page": ana.page.id, "body": body})[0] == 200
        session.post_due()
        told = get(client, f"details?delivery={number}").json()
        assert told["deliveries"][0]["status"] == 200, name
    assert len(get(client, "traffic").json()["lines"]) > number


def test_two_requests_at_once_find_one_stage(simulator):
    session_module.forget_session()
    found = []

    def ask():
        found.append(session_module.get_session())
        connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_raw_rubbish_is_posted_as_it_is(ana, client):
    session = session_module.get_session()
    Actions(session)("raw", {"body": "no JSON \ud800"})
    session.post_due()
    told = get(client, "details?delivery=0").json()
    assert told["deliveries"][0]["status"] == 200
    assert told["callback_state"]["state"] == "quarantined"


# Files


def test_files_have_addresses_that_cannot_be_guessed(ana, client):
    svg = SimpleUploadedFile("a b.svg", b"<svg onload='alert(1)'/>", content_type="image/svg+xml")
    response = client.post("/simulator/files", {"person": ana.id, "file": svg})
    assert response.status_code == 200, response.content
    part = ana.thread[-1].message["attachments"][0]
    assert part["type"] == "file"
    got = client.get(part["payload"]["url"])
    assert got.content == b"<svg onload='alert(1)'/>"
    assert got["Content-Type"] == "application/octet-stream"
    assert got["Content-Disposition"].startswith("attachment")
    assert "sandbox" in got["Content-Security-Policy"]
    png = SimpleUploadedFile("../../x.png", b"\x89PNG", content_type="image/png")
    client.post("/simulator/files", {"person": ana.id, "file": png})
    part = ana.thread[-1].message["attachments"][0]
    assert part["type"] == "image"
    assert part["payload"]["url"].endswith("/x.png")


def test_files_make_room_and_have_a_limit(monkeypatch):
    kept = files.Files()
    with pytest.raises(ValueError, match="25 MB"):
        kept.add("x", "image/png", b"x" * (files.MOST_BYTES + 1))
    with pytest.raises(ValueError, match="empty"):
        kept.add("x", "image/png", b"")
    monkeypatch.setattr(files, "_MOST_TOTAL_BYTES", 10)
    first, _kept = kept.add("a", "image/png", b"123456")
    second, _kept = kept.add("b", "image/png", b"123456")
    assert kept.get(first) is None
    assert kept.get(second) is not None


# Messages of the bot


class Network:
    def __init__(self):
        self.requests = []

    def send(self, request):
        self.requests.append(request)
        return Response(200, {}, b'{"recipient_id": "7215540983316204", "message_id": "m_real"}')


@pytest.fixture
def network(monkeypatch):
    made = Network()
    monkeypatch.setattr(transport, "default_transport", lambda: made)
    return made


def test_without_a_real_token_nothing_goes_to_meta(ana, network):
    does(ana, "says", "hi")
    with pytest.raises(GraphError):
        bot.get_client().send({"id": "7215540983316204"}, {"message": {"text": "hi"}})
    assert network.requests == []


def test_with_a_real_token_simulated_traffic_still_stays_here(simulator, settings, network, transactional_db):
    settings.DJM_PAGE_ACCESS_TOKEN = "made-up-but-set"
    settings.DJM_THREAD_GREETINGS_TEXT = "Good day"
    session = simulator()
    session.configure()
    ana = session.add_person()
    does(ana, "says", "hi")
    assert ana.greeting == ""
    assert ana.texts
    session.restart()
    with pytest.raises(GraphError):
        bot.get_client().send({"id": ana.id}, {"message": {"text": "of a life before"}})
    assert network.requests == []
    bot.get_client().send({"id": "7215540983316204"}, {"message": {"text": "hi"}})
    assert len(network.requests) == 1


def test_the_pages_of_the_settings_are_there_with_their_tokens(
    simulator, settings, network, transactional_db
):
    settings.DJM_PAGES = {
        "111": {"token": "made-up-one"},
        "222": {"token": "made-up-two", "channel": "messenger"},
    }
    session = simulator()
    assert list(session.emulator.pages) == ["111", "222"]
    ben = session.add_person(session.emulator.pages["222"], "Ben Yilmaz")
    does(ben, "says", "hi")
    assert ben.texts
    assert network.requests == []
    status, answer = Actions(session)("page", {"name": "A third"})
    assert status == 400
    assert "DJM_PAGES" in answer["error"]


def test_a_project_that_names_another_graph_keeps_it(simulator, settings):
    bot.use_transport(None)
    settings.DJM_GRAPH_URL = "http://127.0.0.1:8000/simulator/graph"
    transport.install()
    assert not isinstance(bot.get_client().transport, transport.SimulatorTransport)


def test_another_process_reaches_the_emulator_over_http(ana, client):
    does(ana, "says", "hi")
    body = json.dumps({"recipient": {"id": ana.id}, "message": {"text": "from the worker"}})
    proof = {"Authorization": f"Bearer {page_access_token().reveal()}"}
    session_module.get_session().first_page.require_proof = False
    strict = Client(enforce_csrf_checks=True)

    def call(headers):
        return strict.post(
            "/simulator/graph/v26.0/me/messages", body, content_type="application/json", headers=headers
        )

    assert call({}).json()["error"]["code"] == 2500
    assert call({"Authorization": "Bearer wrong"}).json()["error"]["code"] == 190
    assert call(proof).json()["recipient_id"] == ana.id
    assert ana.texts[-1] == "from the worker"
    with session_module.get_session().emulator.faults.active("timeout_after"):
        broken = call(proof)
        with pytest.raises(ValueError, match="Expecting"):
            json.loads(b"".join(broken.streaming_content))
    with session_module.get_session().emulator.faults.active("unreachable"):
        assert call(proof).status_code == 503


def test_faults_without_an_answer_reach_the_client_as_such(ana):
    does(ana, "says", "hi")
    request = Request("POST", "https://graph.facebook.com/v26.0/me/messages", {}, b"{}", 1.0)
    with (
        session_module.get_session().emulator.faults.active("timeout_before"),
        pytest.raises(UnknownFate),
    ):
        transport.SimulatorTransport().send(request)
    with session_module.get_session().emulator.faults.active("unreachable"), pytest.raises(NotSent):
        transport.SimulatorTransport().send(request)
    with session_module.get_session().emulator.faults.active("unreachable"), pytest.raises(NoAnswer):
        transport.answer("POST", "/v26.0/me/messages", "", {}, b"{}")


def test_every_fault_is_a_switch_of_the_page(ana, client):
    switches = {one["name"] for one in get(client, "catalogue").json()["faults"]}
    assert switches == set(FAULTS)
    for name in switches:
        for on in (True, False):
            assert Actions(session_module.get_session())("fault", {"name": name, "on": on}) == (
                200,
                {"on": (name,) * on},
            )


# As a test of the kit


def told(person):
    return [
        (one.by_page, one.kind, one.text, [button.get("title") for button in one.all_buttons()])
        for one in person.thread
    ]


def test_the_exported_test_passes_in_the_kit_with_the_same_transcript(ana, client):
    does(ana, "says", "hi")
    does(ana, "sends_sticker")
    does(ana, "sends_location", 25.034, 121.5645, "Taipei 101")
    does(ana, "says", 'it\'s "quoted"\n\u202e')
    does(ana, "reacts", "👍", ana.received[-1].mid)
    before = told(ana)
    source = get(client, f"export?page={ana.page.id}").json()["source"]
    bot.use_transport(None)
    namespace = {}
    exec(source, namespace)  # noqa: S102 - the export under test
    with Messenger() as messenger:
        namespace["test_conversation"](messenger)
        (person,) = messenger.emulator.persons.values()
        assert told(person) == before


def test_the_access_rule_needs_no_auth_middleware(settings, rf):
    settings.DEBUG = False
    settings.DJM_SIMULATOR = True
    assert not access.is_open_to(rf.get("/"))
