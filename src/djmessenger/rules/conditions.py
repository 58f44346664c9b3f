"""Filters as authors type them: ``text("hi") | tapped("GREET")``.

Each combines with ``&``, ``|`` and ``~``, also with plain functions of the event. One that is given something it
cannot use does not fail while modules are imported: ``manage.py check`` reports it with its place.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable
from typing import Any, ParamSpec

from django.utils.functional import Promise

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.filtering import (
    AttachmentFilter,
    BaseFilter,
    DailyTimeRangeFilter,
    LanguageFilter,
    LocationFilter,
    PageFilter,
    PatternFilter,
    ReactionFilter,
    ReferralFilter,
    StateFilter,
    StickerFilter,
    TappedFilter,
    TextFilter,
    ThumbUpFilter,
    TypeFilter,
)
from djmessenger.payload import Payload
from djmessenger.receiving import AttachmentType, Messaging, ReceivingType
from djmessenger.routing.functions import FACTORY_MARK
from djmessenger.utils.utils import LocalizedString

P = ParamSpec("P")


class MistakenFilter(BaseFilter):
    """In place of a filter that could not be made; passes nothing, and the check says why."""

    def __init__(self, name: str, mistake: str) -> None:
        self.name = name
        self.mistake = mistake

    def should_pass(self, messaging: Messaging) -> bool:
        return False

    def describe(self) -> str:
        return f"{self.name}(...)"


def _condition(make: Callable[P, BaseFilter]) -> Callable[P, BaseFilter]:
    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> BaseFilter:
        try:
            return make(*args, **kwargs)
        except (DJMInvalidConfigException, TypeError, ValueError) as error:
            return MistakenFilter(make.__name__, str(error))

    setattr(made, FACTORY_MARK, True)
    return made


@_condition
def text(*words: str | Promise | LocalizedString) -> BaseFilter:
    """Pass a typed text that is one of these, whatever its case, width and outer spaces."""
    return TextFilter(*words)


@_condition
def pattern(regex: str) -> BaseFilter:
    """Pass a typed text in which the regular expression is found; a named group becomes an argument of the rule."""
    return PatternFilter(regex)


@_condition
def tapped(*payloads: str | Payload | type[Payload]) -> BaseFilter:
    """Pass taps on quick replies, buttons and the menu alike that bring one of these payloads, or any."""
    return TappedFilter(*payloads)


@_condition
def attachment(*kinds: AttachmentType | str) -> BaseFilter:
    """Pass events with an attachment of one of these kinds, or with any."""
    return AttachmentFilter(*kinds)


@_condition
def image() -> BaseFilter:
    """Pass pictures."""
    return TypeFilter(ReceivingType.IMAGE)


@_condition
def audio() -> BaseFilter:
    """Pass voice messages and sounds."""
    return TypeFilter(ReceivingType.AUDIO)


@_condition
def video() -> BaseFilter:
    """Pass films."""
    return TypeFilter(ReceivingType.VIDEO)


@_condition
def file() -> BaseFilter:
    """Pass files."""
    return TypeFilter(ReceivingType.FILE)


@_condition
def sticker(*sticker_ids: str | int) -> BaseFilter:
    """Pass stickers with one of these ids, or any."""
    return StickerFilter(*sticker_ids) if sticker_ids else TypeFilter(ReceivingType.STICKER)


@_condition
def thumb_up() -> BaseFilter:
    """Pass the thumb-up in its three sizes."""
    return ThumbUpFilter()


@_condition
def location() -> BaseFilter:
    """Pass shared locations."""
    return LocationFilter()


@_condition
def referral(*refs: str, source: str = "") -> BaseFilter:
    """Pass persons who came by a link, an ad or a code with one of these ``ref``, or with any."""
    return ReferralFilter(*refs, source=source)


@_condition
def reaction(*reactions: str, action: str = "react") -> BaseFilter:
    """Pass reactions to a message: these (``love``, an emoji), or any."""
    return ReactionFilter(*reactions, action=action)


@_condition
def language(*languages: str) -> BaseFilter:
    """Pass persons who use one of these languages: ``de``, ``pt_BR``."""
    return LanguageFilter(*languages)


@_condition
def page(*page_ids: str | int) -> BaseFilter:
    """Pass what came to one of these Pages."""
    return PageFilter(*page_ids)


@_condition
def at_time(
    start: str | datetime.time,
    end: str | datetime.time,
    timezone: str | float | datetime.tzinfo | None = None,
) -> BaseFilter:
    """Pass what was sent between two times of day, in the person's time zone unless one is given."""
    return DailyTimeRangeFilter(start, end, timezone)


@_condition
def state(**conditions: Any) -> BaseFilter:
    """Pass conversations whose ``state`` holds these values: ``state(step="address")``; None asks for absence."""
    return StateFilter(conditions)


@_condition
def on(*receiving_types: ReceivingType | str) -> BaseFilter:
    """Pass events of these types; ``ANY`` is whatever a person authored."""
    return TypeFilter(*receiving_types)
