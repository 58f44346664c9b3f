"""The documented helpers."""

from __future__ import annotations

import logging

import pytest
from django.utils import translation
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from djmessenger.facebook_locales import FacebookLocale
from djmessenger.utils.utils import LocalizedString, Loggable, get_class_name, load_class

TEXT = LocalizedString("Hi", {"zh_TW": "您好", "en_US": "Hello"})


class Speaking(Loggable):
    pass


@pytest.mark.parametrize(
    ("locale", "text"),
    [
        (FacebookLocale.zh_TW, "您好"),
        ("zh_TW", "您好"),
        ("zh_HK", "您好"),
        ("en_GB", "Hello"),
        ("de_DE", "Hi"),
        ("xx_YY", "Hi"),
        ("", "Hi"),
        (None, "Hi"),
    ],
)
def test_text_by_locale(locale, text):
    assert TEXT.get_text_by_locale(locale) == text


@given(st.one_of(st.none(), st.text(), st.integers(), st.sampled_from(FacebookLocale)))
def test_an_absent_or_unknown_locale_gives_the_base_text_and_never_raises(locale):
    assert TEXT.get_text_by_locale(locale) in {"Hi", "您好", "Hello"}


def test_a_lazy_base_text_is_rendered_in_the_language_of_the_locale():
    text = LocalizedString(gettext_lazy("Monday"))
    assert text.get_text_by_locale("de_DE") == "Montag"
    assert text.get_text_by_locale(FacebookLocale.zh_TW) == "星期一"
    assert text.get_text_by_locale(None) == "Monday"
    with translation.override("fr"):
        assert text.get_text_by_locale("xx_YY") == "lundi"
        assert str(text) == "lundi"


def test_localized_strings_are_read_and_written():
    read = LocalizedString.deserialize({"base_string": "Hi", "translations": {"zh_TW": "您好"}})
    assert read.get_text_by_locale("zh_TW") == "您好"
    assert read.json() == {"base_string": "Hi", "translations": {"zh_TW": "您好"}}
    assert LocalizedString.deserialize({"base_string": "Hi"}).get_text_by_locale("zh_TW") == "Hi"
    assert LocalizedString("a").translations is not LocalizedString("a").translations


def test_load_class():
    assert load_class("djmessenger.utils.utils.Loggable") is Loggable
    with pytest.raises(ImportError):
        load_class("djmessenger.nowhere.Loggable")
    with pytest.raises(AttributeError, match="Nothing"):
        load_class("djmessenger.utils.utils.Nothing")
    for name in ("Loggable", "", ".Loggable", "djmessenger."):
        with pytest.raises(ValueError, match="dotted"):
            load_class(name)


def test_class_names_are_those_of_the_class_not_of_its_metaclass():
    assert get_class_name(Loggable) == get_class_name(Loggable()) == "djmessenger.utils.utils.Loggable"


def test_loggers_bear_the_name_of_the_class():
    assert Speaking().logger is logging.getLogger(f"{__name__}.Speaking")
