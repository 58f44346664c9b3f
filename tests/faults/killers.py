"""Handlers and filters that end their process, as a fault in a C library or a lack of memory does."""

from __future__ import annotations

import os
import signal
from typing import Any

from djmessenger.filtering import BaseFilter
from djmessenger.handling import BaseHandler


def kill_for(messaging: Any) -> None:
    if "kill" in messaging.get_text():
        os.kill(os.getpid(), signal.SIGKILL)
    if "exit" in messaging.get_text():
        os._exit(3)


class Kill(BaseHandler):
    def handle(self, messaging: Any) -> None:
        kill_for(messaging)


class KillSlowly(BaseHandler):
    slow = True

    def handle(self, messaging: Any) -> None:
        kill_for(messaging)


class KillInDecision(BaseFilter):
    def should_pass(self, messaging: Any) -> bool:
        kill_for(messaging)
        return True
