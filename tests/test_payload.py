"""Payloads: there and back, and what never happens because of a payload's text."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djmessenger import payload
from djmessenger.payload import GetStartedPayload, Payload, PersistentMenuOnePayload, find_payload_class
from djmessenger.utils.utils import get_class_name


class MyProductPayload(Payload):
    def __init__(self, name, price):
        super().__init__()
        self.name = name
        self.price = price


class MyButtonPayload(Payload):
    """As in 2016: the attribute is not named as the parameter is."""

    def __init__(self, text):
        super().__init__()
        self.payload_text = text


class Forgetful(Payload):
    def __init__(self, name="x"):
        self.name = name


class Picky(Payload):
    def __init__(self, name):
        super().__init__()
        self.name = name.upper()


class MyStart(GetStartedPayload):
    pass


NAME = f"{__name__}.MyProductPayload"


def test_the_documented_product_payload_comes_back():
    sent = MyProductPayload("Grinder", 79)
    assert sent.json() == {"payload_class": NAME, "name": "Grinder", "price": 79}
    back = Payload.get_instance(sent.serialize())
    assert type(back) is back.get_class() is MyProductPayload
    assert (back.name, back.price) == ("Grinder", 79)
    assert back == sent == Payload.get_instance(sent.json())


def test_a_constructor_that_takes_other_names_than_it_keeps():
    back = Payload.get_instance(MyButtonPayload("hello").serialize())
    assert isinstance(back, MyButtonPayload)
    assert back.payload_text == "hello"
    assert back == MyButtonPayload("hello")


def test_a_constructor_that_forgot_its_parent():
    assert Payload.get_instance(Forgetful("y").serialize()).name == "y"


def test_built_in_payloads():
    assert GetStartedPayload().json() == {"payload_class": "djmessenger.payload.GetStartedPayload"}
    for count in ("One", "Two", "Three", "Four", "Five"):
        cls = getattr(payload, f"PersistentMenu{count}Payload")
        assert type(Payload.get_instance(cls().serialize())) is cls


def test_exactly_1000_characters_are_valid():
    room = payload.MAX_LENGTH - len(MyProductPayload("", 1).serialize())
    assert MyProductPayload("x" * room, 1).is_valid()
    assert not MyProductPayload("x" * (room + 1), 1).is_valid()


@pytest.mark.parametrize(
    "data",
    [
        None,
        "",
        {},
        5,
        b"{}",
        [1],
        "no json",
        "[1]",
        "5",
        "null",
        "[" * 100_000,
        "9" * 5000,
        "{}",
        {"name": "x"},
        {"payload_class": None},
        {"payload_class": 5},
        {"payload_class": ["os.system"]},
        {"payload_class": "GetStartedPayload"},
        {"payload_class": "os.system"},
        {"payload_class": "djmessenger.payload.Payload"},
        {"payload_class": "djmessenger.utils.serializable.Serializable"},
        {"payload_class": f"{__name__}.Picky", "name": 5},
    ],
    ids=lambda data: repr(data)[:40],
)
def test_value_errors(data):
    with pytest.raises(ValueError):  # noqa: PT011  # each has a message of its own
        Payload.get_instance(data)


def test_a_module_that_is_not_loaded_is_an_import_error_and_stays_unloaded():
    sys.modules.pop("antigravity", None)
    before = set(sys.modules)
    with pytest.raises(ImportError):
        Payload.get_instance({"payload_class": "antigravity.Payload"})
    assert find_payload_class('{"payload_class": "antigravity.Payload"}') is None
    assert set(sys.modules) == before


def test_a_class_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Nothing"):
        Payload.get_instance({"payload_class": "djmessenger.payload.Nothing"})


@given(st.one_of(st.text(), st.dictionaries(st.text(), st.text()), st.just({"payload_class": "a.b"})))
def test_payload_text_loads_no_class_and_imports_nothing(data):
    before = set(sys.modules)
    with pytest.raises((ValueError, ImportError, AttributeError)):
        Payload.get_instance(data)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "key",
    [
        "json",
        "serialize",
        "is_valid",
        "get_class",
        "__class__",
        "__dict__",
        "_unset",
        "excludes",
        "includes",
        "ordering",
        "custom_obj_map",
        "json_names",
        "exclude_underscore",
        "PAYLOAD_CLASS_ATTRIBUTE",
        "not an identifier",
        "class",
    ],
)
def test_payload_text_injects_no_attribute(key):
    data = {"payload_class": NAME, "name": "x", "price": 1, key: {"evil": True}}
    back = Payload.get_instance(data)
    assert type(back) is MyProductPayload
    assert vars(back).keys() == {"payload_class", "name", "price", "_unset"}
    assert back.json()[key] == {"evil": True}
    assert back.is_valid()


def test_a_class_named_twice_is_the_one_defined_last():
    def define():
        class Local(Payload):
            pass

        return Local

    first, last = define(), define()
    assert get_class_name(first) == get_class_name(last)
    assert type(Payload.get_instance(first().serialize())) is last


def test_finding_the_class_of_a_text():
    assert find_payload_class(PersistentMenuOnePayload().serialize()) is PersistentMenuOnePayload
    assert find_payload_class(MyStart().serialize()) is MyStart
    for text in ("", "GET_STARTED", "{", "{}", '{"payload_class": "os.system"}', "[" * 99_999):
        assert find_payload_class(text) is None
