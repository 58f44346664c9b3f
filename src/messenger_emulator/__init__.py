"""A strict, stateful stand-in for graph.facebook.com and for Meta's webhook sender.

    emulator = Emulator(VirtualClock())
    page = emulator.add_page("104233987650012", "made-up-token", app_secret="made-up-secret")
    ana = emulator.add_person(page, "Ana Torres", locale="de_DE")
    ana.says("hallo")
    emulator.deliver(post)                # post(body, headers) -> status
    ana.texts                             # what the bot has answered through emulator.handle(...)

Plain Python: a request in, an answer out, a clock it is given. It runs inside a test, inside a site, or as a
server (``python -m messenger_emulator``).
"""

from __future__ import annotations

from messenger_emulator.core import Emulator, NoAnswer
from messenger_emulator.faults import FAULTS
from messenger_emulator.person import NotOnScreen, Person
from messenger_emulator.state import Page, VirtualClock

__all__ = [
    "FAULTS",
    "Emulator",
    "NoAnswer",
    "NotOnScreen",
    "Page",
    "Person",
    "VirtualClock",
]
