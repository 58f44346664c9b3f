"""Filters, which decide whether the handlers and repliers of a rule run for an event.

Filters combine with ``&``, ``|`` and ``~``. Policies name them by the paths here. Outcomes show them as an author types
them.
"""

from __future__ import annotations

from djmessenger.filtering.base import AllFilter, AnyFilter, BaseFilter, FunctionFilter, NotFilter
from djmessenger.filtering.kinds import (
    AttachmentFilter,
    AuthenticationFilter,
    LocationFilter,
    MultimediaFilter,
    PostbackFilter,
    ReactionFilter,
    ReferralFilter,
    StickerFilter,
    TappedFilter,
    ThumbUpFilter,
    TypeFilter,
)
from djmessenger.filtering.people import LanguageFilter, PageFilter, StateFilter
from djmessenger.filtering.texts import EmailFilter, PatternFilter, SimpleTextRegexFilter, TextFilter
from djmessenger.filtering.times import DailyTimeRangeFilter, DatetimeRangeFilter, TimeFilter

__all__ = [
    "AllFilter",
    "AnyFilter",
    "AttachmentFilter",
    "AuthenticationFilter",
    "BaseFilter",
    "DailyTimeRangeFilter",
    "DatetimeRangeFilter",
    "EmailFilter",
    "FunctionFilter",
    "LanguageFilter",
    "LocationFilter",
    "MultimediaFilter",
    "NotFilter",
    "PageFilter",
    "PatternFilter",
    "PostbackFilter",
    "ReactionFilter",
    "ReferralFilter",
    "SimpleTextRegexFilter",
    "StateFilter",
    "StickerFilter",
    "TappedFilter",
    "TextFilter",
    "ThumbUpFilter",
    "TimeFilter",
    "TypeFilter",
]

for _name in __all__:
    if isinstance(_found := globals()[_name], type):
        # The documented path is stable, so policies and traces contain it.
        _found.__module__ = __name__
del _name, _found
