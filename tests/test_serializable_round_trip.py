"""Round trip of every ``Serializable`` of the documented API: what is written is read as the same."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djmessenger import filtering, payload, receiving, replying, routing
from djmessenger.utils import utils
from djmessenger.utils.serializable import Serializable, SerializableEnum

TEXTS = st.text(max_size=20)
NUMBERS = st.integers(-(2**53), 2**53)
TARGETS = {
    "filters": "djmessenger.filtering.EmailFilter",
    "handlers": "djmessenger.handling.ThumbUpHandler",
    "repliers": "djmessenger.replying.DefaultMessageReplier",
}
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
TRANSLATIONS = st.dictionaries(st.sampled_from(["de_DE", "zh_TW"]), TEXTS)
SPECIAL: dict[tuple[str, str], st.SearchStrategy[Any]] = {
    ("SimpleTextRegexFilter", "regex"): st.sampled_from(["a+", "^(hi|hello)$", "é"]),
    ("StickerFilter", "sticker_ids"): st.lists(NUMBERS | TEXTS, max_size=3),
    ("LocalizedString", "translations"): TRANSLATIONS,
    ("Coordinates", "lat"): st.floats(-90, 90),
    ("Coordinates", "llong"): st.floats(-180, 180),
    ("Rule", "ttype"): st.sampled_from(["SIMPLE_TEXT", "POSTBACK", "DEFAULT"]),
    ("TargetFilterClass", "name"): st.just(TARGETS["filters"]),
    ("TargetHandlerClass", "name"): st.just(TARGETS["handlers"]),
    ("TargetReplierClass", "name"): st.just(TARGETS["repliers"]),
    ("TargetClass", "name"): st.just(TARGETS["filters"]),
}
BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "start_time": st.integers(2010, 2019).map("{}-1-1T00:00:00Z-0800".format),
    "end_time": st.integers(2020, 2030).map("{}-1-1T00:00:00Z-0800".format),
    "action": st.sampled_from([*replying.ReplyAction.get_members(), replying.ReplyAction.TYPING_ON]),
    "args": st.just({}),
    **{key: st.lists(st.just(name), max_size=2) for key, name in TARGETS.items()},
    "timeout": st.none() | st.floats(1, 60),
    "tries": st.none() | st.integers(1, 9),
    "url": st.just("https://example.com/a.png"),
    "localized_string": st.deferred(lambda: st.builds(utils.LocalizedString, TEXTS, TRANSLATIONS)),
}


DOCUMENTED = {
    filtering: """AuthenticationFilter EmailFilter LocationFilter MultimediaFilter PostbackFilter
        SimpleTextRegexFilter StickerFilter ThumbUpFilter TimeFilter""",
    payload: """GetStartedPayload PersistentMenuOnePayload PersistentMenuTwoPayload PersistentMenuThreePayload
        PersistentMenuFourPayload PersistentMenuFivePayload""",
    receiving: """AccountLinking Attachment Callback Coordinates Delivery Entry LocationAttachmentPayload Message
        Messaging MultimediaAttachmentPayload Optin Postback QuickReply Read Recipient Sender""",
    replying: """AudioReplier BaseButtonReplier BaseQuickReplyReplier DefaultMessageReplier FileReplier ImageReplier
        MultimediaReplier ReplyActionReplier SimpleMessageReplier VideoReplier""",
    routing: "Policy Rule TargetClass TargetFilterClass TargetHandlerClass TargetReplierClass",
    utils: "LocalizedString",
}
"""Classes of the documented API that have instances, by module."""
CLASSES: dict[str, type[Serializable]] = {
    name: getattr(room, name) for room, names in DOCUMENTED.items() for name in names.split()
}


def named(name: str) -> st.SearchStrategy[Any]:
    """Return a strategy for the type that an annotation names."""
    plain = {"str": TEXTS, "int": NUMBERS, "None": st.none(), "bool": st.booleans(), "float": st.floats(1, 9)}
    if name in plain:
        return plain[name]
    if name.startswith(("list[", "Sequence[")):
        return st.lists(named(name.partition("[")[2].removesuffix("]")), max_size=2)
    found = CLASSES.get(name) or next(getattr(room, name) for room in DOCUMENTED if hasattr(room, name))
    if issubclass(found, SerializableEnum):
        return st.sampled_from(list(found.get_members().values()))
    return made(found)


def made(cls: type[Serializable]) -> st.SearchStrategy[Any]:
    """Return a strategy for instances, by the parameters of the constructor."""
    several: st.SearchStrategy[list[Any]] = st.just([])
    required, optional = {}, {}
    for name, parameter in inspect.signature(cls).parameters.items():
        value = SPECIAL.get((cls.__name__, name), BY_NAME.get(name))
        if parameter.kind is parameter.VAR_POSITIONAL:
            several = value if value is not None else st.just([])
        elif parameter.kind is not parameter.VAR_KEYWORD:
            if value is None:
                value = st.one_of([named(one.strip()) for one in str(parameter.annotation).split("|")])
            (required if parameter.default is parameter.empty else optional)[name] = value
    return st.tuples(several, st.fixed_dictionaries(required, optional=optional)).map(
        lambda found: cls(*found[0], **found[1])
    )


@pytest.mark.parametrize("name", sorted(CLASSES))
@given(st.data())
def test_what_is_written_is_read_as_the_same(name: str, data: st.DataObject) -> None:
    instance = data.draw(made(CLASSES[name]))
    for found in (
        CLASSES[name].deserialize(instance.json()),
        CLASSES[name].deserialize(instance.serialize()),
    ):
        assert type(found) is type(instance)
        assert found.json() == instance.json()
        assert found == instance
        assert hash(found) == hash(instance)
    assert json.loads(instance.serialize()) == instance.json()


RECEIVED = [name for name, cls in CLASSES.items() if cls.__module__.startswith("djmessenger.receiving")]


@pytest.mark.parametrize("name", sorted(RECEIVED))
@given(st.data())
def test_any_json_of_meta_is_written_as_it_was_read(name: str, data: st.DataObject) -> None:
    cls = CLASSES[name]
    keys = st.sampled_from(sorted({*getattr(cls, "fields", ()), "id", "unknown"})) | TEXTS
    content = data.draw(st.dictionaries(keys, JSON, max_size=5))
    assert cls.deserialize(content).json() == content
    assert json.loads(cls.deserialize(json.dumps(content)).serialize()) == content
