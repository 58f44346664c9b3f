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
