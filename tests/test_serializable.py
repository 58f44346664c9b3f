import pytest

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.utils.serializable import Serializable, SerializableEnum, member


class Colour(SerializableEnum):
    RED = member("red", "like blood")


class Pair(Serializable):
    def __init__(self, iid, llong=None):
        self.id = iid
        self.long = llong


def test_round_trip():
    pair = Pair.deserialize('{"id": "1", "long": 2, "json": "no", "__dict__": {}}')
    assert (pair.id, pair.long) == ("1", 2)
    assert pair.json() == {"id": "1", "long": 2, "json": "no", "__dict__": {}}
    assert callable(pair.json)


def test_members_are_interned():
    assert Colour("red") is Colour.RED
    assert Colour.members == {"red": Colour.RED}
    assert repr(Colour.RED) == "(Colour) red"


class Strict(Serializable):
    strict = True
    LIMIT = 3

    def __init__(self, *words, regex):
        self.regex = regex
        self.words = list(words)


def test_configuration_with_a_wrong_key_is_refused_with_a_hint():
    with pytest.raises(DJMInvalidConfigException, match="no argument 'regx'; did you mean 'regex'"):
        Strict.deserialize({"regx": "a", "regex": "b"})
    with pytest.raises(DJMInvalidConfigException, match="needs regex"):
        Strict.deserialize({})
    with pytest.raises(DJMInvalidConfigException, match="no argument 'json'"):
        Strict.deserialize({"regex": "a", "json": "b"})


def test_class_attributes_and_several_parameters_are_read():
    strict = Strict.deserialize({"regex": "a", "words": ["b", "c"], "LIMIT": 2})
    assert (strict.regex, strict.words, strict.LIMIT) == ("a", ["b", "c"], 2)
    assert Strict.LIMIT == 3
