"""What the page may ask for: acts of persons, the clock, the switches; each a JSON object."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

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
"""What an act takes, by place, where that is more than texts."""
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
    """Carries orders out on a session."""

    def __init__(self, session: Session) -> None:
        self.session = session
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
        """Give status and answer; a mistake is answered with 400 and a sentence, never with an exception."""
        if name not in self._actions:
            return 404, {"error": f"There is no order {name!r}."}
        try:
            # In this order everywhere, or two requests could wait for each other.
            with self.session.lock, self.session.emulator.lock:
                done = self._actions[name](values)
        except (NotOnScreen, ValueError, TypeError, KeyError, LookupError, OverflowError) as error:
            return 400, {"error": str(error.args[0] if error.args else error)}
        self.session.wake()
        return 200, done

    def act(self, values: Values) -> Any:
        """``{"person", "act", "args", "options"}``."""
        person = self.session.person(str(values.get("person")))
        act, args, options = str(values.get("act")), values.get("args") or [], values.get("options") or {}
        if not isinstance(args, list) or not isinstance(options, dict):
            raise ValueError("An act has a list of args and an object of options.")
        kinds = _ARGUMENTS.get(act, (str,) * len(args))
        fits = len(args) <= len(kinds) and all(map(isinstance, args, kinds))
        if not fits or not options.keys() <= _OPTIONS:
            raise ValueError(f"The act {act} does not take that.")
        done = self.control.act({"person": person.id, "act": act, "args": args, "options": options})
        self._note(person, act, args, options)
        return done

    def press(self, values: Values) -> Any:
        """``{"person", "mid", "index"}``: a button of a message, by its place among all of that message."""
        person = self.session.person(str(values.get("person")))
        for bubble in person.received:
            if bubble.mid == values.get("mid"):
                button = bubble.all_buttons()[int(values.get("index", 0))]
                break
        else:
            raise NotOnScreen(f"{person.name} does not see that message any more.")
        title = str(button.get("title") or button.get("type") or "")
        done = person.presses(button)
        cards = [one for one in bubble.elements if button in (one.get("buttons") or ())]
        self._note(
            person, "taps", [title], {"on": str(cards[0]["title"])} if cards and "title" in cards[0] else {}
        )
        return dataclasses.asdict(done) if done else {"opened": person.opened[-1]}

    def person(self, values: Values) -> Any:
        """``{"page", "name", "locale", "timezone", "picture"}``."""
        page = self.session.emulator.pages[str(values["page"])] if values.get("page") else None
        name = str(values.get("name") or "").strip()[:120]
        if not name:
            raise ValueError("Give the person a name.")
        given = {key: str(values[key])[:2000] for key in ("locale", "picture") if values.get(key)}
        hours = float(values.get("timezone") or 0)
        if not -12 <= hours <= 14:
            raise ValueError("Time zones go from -12 to 14 hours.")
        return {"id": self.session.add_person(page, name, timezone=hours, **given).id}

    def page(self, values: Values) -> Any:
        """``{"name", "channel"}``: a further Page; its first person comes with it."""
        name = str(values.get("name") or "").strip()[:75]
        channel = str(values.get("channel") or "messenger")
        if not name or channel not in {"messenger", "instagram"}:
            raise ValueError("A Page has a name, and its channel is messenger or instagram.")
        page = self.session.add_page(name, channel)
        return {"id": page.id, "person": self.session.add_person(page).id}

    def clock(self, values: Values) -> Any:
        """``{"hours"}``: forward only, for what has happened has happened."""
        hours = float(values.get("hours") or 0)
        if not 0 < hours <= 24 * 400:
            raise ValueError("The clock goes forward, by 400 days at most at a time.")
        answer = self.control.clock({"advance": {"hours": hours}})
        self._note(None, "travel", [], {"hours": hours})
        return answer

    def fault(self, values: Values) -> Any:
        """``{"name", "on", "times", ...}``, or ``{"clear": true}``."""
        for key, value in values.items():
            if key not in _FAULT_OPTIONS or not isinstance(value, _FAULT_OPTIONS[key]):
                raise ValueError(f"A fault has no {key} like that.")
        answer = self.control.fault(values)
        self._note(None, "fault", [values.get("name", "")], {"on": bool(values.get("on", True))})
        return answer

    def raw(self, values: Values) -> Any:
        """``{"page", "body"}``: signed and posted as it is, whether or not it is JSON."""
        page = self.session.emulator.pages.get(str(values.get("page"))) or self.session.first_page
        self.session.emulator.emit_raw(page, str(values.get("body", "")).encode("utf-8", "surrogatepass"))
        return {}

    def profile(self, values: Values) -> Any:
        """``{"page", "properties"}``: greeting, ice breakers, menu, as the bot would send them to Graph."""
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
