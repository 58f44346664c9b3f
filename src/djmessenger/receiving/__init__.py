"""Callbacks of Meta as Python objects, and the type of each event in them."""

from __future__ import annotations

from djmessenger.receiving.attachments import (
    Attachment,
    Coordinates,
    LocationAttachmentPayload,
    MultimediaAttachmentPayload,
)
from djmessenger.receiving.callbacks import Callback, Entry
from djmessenger.receiving.classify import (
    AccountLinkingChecker,
    AuthenticationChecker,
    MessageDeliveredChecker,
    MessageReadChecker,
    MessageReceivedChecker,
    MessagingChecker,
    PostbackReceivedChecker,
    checker,
)
from djmessenger.receiving.events import Messaging
from djmessenger.receiving.messages import (
    AccountLinking,
    Delivery,
    Message,
    MessageEdit,
    Optin,
    Postback,
    QuickReply,
    Reaction,
    Read,
    Recipient,
    Referral,
    Sender,
    ThreadControl,
)
from djmessenger.receiving.types import AttachmentType, ReceivingType

__all__ = [
    "AccountLinking",
    "AccountLinkingChecker",
    "Attachment",
    "AttachmentType",
    "AuthenticationChecker",
    "Callback",
    "Coordinates",
    "Delivery",
    "Entry",
    "LocationAttachmentPayload",
    "Message",
    "MessageDeliveredChecker",
    "MessageEdit",
    "MessageReadChecker",
    "MessageReceivedChecker",
    "Messaging",
    "MessagingChecker",
    "MultimediaAttachmentPayload",
    "Optin",
    "Postback",
    "PostbackReceivedChecker",
    "QuickReply",
    "Reaction",
    "Read",
    "ReceivingType",
    "Recipient",
    "Referral",
    "Sender",
    "ThreadControl",
    "checker",
]
