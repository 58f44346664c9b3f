"""A long text is split: nothing is lost but white space at a cut, and every part fits."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from djmessenger.outgoing import QuickReply, Text
from djmessenger.outgoing.text import split_text

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
TEXTS = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from("  \n\u00e9\u0301\u200d\U0001f600\U0001f468")),
    max_size=200,
)


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def squeezed(text: str) -> str:
    return "".join(text.split())


@given(TEXTS, st.integers(2, 30))
def test_every_part_fits_and_only_white_space_is_lost(text: str, most: int) -> None:
    parts = split_text(text, most)
    assert all(utf16(part) <= most for part in parts)
    assert squeezed("".join(parts)) == squeezed(text)
    assert parts == [text] or all(part.strip() for part in parts)


@given(TEXTS, st.integers(4, 40))
def test_in_bytes(text: str, most: int) -> None:
    parts = split_text(text, most, "utf-8")
    assert all(len(part.encode()) <= most for part in parts)
    assert squeezed("".join(parts)) == squeezed(text)


@given(st.lists(st.text("ab\u00e9\U0001f600", min_size=1, max_size=9), min_size=1), st.integers(18, 40))
def test_words_that_fit_are_never_cut(words: list[str], most: int) -> None:
    parts = split_text(" ".join(words), most)
    assert [word for part in parts for word in part.split()] == words


@given(st.lists(st.sampled_from([FAMILY, "e\u0301", "\U0001f1e9\U0001f1ea", "x"]), min_size=1, max_size=60))
@settings(max_examples=50)
def test_a_grapheme_stays_whole(characters: list[str]) -> None:
    text = "".join(characters)
    parts = split_text(text, 12)
    expected = regex.findall(r"\X", text)
    assert [character for part in parts for character in regex.findall(r"\X", part)] == expected


def test_one_character_longer_than_a_part_still_goes_out() -> None:
    text = "e" + "\u0301" * 50
    parts = split_text(text, 10)
    assert "".join(parts) == text
    assert all(len(part) <= 10 for part in parts)


@pytest.mark.parametrize(("length", "parts"), [(2000, 1), (2001, 2), (4000, 2), (4001, 3)])
def test_two_thousand_characters(length: int, parts: int) -> None:
    assert len(Text("x" * length).requests()) == parts


def test_emoji_count_twice() -> None:
    assert len(Text("\U0001f600" * 1000).requests()) == 1
    assert len(Text("\U0001f600" * 1001).requests()) == 2


@pytest.mark.parametrize(
    ("text", "parts"), [("x" * 1000, 1), ("x" * 1001, 2), ("\u00e9" * 500, 1), ("\u00e9" * 501, 2)]
)
def test_a_thousand_bytes_on_instagram(text: str, parts: int) -> None:
    assert len(Text(text).requests(channel="instagram")) == parts


def test_a_word_of_five_thousand_characters_goes_out() -> None:
    bodies = Text("x" * 5000).requests()
    assert [len(body["message"]["text"]) for body in bodies] == [2000, 2000, 1000]


def test_quick_replies_stand_below_the_last_part_and_the_rest_on_each() -> None:
    bodies = Text(
        "word " * 900, quick_replies=[QuickReply("a", "b")], metadata="mine", reply_to="m_1", persona_id="9"
    ).requests()
    assert ["quick_replies" in body["message"] for body in bodies] == [False, False, True]
    assert ["reply_to" in body for body in bodies] == [True, False, False]
    assert {body["message"]["metadata"] for body in bodies} == {"mine"}
    assert {body["persona_id"] for body in bodies} == {"9"}
    assert all(body["message"]["text"].endswith("word") for body in bodies[:-1])


def test_paragraphs_keep_their_breaks_inside_a_part() -> None:
    assert split_text("ab\n\ncd ef", 6) == ["ab\n\ncd", "ef"]
    assert split_text("  ab", 4) == ["  ab"]
