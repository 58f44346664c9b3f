"""Memory: what the bot knows, received and said."""

from __future__ import annotations

from djmessenger.models.inbox import Callback, Messaging
from djmessenger.models.outbox import Reply
from djmessenger.models.people import Conversation, FBUserProfile, Page, UserLocation

__all__ = ["Callback", "Conversation", "FBUserProfile", "Messaging", "Page", "Reply", "UserLocation"]
