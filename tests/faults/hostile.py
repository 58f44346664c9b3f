"""A corpus of hostile bodies, all correctly signed: what a person, another app or a bad day can send us."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

PAGE = "104233987650012"
PERSON = "7215540983316204"
NOW = int(os.environ.get("DJM_TEST_NOW", "0")) or int(time.time()) * 1000
"""Milliseconds. A fixed time would become older than ``DJM_MAX_EVENT_AGE``, and its events would be ignored.

A test sets the variable for its process, so that both make the same bodies.
"""


FIRST_WORDS = "a first message loads all modules"
"""Text of a body before the corpus."""


def callback(*items: Any, page: Any = PAGE, container: str = "messaging", **entry: Any) -> dict[str, Any]:
    return {"object": "page", "entry": [{"id": page, "time": NOW, container: list(items), **entry}]}


def item(mid: str = "m_hostile", **parts: Any) -> dict[str, Any]:
    return {"sender": {"id": PERSON}, "recipient": {"id": PAGE}, "timestamp": NOW} | (
        parts or {"message": {"mid": mid, "text": "hello"}}
    )


def message(**parts: Any) -> dict[str, Any]:
    return item(message={"mid": "m_hostile", **parts})


def text(words: str) -> dict[str, Any]:
    return callback(message(text=words))


def dumps(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=True).encode()


def nest(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * depth + closing * depth).encode()


_GOOD = dumps(text("hello"))

JSON: dict[str, bytes] = {
    "empty": b"",
    "space": b"   ",
    "null": b"null",
    "true": b"true",
    "number": b"1",
    "string": b'"page"',
    "list": b"[]",
    "list-of-callbacks": b"[" + _GOOD + b"]",
    "object": b"{}",
    "cut-off": _GOOD[:-20],
    "two-documents": _GOOD + _GOOD,
    "trailing-comma": b'{"object":"page","entry":[],}',
    "single-quotes": b"{'object': 'page'}",
    "comment": b'{"object":"page" /* x */}',
    "bom": b"\xef\xbb\xbf" + _GOOD,
    "utf-16-le": _GOOD.decode().encode("utf-16-le"),
    "utf-16-bom": _GOOD.decode().encode("utf-16"),
    "utf-32": _GOOD.decode().encode("utf-32"),
    "latin-1": '{"object":"page","x":"ä"}'.encode("latin-1"),
    "invalid-utf8": b'{"object":"page","x":"\xc3\x28"}',
    "cesu8-surrogate": b'{"object":"page","x":"\xed\xa0\x80"}',
    "overlong": b'{"object":"page","x":"\xc0\x80"}',
    "nan": dumps(text("x")).replace(str(NOW).encode(), b"NaN"),
    "infinity": dumps(text("x")).replace(str(NOW).encode(), b"Infinity"),
    "huge-float": dumps(text("x")).replace(str(NOW).encode(), b"1e999"),
    "int-65-bit": dumps(text("x")).replace(str(NOW).encode(), str(2**64).encode()),
    "int-5000-digits": dumps(text("x")).replace(str(NOW).encode(), b"9" * 5000),
    "int-negative-huge": dumps(text("x")).replace(str(NOW).encode(), b"-" + b"9" * 400),
    "deep-list": nest(100_000),
    "deep-object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "unclosed-deep": b"[" * 100_000,
    "deep-in-item": b'{"object":"page","entry":[{"id":"1","messaging":[' + nest(5_000) + b"]}]}",
    "double-keys": b'{"object":"page","entry":[],"entry":[{"id":"1","messaging":[]}]}',
    "nul-bytes": b"\x00" * 100,
    "many-items": dumps(callback(*(item(f"m_{number}") for number in range(1001)))),
}

_ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    2**62,
    2**80,
    1.5,
    "",
    "x",
    "\x00",
    "\ud800",
    [],
    [1],
    {},
    {"a": 1},
    [[]],
]

SHAPE: dict[str, Any] = (
    {
        "entry-missing": {"object": "page"},
        "object-missing": {"entry": [{"id": PAGE, "messaging": [item()]}]},
        "object-strange": {"object": "whatsapp_business_account", "entry": []},
        "ids-as-numbers": callback(
            {
                "sender": {"id": int(PERSON)},
                "recipient": {"id": int(PAGE)},
                "timestamp": NOW,
                "message": {"mid": "a"},
            },
            page=int(PAGE),
        ),
        "id-huge-number": callback(item() | {"sender": {"id": 2**80}}),
        "id-too-long": callback(item() | {"sender": {"id": "9" * 5000}}),
        "id-path": callback(item() | {"sender": {"id": "../../me"}}),
        "id-sql": callback(item() | {"sender": {"id": "1' OR '1'='1"}}),
        "id-lookup": callback(item() | {"sender": {"id": {"psid__startswith": ""}}}),
        "id-arabic-digits": callback(item() | {"sender": {"id": "٧٢١"}}),
        "page-path": callback(item(), page="../1"),
        "page-zero": callback(item(), page="0"),
        "sender-missing": callback({"recipient": {"id": PAGE}, "message": {"mid": "a", "text": "x"}}),
        "recipient-missing": callback({"sender": {"id": PERSON}, "message": {"mid": "a", "text": "x"}}),
        "both-missing": callback({"message": {"mid": "a", "text": "x"}}),
        "empty-item": callback({}),
        "timestamp-missing": callback(
            {"sender": {"id": PERSON}, "recipient": {"id": PAGE}, "message": {"mid": "t"}}
        ),
        "timestamp-text": callback(item() | {"timestamp": str(NOW)}),
        "timestamp-word": callback(item() | {"timestamp": "yesterday"}),
        "timestamp-seconds": callback(item() | {"timestamp": NOW // 1000}),
        "timestamp-zero": callback(item() | {"timestamp": 0}),
        "timestamp-negative": callback(item() | {"timestamp": -(2**62)}),
        "timestamp-far": callback(item() | {"timestamp": 2**62}),
        "mid-nul": callback(item("m_\x00")),
        "mid-huge": callback(item("m_" * 5000)),
        "mid-number": callback(item(message={"mid": 12345, "text": "x"})),
        "mid-missing": callback(item(message={"text": "x"})),
        "several-keys": callback(
            item(message={"mid": "a", "text": "x"}, postback={"payload": "P"}, read={"watermark": 1})
        ),
        "unknown-key": callback(item(brand_new_event={"mid": "a"})),
        "unknown-attachment": callback(message(attachments=[{"type": "hologram", "payload": {"x": 1}}])),
        "changes": callback({"field": "messages", "value": item()}, container="changes"),
        "changes-odd": callback({"field": 5, "value": None}, 7, None, container="changes"),
        "calls-odd": callback({"id": None}, [], container="calls"),
        "standby-odd": callback({"sender": None}, container="standby"),
        "hop-context": callback(item(), hop_context=[{"app_id": 1, "metadata": "x"}]),
        "attribute-injection": callback(
            item() | {"__class__": "x", "get_psid": 1, "__dict__": {}, "bind": 1, "raw": 2}
        ),
        "message-injection": callback(message(text="x", json="y", serialize=1, deserialize=2, __init__=3)),
    }
    | {f"item-{number}": callback(odd) for number, odd in enumerate(_ODD)}
    | {
        f"{where}-{number}": wrap(odd)
        for where, wrap in {
            "object": lambda odd: {"object": odd, "entry": [{"id": PAGE, "messaging": [item()]}]},
            "entry": lambda odd: {"object": "page", "entry": odd},
            "an-entry": lambda odd: {"object": "page", "entry": [odd, {"id": PAGE, "messaging": [item()]}]},
            "messaging": lambda odd: {"object": "page", "entry": [{"id": PAGE, "messaging": odd}]},
            "sender": lambda odd: callback(item() | {"sender": odd}),
            "sender-id": lambda odd: callback(item() | {"sender": {"id": odd}}),
            "recipient": lambda odd: callback(item() | {"recipient": odd}),
            "timestamp": lambda odd: callback(item() | {"timestamp": odd}),
            "message": lambda odd: callback(item(message=odd)),
            "text": lambda odd: callback(message(text=odd)),
            "mid": lambda odd: callback(item(message={"mid": odd, "text": "x"})),
            "quick-reply": lambda odd: callback(message(text="x", quick_reply=odd)),
            "quick-reply-payload": lambda odd: callback(message(text="x", quick_reply={"payload": odd})),
            "attachments": lambda odd: callback(message(attachments=odd)),
            "attachment": lambda odd: callback(message(attachments=[odd])),
            "attachment-type": lambda odd: callback(message(attachments=[{"type": odd, "payload": {}}])),
            "attachment-payload": lambda odd: callback(
                message(attachments=[{"type": "image", "payload": odd}])
            ),
            "sticker": lambda odd: callback(
                message(attachments=[{"type": "sticker", "payload": {"sticker_id": odd}}])
            ),
            "coordinates": lambda odd: callback(
                message(attachments=[{"type": "location", "payload": {"coordinates": odd}}])
            ),
            "latitude": lambda odd: callback(
                message(
                    attachments=[{"type": "location", "payload": {"coordinates": {"lat": odd, "long": 1}}}]
                )
            ),
            "postback": lambda odd: callback(item(postback=odd)),
            "postback-payload": lambda odd: callback(
                item(postback={"payload": odd, "mid": "p", "title": "t"})
            ),
            "referral": lambda odd: callback(item(referral=odd)),
            "postback-referral": lambda odd: callback(item(postback={"payload": "x", "referral": odd})),
            "optin": lambda odd: callback(item(optin=odd)),
            "delivery": lambda odd: callback(item(delivery=odd)),
            "delivery-mids": lambda odd: callback(item(delivery={"mids": odd, "watermark": odd})),
            "read": lambda odd: callback(item(read=odd)),
            "reaction": lambda odd: callback(item(reaction=odd)),
            "edit": lambda odd: callback(item(message_edit=odd)),
            "account-linking": lambda odd: callback(item(account_linking=odd)),
            "echo-flag": lambda odd: callback(message(is_echo=odd, text="x")),
            "app-id": lambda odd: callback(message(is_echo=True, app_id=odd, text="x")),
            "metadata": lambda odd: callback(message(is_echo=True, metadata=odd, text="x")),
            "pass-thread": lambda odd: callback(item(pass_thread_control=odd)),
            "policy": lambda odd: callback(item(policy_enforcement=odd)),
        }.items()
        for number, odd in enumerate(_ODD)
    }
)

TEXT: dict[str, str] = {
    "nul": "a\x00b",
    "lone-surrogate": "a\ud800b",
    "script": "<script>alert(1)</script>",
    "attribute": '" onmouseover="alert(1)',
    "template": "{{ settings.SECRET_KEY }}{% debug %}",
    "format": "{0.__class__} %(x)s %s {event.person}",
    "log-forge": "hi\nERROR forged line\r\n",
    "ansi": "\x1b[2J\x1b[31mred",
    "csv": "=HYPERLINK(1)",
    "rtl": "\u202eabc\u202c",
    "zalgo": "Z" + "\u0300" * 2000,
    "emoji": "👩‍👩‍👧‍👦" * 600,
    "long-word": "x" * 20_000,
    "long": "word " * 100_000,
    "redos-a": "a" * 60 + "!",
    "redos-spaces": " " * 5_000,
    "sql": "'; DROP TABLE djmessenger_reply; --",
    "blank": "   ",
    "unprintable": "".join(map(chr, range(1, 32))),
}

PAYLOAD: dict[str, str] = {
    "dotted-os": '{"payload_class": "os.system", "x": 1}',
    "dotted-antigravity": '{"payload_class": "antigravity.Payload"}',
    "dotted-builtin": '{"payload_class": "builtins.eval"}',
    "no-dot": '{"payload_class": "Payload"}',
    "class-list": '{"payload_class": ["djmessenger.payload.GetStartedPayload"]}',
    "injection": '{"payload_class": "djmessenger.payload.GetStartedPayload", "__class__": 1, "is_valid": 2}',
    "deep": '{"payload_class": ' + "[" * 5000 + "]" * 5000 + "}",
    "huge": '{"payload_class": "djmessenger.payload.GetStartedPayload", "x": "' + "y" * 100_000 + '"}',
    "lookup": '{"psid__startswith": ""}',
    "pickle": "gASVBQAAAAAAAABLAUsChpQu",
    "nul": "\x00",
    "number": "12",
    "json-null": "null",
}


def corpus() -> Iterator[tuple[str, bytes]]:
    """Yield every body with its name."""
    groups: list[tuple[str, dict[str, Any], Callable[[Any], bytes]]] = [
        ("json", JSON, lambda body: body),
        ("shape", SHAPE, dumps),
        ("text", TEXT, lambda words: dumps(text(words))),
        ("payload", PAYLOAD, lambda words: dumps(callback(item(postback={"payload": words, "title": "t"})))),
        (
            "quick-reply",
            PAYLOAD,
            lambda words: dumps(callback(message(text="t", quick_reply={"payload": words}))),
        ),
    ]
    for group, cases, make in groups:
        for name, case in cases.items():
            yield f"{group}/{name}", make(case)


def most_cpu(size: int) -> float:
    """Return the seconds of CPU that a body of this size may take, from the request to the last answer."""
    return 3.0 + 60.0 * size / 2**20


def most_memory(size: int) -> float:
    """Return the bytes of memory that a body of this size may take beyond an idle process."""
    return 64 * 2**20 + 80 * size


_LARGE = 8 * 2**20 - 1024
"""Bytes of a large body: just under the default of ``DJM_MAX_BODY``."""


def _filled(before: bytes, piece: bytes, after: bytes) -> bytes:
    return before + piece * ((_LARGE - len(before) - len(after)) // len(piece)) + after


def large() -> Iterator[tuple[str, bytes]]:
    """Yield bodies of the largest size with their names: too many of everything."""
    messaging = b'{"object":"page","entry":[{"id":"%s","time":1,"messaging":[' % PAGE.encode()
    first, _, rest = dumps(text("words")).partition(b"words")
    yield "large/empty-items", _filled(messaging, b"{},", b"{}]}]}")
    yield "large/null-items", _filled(messaging, b"0,", b"0]}]}")
    yield "large/entries", _filled(b'{"object":"page","entry":[', b"{},", b"{}]}")
    yield "large/text", _filled(first, b"x", rest)
    yield "large/escaped-text", _filled(first, b"\\ud83d\\ude00", rest)
    yield "large/deep", _filled(messaging + b'{"a":', b"[", b"")
    yield "large/keys", _filled(messaging + b"{", b'"a":1,', b'"a":1}]}]}')
    yield "large/no-json", b"x" * _LARGE
