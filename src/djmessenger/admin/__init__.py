"""The admin: what people said, what the bot did about it and why, and what became of its answers.

What a person typed is only ever text here; nothing of theirs is fetched by the browser of a member of staff.
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
