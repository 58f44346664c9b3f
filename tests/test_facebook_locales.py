"""Locales: all of them, what stands in for which, and their names in Django."""

from __future__ import annotations

import enum
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djmessenger.facebook_locales import FacebookLocale, fallbacks, find_locale, language_code


def test_it_is_an_enumeration_spelt_as_facebook_spells():
    assert issubclass(FacebookLocale, enum.Enum)
    assert FacebookLocale["en_US"] is FacebookLocale("en_US") is FacebookLocale.en_US
    assert all(re.fullmatch(r"[a-z]{2}_[A-Z]{2}", member.name) for member in FacebookLocale)
    assert all(member.name == member.value for member in FacebookLocale)
    assert len(FacebookLocale) > 140


@pytest.mark.parametrize(
    ("locale", "among", "best"),
    [
        ("zh_TW", ["zh_TW", "zh_HK"], "zh_TW"),
        ("zh_HK", ["zh_CN", "zh_TW"], "zh_TW"),
        ("zh_TW", ["zh_HK"], "zh_HK"),
        ("zh_TW", ["zh_CN"], None),
        ("zh_CN", ["zh_TW"], None),
        ("es_ES", ["es_MX", "es_LA"], "es_LA"),
        ("es_LA", ["es_ES"], "es_ES"),
        ("es_CO", ["en_US", "es_ES"], "es_ES"),
        ("pt_PT", ["pt_BR"], "pt_BR"),
        ("pt_BR", ["pt_PT"], "pt_PT"),
        ("en_GB", ["en_US"], "en_US"),
        ("en_IN", ["en_GB", "en_US"], "en_US"),
        ("fr_CA", ["fr_FR"], "fr_FR"),
        ("nn_NO", ["nb_NO"], "nb_NO"),
        ("de_DE", ["de_AT"], "de_AT"),
        ("de_DE", ["de"], "de"),
        ("zh-tw", ["zh_TW"], "zh_TW"),
        ("de_DE", ["en_US"], None),
        ("xx_XX", ["en_US"], None),
        (FacebookLocale.zh_HK, ["zh_TW"], "zh_TW"),
        (None, ["en_US"], None),
        ("", ["en_US"], None),
        ("_", ["en_US"], None),
    ],
)
def test_the_nearest_locale_is_the_fallback(locale, among, best):
    assert next(iter(fallbacks(locale, among=among)), None) == best


@pytest.mark.parametrize(
    ("locale", "code"),
    [
        ("zh_TW", "zh-hant"),
        ("zh_HK", "zh-hant"),
        ("zh_CN", "zh-hans"),
        ("pt_BR", "pt-br"),
        ("pt_PT", "pt"),
        ("de_DE", "de"),
        ("en_US", "en"),
        ("en_GB", "en-gb"),
        ("es_LA", "es"),
        ("nb_NO", "nb"),
        (FacebookLocale.fr_CA, "fr"),
        ("pt-br", "pt-br"),
        ("xx_XX", None),
        ("", None),
        (None, None),
    ],
)
def test_names_in_django(locale, code):
    assert language_code(locale) == code


@given(st.one_of(st.none(), st.text(), st.sampled_from(FacebookLocale)), st.lists(st.text()))
def test_nothing_raises(locale, among):
    assert set(fallbacks(locale, among=among)) <= set(among)
    assert find_locale(locale) is None or language_code(locale)
