"""The rulebook is data: its rows have dates, its overrides come from a setting, its ends pass."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from djmessenger import rulebook
from djmessenger.rulebook.facts import NEWS_READ, TABLE

DAY = datetime.date(2026, 11, 25)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("text.length", 2000),
        ("text.bytes.instagram", 1000),
        ("metadata.length", 999),
        ("quick_replies.count", 13),
        ("quick_reply.title", 20),
        ("quick_reply.payload", 1000),
        ("buttons.count", 3),
        ("button.title", 20),
        ("button.payload", 1000),
        ("button_template.text", 640),
        ("generic.elements", 10),
        ("generic.title", 80),
        ("generic.subtitle", 80),
        ("receipt.elements", 100),
        ("product.elements", 10),
        ("image_grid.images", 6),
        ("image_grid.title", 45),
        ("images.count", 30),
        ("menu.items", 20),
        ("menu.title", 30),
        ("menu.payload", 1000),
        ("greeting.text", 160),
        ("ice_breakers.count", 4),
        ("commands.count", 100),
        ("command.name", 32),
        ("command.description", 64),
        ("domains.count", 50),
        ("persona.name", 50),
        ("payload.length", 1000),
        ("attachment.bytes.image", 8388608),
        ("attachment.bytes", 26214400),
        ("attachment.days", 90),
        ("batch.count", 50),
        ("m_me.ref", 2083),
        ("rate.text", 300),
        ("rate.media", 10),
        ("rate.profile", 10),
    ],
)
def test_limits_are_those_of_metas_pages(key: str, value: int) -> None:
    assert rulebook.limit(key) == value


def test_every_row_says_what_it_is_and_where_it_stands() -> None:
    for key, row in rulebook.rows().items():
        assert row.key == key
        assert row.what
        assert row.source
        assert row.date <= NEWS_READ
        assert row.since is None or row.until is None or row.since < row.until
    assert len(rulebook.table) == len(rulebook.rows())


def test_no_key_stands_twice() -> None:
    keys = [row.key for row in TABLE]
    assert len(keys) == len(set(keys))


def test_an_end_passes_with_its_day() -> None:
    before, on_the_day = datetime.date(2027, 1, 20), datetime.date(2027, 1, 21)
    assert rulebook.retirement("graph.v21.0", before) is None
    ended = rulebook.retirement("graph.v21.0", on_the_day)
    assert ended is not None
    assert ended.instead == "v26.0"


@pytest.mark.parametrize("tag", ["CONFIRMED_EVENT_UPDATE", "ACCOUNT_UPDATE", "POST_PURCHASE_UPDATE"])
def test_retired_tags(tag: str) -> None:
    assert rulebook.retirement(f"tag.{tag}", datetime.date(2026, 4, 26)) is None
    assert rulebook.retirement(f"tag.{tag}", datetime.date(2026, 4, 27)) is not None


@pytest.mark.parametrize("key", ["tag.HUMAN_AGENT", "graph.v26.0", "buttons.count", "no such row"])
def test_a_feature_without_an_end_is_not_retired(key: str) -> None:
    assert rulebook.retirement(key, datetime.date(2099, 1, 1)) is None


def test_ending_within_gives_the_nearest_first_and_nothing_that_has_ended() -> None:
    assert [row.key for row in rulebook.ending_within(90, DAY)] == ["graph.v21.0"]
    assert [row.key for row in rulebook.ending_within(56, DAY)] == []
    assert [row.key for row in rulebook.ending_within(57, DAY)] == ["graph.v21.0"]
    assert [row.key for row in rulebook.ending_within(365, DAY)][:2] == ["graph.v21.0", "graph.v22.0"]
    assert "graph.v21.0" not in [row.key for row in rulebook.ending_within(365, datetime.date(2027, 1, 21))]


def test_an_unknown_key_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        rulebook.limit("buttons.cuont")
    with pytest.raises(KeyError, match="not a number"):
        rulebook.limit("tag.ACCOUNT_UPDATE")


def test_a_setting_overrides_a_limit_and_only_that(settings: Any) -> None:
    settings.DJM_RULEBOOK = {"buttons.count": 4}
    assert rulebook.limit("buttons.count") == 4
    assert rulebook.limit("button.title") == 20
    assert rulebook.rows()["buttons.count"].value == 4
    assert rulebook.table["buttons.count"].value == 3
    assert rulebook.problems() == []
    settings.DJM_RULEBOOK = {}
    assert rulebook.limit("buttons.count") == 3


@pytest.mark.parametrize("value", ["2027-03-01", datetime.date(2027, 3, 1)])
def test_a_setting_moves_an_end(settings: Any, value: Any) -> None:
    settings.DJM_RULEBOOK = {"graph.v21.0": value}
    assert rulebook.retirement("graph.v21.0", datetime.date(2027, 2, 28)) is None
    assert rulebook.retirement("graph.v21.0", datetime.date(2027, 3, 1)) is not None
    assert rulebook.problems() == []


def test_a_setting_takes_an_end_back(settings: Any) -> None:
    settings.DJM_RULEBOOK = {"tag.ACCOUNT_UPDATE": None}
    assert rulebook.retirement("tag.ACCOUNT_UPDATE", DAY) is None


@pytest.mark.parametrize(
    ("overrides", "key", "fragment"),
    [
        ({"buttons.cuont": 4}, "buttons.cuont", "no row"),
        ({7: 4}, "7", "no row"),
        ({"buttons.count": "4"}, "buttons.count", "needs int"),
        ({"buttons.count": True}, "buttons.count", "needs int"),
        ({"buttons.count": None}, "buttons.count", "needs int"),
        ({"buttons.count": 0}, "buttons.count", "above zero"),
        ({"graph.v21.0": "soon"}, "graph.v21.0", "needs a date"),
        ({"graph.v21.0": 4}, "graph.v21.0", "needs a date"),
        ({"graph.v21.0": datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)}, "graph.v21.0", "needs a date"),
        (["buttons.count"], "", "a dict"),
    ],
)
def test_an_override_that_cannot_be_used_is_reported_and_ignored(
    settings: Any, overrides: Any, key: str, fragment: str
) -> None:
    settings.DJM_RULEBOOK = overrides
    (problem,) = rulebook.problems()
    assert problem.key == key
    assert fragment in problem.message
    assert rulebook.limit("buttons.count") == 3
    assert rulebook.retirement("graph.v21.0", datetime.date(2027, 1, 21)) is not None


def test_the_age_counts_from_the_newest_row() -> None:
    assert rulebook.days_since_reading(NEWS_READ) == 0
    assert rulebook.days_since_reading(NEWS_READ + datetime.timedelta(days=121)) == 121
