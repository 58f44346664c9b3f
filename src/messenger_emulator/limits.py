"""Numbers and days of the platform that the emulator enforces, each with its source.

The table is written by hand from Meta's pages. It shares nothing with a bot's own limits, so that a wrong number
of a bot is refused here.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

Value = int | datetime.date | None


@dataclass(frozen=True, slots=True)
class Row:
    """One limit of the platform."""

    value: Value
    """A number; or the first day of refusal, None while no end is announced."""
    source: str
    """The page of Meta, or the kind of public report."""
    date: str
    """Year, month and day of that page as far as they are known."""


def _rows(source: str, date: str, **numbers: int) -> dict[str, Row]:
    """Build rows of one source; two underscores in a name stand for the dot of a key."""
    return {name.replace("__", "."): Row(number, source, date) for name, number in numbers.items()}


def _end(source: str, date: str, until: str = "") -> Row:
    return Row(datetime.date.fromisoformat(until) if until else None, source, date)


_MIB = 1024 * 1024
_SEND = "Send API reference"
_VERSIONS = "Graph API changelog"

LIMITS: Mapping[str, Row] = MappingProxyType(
    {
        # Messages. The validator counts code points; Meta does not document the unit of 2000.
        **_rows(f"{_SEND}; the refusal in public reports", "2026-11", text__length=2000),
        **_rows(f"{_SEND}: fewer than 1000 characters", "2026-11", metadata__length=999),
        **_rows("Instagram: send message, bytes of UTF-8", "2026-07-02", text__bytes__instagram=1000),
        **_rows("Send messages: several images", "2026-05-05", images__count=30),
        **_rows(
            "Quick replies",
            "2026-04-22",
            quick_replies__count=13,
            quick_reply__title=20,
            quick_reply__payload=1000,
        ),
        **_rows(
            "Saving assets",
            "2026",
            attachment__bytes=25 * _MIB,
            attachment__bytes__image=8 * _MIB,
            attachment__days=90,
        ),
        # Windows: hours for the standard one, days for the tags.
        **_rows("Send messages", "2026-05-05", window__standard=24, window__human_agent=7),
        **_rows("Customer feedback template", "2026", window__customer_feedback=7),
        # Days after the first message that follows a click on an ad.
        **_rows("Policy", "2026-09-28", window__ad=7),
        # Buttons and templates
        **_rows("Buttons", "2026-04-22", buttons__count=3, button__title=20, button__payload=1000),
        **_rows("Calling: call button", "2026-03-16", audio_call__days=7),
        **_rows("Button template", "2026", button_template__text=640),
        **_rows(
            "Generic template", "2026-04-22", generic__elements=10, generic__title=80, generic__subtitle=80
        ),
        **_rows("Media template", "2026", media__elements=1),
        **_rows("Receipt template", "2026", receipt__elements=100),
        **_rows("Product template", "2026", product__elements=10),
        **_rows("Coupon template", "2026", coupon__title=80, coupon__subtitle=80),
        **_rows(
            "Customer feedback template",
            "2026",
            feedback__title=65,
            feedback__subtitle=80,
            feedback__button_title=20,
            feedback__screens=1,
            feedback__questions=1,
            feedback__question__id=80,
            feedback__question__title__least=5,
            feedback__question__title=85,
            feedback__placeholder=65,
            feedback__days=7,
        ),
        **_rows("Structured information template", "2026", information__days=7),
        **_rows(
            "Image grid template",
            "2026-06-30",
            image_grid__images__least=2,
            image_grid__images=6,
            image_grid__title=45,
            image_grid__subtitle=80,
        ),
        **_rows("One-time notification, an older page", "before 2026", opt_in__title=65),
        # Messenger Profile
        **_rows("Greeting, an older page", "before 2026", greeting__text=160),
        **_rows("Get Started, an older page", "before 2026", get_started__payload=1000),
        **_rows("Persistent menu", "2026", menu__items=20, menu__title=30, menu__payload=1000),
        **_rows("Ice breakers", "2026", ice_breakers__count=4),
        **_rows("Postback event: payload", "2026", ice_breakers__payload=1000),
        **_rows("Commands", "2026", commands__count=100, command__name=32, command__description=64),
        **_rows("Domain whitelisting", "2025-07-01", domains__count=50),
        **_rows("Personas", "2026", persona__name=50),
        # Other calls
        **_rows("Private replies", "2026-04-16", private_reply__days=7),
        **_rows("Conversation routing", "2025-09-24", thread_control__seconds=7 * 24 * 3600),
        **_rows("Conversations", "2026", conversation__messages=20),
        **_rows("Instagram: moderate conversations", "2026-07-02", moderation__ids=10, moderation__actions=2),
        **_rows("Batch requests", "2026-11", batch__count=50),
        **_rows(
            "Instagram: refresh access token",
            "2025-07-17",
            instagram_token__days=60,
            instagram_token__least_hours=24,
        ),
        # Rates: calls in 24 hours for each engaged person, calls in a second, calls in 10 minutes.
        **_rows(
            "Rate limits", "2026-03-23", rate__calls_per_engaged_user=200, rate__text=300, rate__media=10
        ),
        **_rows("Messenger Profile API", "2026-03-18", rate__profile=10),
        **_rows("Persistent menu", "2026", rate__user_menu=10),
        # Message tags: the first day of refusal.
        "tag.CONFIRMED_EVENT_UPDATE": _end(_SEND, "2026-05-05", "2026-04-27"),
        "tag.ACCOUNT_UPDATE": _end(_SEND, "2026-05-05", "2026-04-27"),
        "tag.POST_PURCHASE_UPDATE": _end(_SEND, "2026-05-05", "2026-04-27"),
        "tag.HUMAN_AGENT": _end(_SEND, "2026-05-05"),
        "tag.CUSTOMER_FEEDBACK": _end("Customer feedback template", "2026"),
        # Versions of Graph, the oldest first: the first day without service.
        "graph.v20.0": _end(_VERSIONS, "2026-11", "2026-09-24"),
        "graph.v21.0": _end(_VERSIONS, "2026-11", "2027-01-21"),
        "graph.v22.0": _end(_VERSIONS, "2026-11", "2027-05-20"),
        "graph.v23.0": _end(_VERSIONS, "2026-11", "2027-10-08"),
        "graph.v24.0": _end(_VERSIONS, "2026-11", "2028-02-18"),
        "graph.v25.0": _end(_VERSIONS, "2026-11", "2028-07-29"),
        "graph.v26.0": _end(_VERSIONS, "2026-11"),
        "graph.v27.0": _end("Developers blog", "2026-11-04"),
    }
)
"""Rows by key. Keys name a number, or ``tag.`` and ``graph.`` with what ends."""


class Limits:
    """The limits of one emulator: the table, with rows of its own for a test."""

    def __init__(self, overrides: Mapping[str, Value] | None = None) -> None:
        self._values: dict[str, Value] = {key: row.value for key, row in LIMITS.items()}
        for key, value in (overrides or {}).items():
            self.override(key, value)

    def override(self, key: str, value: Value) -> None:
        """Replace one row from now on; raise ``ValueError`` for an unknown key or a value of another kind."""
        if key not in LIMITS:
            raise ValueError(f"the emulator has no limit {key!r}")
        kind = int if isinstance(LIMITS[key].value, int) else (datetime.date, type(None))
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(
                f"limit {key!r} needs {'a number' if kind is int else 'a date or None'}, not {value!r}"
            )
        self._values[key] = value

    def __getitem__(self, key: str) -> int:
        """Return the number of a row; raise ``KeyError`` if the row is missing or holds a day."""
        value = self._values[key]
        if not isinstance(value, int):
            raise KeyError(f"limit {key!r} is not a number")
        return value

    def has_ended(self, key: str, on: datetime.date) -> bool:
        """Return True if the row holds a day that has come; False also for an unknown key."""
        value = self._values.get(key)
        return isinstance(value, datetime.date) and value <= on

    def versions(self) -> list[str]:
        """Return the versions of Graph in the table, the oldest first."""
        return [key.removeprefix("graph.") for key in self._values if key.startswith("graph.")]
