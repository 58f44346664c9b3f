"""Outgoing messages: small frozen objects that are checked before they are sent.

``requests(render, channel=...)`` returns the bodies of the calls of a message. A message that Graph would refuse
raises an error that names field, limit and source of the limit. Plain values are checked when the object is made,
and texts that depend on the language when it is rendered. With ``DJM_OUTGOING_CHECKS = "warn"`` a value over a
limit of the rulebook is only logged (``djmessenger.outgoing``).
"""

from __future__ import annotations

from djmessenger.outgoing.actions import Reaction, SenderAction, Typing
from djmessenger.outgoing.attachments import (
    LIKE,
    LIKE_HEART,
    Audio,
    File,
    Image,
    Images,
    LocalFile,
    Sticker,
    Video,
)
from djmessenger.outgoing.base import OutgoingMessage
from djmessenger.outgoing.buttons import (
    AudioCallButton,
    Button,
    CallButton,
    GamePlayButton,
    LogInButton,
    LogOutButton,
    PostbackButton,
    UrlAction,
    UrlButton,
)
from djmessenger.outgoing.commerce import (
    Address,
    Adjustment,
    CouponTemplate,
    ProductTemplate,
    ReceiptItem,
    ReceiptTemplate,
)
from djmessenger.outgoing.forms import CustomerFeedback, CustomerInformation, InstantForm, Question
from djmessenger.outgoing.message import ThreadControl
from djmessenger.outgoing.quick_replies import EmailQuickReply, PhoneQuickReply, QuickReply
from djmessenger.outgoing.templates import (
    ButtonTemplate,
    Element,
    GenericTemplate,
    GridImage,
    ImageGrid,
    MediaTemplate,
    Template,
)
from djmessenger.outgoing.text import Text
from djmessenger.outgoing.utility import Utility, UtilityPostback, UtilityUrl

__all__ = [
    "LIKE",
    "LIKE_HEART",
    "Address",
    "Adjustment",
    "Audio",
    "AudioCallButton",
    "Button",
    "ButtonTemplate",
    "CallButton",
    "CouponTemplate",
    "CustomerFeedback",
    "CustomerInformation",
    "Element",
    "EmailQuickReply",
    "File",
    "GamePlayButton",
    "GenericTemplate",
    "GridImage",
    "Image",
    "ImageGrid",
    "Images",
    "InstantForm",
    "LocalFile",
    "LogInButton",
    "LogOutButton",
    "MediaTemplate",
    "OutgoingMessage",
    "PhoneQuickReply",
    "PostbackButton",
    "ProductTemplate",
    "Question",
    "QuickReply",
    "Reaction",
    "ReceiptItem",
    "ReceiptTemplate",
    "SenderAction",
    "Sticker",
    "Template",
    "Text",
    "ThreadControl",
    "Typing",
    "UrlAction",
    "UrlButton",
    "Utility",
    "UtilityPostback",
    "UtilityUrl",
    "Video",
]
