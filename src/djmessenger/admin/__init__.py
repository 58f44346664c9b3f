"""The admin: events with their outcome, replies with their state, conversations, Pages and persons.

Content of persons is shown as text only. The browser of a member of staff loads no file from an address of a person.
"""

from __future__ import annotations

from djmessenger.admin.conversations import ConversationAdmin
from djmessenger.admin.inbox import CallbackAdmin, MessagingAdmin
from djmessenger.admin.outbox import AttemptAdmin, ReplyAdmin
from djmessenger.admin.pages import GraphCallAdmin, PageAdmin, UploadedFileAdmin
from djmessenger.admin.people import FBUserProfileAdmin, UserLocationAdmin

__all__ = [
    "AttemptAdmin",
    "CallbackAdmin",
    "ConversationAdmin",
    "FBUserProfileAdmin",
    "GraphCallAdmin",
    "MessagingAdmin",
    "PageAdmin",
    "ReplyAdmin",
    "UploadedFileAdmin",
    "UserLocationAdmin",
]
