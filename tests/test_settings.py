"""Declarations of the settings: each is complete, each is read, and each value is judged without an exception."""

from __future__ import annotations

import ast
import datetime
import decimal
import importlib
import math
import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.test import override_settings
from django.utils.functional import lazy
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

import djmessenger.settings as documented
from djmessenger import checks, urls
from djmessenger.bot import install
from djmessenger.operations.profile_properties import ORDER
from djmessenger.settings import declared
from djmessenger.settings.declared import GONE, PAGE_KEYS, RENAMED, SETTINGS, app_settings
from djmessenger.settings.setting import Setting
from tests.test_checks import CHECKS

SOURCE = Path(__file__).parent.parent / "src" / "djmessenger"
FOR_PROJECTS_ONLY = {"DJM_BUSINESS_ADDRESS"}
"""Documented since 2016; projects read it, this package does not."""
ALL = [*SETTINGS.values(), *PAGE_KEYS.values()]


class Odd:
    """Value whose methods all fail."""

    def _fail(self, *args: Any) -> Any:
        raise RuntimeError("odd")

    __repr__ = __str__ = __bool__ = __eq__ = __hash__ = __len__ = __iter__ = __lt__ = __gt__ = _fail


class OddText(str):
    """Text whose methods fail, those of the class it claims included."""

    __slots__ = ()
    __bool__ = __str__ = __repr__ = __eq__ = __len__ = Odd._fail
    __hash__ = str.__hash__


class OddNumber(float):
    """Number that cannot be compared."""

    __slots__ = ()
    __lt__ = __gt__ = __eq__ = __repr__ = Odd._fail
    __hash__ = float.__hash__


class OddDict(dict):
    """Dict that cannot be read."""

    __iter__ = items = keys = values = get = __len__ = __bool__ = Odd._fail


class Unreadable:
    """Value at which Django cannot even look."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("odd")


class Pretender:
    """Object that claims to be a text."""

    __class__ = str  # type: ignore[assignment]


class OddType(type):
    """Metaclass that hides the name of its classes."""

    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError("odd")


class Nameless(metaclass=OddType):
    """Class without a name."""


KEYS = [*PAGE_KEYS, *ORDER, "rules", "pages", "1001", "buttons.count", "tag.ACCOUNT_UPDATE"]
"""Keys inside the settings that are dicts."""
plain: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400)]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", " ", ".", "..", "a.b", "a..b", "\0", "\ud800", "/", "resend", "v26.0", "os.path"]),
    st.binary(max_size=5),
    st.timedeltas(),
    st.sampled_from([datetime.timedelta.max, datetime.timedelta.min]),
    st.datetimes(),
    st.decimals(),
    st.builds(object),
    st.sampled_from([Path(), Path("no-such-file"), decimal.Decimal("NaN"), int, print]),
)
nested = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.none(), st.integers(), st.text(max_size=10)), inner, max_size=3),
        st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    ),
    max_leaves=5,
)
ODD = {
    "all methods": Odd,
    "text": lambda: OddText("x"),
    "number": lambda: OddNumber(5.0),
    "dict": lambda: OddDict(a=1),
    "attributes": Unreadable,
    "class": Pretender,
    "lazy text": lazy(Odd()._fail, str),
    "metaclass": Nameless,
}
# Hypothesis itself looks at attributes of its values.
odd = st.sampled_from([name for name in ODD if name != "attributes"]).map(lambda name: ODD[name]())
odd_values = st.one_of(
    nested, odd, st.lists(odd, min_size=1), st.dictionaries(st.sampled_from(KEYS), odd, min_size=1)
)


@pytest.mark.parametrize("row", ALL, ids=lambda row: row.name)
class TestDeclaration:
    def test_has_all_its_parts(self, row):
        assert row.type_text
        assert re.fullmatch(r"[A-Z].*\.", row.meaning)
        assert row.problem(row.default) == ""

    def test_a_number_or_a_time_has_bounds(self, row):
        members = set(getattr(row.type, "__args__", (row.type,)))
        if members & {int, float, datetime.timedelta}:
            assert row.maximum is not None
            assert (row.above is None) is not (row.minimum is None)

    def test_a_bound_is_the_last_value_that_is_accepted(self, row):
        for bound in (row.minimum, row.maximum):
            assert bound is None or row.problem(bound) == ""
        assert row.above is None or row.problem(row.above)
        if row.minimum is not None:
            smallest = datetime.timedelta.resolution if isinstance(row.minimum, datetime.timedelta) else 1
            assert row.problem(row.minimum - smallest)
            assert row.problem(row.maximum + smallest)

    def test_a_choice_is_accepted_and_its_neighbour_is_not(self, row):
        for choice in row.choices:
            assert row.problem(choice) == ""
            assert row.problem(f"{choice}x")

    def test_a_token_or_a_secret_is_secret(self, row):
        assert row.secret is bool(re.search(r"TOKEN|SECRET|^DJM_PAGES$|token", row.name))

    def test_none_is_refused_where_its_meaning_is_not_documented(self, row):
        assert (row.problem(None) == "") is ("None" in row.meaning)


@given(value=odd_values)
def test_any_value_is_judged_without_an_exception(value):
    for row in ALL:
        problem = row.problem(value)
        assert not problem or row.accepted in problem
        if problem and row.secret:
            assert problem.startswith("is of type ")


@given(name=st.sampled_from(list(SETTINGS)), value=odd_values)
@settings_of_hypothesis(max_examples=300, deadline=None)
def test_any_value_of_any_setting_is_checked_without_an_exception(name, value):
    with override_settings(**{name: value}):
        found = [message for check in CHECKS for message in check()]
        texts = "".join(f"{message.msg} {message.hint}" for message in found)
    if SETTINGS[name].problem(value):
        assert {"djmessenger.E001", "djmessenger.E020"} & {message.id for message in found}
        assert name in texts


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_value_whose_methods_raise_is_refused(name, value):
    with override_settings(**{name: ODD[value]()}):
        assert SETTINGS[name].accepted in app_settings.problem(name)


@pytest.fixture
def reload_urls():
    """Reload the URLs of the app under the settings of the test, and again under those of the other tests."""
    yield lambda: importlib.reload(urls)
    importlib.reload(urls)


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("name", ["DJM_ENDPOINT", "DJM_DISPATCHER", "DJM_PAGES", "DJM_APP_SECRET"])
def test_a_value_whose_methods_raise_is_an_error_of_the_checks(reload_urls, name, value):
    with override_settings(**{name: ODD[value]()}):
        install()
        reload_urls()
        found = [message for check in CHECKS for message in check()]
    assert {message.id for message in found if name in message.msg} == {"djmessenger.E001"}


@pytest.mark.parametrize("value", [name for name in ODD if name != "class"])
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("DJM_APP_SECRET", "1001"),
        ("DJM_PAGES", "1001"),
        ("DJM_PROFILE", "greeting"),
        ("DJM_ROUTING_POLICY", "rules"),
        ("DJM_RULEBOOK", "buttons.count"),
        ("DJM_RULEBOOK", "graph.v21.0"),
    ],
)
def test_a_value_inside_a_dict_whose_methods_raise_is_an_error(name, key, value):
    with override_settings(**{name: {key: ODD[value]()}}):
        errors = [message for check in CHECKS for message in check() if message.is_serious()]
    assert errors
    assert all("odd" not in message.msg for message in errors)


@pytest.mark.parametrize("value", [7, b"messenger", ["messenger"], None, ("a", "b"), "a\nb", "..", "a/../b"])
def test_a_wrong_endpoint_is_an_error_and_no_traceback(reload_urls, settings, value):
    settings.DJM_ENDPOINT = value
    reload_urls()
    assert {"djmessenger.E001", "djmessenger.E003"} & {message.id for check in CHECKS for message in check()}


@pytest.mark.parametrize("value", [["embedded"], {"embedded": 1}, 7])
def test_a_wrong_dispatcher_does_not_end_the_start(settings, value):
    settings.DJM_DISPATCHER = value
    install()
    assert app_settings.problem("DJM_DISPATCHER")


def test_an_exception_of_the_checks_themselves_is_no_mistake_of_a_setting(settings, monkeypatch):
    monkeypatch.setattr(checks, "version_messages", None)
    monkeypatch.delattr(settings._wrapped, "DJM_GRAPH_VERSION", raising=False)
    with pytest.raises(TypeError):
        checks.check_graph()


@given(entry=st.dictionaries(st.sampled_from(list(PAGE_KEYS)), odd_values, max_size=2))
@settings_of_hypothesis(deadline=None)
def test_any_value_in_an_entry_of_a_page_is_checked_without_an_exception(entry):
    with override_settings(DJM_PAGES={"1000001": entry}):
        ids = {message.id for check in CHECKS for message in check()}
    if any(PAGE_KEYS[key].problem(value) for key, value in entry.items()):
        assert "djmessenger.E020" in ids


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "1", None])
def test_only_a_finite_number_is_a_number(value):
    for row in ALL:
        if row.type is float:
            assert row.problem(value)


def test_an_integer_too_long_for_a_text_is_judged():
    assert SETTINGS["DJM_TRIES"].problem(10**5000).startswith("is of type int")


def test_the_reading_is_typed_by_the_declaration_and_nothing_is_written():
    assert SETTINGS["DJM_POLL"].default == app_settings.DJM_POLL
    assert isinstance(type(app_settings).DJM_POLL, Setting)
    with pytest.raises(AttributeError):
        app_settings.DJM_POLL = 2.0


def test_the_documented_module_has_every_name(settings):
    settings.DJM_POLL = 7.0
    assert documented.DJM_POLL == app_settings.DJM_POLL == 7.0
    assert set(SETTINGS) <= set(dir(documented))
    with pytest.raises(AttributeError):
        documented.DJM_POL  # noqa: B018


def test_a_change_of_a_setting_is_seen_at_once():
    assert app_settings.DJM_POLL == 1.0
    with override_settings(DJM_POLL=3.0):
        assert app_settings.DJM_POLL == documented.DJM_POLL == 3.0
        with override_settings():
            del django_settings.DJM_ENDPOINT
            setting_changed.send(None, setting="DJM_ENDPOINT", value=None, enter=True)
            assert app_settings.DJM_ENDPOINT == ""
    assert app_settings.DJM_POLL == 1.0
    assert app_settings.DJM_ENDPOINT == django_settings.DJM_ENDPOINT


def test_a_setting_is_read_from_django_once(monkeypatch):
    app_settings.forget()
    reads = []
    read = type(app_settings).read
    monkeypatch.setattr(type(app_settings), "read", lambda self, name: reads.append(name) or read(self, name))
    assert [app_settings.DJM_POLL, app_settings.DJM_POLL] == [1.0, 1.0]
    assert reads == ["DJM_POLL"]


def test_a_value_that_was_read_before_a_change_is_not_kept(monkeypatch):
    class Changing:
        """Settings that change while ``read`` looks a value up."""

        def __getattr__(self, name):
            if name != "DJM_POLL":
                return getattr(django_settings, name)
            app_settings.forget()
            return 3.0

    app_settings.forget()
    with monkeypatch.context() as patch:
        patch.setattr(declared, "settings", Changing())
        assert app_settings.DJM_POLL == 3.0
    assert app_settings.DJM_POLL == 1.0


def test_defaults_read_before_django_has_settings_are_not_kept(monkeypatch):
    app_settings.forget()
    with monkeypatch.context() as patch:
        patch.setattr(declared, "_is_configured", lambda: False)
        assert app_settings.DJM_ENDPOINT == ""
    assert app_settings.DJM_ENDPOINT == "messenger"


def names_read() -> set[str]:
    """Return each ``DJM_`` name that the code of the package reads, as attribute or as text alone."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        if path.name in {"declared.py", "checks.py"} or path.parent.name == "migrations":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr.startswith("DJM_"):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and re.fullmatch(r"DJM_[A-Z_]+[A-Z]", str(node.value)):
                found.add(node.value)
    return found


def test_each_setting_that_is_read_is_declared_and_the_other_way_round():
    environment = {"DJM_DEMO_FOLDER", "DJM_FAILPOINT", "DJM_FAILPOINT_HITS"}
    assert names_read() - environment <= set(SETTINGS)
    assert set(SETTINGS) - names_read() == FOR_PROJECTS_ONLY


def test_former_names_lead_to_settings_that_exist():
    assert set(RENAMED.values()) <= set(SETTINGS)
    assert not {*RENAMED, *GONE} & set(SETTINGS)
