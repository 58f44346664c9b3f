"""Objects to JSON and back."""

from __future__ import annotations

import copy
import datetime
import decimal
import json
import pickle
from typing import ClassVar

import pytest

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.receiving import AttachmentType, ReceivingType
from djmessenger.utils.serializable import Serializable, SerializableEnum, member, to_json


class Colour(SerializableEnum):
    RED = member("red", "like blood")


class Pair(Serializable):
    def __init__(self, iid, llong=None):
        self.id = iid
        self.long = llong


class Box(Serializable):
    custom_obj_map: ClassVar = {"first": [Pair, object], "others": [Pair, list]}
    ordering: ClassVar = ("others", "absent")
    excludes: ClassVar = ("secret",)

    def __init__(self, first, others=None, secret="s"):
        self.first = first
        self.others = others or []
        self.secret = secret
        self._private = 1


class Computing(Serializable):
    def __init__(self, seed):
        self.doubled = seed * 2 if seed is not None else None


class Strict(Serializable):
    def __init__(self, seed):
        self.seed = seed.strip()


def test_round_trip():
    pair = Pair.deserialize('{"id": "1", "long": 2, "json": "no", "__dict__": {}}')
    assert (pair.id, pair.long) == ("1", 2)
    assert pair.json() == {"id": "1", "long": 2, "json": "no", "__dict__": {}}
    assert callable(pair.json)


def test_attribute_injection_by_json_keys_is_not_possible():
    pair = Pair.deserialize({"id": "1", "excludes": 5, "serialize": 1, "__class__": 2, "custom_obj_map": 3})
    assert type(pair) is Pair
    assert vars(pair).keys() == {"id", "long", "_unset"}
    assert pair.json()["excludes"] == 5


def test_custom_obj_map_ordering_and_excludes():
    box = Box.deserialize({"first": {"id": 1}, "others": [{"id": 2}, None], "more": {"a": 1}})
    assert isinstance(box.first, Pair)
    assert isinstance(box.others[0], Pair)
    assert box.json() == {
        "others": [{"id": 2, "long": None}, None],
        "first": {"id": 1, "long": None},
        "more": {"a": 1},
    }
    assert list(box.json()) == ["others", "first", "more"]
    assert "_private" not in box.json_unordered()


def test_the_spelling_of_2016_of_exclude_underscore():
    class Open(Pair):
        exclude_underscode = False

    pair = Open(1)
    pair._hidden = 2
    assert pair.json()["_hidden"] == 2


def test_equality_is_of_type_and_json_and_hashes_agree():
    assert Pair(1) == Pair.deserialize(Pair(1).serialize())
    assert hash(Pair(1)) == hash(Pair(1))
    assert Pair(1) != Pair(2)
    assert Pair(1) != {"id": 1, "long": None}
    assert len({Pair(1), Pair(1), Pair(2)}) == 2


def test_absent_keys_leave_no_absent_attributes():
    assert Pair.deserialize({}).id is None
    assert Pair.deserialize({}).long is None
    assert Strict.deserialize({}).seed is None


def test_a_constructor_that_computes_is_run():
    assert Computing.deserialize({"seed": 2}).doubled == 4
    assert Computing.deserialize({"doubled": 4}) == Computing(2)


def test_files(tmp_path):
    path = tmp_path / "pair.json"
    Pair("ü", 1).write_json(path)
    assert Pair.read_json(path) == Pair.read_json(str(path)) == Pair("ü", 1)
    path.write_text("[1]")
    with pytest.raises(ValueError, match=r"pair\.json"):
        Pair.read_json(path)
    with pytest.raises(OSError, match="absent"):
        Pair.read_json(tmp_path / "absent.json")


@pytest.mark.parametrize("text", ["", "[1]", "5", "null", "{", "[" * 99_999])
def test_a_text_that_is_no_json_object_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011  # each parser has words of its own
        Pair.deserialize(text)


def test_json_forms():
    moment = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    assert to_json((moment, decimal.Decimal("1.5"), decimal.Decimal(2), Colour.RED, {1: {2}})) == [
        "2026-01-02T00:00:00+00:00",
        1.5,
        2,
        "red",
        {"1": [2]},
    ]
    with pytest.raises(TypeError, match="no JSON form"):
        to_json(object())


def test_members_are_interned():
    assert Colour("red") is Colour.RED
    assert Colour.members == {"red": Colour.RED}
    assert repr(Colour.RED) == "(Colour) red"
    assert pickle.loads(pickle.dumps(Colour.RED)) is copy.deepcopy(Colour.RED) is Colour.RED  # noqa: S301  # our own


def test_members_are_looked_up_by_spelling_or_attribute():
    assert Colour.value_of("red") is Colour.value_of("RED") is Colour.deserialize("red") is Colour.RED
    assert Colour.RED.json() == Colour.RED.serialize() == Colour.RED.value == str(Colour.RED) == "red"
    with pytest.raises(KeyError, match="green"):
        Colour.value_of("green")


def test_a_member_created_anew_registers_in_its_own_class_alone():
    made = ReceivingType("TEST_SURVEY", "our own")
    try:
        assert ReceivingType.members["TEST_SURVEY"] is ReceivingType("TEST_SURVEY") is made
        assert "TEST_SURVEY" not in AttachmentType.members
        assert not made.authored
    finally:
        del ReceivingType.members["TEST_SURVEY"]


def test_enumerations_are_written_as_their_text():
    assert json.loads(Pair(AttachmentType.IMAGE).serialize()) == {"id": "image", "long": None}


class Configured(Serializable):
    strict = True
    LIMIT = 3

    def __init__(self, *words: str, regex: str) -> None:
        self.regex = regex
        self.words = list(words)


def test_configuration_with_a_wrong_key_is_refused_with_a_hint() -> None:
    with pytest.raises(DJMInvalidConfigException, match="no argument 'regx'; did you mean 'regex'"):
        Configured.deserialize({"regx": "a", "regex": "b"})
    with pytest.raises(DJMInvalidConfigException, match="needs regex"):
        Configured.deserialize({})
    with pytest.raises(DJMInvalidConfigException, match="no argument 'json'"):
        Configured.deserialize({"regex": "a", "json": "b"})


class Passing(Configured):
    def __init__(self, *args: str, **kwargs: str) -> None:
        super().__init__(*args, **kwargs)


def test_a_constructor_that_passes_everything_on_gets_everything() -> None:
    assert Passing.deserialize({"regex": "a"}).regex == "a"


def test_class_attributes_and_several_parameters_are_read() -> None:
    found = Configured.deserialize({"regex": "a", "words": ["b", "c"], "LIMIT": 2})
    assert (found.regex, found.words, found.LIMIT) == ("a", ["b", "c"], 2)
    assert Configured.LIMIT == 3
