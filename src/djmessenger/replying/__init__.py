"""Repliers, which build messages of the Send API and queue them. Only sender actions are sent directly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djmessenger.replying.choices import BaseButtonReplier, BaseQuickReplyReplier
from djmessenger.replying.kinds import KIND_REPLIERS as _KIND_REPLIERS
from djmessenger.replying.kinds import KindReplier
from djmessenger.replying.repliers import (
    AudioReplier,
    CommonReplier,
    DefaultMessageReplier,
    FileReplier,
    ImageReplier,
    MessageReplier,
    MultimediaReplier,
    ReplyActionReplier,
    SimpleMessageReplier,
    VideoReplier,
)
from djmessenger.replying.types import ButtonType, NotificationType, ReplyAction, ReplyingType

__all__ = [
    "AudioReplier",
    "BaseButtonReplier",
    "BaseQuickReplyReplier",
    "ButtonType",
    "CommonReplier",
    "DefaultMessageReplier",
    "FileReplier",
    "ImageReplier",
    "KindReplier",
    "MessageReplier",
    "MultimediaReplier",
    "NotificationType",
    "ReplyAction",
    "ReplyActionReplier",
    "ReplyingType",
    "SimpleMessageReplier",
    "VideoReplier",
]

# One replier for each kind of message: CouponReplier, GenericReplier and so on.
globals().update(_KIND_REPLIERS)
__all__.extend(_KIND_REPLIERS)
__all__.sort()

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[KindReplier]: ...


for _name in __all__:
    if isinstance(_found := globals()[_name], type):
        # The documented path is stable, so policies and traces contain it.
        _found.__module__ = __name__
del _name, _found
