"""Replier of the benchmarks, written as the reference of policies as data describes it."""

from __future__ import annotations

from typing import Any

from djmessenger.receiving import Messaging
from djmessenger.replying import CommonReplier, ReplyingType


class EchoReplier(CommonReplier):
    """A replier that repeats the words that the pattern of its rule captured."""

    def get_message(self, messaging: Messaging) -> dict[str, Any]:
        words = messaging.context["words"]
        return {"text": self.preprocess_outgoing_string(messaging.get_psid(), words)}

    def get_reply_type(self) -> ReplyingType:
        return ReplyingType.SIMPLE_TEXT
