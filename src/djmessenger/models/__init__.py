"""Memory: what the bot knows, received and said."""

from __future__ import annotations

from djmessenger.models.calls import GraphCall, UploadedFile
from djmessenger.models.history import Line
from djmessenger.models.inbox import Callback, Messaging
from djmessenger.models.lanes import Lane, Lease, LeaseLost
from djmessenger.models.outbox import Attempt, Reply
from djmessenger.models.people import Conversation, FBUserProfile, Page, UserLocation
from djmessenger.models.profiles import ProfileSnapshot
from djmessenger.models.sweeps import Sweep
from djmessenger.signals import messaging_failed, page_paused, reply_failed, reply_queued, reply_sent

__all__ = [
    "Attempt",
    "Callback",
    "Conversation",
    "FBUserProfile",
    "GraphCall",
    "Lane",
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
