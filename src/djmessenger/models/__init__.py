"""Models of djmessenger, and its signals."""

from __future__ import annotations

from djmessenger.models.callbacks import Callback
from djmessenger.models.conversations import (
    Attempt,
    Conversation,
    FBUserProfile,
    Messaging,
    Reply,
    UserLocation,
)
from djmessenger.models.history import Line
from djmessenger.models.pages import GraphCall, Page, ProfileSnapshot, UploadedFile
from djmessenger.models.queues import ConversationQueue, Lease, LeaseLost, Sweep
from djmessenger.signals import messaging_failed, page_paused, reply_failed, reply_queued, reply_sent

__all__ = [
    "Attempt",
    "Callback",
    "Conversation",
    "ConversationQueue",
    "FBUserProfile",
    "GraphCall",
    "Lease",
    "LeaseLost",
    "Line",
    "Messaging",
    "Page",
    "ProfileSnapshot",
    "Reply",
    "Sweep",
    "UploadedFile",
    "UserLocation",
    "messaging_failed",
    "page_paused",
    "reply_failed",
    "reply_queued",
    "reply_sent",
]
