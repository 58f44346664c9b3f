"""State of the page as plain data: persons, the chosen conversation, the clock and the switches."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from djmessenger.simulator.session import Session
from messenger_emulator import Person, VirtualClock
from messenger_emulator.control import screen_of

_SHOWN = 300
"""Messages of one conversation that the page draws."""


def state(session: Session, chosen: str) -> dict[str, Any]:
    """Return all state that the page shows; ``chosen`` is the id of the person on the screen."""
    emulator = session.emulator
    with emulator.lock:
        person = emulator.persons.get(chosen) or next(iter(emulator.persons.values()), None)
        return {
            "process": session.process,
            "now": emulator.clock(),
            "pages": [
                {
                    "id": page.id,
                    "name": page.name,
                    "channel": page.channel,
                    "alerts": page.alerts[-2:],
                    "token_error": page.token_error,
                }
                for page in emulator.pages.values()
            ],
            "persons": [_summary(one) for one in emulator.persons.values()],
            "screen": None if person is None else _screen(session, person),
            "faults": list(emulator.faults.names()),
            "waiting": len(emulator.waiting),
            "problem": session.problem,
            "offers_secret": bool(settings.DEBUG and session.has_real_secret),
            "clock": isinstance(emulator.clock, VirtualClock),
        }


def _summary(person: Person) -> dict[str, Any]:
    last = person.thread[-1] if person.thread else None
    return {
        "id": person.id,
        "page": person.page.id,
        "name": person.name,
        "locale": person.locale,
        "timezone": person.timezone,
        "picture": person.picture,
        "online": person.online,
        "blocked": person.blocked,
        "consented": person.consented,
        "owner": person.owner,
        "count": len(person.thread),
        "last": None
        if last is None
        else {"by_page": last.by_page, "text": last.text[:120], "kind": last.kind, "time": last.time},
        "window": None if person.window_ends is None else person.window_ends - person.world.clock(),
    }


def _screen(session: Session, person: Person) -> dict[str, Any]:
    screen = screen_of(person)
    thread = screen["thread"]
    screen["earlier"] = max(0, len(thread) - _SHOWN)
    screen["thread"] = thread[-_SHOWN:]
    for bubble in screen["thread"]:
        if not bubble["by_page"]:
            bubble["fate"] = session.fates.get(bubble["mid"], "")
    screen["seen_by_page"] = person.seen_by_page
    return screen
