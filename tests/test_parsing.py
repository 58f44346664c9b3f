"""Bytes to events: whatever comes, nothing raises, nothing is lost, and everything found can be stored."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from djmessenger.receiving import Callback, Messaging, ReceivingType
from djmessenger.receiving.decoding import DEEPEST, decode
from djmessenger.receiving.parsing import split

WIRE = Path(__file__).parent / "wire"
SAMPLES = sorted(path for path in WIRE.glob("*.json") if path.stem not in {"MANIFEST", "signature_vectors"})
PAGE, PERSON = "104233987650012", "7215540983316204"


def text(number=1, **more):
    return {
        "sender": {"id": PERSON},
        "recipient": {"id": PAGE},
        "timestamp": 1795425304000 + number,
        "message": {"mid": f"m_{number}", "text": f"text {number}"},
        **more,
    }


def callback(*items, container="messaging", **more):
    return {"object": "page", "entry": [{"id": PAGE, "time": 1795425304462, container: list(items)}], **more}


def wire(document):
    """As Meta writes: compact ASCII with its own escapes."""
    dumped = json.dumps(document, separators=(",", ":"))
    return dumped.replace("/", "\\/").replace("%", "\\u0025").replace("@", "\\u0040").encode("ascii")


def storable(value, level=0):
    """Return whether the jsonb of PostgreSQL and the JSON of SQLite both store the value unchanged."""
    assert level <= DEEPEST
    if isinstance(value, str):
        assert "\0" not in value
        value.encode("utf-8")
    elif isinstance(value, bool) or value is None:
        pass
    elif isinstance(value, int):
        assert -(2**63) <= value < 2**63
    elif isinstance(value, float):
        assert math.isfinite(value)
    else:
        assert isinstance(value, (dict, list))
        for item in value.items() if isinstance(value, dict) else value:
            for one in item if isinstance(item, tuple) else [item]:
                storable(one, level + 1)
    return True


def use(messaging):
    """Read every attribute of an event; none may raise."""
    assert isinstance(messaging.type, ReceivingType)
    assert isinstance(messaging.inner_type, ReceivingType)
    assert 0 < len(messaging.key()) <= 128
    assert messaging.date.tzinfo
    assert isinstance(messaging.timestamp, int)
    assert messaging.json() == messaging.raw
    for word in (
        messaging.text,
        messaging.payload,
        messaging.mid,
        messaging.user_ref,
        messaging.get_text(),
        messaging.get_psid(),
        messaging.get_page_id(),
        messaging.get_url(),
        messaging.get_postback_payload(),
        messaging.get_quick_reply_payload(),
        messaging.channel,
        repr(messaging),
    ):
        assert isinstance(word, str)
    assert messaging.get_watermark() is None or isinstance(messaging.get_watermark(), int)
    assert messaging.get_sticker_id() is None or isinstance(messaging.get_sticker_id(), str)
    assert messaging.referral is None or isinstance(messaging.referral.ref, str)
    assert messaging.authored in {True, False}
    messaging.get_coordinates()
    storable(messaging.envelope())
    again = next(split(messaging.envelope())).messaging
    assert (again.key(), again.type) == (messaging.key(), messaging.type)


def messagings(document):
    return [item.messaging for item in split(document) if item.messaging is not None]


# Decoding


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_are_decoded_as_they_are(path):
    document = json.loads(path.read_bytes())
    assert decode(path.read_bytes()) == decode(wire(document)) == document
    for messaging in messagings(document):
        use(messaging)


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b"18446744073709551615", None),
        (b"9223372036854775808", None),
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"-9223372036854775809", None),
        (b"[" + b"9" * 4301 + b"]", [None]),
        (b"[" + b"9" * 100_000 + b",1]", [None, 1]),
        (b"[1e999,-1e999,1e308]", [None, None, 1e308]),
        (b"[NaN,Infinity,-Infinity,1]", [None, None, None, 1]),
        (rb'"a\u0000b"', "a\ufffdb"),
        (rb'{"a\u0000":1}', {"a\ufffd": 1}),
        (rb'["\ud800x","\udc00","ok"]', ["\ufffdx", "\ufffd", "ok"]),
        (rb'{"\ud800":"\ud83d\udc4d"}', {"\ufffd": "👍"}),
        (b'"\xed\xa0\x80"', "\ufffd" * 3),
        (b'["\xff","ok"]', ["\ufffd", "ok"]),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b'"a\nb"', "a\nb"),
        (b'{"a":1,"a":2}', {"a": 2}),
        (bytearray(b"[1]"), [1]),
        (memoryview(b"[1]"), [1]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, memoryview) else repr(value)[:40],
)
def test_characters_that_cannot_be_stored_are_replaced(body, document):
    assert decode(body) == document
    assert storable(decode(body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"x",
        b"{",
        b'{"a":}',
        b"[1]x",
        b"[1]\0",
        b"a=1&b=2",
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
        '{"a":1}'.encode("utf-32"),
        b"[" * 100_000,
        b"]" * 100_000,
        b"[" * 5000 + b'"' + rb"\"" * 100_000,
        b"[" * 5000 + b"]" * 6000,
        b"\x1f\x8b\x08",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_no_json_in_utf8_is_a_value_error(body):
    with pytest.raises(ValueError):  # noqa: PT011  # words of several parsers
        decode(body)


@pytest.mark.parametrize("depth", [DEEPEST - 1, DEEPEST, DEEPEST + 1, 500, 5000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_is_cut(depth, opening, closing):
    body = opening * depth + b"1" + closing * depth
    document = decode(b"[" + body + b',{"kept":"]["}]')
    assert storable(document)
    assert document[1] == {"kept": "]["}
    level = 0
    inner = document[0]
    while isinstance(inner, (list, dict)):
        inner = next(iter(inner.values() if isinstance(inner, dict) else inner))
        level += 1
    assert (inner, level) == (1, depth) if depth < DEEPEST else (None, DEEPEST - 1)


def test_the_neighbours_of_a_deep_item_are_whole():
    deep = b"[" * 50_000 + b"]" * 50_000
    body = wire(callback(text(1), {"deep": "HERE"}, text(2))).replace(b'"HERE"', deep)
    found = messagings(decode(body))
    assert [one.text for one in found] == ["text 1", "", "text 2"]
    assert found[1].type is ReceivingType.UNKNOWN


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["\0", "\ud800", "\udfff\ud800", 10**5000 // 10**4900, 2**63, -(2**64), 1e400]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
KEYS = st.sampled_from(
    [
        "object",
        "entry",
        "id",
        "time",
        "messaging",
        "standby",
        "changes",
        "calls",
        "field",
        "value",
        "sender",
        "recipient",
        "timestamp",
        "message",
        "postback",
        "optin",
        "account_linking",
        "delivery",
        "read",
        "reaction",
        "message_edit",
        "referral",
        "pass_thread_control",
        "policy_enforcement",
        "mid",
        "text",
        "quick_reply",
        "payload",
        "attachments",
        "type",
        "url",
        "coordinates",
        "lat",
        "long",
        "sticker_id",
        "is_echo",
        "is_deleted",
        "reply_to",
        "story",
        "app_id",
        "watermark",
        "mids",
        "seq",
        "user_ref",
        "ref",
        "source",
        "title",
        "call_permission_reply",
        "event",
        "from",
        "to",
        "num_edit",
        "action",
        "emoji",
    ]
)
NEAR_JSON = st.recursive(
    JSON
    | st.sampled_from(
        ["page", "instagram", PAGE, PERSON, "image", "location", "sticker", "messages", "true", 1]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=40,
)
ITEMS = st.dictionaries(KEYS, NEAR_JSON, max_size=6)


@given(st.binary())
def test_arbitrary_bytes_raise_nothing_but_value_errors_of_decode(body):
    try:
        document = decode(body)
    except ValueError:
        return
    assert storable(document)
    for messaging in messagings(document):
        use(messaging)


@pytest.mark.parametrize("beside", [[], {}, "page", None, [text()]])
def test_an_event_beside_a_container_is_read_back_as_itself(beside):
    entry = {"id": "1", "message": {"mid": "m_2", "text": "stray"}, "messaging": beside}
    found = messagings({"object": "page", "entry": [entry]})
    assert found[-1].mid == "m_2"
    for messaging in found:
        use(messaging)


@given(NEAR_JSON)
def test_arbitrary_json_never_raises(document):
    cleaned = decode(json.dumps(document).encode())
    assert storable(cleaned)
    for item in split(cleaned):
        assert (item.messaging is None) == bool(item.error)
        if item.messaging is not None:
            use(item.messaging)


@given(NEAR_JSON)
def test_arbitrary_json_that_was_not_decoded_never_raises_either(document):
    for item in split(document):
        assert (item.messaging is None) == bool(item.error)
        if item.messaging is not None:
            assert item.messaging.type
            assert len(item.messaging.key()) <= 128
            assert item.messaging.date


@given(st.lists(ITEMS, max_size=4), st.sampled_from(["messaging", "standby", "changes", "calls"]), NEAR_JSON)
@settings(max_examples=300)
def test_items_of_any_shape(items, container, time):
    document = decode(json.dumps(callback(*items, container=container)).encode())
    document["entry"][0]["time"] = decode(json.dumps(time).encode())
    found = list(split(document))
    assert len(found) == len(items)
    for item in found:
        use(item.messaging)
    whole = Callback.deserialize(document)
    assert whole.json() == document


@given(JSON)
def test_well_formed_json_is_not_changed(document):
    dumped = json.dumps(document)
    plain = json.loads(dumped)
    decoded = decode(dumped.encode())
    assert storable(decoded)
    try:
        storable(plain)
    except (AssertionError, UnicodeEncodeError):
        return
    assert decoded == plain


# Splitting


@pytest.mark.parametrize("broken", [None, 5, "x", [], [[]], True, 1.5])
def test_a_broken_third_item_of_five_leaves_four(broken):
    items = [text(1), text(2), broken, text(4), text(5)]
    found = list(split(decode(wire(callback(*items)))))
    assert len(found) == 5
    assert [item.messaging.text for item in found if item.messaging] == [
        "text 1",
        "text 2",
        "text 4",
        "text 5",
    ]
    assert found[2].messaging is None
    assert found[2].raw == broken
    assert "object" in found[2].error


def test_an_item_that_raises_leaves_its_neighbours(monkeypatch):
    real = Messaging.from_item.__func__

    def failing(cls, raw, **around):
        if raw["message"]["mid"] == "m_2":
            raise RuntimeError("oh")
        return real(cls, raw, **around)

    monkeypatch.setattr(Messaging, "from_item", classmethod(failing))
    found = list(split(callback(text(1), text(2), text(3))))
    assert [bool(item.messaging) for item in found] == [True, False, True]
    assert found[1].error == "RuntimeError: oh"


@pytest.mark.parametrize(
    "item",
    [
        text(2, sender=5),
        text(2, sender=None),
        text(2, recipient="x"),
        text(2, timestamp={"a": 1}),
        text(2, message={"mid": 5, "text": "text 2", "attachments": {"type": "image"}}),
        text(2, message={"mid": "m", "text": "text 2", "quick_reply": 5, "referral": []}),
    ],
    ids=lambda item: json.dumps(item)[:60],
)
def test_a_mistake_in_one_part_affects_that_part_alone(item):
    found = messagings(callback(text(1), item, text(3)))
    assert [one.text for one in found] == ["text 1", "text 2", "text 3"]
    assert found[1].type is ReceivingType.SIMPLE_TEXT


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (None, "nothing"),
        (5, "int"),
        ([], "list"),
        ("x", "str"),
        ({}, "entry"),
        ({"object": "page"}, "entry"),
        ({"object": "page", "entry": "x"}, "entry"),
        ({"object": "page", "entry": [5]}, "entry"),
        ({"object": "page", "entry": [{"id": "1", "time": 1}]}, "messaging"),
        ({"object": "page", "entry": [{"id": "1", "messaging": "x"}]}, "messaging"),
        ({"object": "user", "entry": [{"id": "1", "messaging": [text()]}]}, "user"),
        ({"object": ["page"], "entry": [{"id": "1", "messaging": [text()]}]}, "page"),
    ],
    ids=repr,
)
def test_a_document_that_is_no_callback_is_one_item_with_a_reason(document, words):
    (item,) = split(document)
    assert item.messaging is None
    assert item.raw is not None or document is None
    assert words in item.error


def test_the_object_of_a_callback_is_checked():
    assert messagings({**callback(text()), "object": "whatsapp_business_account"}) == []
    assert messagings({**callback(text()), "object": "instagram"})[0].channel == "instagram"
    assert messagings(callback(text()))[0].channel == "messenger"
    assert messagings({"entry": callback(text())["entry"]})[0].channel == "messenger"


def test_an_empty_container_holds_nothing():
    assert list(split(callback())) == []
    assert list(split({"object": "page", "entry": []})) == []


def test_an_object_where_a_list_belongs():
    document = {"object": "page", "entry": {"id": PAGE, "messaging": text()}}
    assert [one.text for one in messagings(document)] == ["text 1"]


def test_a_body_wrapped_in_an_array():
    comment = {
        "recipient": {"id": PAGE},
        "from": {"id": "1", "name": "M"},
        "field": "group_feed",
        "message": "hi",
    }
    document = [callback(comment, hop_context=None)]
    (messaging,) = messagings(document)
    assert (messaging.type, messaging.get_psid()) == (ReceivingType.GROUP_FEED, "")
    assert len(messagings([callback(text(1)), 5, callback(text(2))])) == 2


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("messages", {"message": {"mid": "m", "text": "hi"}}, ReceivingType.SIMPLE_TEXT),
        ("messages", {"message": {"mid": "m", "text": "hi", "is_echo": "true"}}, ReceivingType.ECHO),
        ("messaging_postbacks", {"postback": {"payload": "x"}}, ReceivingType.POSTBACK),
        ("messaging_optins", {"optin": {"ref": "x"}}, ReceivingType.AUTHENTICATION),
        ("message_reads", {"read": {"watermark": "1795425304"}}, ReceivingType.READ),
        ("send_cart", {"order": {"products": []}}, ReceivingType.CART),
        ("standby", {"message": {"mid": "m", "text": "hi"}}, ReceivingType.STANDBY),
    ],
)
def test_a_change_with_a_messaging_field_is_one_messaging(field, value, expected):
    """As the test button of the App Dashboard sends them: times and ids as text, page id 0."""
    value = {"sender": {"id": "12334"}, "recipient": {"id": "23245"}, "timestamp": "1527459824", **value}
    document = {
        "object": "page",
        "entry": [{"id": "0", "time": 1527459824, "changes": [{"field": field, "value": value}]}],
    }
    (item,) = split(document)
    assert item.raw is value
    assert item.messaging.type is expected
    assert item.messaging.timestamp == 1527459824000
    assert item.messaging.get_page_id() == "0"
    use(item.messaging)


def test_other_changes_are_changes():
    changes = [
        {"field": "mentions", "value": {"media_id": "1"}},
        {"field": "messages", "value": "text"},
        {"field": "message_template_status_update", "value": {"event": "APPROVED"}},
        {"field": "feed", "value": {"message": {"text": "not a chat"}}},
    ]
    found = messagings(callback(*changes, container="changes"))
    assert [one.type for one in found] == [ReceivingType.CHANGE] * 4
    assert [one.raw for one in found] == changes
    assert {one.get_psid() for one in found} == {""}


def test_calls():
    calls = [
        {"id": "c", "to": PAGE, "from": PERSON, "event": "connect", "timestamp": 1795425304},
        {"id": "c", "to": PERSON, "from": PAGE, "event": "terminate", "timestamp": 1795425304},
        {"event": "call_status", "recipient_id": PERSON, "call_status": "ringing"},
        {"brand": "new"},
    ]
    found = messagings(callback(*calls, container="calls"))
    assert [one.type for one in found] == [ReceivingType.CALL] * 4
    assert [one.get_psid() for one in found] == [PERSON, PERSON, PERSON, ""]
    assert len({one.key() for one in found}) == 4


def test_standby():
    found = messagings(callback(text(1), container="standby"))
    assert found[0].is_standby
    assert found[0].type is ReceivingType.STANDBY
    both = {"object": "page", "entry": [{"id": PAGE, "messaging": [text(1)], "standby": [text(1)]}]}
    assert [one.is_standby for one in messagings(both)] == [False, True]
    assert len({one.key() for one in messagings(both)}) == 2


def test_call_permission_right_in_the_entry():
    entry = {
        "sender": {"id": PERSON},
        "recipient": {"id": PAGE},
        "timestamp": 1795425304,
        "call_permission_reply": {"response": "approve"},
    }
    (item,) = split({"object": "page", "entry": [entry]})
    assert item.messaging.type is ReceivingType.CALL_PERMISSION
    assert (item.messaging.get_psid(), item.messaging.get_page_id()) == (PERSON, PAGE)
    use(item.messaging)


@pytest.mark.parametrize("hop", [None, {"app_id": 1}, [{"app_id": 1}], "x"])
def test_hop_context_in_any_form(hop):
    document = callback(text(1, hop_context=hop))
    document["entry"][0]["hop_context"] = hop
    assert len(messagings(document)) == 1
    assert Callback.deserialize(document).json() == document


@given(st.permutations(range(1, 9)), st.integers(1, 8), st.integers(1, 8))
def test_any_order_any_batching_any_repeats_give_the_same_events(order, size, again):
    items = [text(number) for number in [*order, again]]
    batches = [items[at : at + size] for at in range(0, len(items), size)]
    one_entry_each = {"object": "page", "entry": [callback(*batch)["entry"][0] for batch in batches]}
    keys = {one.key() for one in messagings(decode(wire(one_entry_each)))}
    assert keys == {one.key() for one in messagings(callback(*map(text, range(1, 9))))}
    assert len(keys) == 8


@pytest.mark.django_db
def test_the_worst_of_it_can_be_stored():
    from djmessenger.models import Messaging as Row  # noqa: PLC0415  # needs the database fixture's settings

    body = (
        rb'{"object":"page","entry":[{"id":"1","messaging":[{"message":{"mid":"\u0000\ud800","text":"\udfff",'
        rb'"app_id":99999999999999999999999,"x":NaN,"y":1e999,"z":' + b"[" * 900 + b"]" * 900 + b"}}]}]}"
    )
    (messaging,) = messagings(decode(body))
    row = Row.objects.create(
        type=messaging.type.name,
        body=messaging.envelope(),
        key=messaging.key(),
        mid=messaging.mid,
        timestamp=messaging.timestamp,
    )
    row.refresh_from_db()
    assert Messaging.from_row(row.body, row).key() == messaging.key()
    bare = Row(type="SIMPLE_TEXT", body=messaging.raw, timestamp=5)
    assert Messaging.from_row(bare.body, bare).type is ReceivingType.SIMPLE_TEXT
    assert Messaging.from_row(bare.body, bare).timestamp == 5
