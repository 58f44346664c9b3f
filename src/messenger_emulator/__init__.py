"""A strict, stateful stand-in for graph.facebook.com and for Meta's webhook sender::

    emulator = Emulator(VirtualClock())
    page = emulator.add_page("104233987650012", "made-up-token", app_secret="made-up-secret")
    ana = emulator.add_person(page, "Ana Torres", locale="de_DE")
    ana.says("hallo")
    emulator.deliver(post)                # post(body, headers) -> status
    ana.texts                             # texts that the bot sent through emulator.handle(...)

Plain Python: ``handle`` takes a request and returns an answer; the clock is an argument. The emulator runs inside a
test, inside a site, or as a server (``python -m messenger_emulator``).
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
