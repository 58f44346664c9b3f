"""Repliers, which build messages of the Send API and queue them. Only sender actions are sent directly."""

from __future__ import annotations

from djmessenger.replying.choices import BaseButtonReplier, BaseQuickReplyReplier
from djmessenger.replying.kinds import (
    ButtonReplier,
    CouponReplier,
    CustomerFeedbackReplier,
    CustomerInformationReplier,
    GenericReplier,
    ImageGridReplier,
    ImagesReplier,
    InstantFormReplier,
    KindReplier,
    MediaReplier,
    ProductReplier,
    ReceiptReplier,
    StickerReplier,
    UtilityReplier,
)
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
    "ButtonReplier",
    "ButtonType",
    "CommonReplier",
    "CouponReplier",
    "CustomerFeedbackReplier",
    "CustomerInformationReplier",
    "DefaultMessageReplier",
    "FileReplier",
    "GenericReplier",
    "ImageGridReplier",
    "ImageReplier",
    "ImagesReplier",
    "InstantFormReplier",
    "KindReplier",
    "MediaReplier",
    "MessageReplier",
    "MultimediaReplier",
    "NotificationType",
    "ProductReplier",
    "ReceiptReplier",
    "ReplyAction",
    "ReplyActionReplier",
    "ReplyingType",
    "SimpleMessageReplier",
    "StickerReplier",
    "UtilityReplier",
    "VideoReplier",
]

for _name in __all__:
    if isinstance(_found := globals()[_name], type):
        # The documented path is stable, so policies and traces contain it.
        _found.__module__ = __name__
del _name, _found
