"""Functions that return filters, for use in rules: ``text("hi") | tapped("GREET")``.

The filters combine with ``&``, ``|`` and ``~``, also with plain functions of the event. A wrong argument does not raise
during import: ``manage.py check`` reports it with its position.
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
    """The replacement of a filter with wrong arguments. It passes nothing, and the system check reports ``mistake``."""

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
    """Pass a typed text that equals one of these. Case, width and outer spaces do not matter."""
    return TextFilter(*words)


@_condition
def pattern(regex: str) -> BaseFilter:
    """Pass a typed text in which the regular expression is found; a named group becomes an argument of the rule."""
    return PatternFilter(regex)


@_condition
def tapped(*payloads: str | Payload | type[Payload]) -> BaseFilter:
    """Pass taps on quick replies, buttons and the menu with one of these payloads; without arguments, all taps."""
    return TappedFilter(*payloads)


@_condition
def attachment(*kinds: AttachmentType | str) -> BaseFilter:
    """Pass events with an attachment of one of these kinds; without arguments, of any kind."""
    return AttachmentFilter(*kinds)


@_condition
def image() -> BaseFilter:
    """Pass pictures."""
    return TypeFilter(ReceivingType.IMAGE)


@_condition
def audio() -> BaseFilter:
    """Pass recordings and other audio files."""
    return TypeFilter(ReceivingType.AUDIO)


@_condition
def video() -> BaseFilter:
    """Pass video files."""
    return TypeFilter(ReceivingType.VIDEO)


@_condition
def file() -> BaseFilter:
    """Pass files."""
    return TypeFilter(ReceivingType.FILE)


@_condition
def sticker(*sticker_ids: str | int) -> BaseFilter:
    """Pass stickers with one of these ids; without arguments, all stickers."""
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
    """Pass persons who came by a link, an ad or a code with one of these ``ref``; without arguments, with any."""
    return ReferralFilter(*refs, source=source)


@_condition
def reaction(*reactions: str, action: str = "react") -> BaseFilter:
    """Pass reactions to a message: a name of Meta (``love``) or an emoji; without arguments, all reactions."""
    return ReactionFilter(*reactions, action=action)


@_condition
def language(*languages: str) -> BaseFilter:
    """Pass persons who use one of these languages: ``de``, ``pt_BR``."""
    return LanguageFilter(*languages)


@_condition
def page(*page_ids: str | int) -> BaseFilter:
    """Pass events of one of these Pages."""
    return PageFilter(*page_ids)


@_condition
def at_time(
    start: str | datetime.time,
    end: str | datetime.time,
    timezone: str | float | datetime.tzinfo | None = None,
) -> BaseFilter:
    """Pass events that were sent between two times of day, by default in the person's time zone."""
    return DailyTimeRangeFilter(start, end, timezone)


@_condition
def state(**conditions: Any) -> BaseFilter:
    """Pass conversations whose ``state`` has these values: ``state(step="address")``. None stands for no value."""
    return StateFilter(conditions)


@_condition
def on(*receiving_types: ReceivingType | str) -> BaseFilter:
    """Pass events of these types. ``ANY`` stands for all authored events."""
    return TypeFilter(*receiving_types)
