"""Repliers as the documentation writes them."""

from __future__ import annotations

from djmessenger.replying import BaseButtonReplier, BaseQuickReplyReplier
from testapp.payloads import MyButtonPayload, MyQuickReplyPayload


class MyButtonSender(BaseButtonReplier):
    BUTTONS = {  # noqa: RUF012 - as the documentation writes it
        "button 1": "https://shop.example/",
        "button 2": MyButtonPayload("button payload 2"),
    }


class MyQuickReplySender(BaseQuickReplyReplier):
    QUICK_REPLIES = {  # noqa: RUF012 - as the documentation writes it
        "qr 1": MyQuickReplyPayload("qr payload 1"),
        "qr 2": MyQuickReplyPayload("qr payload 2"),
        "qr 3": MyQuickReplyPayload("qr payload 3"),
    }
