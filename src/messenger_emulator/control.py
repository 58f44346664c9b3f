"""Control of an emulator by JSON: acts of persons, the clock, the switches, the screens.

The server offers it under ``/_emulator/``, so tests in any language can drive the emulator.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from messenger_emulator.core import Emulator
from messenger_emulator.faults import FAULTS
from messenger_emulator.person import Act, Person
from messenger_emulator.state import Page, VirtualClock

ACTS = frozenset(
    {
        "allows_one_time",
        "answers_feedback",
        "deletes",
        "does",
        "edits",
        "gets_started",
        "gives_email",
        "gives_information",
        "gives_phone",
        "links_account",
        "opens_link",
        "opts_in",
        "postback",
        "reacts",
        "reads",
        "reveals_coupon",
        "says",
        "sends_attachment",
        "sends_images",
        "sends_link",
        "sends_location",
        "sends_sticker",
        "submits_form",
        "taps",
        "taps_button",
        "taps_ice_breaker",
        "taps_menu",
        "taps_quick_reply",
        "ticks_checkbox",
        "unlinks_account",
        "unreacts",
    }
)
"""Methods of a person that may be called by name."""
_PERSON_SWITCHES = frozenset(
    {"blocked", "online", "consented", "profile_error", "locale", "timezone", "name", "username"}
)
_PAGE_SWITCHES = frozenset({"token_error", "restricted", "require_proof", "default_app"})

Values = Mapping[str, Any]


class Control:
    """Callable that performs actions on an emulator; each action is a JSON object."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._actions: Mapping[str, Callable[[Values], Any]] = {
            "state": self.state,
            "person": self.add_person,
            "act": self.act,
            "set": self.set,
            "clock": self.clock,
            "fault": self.fault,
            "raw": self.raw,
            "calls": self.calls,
            "deliveries": self.deliveries,
            "faults": self.faults,
        }

    def __call__(self, method: str, name: str, body: bytes) -> tuple[int, bytes]:
        """Perform an action; return status and JSON."""
        action = self._actions.get(name.strip("/"))
        if action is None:
            return 404, _json({"error": f"no action {name!r}; known are {', '.join(sorted(self._actions))}"})
        try:
            values = json.loads(body) if body else {}
            if not isinstance(values, dict):
                raise ValueError("an action is a JSON object")
            with self.emulator.lock:
                return 200, _json(action(values))
        except (ValueError, TypeError, LookupError) as error:
            return 400, _json({"error": str(error)})

    def _page(self, values: Values) -> Page:
        pages = self.emulator.pages
        page_id = values.get("page")
        if page_id is None and len(pages) == 1:
            return next(iter(pages.values()))
        if str(page_id) not in pages:
            raise LookupError(f"no Page {page_id!r}; there are {', '.join(pages)}")
        return pages[str(page_id)]

    def _person(self, values: Values) -> Person:
        persons = self.emulator.persons
        person_id = values.get("person")
        if person_id is None and len(persons) == 1:
            return next(iter(persons.values()))
        if str(person_id) not in persons:
            raise LookupError(f"no person {person_id!r}; there are {', '.join(persons)}")
        return persons[str(person_id)]

    def add_person(self, values: Values) -> Any:
        """Add a person: ``{"page", "name", "locale", "timezone", "picture"}``, all optional."""
        options = {key: values[key] for key in ("name", "locale", "timezone", "picture") if key in values}
        return {"id": self.emulator.add_person(self._page(values), **options).id}

    def act(self, values: Values) -> Any:
        """Perform an act of a person: ``{"person", "act", "args": [...], "options": {...}}``."""
        name = values.get("act")
        if name not in ACTS:
            raise LookupError(f"no act {name!r}; known are {', '.join(sorted(ACTS))}")
        result = getattr(self._person(values), str(name))(
            *values.get("args", ()), **values.get("options", {})
        )
        return asdict(result) if isinstance(result, Act) else {}

    def set(self, values: Values) -> Any:
        """Set switches of a person, or of a Page, such as ``{"person": ..., "blocked": true}``."""
        for_person = "person" in values
        target = self._person(values) if for_person else self._page(values)
        allowed = _PERSON_SWITCHES if for_person else _PAGE_SWITCHES
        changes = {key: value for key, value in values.items() if key not in {"person", "page", "owner"}}
        unknown = changes.keys() - allowed
        if unknown:
            raise LookupError(
                f"no switch {', '.join(sorted(unknown))}; known are {', '.join(sorted(allowed))}"
            )
        for key, value in changes.items():
            setattr(target, key, value)
        if isinstance(target, Person) and "owner" in values:
            self.emulator.give_control(target, str(values["owner"] or ""))
        return {}

    def clock(self, values: Values) -> Any:
        """Return the time, after moving the clock by ``{"advance": {"hours": 25}}`` if given."""
        clock = self.emulator.clock
        span = values.get("advance")
        if span is not None:
            if not isinstance(clock, VirtualClock):
                raise ValueError("this emulator's clock cannot be moved")
            clock.advance(**span)
        return {"now": clock()}

    def fault(self, values: Values) -> Any:
        """Switch a fault: ``{"name", "on": true, "times", "where", ...}``; ``{"clear": true}`` switches all off."""
        faults = self.emulator.faults
        if values.get("clear"):
            faults.clear()
        elif values.get("on", True):
            faults.on(**{key: value for key, value in values.items() if key not in {"on", "clear"}})
        else:
            faults.off(str(values.get("name")))
        return {"on": faults.names()}

    def faults(self, values: Values) -> Any:
        return {"known": dict(FAULTS), "on": self.emulator.faults.names()}

    def raw(self, values: Values) -> Any:
        """Sign a body and post it unchanged: ``{"page", "body": "<JSON text>"}``."""
        self.emulator.emit_raw(self._page(values), str(values["body"]).encode())
        return {}

    def state(self, values: Values) -> Any:
        """Return the time, the number of waiting items and the screen of each person."""
        return {
            "now": self.emulator.clock(),
            "waiting": len(self.emulator.waiting),
            "persons": [screen_of(person) for person in self.emulator.persons.values()],
        }

    def calls(self, values: Values) -> Any:
        since = int(values.get("since", 0))
        return {"calls": [asdict(call) for call in self.emulator.calls[since:]]}

    def deliveries(self, values: Values) -> Any:
        since = int(values.get("since", 0))
        return {
            "deliveries": [
                {**asdict(delivery), "body": delivery.body.decode("utf-8", "replace")}
                for delivery in self.emulator.deliveries[since:]
            ]
        }


def screen_of(person: Person) -> dict[str, Any]:
    """Return the screen of a person as plain data."""
    return {
        "id": person.id,
        "page": person.page.id,
        "name": person.name,
        "locale": person.locale,
        "timezone": person.timezone,
        "picture": person.picture,
        "typing": person.typing,
        "blocked": person.blocked,
        "window_ends": person.window_ends,
        "greeting": person.greeting,
        "ice_breakers": person.ice_breakers,
        "can_get_started": bool(person.page.platform().get("get_started")) and not person.thread,
        "menu": person.menu,
        "quick_replies": person.quick_replies,
        "thread": [asdict(bubble) for bubble in person.thread],
        "opened": person.opened,
        "linked": person.linked,
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, default=str).encode()
