"""Repliers build messages of the Send API and queue them; nothing is sent from here but sender actions."""

from __future__ import annotations

from djmessenger.replying.choices import BaseButtonReplier, BaseQuickReplyReplier
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
from djmessenger.replying.sending import answering, queue
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
    "MessageReplier",
    "MultimediaReplier",
    "NotificationType",
    "ReplyAction",
    "ReplyActionReplier",
    "ReplyingType",
    "SimpleMessageReplier",
    "VideoReplier",
    "answering",
    "queue",
]

for _name in __all__:
    if isinstance(_found := globals()[_name], type):
        # The documented path is the one that stays, in policies as in traces.
        _found.__module__ = __name__
del _name, _found
