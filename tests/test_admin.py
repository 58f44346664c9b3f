"""The admin: what staff see of conversations, and what a person who writes cannot do to them."""

from __future__ import annotations

import datetime
from decimal import Decimal
from html.parser import HTMLParser

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from hypothesis import given
from hypothesis import strategies as st

from djmessenger.admin.base import LISTED, BoundedPaginator, is_https
from djmessenger.admin.dialogue import Cursor, read_dialogue, read_event, read_reply
from djmessenger.admin.outcome import as_tree, in_short
from djmessenger.admin.people import map_url
from djmessenger.clock import as_stored
from djmessenger.models import (
    Attempt,
    Callback,
    Conversation,
    FBUserProfile,
    Messaging,
    Page,
    Reply,
    UserLocation,
)

urlpatterns = [path("admin/", admin.site.urls)]

pytestmark = [pytest.mark.urls("tests.test_admin"), pytest.mark.django_db]

START = as_stored(datetime.datetime(2026, 11, 1, 12, tzinfo=datetime.UTC))
MODELS = [Page, FBUserProfile, Conversation, Messaging, Callback, Reply, Attempt, UserLocation]
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><svg onload='alert(1)'>",
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "{{ settings.SECRET_KEY }}{% debug %}",
    "</textarea></pre></p><iframe src=//evil.example>",
    "<!--<a href='javascript:alert(1)'>x</a>-->",
    "\u202eevil\u202c \u0000 \x1b[31m",
]


def milliseconds(seconds: float) -> int:
    return int((START.timestamp() + seconds) * 1000)


@pytest.fixture
def conversation():
    page = Page.objects.create(page_id="1001", name="Corner Shop")
    person = FBUserProfile.objects.create(psid="2001", page=page, first_name="Ana", last_name="Lima")
    return Conversation.objects.create(page=page, person=person, state={"step": "size"})


@pytest.fixture
def staff(client):
    client.force_login(User.objects.create_superuser("boss"))
    return client


def event(conversation, seconds, body, **fields):
    item = {"sender": {"id": conversation.person_id}, "timestamp": milliseconds(seconds), **body}
    return Messaging.objects.create(
        conversation=conversation,
        page=conversation.page,
        body={"object": "page", "entry": [{"id": conversation.page.page_id, "messaging": [item]}]},
        timestamp=milliseconds(seconds),
        **{"type": "SIMPLE_TEXT", "state": "done", **fields},
    )


def answer(conversation, seconds, text, *, to=None, **fields):
    return Reply.objects.create(
        recipient_id=conversation.person_id,
        conversation=conversation,
        messaging=to,
        type="simple_text",
        data={"message": {"text": text}},
        date_sent=START + datetime.timedelta(seconds=seconds),
        **{"state": "sent", **fields},
    )


def listing(model, **query):
    return reverse(f"admin:djmessenger_{model._meta.model_name}_changelist", query=query)


def change(row):
    return reverse(f"admin:djmessenger_{row._meta.model_name}_change", args=[row.pk])


def one_of_each(conversation, text):
    """Put a text into every column that a person, or Meta, can fill."""
    person = conversation.person
    FBUserProfile.objects.filter(pk=person.pk).update(
        first_name=text[:200].replace("\0", ""),
        last_name=text.replace("\0", ""),
        locale=text[:16].replace("\0", ""),
        profile_pic=text.replace("\0", ""),
    )
    clean = text.replace("\0", "")
    callback = Callback.objects.create(sha256="a" * 64, body=text.encode(), error=clean, state="quarantined")
    row = event(
        conversation,
        1,
        {
            "message": {
                "text": clean,
                "attachments": [
                    {"type": clean, "payload": {"url": clean, "title": clean}},
                    {"type": "image", "payload": {"url": f"https://cdn.example/{clean}", "title": clean}},
                ],
                "quick_reply": {"payload": clean},
            },
            "postback": {"title": clean, "payload": clean},
            "reaction": {"emoji": clean},
        },
        mid=clean[:100],
        callback=callback,
        reason=clean[:200],
        error=clean,
        outcome={
            "summary": clean,
            "applied": [clean],
            "rules": [
                {
                    "name": clean,
                    "applied": False,
                    "refusal": clean,
                    "filters": [{"name": clean, "passed": False, "error": clean}],
                    "steps": [{"kind": clean, "name": clean, "error": clean}],
                }
            ],
            "errors": [clean],
            "suggestion": clean,
        },
    )
    reply = answer(
        conversation,
        2,
        clean,
        to=row,
        rule=clean[:200],
        state="failed",
        error=clean,
        response={"error": {"message": clean}},
        mid=clean[:100],
    )
    attempt = Attempt.objects.create(
        reply=reply, number=1, token="t1", fencing_token=1, fbtrace_id=clean[:64], mid=clean[:255]
    )
    place = UserLocation.objects.create(
        user=person, latitude=Decimal("52.5"), longitude=Decimal("13.4"), title=clean, url=clean
    )
    return [conversation.page, person, conversation, callback, row, reply, attempt, place]


class Html(HTMLParser):
    """The content of a page for a browser: elements with their attributes, and the text."""

    def __init__(self, content: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(content.decode())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def shape(self):
        return [tag for tag, _attributes in self.elements if tag not in {"a", "p", "br"}]


class TestHostileTexts:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_are_shown_as_text_everywhere(self, staff, conversation, text):
        rows = one_of_each(conversation, text)
        for url in [*map(change, rows), *map(listing, MODELS)]:
            response = staff.get(url)
            assert response.status_code == 200
            page = Html(response.content)
            for tag, attributes in page.elements:
                assert tag not in {"iframe", "object", "embed"}
                assert not [name for name in attributes if name.startswith("on")], (url, tag, attributes)
                for name in ("href", "src", "action"):
                    target = (attributes.get(name) or "").strip().lower()
                    assert not target.startswith(("javascript:", "data:", "//")), (url, target)
                    if name == "src" or (tag == "link" and name == "href"):
                        assert not target or target.startswith("/"), (url, target)
                if tag == "script":
                    assert attributes.get("src") or attributes.get("type") == "application/json"

    @pytest.mark.parametrize("text", HOSTILE[:5])
    def test_bring_no_element_of_their_own(self, staff, conversation, text):
        rows = one_of_each(conversation, "plain words")
        plain = [Html(staff.get(change(row)).content).shape() for row in rows]
        for row in rows[2:]:
            if not isinstance(row, Conversation):
                row.delete()
        again = one_of_each(conversation, text)
        assert [Html(staff.get(change(row)).content).shape() for row in again] == plain

    def test_the_words_themselves_are_readable(self, staff, conversation):
        one_of_each(conversation, HOSTILE[0])
        assert HOSTILE[0] in "".join(Html(staff.get(change(conversation)).content).text)


class TestOutsideLinks:
    @pytest.mark.parametrize(
        "url",
        [
            "http://cdn.example/a.jpg",
            "javascript:alert(1)",
            "data:text/html,x",
            "//cdn.example/a",
            "https:///a",
            "https://user@cdn.example/a",
            "https://cdn.example/a b",
            "https://cdn.example/\n",
            'https://cdn.example/"x',
            "https://[cdn",
            "",
            None,
            7,
            {},
        ],
    )
    def test_only_plain_https_addresses_are_links(self, url):
        assert not is_https(url)

    def test_media_are_linked_and_never_loaded(self, staff, conversation):
        body = {
            "message": {
                "attachments": [{"type": "image", "payload": {"url": "https://cdn.example/a.jpg?x=1"}}]
            }
        }
        event(conversation, 1, body, type="IMAGE")
        page = Html(staff.get(change(conversation)).content)
        links = [
            attributes
            for tag, attributes in page.elements
            if attributes.get("href", "").startswith("https://cdn")
        ]
        assert [(link["href"], link["rel"]) for link in links] == [
            ("https://cdn.example/a.jpg?x=1", "noopener noreferrer")
        ]
        assert "img" not in [tag for tag, attributes in page.elements if "cdn" in str(attributes.get("src"))]

    def test_a_location_links_to_a_map(self, staff, conversation):
        place = UserLocation.objects.create(
            user=conversation.person, latitude=Decimal("52.516275"), longitude=Decimal("-13.377704")
        )
        assert map_url(place.latitude, place.longitude) == (
            "https://www.openstreetmap.org/?mlat=52.516275&mlon=-13.377704#map=16/52.516275/-13.377704"
        )
        for url in (listing(UserLocation), change(place)):
            page = Html(staff.get(url).content)
            (link,) = [a for _tag, a in page.elements if "openstreetmap.org" in str(a.get("href"))]
            assert "noreferrer" in link["rel"]


class TestDialogue:
    def texts(self, dialogue):
        return [(bubble.side, bubble.content.text) for bubble in dialogue.bubbles]

    def test_both_sides_stand_in_one_thread_with_the_rule_behind_each_answer(self, staff, conversation):
        hello = event(
            conversation, 0, {"message": {"text": "hi there"}}, outcome={"applied": ["greet"], "messages": 1}
        )
        answer(conversation, 1, "Hello Ana!", to=hello, rule="greet")
        event(conversation, 60, {"message": {"text": "thanks"}}, outcome={"unhandled": True})
        dialogue = read_dialogue(conversation, Cursor())
        assert self.texts(dialogue) == [("person", "hi there"), ("page", "Hello Ana!"), ("person", "thanks")]
        assert [bubble.rule for bubble in dialogue.bubbles] == ["", "greet", ""]
        assert dialogue.bubbles[0].outcome == "greet (1 message)"
        shown = "".join(Html(staff.get(change(conversation)).content).text)
        assert shown.index("hi there") < shown.index("Hello Ana!") < shown.index("thanks")
        assert "no rule handled it" in shown

    def test_an_answer_never_stands_before_its_cause(self, conversation):
        hello = event(conversation, 10, {"message": {"text": "hi"}})
        answer(conversation, 9, "by a clock that is late", to=hello)
        assert [side for side, _text in self.texts(read_dialogue(conversation, Cursor()))] == [
            "person",
            "page",
        ]

    def test_an_echo_of_our_own_reply_is_not_shown_twice(self, conversation):
        answer(conversation, 1, "Hello", mid="m_1")
        event(conversation, 2, {"message": {"text": "Hello", "is_echo": True}}, type="ECHO", mid="m_1")
        event(conversation, 3, {"message": {"text": "A human here", "is_echo": True}}, type="ECHO", mid="m_2")
        assert self.texts(read_dialogue(conversation, Cursor())) == [
            ("page", "Hello"),
            ("page", "A human here"),
        ]

    def test_receipts_are_ticks(self, conversation):
        answer(conversation, 1, "Hello", date_delivered=START, date_read=START)
        event(conversation, 2, {"read": {"watermark": 1}}, type="READ")
        (bubble,) = read_dialogue(conversation, Cursor()).bubbles
        assert bubble.outcome == "read"

    def test_a_failed_reply_says_why(self, conversation):
        answer(conversation, 1, "Hello", state="failed", error="Traceback\n(#100) No matching user found")
        (bubble,) = read_dialogue(conversation, Cursor()).bubbles
        assert bubble.is_trouble
        assert "No matching user" in bubble.outcome

    def test_the_newest_hundred_come_first_and_older_pages_lose_nothing(self, staff, conversation):
        for number in range(130):
            # Many of them share a millisecond.
            row = event(conversation, number // 10, {"message": {"text": f"in {number}"}})
            answer(conversation, number // 10, f"out {number}", to=row)
        seen, cursor = [], Cursor()
        for _page in range(5):
            dialogue = read_dialogue(conversation, cursor)
            assert len(dialogue.bubbles) <= 100
            seen = self.texts(dialogue) + seen
            if not dialogue.older:
                break
            cursor = Cursor.parse(dialogue.older)
        assert len(seen) == len(set(seen)) == 260
        assert [text for side, text in seen if side == "person"] == [f"in {number}" for number in range(130)]
        newest = staff.get(change(conversation)).content.decode()
        assert "in 129" in newest
        assert "in 12<" not in newest

    def test_a_page_of_it_costs_the_same_whatever_its_length(self, staff, conversation):
        def cost():
            with CaptureQueriesContext(connection) as queries:
                assert staff.get(change(conversation)).status_code == 200
            return len(queries)

        row = event(conversation, 0, {"message": {"text": "hi"}})
        answer(conversation, 1, "Hello", to=row)
        cost()  # The first look in a process also asks for what Django keeps from then on.
        of_two = cost()
        for number in range(40):
            row = event(conversation, number, {"message": {"text": "hi"}})
            answer(conversation, number, "Hello", to=row)
        assert cost() == of_two

    @given(st.text() | st.from_regex(r"-?[0-9]{0,25}\.-?[0-9]{0,25}~-?[0-9]{0,25}", fullmatch=True))
    def test_any_cursor_is_harmless(self, text):
        cursor = Cursor.parse(text)
        assert Cursor.parse(str(cursor)) == cursor

    def test_an_invalid_cursor_is_no_500(self, staff, conversation):
        for cursor in ("x", "1.2~3", "99999999999999999999.1~1", "~", "1.~", "é"):
            assert staff.get(change(conversation), {"before": cursor}).status_code == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=15,
)
WORDS = """
message text attachments attachment payload type url coordinates elements buttons quick_replies quick_reply
postback title reaction referral rules filters steps children name passed error default summary applied
messages seconds errors skipped refused suggestion sender_action message_edit
"""
KNOWING = st.recursive(
    JSON,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(WORDS.split()), inner, max_size=6),
    max_leaves=25,
)


class TestAnyJson:
    @given(KNOWING)
    def test_can_be_read_as_something_said(self, data):
        for said in (read_event(data), read_reply(data)):
            assert isinstance(said.text, str)
            assert all(is_https(url) for _label, url in said.links)

    @given(KNOWING)
    def test_can_be_read_as_an_outcome(self, data):
        assert isinstance(in_short(data), str)
        assert isinstance(as_tree(data).summary, str)


class TestReading:
    def test_a_tap(self):
        said = read_event({"postback": {"title": "Order", "payload": "ORDER"}})
        assert (said.text, said.notes) == ("Order", ["tapped", "ORDER"])

    def test_a_template(self):
        said = read_reply(
            {
                "message": {
                    "attachment": {
                        "type": "template",
                        "payload": {
                            "template_type": "button",
                            "text": "Which size?",
                            "buttons": [{"type": "postback", "title": "Small", "payload": "S"}],
                        },
                    },
                    "quick_replies": [{"content_type": "text", "title": "Large", "payload": "L"}],
                }
            }
        )
        assert (said.text, said.choices, said.notes) == ("Which size?", ["Small", "Large"], ["button"])

    def test_a_sticker_and_a_place(self):
        said = read_event(
            {
                "message": {
                    "attachments": [
                        {
                            "type": "image",
                            "payload": {"sticker_id": 369239263222822, "url": "https://cdn.example/s"},
                        },
                        {"type": "location", "payload": {"coordinates": {"lat": 52.5, "long": 13.4}}},
                    ]
                }
            }
        )
        assert said.links == [("sticker", "https://cdn.example/s")]
        assert said.notes == ["location 52.5, 13.4"]

    def test_reactions_edits_and_deletions(self):
        assert read_event({"reaction": {"action": "react", "emoji": "❤"}}).notes == ["reacted with ❤"]
        assert read_event({"reaction": {"action": "unreact"}}).notes == ["removed a reaction"]
        edited = read_event({"message_edit": {"mid": "m_1", "text": "better", "num_edit": 1}})
        assert (edited.text, edited.notes) == ("better", ["edited"])
        assert read_event({"message": {"mid": "m_1", "is_deleted": True}}).notes == ["deleted by the person"]

    @pytest.mark.parametrize("container", ["messaging", "standby"])
    def test_an_event_in_its_callback(self, container):
        item = {"message": {"text": "hi"}}
        assert read_event({"object": "page", "entry": [{"id": "1", container: [item]}]}).text == "hi"
        assert read_event(item).text == "hi"


OUTCOME = {
    "type": "SIMPLE_TEXT",
    "summary": "SIMPLE_TEXT: 'greet'; 2 asked",
    "authored": True,
    "applied": ["greet"],
    "messages": 1,
    "skipped": 3,
    "default": {"name": "All", "position": 0, "applied": True, "seconds": 0.0},
    "rules": [
        {
            "name": "order",
            "position": 1,
            "applied": False,
            "refusal": "weekdays only",
            "filters": [
                {
                    "name": "all",
                    "passed": False,
                    "children": [
                        {"name": "text order", "passed": True},
                        {"name": "weekdays only", "passed": False},
                    ],
                }
            ],
        },
        {
            "name": "greet",
            "position": 2,
            "applied": True,
            "steps": [{"kind": "replier", "name": "SimpleMessageReplier", "seconds": 0.002, "messages": 1}],
        },
    ],
    "stopped_by": "greet",
}


class TestOutcome:
    def test_says_rule_by_rule_what_happened_and_why_not(self, staff, conversation):
        row = event(conversation, 0, {"message": {"text": "hi"}}, outcome=OUTCOME)
        shown = " ".join("".join(Html(staff.get(change(row)).content).text).split())
        place = 0
        for part in (
            "✓ All",
            "✗ order weekdays only refused it",
            "✗ all",
            "✓ text order",
            "✗ weekdays only",
            "✓ greet",
            "→ replier SimpleMessageReplier 1 message, 2.0 ms",
            "3 more rules of this type were not checked",
        ):
            assert part in shown[place:]
            place = shown.index(part, place)

    def test_in_a_few_words(self):
        assert in_short(OUTCOME) == "greet (1 message)"
        assert in_short({"refused": True, "default": {"name": "All"}}) == "refused by All"
        assert in_short({"unhandled": True, "applied": []}) == "no rule handled it"
        assert in_short({"applied": []}) == "no rule applied"
        assert in_short(None) == ""


class TestRecords:
    @pytest.mark.parametrize("model", MODELS)
    def test_rows_cannot_be_added_or_deleted(self, staff, conversation, model):
        rows = {type(row): row for row in one_of_each(conversation, "words")}
        # A Page may get its token before its first callback.
        added = staff.get(reverse(f"admin:djmessenger_{model._meta.model_name}_add")).status_code
        assert added == (200 if model is Page else 403)
        delete = reverse(f"admin:djmessenger_{model._meta.model_name}_delete", args=[rows[model].pk])
        assert staff.post(delete, {"post": "yes"}).status_code == 403
        assert model.objects.filter(pk=rows[model].pk).exists()

    @pytest.mark.parametrize("model", [Conversation, Messaging, Callback, Reply, UserLocation])
    def test_recorded_fields_cannot_be_changed(self, staff, conversation, model):
        rows = {type(row): row for row in one_of_each(conversation, "words")}
        assert staff.post(change(rows[model]), {"state": "new", "type": "x"}).status_code == 403

    def test_a_person_can_be_made_inactive_and_nothing_else_is_written(self, staff, conversation):
        url = change(conversation.person)
        assert staff.post(url, {"first_name": "Eve", "thumbups": "99"}).status_code == 302
        person = FBUserProfile.objects.get()
        assert (person.is_active, person.first_name, person.thumbups) == (False, "Ana", 0)

    def test_saving_writes_only_what_was_changed(self, staff, conversation, django_assert_num_queries):

        with CaptureQueriesContext(connection) as queries:
            staff.post(change(conversation.person), {})
        (update,) = [q["sql"] for q in queries if q["sql"].startswith('UPDATE "djmessenger_fbuserprofile"')]
        assert "is_active" in update
        assert "thumbups" not in update

    def test_view_permission_reads_and_no_permission_does_not(self, client, conversation):
        reader = User.objects.create_user("reader", is_staff=True)
        client.force_login(reader)
        assert client.get(change(conversation)).status_code == 403
        assert client.get(listing(Conversation)).status_code == 403
        reader.user_permissions.add(Permission.objects.get(codename="view_conversation"))
        assert client.get(change(conversation)).status_code == 200
        assert client.post(change(conversation), {}).status_code == 403
        assert client.get(listing(Messaging)).status_code == 403

    def test_the_raw_bytes_of_a_callback_are_shown(self, staff):
        row = Callback.objects.create(sha256="b" * 64, body=b'{"caf\xc3\xa9": "\xff\x00<b>"}')
        shown = "".join(Html(staff.get(change(row)).content).text)
        assert '{"café": "\\xff\\x00<b>"}' in shown

    def test_a_reply_shows_every_attempt_and_what_graph_answered(self, staff, conversation):
        error = {"error": {"code": 551, "message": "This person isn't available right now."}}
        reply = answer(conversation, 1, "Hello", state="failed", response=error, status_code=400)
        Attempt.objects.create(
            reply=reply,
            number=1,
            token="made-up",
            fencing_token=1,
            outcome="refused",
            code=551,
            status_code=400,
        )
        shown = "".join(Html(staff.get(change(reply)).content).text)
        assert "This person isn't available right now." in shown
        assert "1: refused" in shown
        assert "HTTP 400, code 551" in shown

    def test_no_secret_is_shown(self, staff, conversation, settings):
        settings.DJM_PAGE_ACCESS_TOKEN = "canary-token-1"
        settings.DJM_APP_SECRET = "canary-secret-2"
        settings.DJM_ENDPOINT_VERIFY_TOKEN = "canary-verify-3"
        rows = one_of_each(conversation, "words")
        for url in [*map(change, rows), *map(listing, MODELS)]:
            assert b"canary-" not in staff.get(url).content


class TestLists:
    @pytest.mark.parametrize("model", MODELS)
    def test_cost_the_same_queries_for_one_row_and_for_many(
        self, staff, model, django_assert_max_num_queries
    ):
        def fill(first, last):
            for number in range(first, last):
                page, _new = Page.objects.get_or_create(page_id=f"10{number % 3}")
                person = FBUserProfile.objects.create(psid=f"2{number:04}", page=page)
                talk = Conversation.objects.create(page=page, person=person)
                callback = Callback.objects.create(sha256=f"{number:064}", body=b"{}")
                row = event(talk, number, {"message": {"text": "hi"}}, callback=callback)
                reply = answer(talk, number, "Hello", to=row)
                Attempt.objects.create(reply=reply, number=1, token=f"t{number}", fencing_token=1)
                UserLocation.objects.create(user=person, latitude=1, longitude=2)

        fill(0, 30)
        with django_assert_max_num_queries(6) as queries:
            assert staff.get(listing(model)).status_code == 200
        assert not [q for q in queries if "COUNT(" in q["sql"] and "LIMIT" not in q["sql"]]

    @pytest.mark.parametrize(
        ("model", "term"),
        [
            (Page, "1001"),
            (Page, "corner"),
            (FBUserProfile, "2001"),
            (FBUserProfile, "an"),
            (FBUserProfile, "LIM"),
            (Conversation, "2001"),
            (Conversation, "ana"),
            (Messaging, "m_in"),
            (Messaging, "2001"),
            (Messaging, "key-1"),
            (Reply, "m_out"),
            (Reply, "2001"),
            (Callback, "abcdef" + "0" * 58),
            (Callback, "ABCDEF"),
            (UserLocation, "2001"),
        ],
    )
    def test_find_by_id_and_by_name(self, staff, conversation, model, term):
        callback = Callback.objects.create(sha256="abcdef" + "0" * 58, body=b"{}")
        row = event(conversation, 1, {}, mid="m_in", key="key-1", callback=callback)
        answer(conversation, 2, "Hello", to=row, mid="m_out")
        UserLocation.objects.create(user=conversation.person, latitude=1, longitude=2)
        assert staff.get(listing(model, q=term)).context["cl"].result_count == 1
        assert staff.get(listing(model, q="zzz")).context["cl"].result_count == 0
        for odd in ("' OR 1=1", "%", "9" * 400, "١٢"):
            assert staff.get(listing(model, q=odd)).status_code == 200

    @pytest.mark.parametrize("model", MODELS)
    def test_parameters_that_no_database_takes_lead_to_the_list_without_them(self, staff, model):
        for name in (
            "q",
            "type",
            "state__exact",
            "outcome__exact",
            "page__id__exact",
            "window",
            "p",
            "o",
            "any",
        ):
            response = staff.get(listing(model, **{name: "x\x00"}))
            assert (response.status_code, response.headers["Location"]) == (302, f"{listing(model)}?e=1"), (
                name
            )
        assert staff.get(f"{listing(model)}?e=1").status_code == 200

    @pytest.mark.parametrize("model", [Messaging, Callback, Reply, Page])
    @pytest.mark.parametrize("key", ["\x00", "x", "9" * 30])
    def test_an_action_for_what_is_no_key_leads_to_the_list(self, staff, model, key):
        chosen = {"action": "process_again", "_selected_action": [key]}
        response = staff.post(listing(model), chosen)
        assert (response.status_code, response.headers["Location"]) == (302, f"{listing(model)}?e=1")

    @pytest.mark.parametrize("model", MODELS)
    @pytest.mark.parametrize("key", ["%00", "x", "9" * 30, "-1"])
    def test_the_page_of_what_is_no_key_leads_away(self, staff, model, key):
        for name in ("change", "history", "delete"):
            response = staff.get(f"{listing(model)}{key}/{name}/")
            assert response.status_code in {302, 403}, name

    def test_filter_conversations_by_the_window(self, staff, conversation):
        never = conversation
        rows = {}
        for name, hours in (("open", 1), ("closed", -1)):
            person = FBUserProfile.objects.create(psid=f"70{hours + 5}", page=never.page, first_name=name)
            until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
            rows[name] = Conversation.objects.create(page=never.page, person=person, window_until=until)

        def found(**query):
            html = staff.get(listing(Conversation, **query)).content.decode()
            return {row.pk for row in [never, *rows.values()] if change(row) in html}

        assert found() == {never.pk, rows["open"].pk, rows["closed"].pk}
        assert found(window="open") == {rows["open"].pk}
        assert found(window="closed") == {never.pk, rows["closed"].pk}

    def test_filter_by_state_and_type(self, staff, conversation):
        row = event(conversation, 1, {}, type="STICKER", state="failed")
        event(conversation, 2, {})
        answer(conversation, 2, "Hello", to=row, state="failed")
        answer(conversation, 3, "Hello")
        assert staff.get(listing(Messaging, type="STICKER")).context["cl"].result_count == 1
        assert staff.get(listing(Messaging, state__exact="failed")).context["cl"].result_count == 1
        assert staff.get(listing(Reply, state__exact="failed")).context["cl"].result_count == 1
        assert staff.get(listing(Reply, type="simple_text")).context["cl"].result_count == 2
        Attempt.objects.all().delete()
        for outcome in ("refused", "unknown"):
            Attempt.objects.create(
                reply=Reply.objects.first(),
                number=ord(outcome[0]),
                token=outcome,
                fencing_token=1,
                outcome=outcome,
            )
        assert staff.get(listing(Attempt, outcome__exact="refused")).context["cl"].result_count == 1
        assert staff.get(listing(Attempt, q=Reply.objects.first().pk)).context["cl"].result_count == 2
        assert staff.get(listing(Attempt, q="unknown")).context["cl"].result_count == 1

    def test_a_long_table_is_counted_only_so_far(self, conversation, monkeypatch):
        monkeypatch.setattr("djmessenger.admin.base.LISTED", 3)
        for number in range(5):
            event(conversation, number, {})
        paginator = BoundedPaginator(Messaging.objects.order_by("-id"), 2)
        assert (paginator.count, paginator.num_pages, paginator.is_cut) == (3, 2, True)
        assert LISTED == 10_000


class TestDoneOver:
    @pytest.fixture(autouse=True)
    def woken(self, monkeypatch):
        found = []
        monkeypatch.setattr("djmessenger.bot.wake", found.append)
        return found

    @pytest.fixture
    def rows(self, conversation):
        callback = Callback.objects.create(sha256="a" * 64, body=b"{}", state="quarantined", error="x")
        row = event(conversation, 1, {"message": {"text": "hi"}}, state="failed", error="x", tries=8)
        return {
            Messaging: (row, "replay", "new"),
            Reply: (answer(conversation, 2, "Hello", to=row, state="parked", error="x"), "resend", "queued"),
            Callback: (callback, "replay", "new"),
        }

    def act(self, client, action, *rows):
        data = {"action": action, "_selected_action": [row.pk for row in rows]}
        return client.post(listing(type(rows[0])), data, follow=True)

    @pytest.mark.parametrize("model", [Messaging, Reply, Callback])
    def test_puts_a_row_back_and_writes_it_to_the_log(
        self, staff, rows, model, woken, django_capture_on_commit_callbacks
    ):
        row, action, state = rows[model]
        with django_capture_on_commit_callbacks(execute=True):
            page = self.act(staff, action, row)
        assert "1 was queued again" in page.content.decode()
        row.refresh_from_db()
        assert (row.state, row.error) == (state, "")
        assert woken == [row]
        entry = LogEntry.objects.get()
        assert (entry.object_id, entry.user.username) == (str(row.pk), "boss")
        assert entry.get_change_message() in {"replayed", "resent"}

    @pytest.mark.parametrize("model", [Messaging, Reply, Callback])
    def test_is_hidden_from_those_without_the_permission(self, client, rows, model, woken):
        row, action, _state = rows[model]
        name = model._meta.model_name
        reader = User.objects.create_user("reader", is_staff=True)
        others = ["replay_messaging", "resend_reply", "replay_callback"]
        others.remove(f"{action}_{name}")
        for codename in [f"view_{name}", *others]:
            reader.user_permissions.add(Permission.objects.get(codename=codename))
        client.force_login(reader)
        before = row.state
        assert f'value="{action}"' not in client.get(listing(model)).content.decode()
        self.act(client, action, row)
        row.refresh_from_db()
        assert row.state == before
        assert not woken
        assert not LogEntry.objects.exists()
        reader.user_permissions.add(Permission.objects.get(codename=f"{action}_{name}"))
        assert f'value="{action}"' in client.get(listing(model)).content.decode()

    def test_leaves_alone_what_is_done_or_waits(self, staff, conversation, woken):
        done = event(conversation, 1, {"message": {"text": "hi"}})
        waits = event(conversation, 2, {"message": {"text": "hi"}}, state="new")
        assert "2 were skipped" in self.act(staff, "replay", done, waits).content.decode()
        sent = answer(conversation, 3, "Hello")
        assert "1 was skipped" in self.act(staff, "resend", sent).content.decode()
        assert not woken

    def test_says_why_a_reply_cannot_be_sent(self, staff, conversation):
        reply = answer(conversation, 3, "Hello", state="failed")
        Reply.objects.update(conversation=None)
        assert "has no conversation" in self.act(staff, "resend", reply).content.decode()

    def test_needs_a_post_with_a_csrf_token(self, rows):
        client = Client(enforce_csrf_checks=True)
        client.force_login(User.objects.create_superuser("chief"))
        row, action, _state = rows[Messaging]
        assert self.act(client, action, row).status_code == 403

    def test_nothing_can_be_deleted(self, staff, rows):
        for model in rows:
            assert "delete_selected" not in staff.get(listing(model)).content.decode()


@pytest.mark.parametrize("model", MODELS)
def test_every_documented_model_is_there(model):
    assert admin.site.is_registered(model)
