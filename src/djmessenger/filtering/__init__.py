"""Filters decide whether a messaging goes on to the handlers and repliers of a rule.

They combine with ``&``, ``|`` and ``~``, have names that can be read, and are named in policies by the paths here.
"""

from __future__ import annotations

from djmessenger.filtering.base import (
    AllFilter,
    AnyFilter,
    BaseFilter,
    FunctionFilter,
    NotFilter,
    Verdict,
    as_filter,
    literal_key,
    literal_keys,
)
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
from djmessenger.filtering.patterns import timeouts
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
    "Verdict",
    "as_filter",
    "literal_key",
    "literal_keys",
    "timeouts",
]

for _name in __all__:
    if isinstance(_found := globals()[_name], type):
        # The documented path is the one that stays, in policies as in traces.
        _found.__module__ = __name__
del _name, _found
