"""Memory: what the bot knows, received and said."""

from __future__ import annotations

from djmessenger.models.bulk import insert_each, update_each
from djmessenger.models.calls import GraphCall, UploadedFile
from djmessenger.models.history import Line
from djmessenger.models.inbox import Callback, Messaging
from djmessenger.models.lanes import Lane, Lease, LeaseLost
from djmessenger.models.outbox import Attempt, Held, Reply
from djmessenger.models.people import Conversation, FBUserProfile, Page, UserLocation
from djmessenger.models.prepared import Among, Given, Prepared, Several
from djmessenger.models.profiles import ProfileSnapshot
from djmessenger.models.signals import messaging_failed, page_paused, reply_failed, reply_queued, reply_sent
from djmessenger.models.sweeps import Sweep

__all__ = [
    "Among",
    "Attempt",
    "Callback",
    "Conversation",
    "FBUserProfile",
    "Given",
    "GraphCall",
    "Held",
    "Lane",
    "Lease",
    "LeaseLost",
    "Line",
    "Messaging",
    "Page",
    "Prepared",
    "ProfileSnapshot",
    "Reply",
    "Several",
    "Sweep",
    "UploadedFile",
    "UserLocation",
    "insert_each",
    "messaging_failed",
    "page_paused",
    "reply_failed",
    "reply_queued",
    "reply_sent",
    "update_each",
]
