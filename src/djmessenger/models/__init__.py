"""Models of djmessenger, and its signals."""

from __future__ import annotations

from djmessenger.models.callbacks import Callback
from djmessenger.models.conversations import Conversation, FBUserProfile, Messaging
from djmessenger.models.locations import UserLocation
from djmessenger.models.pages import GraphCall, Page, ProfileSnapshot, UploadedFile
from djmessenger.models.queues import ConversationQueue, Sweep
from djmessenger.models.replies import Attempt, Reply

# The documented names of the signals; ``djmessenger.signals`` defines them.
from djmessenger.signals import messaging_failed as messaging_failed
from djmessenger.signals import page_paused as page_paused
from djmessenger.signals import reply_failed as reply_failed
from djmessenger.signals import reply_queued as reply_queued
from djmessenger.signals import reply_sent as reply_sent

__all__ = [
    "Attempt",
    "Callback",
    "Conversation",
    "ConversationQueue",
    "FBUserProfile",
    "GraphCall",
    "Messaging",
    "Page",
    "ProfileSnapshot",
    "Reply",
    "Sweep",
    "UploadedFile",
    "UserLocation",
]
