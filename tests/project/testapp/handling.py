"""Handlers as the documentation writes them."""

from __future__ import annotations

from djmessenger.handling import BaseQuickReplyHandler
from testapp.payloads import MyQuickReplyPayload

handled: list[str] = []
"""Texts of the payloads that came back; tests clear it."""


class MyQuickReplyHandler(BaseQuickReplyHandler):
    def handle(self, messaging):
        payload = self.get_payload(messaging)
        if isinstance(payload, MyQuickReplyPayload):
            handled.append(payload.text)
