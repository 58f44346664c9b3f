"""Actions of the page on a session: acts of persons, the clock, the switches. Each action is a JSON object."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from djmessenger.simulator.identity import is_of_simulated_persons, is_real_secret
from djmessenger.simulator.session import Entry, Session
from messenger_emulator import NotOnScreen, Person
from messenger_emulator.control import Control

Values = Mapping[str, Any]

_ARGUMENTS: Mapping[str, tuple[Any, ...]] = {
    "answers_feedback": (dict,),
    "does": (str, dict),
    "gives_information": (dict,),
    "sends_location": ((int, float), (int, float), str),
    "sends_sticker": (int, str),
}
"""Types of the arguments of an act, by position. Acts that are not listed take texts only."""
_OPTIONS = frozenset({"reply_to", "source"})
_FAULT_OPTIONS: Mapping[str, Any] = {
    "name": str,
    "on": bool,
    "clear": bool,
    "times": int,
    "where": str,
    "shape": str,
    "message": str,
    "type": str,
    **dict.fromkeys(("seconds", "percent", "copies", "subcode", "code", "status"), (int, float)),
}


class Actions:
    """Callable that performs the actions of the page on one session."""

    def __init__(self, session: Session, linking_page: str = "") -> None:
        self.session = session
        self.linking_page = linking_page
        """Address to which a log-in page redirects the browser of this visitor."""
        self.control = Control(session.emulator)
        self._actions: Mapping[str, Callable[[Values], Any]] = {
            "act": self.act,
            "press": self.press,
            "person": self.person,
            "page": self.page,
            "set": self.control.set,
            "clock": self.clock,
            "fault": self.fault,
            "raw": self.raw,
            "profile": self.profile,
            "restart": self.restart,
        }

    def __call__(self, name: str, values: Values) -> tuple[int, Any]:
        """Perform the action and return status and answer. A mistake returns 400 and a sentence; it raises nothing."""
        if name not in self._actions:
            return 404, {"error": f"There is no action {name!r}."}
        try:
            # Two threads that took these locks in opposite order would deadlock: the lock of the session comes first.
            with self.session.lock, self.session.emulator.lock:
                if self.linking_page:
                    self.session.emulator.linking_page = self.linking_page
                result = self._actions[name](values)
        except (NotOnScreen, ValueError, TypeError, KeyError, LookupError, OverflowError) as error:
            return 400, {"error": str(error.args[0] if error.args else error)}
        self.session.wake()
        return 200, result

    def act(self, values: Values) -> Any:
        """Perform an act of a person: ``{"person", "act", "args", "options"}``."""
        person = self.session.person(str(values.get("person")))
        act, args, options = str(values.get("act")), values.get("args") or [], values.get("options") or {}
        if not isinstance(args, list) or not isinstance(options, dict):
            raise ValueError("An act has a list of args and an object of options.")
        kinds = _ARGUMENTS.get(act, (str,) * len(args))
        fits = len(args) <= len(kinds) and all(map(isinstance, args, kinds))
        if not fits or not options.keys() <= _OPTIONS:
            raise ValueError(f"The act {act} does not take these arguments.")
        result = self.control.act({"person": person.id, "act": act, "args": args, "options": options})
        self._note(person, act, args, options)
        return result

    def press(self, values: Values) -> Any:
        """Press a button of a message: ``{"person", "mid", "index"}``; ``index`` counts all buttons of the message."""
        person = self.session.person(str(values.get("person")))
        for bubble in person.received:
            if bubble.mid == values.get("mid"):
                button = bubble.all_buttons()[int(values.get("index", 0))]
                break
        else:
            raise NotOnScreen(f"{person.name} no longer sees that message.")
        title = str(button.get("title") or button.get("type") or "")
        act = person.presses(button)
        cards = [one for one in bubble.elements if button in (one.get("buttons") or ())]
        self._note(
            person, "taps", [title], {"on": str(cards[0]["title"])} if cards and "title" in cards[0] else {}
        )
        return dataclasses.asdict(act) if act else {"opened": person.opened[-1]}

    def person(self, values: Values) -> Any:
        """Add a person and return the id: ``{"page", "name", "locale", "timezone", "picture"}``."""
        page = self.session.emulator.pages[str(values["page"])] if values.get("page") else None
        name = str(values.get("name") or "").strip()[:120]
        if not name:
            raise ValueError("A person needs a name.")
        options = {key: str(values[key])[:2000] for key in ("locale", "picture") if values.get(key)}
        hours = float(values.get("timezone") or 0)
        if not -12 <= hours <= 14:
            raise ValueError("Time zones go from -12 to 14 hours.")
        return {"id": self.session.add_person(page, name, timezone=hours, **options).id}

    def page(self, values: Values) -> Any:
        """Add a Page with one person and return both ids: ``{"name", "channel"}``."""
        name = str(values.get("name") or "").strip()[:75]
        channel = str(values.get("channel") or "messenger")
        if not name or channel not in {"messenger", "instagram"}:
            raise ValueError("A Page needs a name, and its channel is messenger or instagram.")
        page = self.session.add_page(name, channel)
        return {"id": page.id, "person": self.session.add_person(page).id}

    def clock(self, values: Values) -> Any:
        """Move the clock: ``{"hours"}``. It only goes forward, because events of the past are already sent."""
        hours = float(values.get("hours") or 0)
        if not 0 < hours <= 24 * 400:
            raise ValueError("The clock goes forward, by 400 days at most at a time.")
        answer = self.control.clock({"advance": {"hours": hours}})
        self._note(None, "travel", [], {"hours": hours})
        return answer

    def fault(self, values: Values) -> Any:
        """Switch a fault on or off: ``{"name", "on", "times", ...}``; ``{"clear": true}`` switches all off."""
        for key, value in values.items():
            if key not in _FAULT_OPTIONS or not isinstance(value, _FAULT_OPTIONS[key]):
                raise ValueError(f"A fault does not take this value of {key}.")
        answer = self.control.fault(values)
        self._note(None, "fault", [values.get("name", "")], {"on": bool(values.get("on", True))})
        return answer

    def raw(self, values: Values) -> Any:
        """Sign a text and post it unchanged, even if it is no JSON: ``{"page", "body"}``."""
        page = self.session.emulator.pages.get(str(values.get("page"))) or self.session.first_page
        body = str(values.get("body", "")).encode("utf-8", "surrogatepass")
        if is_real_secret(page.app_secret) and not is_of_simulated_persons(body):
            raise ValueError(
                "DJM_APP_SECRET is a real secret, so only events of simulated persons are signed. Empty the setting "
                "for development: in DEBUG a made-up secret takes its place."
            )
        self.session.emulator.emit_raw(page, body)
        return {}

    def profile(self, values: Values) -> Any:
        """Set greeting, ice breakers or menu as a call of the bot would: ``{"page", "properties"}``."""
        page = self.session.emulator.pages.get(str(values.get("page"))) or self.session.first_page
        body = json.dumps(values.get("properties") or {}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {page.token}"}
        proof = page.require_proof
        page.require_proof = False
        try:
            status, _headers, answer = self.session.emulator.handle(
                "POST", f"/{page.id}/messenger_profile", urlencode({}), headers, body
            )
        finally:
            page.require_proof = proof
        if status != 200:
            raise ValueError(json.loads(answer or b"{}").get("error", {}).get("message", f"status {status}"))
        return {}

    def restart(self, values: Values) -> Any:
        self.session.restart()
        return {}

    def _note(
        self, person: Person | None, act: str, args: list[Any], options: dict[str, Any] | None = None
    ) -> None:
        entry = Entry(self.session.emulator.clock(), person.id if person else "", act, args, options or {})
        self.session.journal.append(entry)
