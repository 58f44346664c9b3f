"""Payloads as the documentation writes them."""

from __future__ import annotations

from djmessenger.payload import Payload


class MyProductPayload(Payload):
    def __init__(self, name, price):
        super().__init__()
        self.name = name
        self.price = price


class MyButtonPayload(Payload):
    def __init__(self, text):
        super().__init__()
        self.text = text


class MyQuickReplyPayload(Payload):
    def __init__(self, text):
        super().__init__()
        self.text = text
