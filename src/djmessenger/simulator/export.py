"""A conversation written down as a test for the kit, ``djmessenger.testing``."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from djmessenger.emulator import Bubble, Person
from djmessenger.simulator.stage import Entry, Stage

_AS_THEY_ARE = frozenset(
    {
        "gets_started",
        "says",
        "taps",
        "gives_phone",
        "gives_email",
        "sends_attachment",
        "sends_images",
        "sends_sticker",
        "sends_location",
        "sends_link",
        "opens_link",
        "answers_feedback",
        "reacts",
        "unreacts",
        "edits",
    }
)
_TAPS = frozenset({"taps", "taps_button", "taps_menu", "taps_quick_reply", "taps_ice_breaker"})


@dataclass(frozen=True)
class _Line:
    time: float
    order: int
    text: str


def as_test(stage: Stage, page_id: str) -> str:
    """Give the source of a test that does what was done with a Page, and expects what was answered."""
    with stage.emulator.lock:
        persons = [one for one in stage.emulator.persons.values() if one.page.id == page_id and one.thread]
        names = _names(persons)
        lines = [_Line(entry.time, 0, text) for entry in stage.journal if (text := _act(entry, names, persons))]
        for person in persons:
            lines += [
                _Line(bubble.time, 1, _sees(names[person.id], bubble))
                for bubble in person.thread
                if bubble.by_page
            ]
    body = [_made(names[person.id], person) for person in persons]
    body += [line.text for line in sorted(lines, key=lambda line: (line.time, line.order))]
    source = "\n".join(f"    {line}" for line in body) or "    # Nothing has been said yet."
    return f'"""Recorded in the simulator."""\n\n\ndef test_conversation(messenger):\n{source}\n'


def _names(persons: Iterable[Person]) -> dict[str, str]:
    names: dict[str, str] = {}
    for person in persons:
        plain = unicodedata.normalize("NFKD", person.first_name).encode("ascii", "ignore").decode().lower()
        name = re.sub(r"\W", "", plain) or "person"
        if not name.isidentifier() or keyword.iskeyword(name) or name == "messenger":
            name = f"person_{name}"
        while name in names.values():
            name += "_"
        names[person.id] = name
    return names


def _made(name: str, person: Person) -> str:
    given = [f"name={person.name!r}", f"locale={person.locale!r}"]
    if person.timezone:
        given.append(f"timezone={person.timezone!r}")
    return f"{name} = messenger.person({', '.join(given)})"


def _act(entry: Entry, names: Mapping[str, str], persons: Iterable[Person]) -> str:
    if entry.act == "travel":
        return f"messenger.travel(hours={entry.options['hours']!r})"
    if entry.act == "fault":
        way = "on" if entry.options.get("on") else "off"
        return f"messenger.faults.{way}({entry.args[0]!r})" if entry.args[0] else "messenger.faults.clear()"
    name = names.get(entry.person, "")
    if not name:
        return ""
    act = "taps" if entry.act in _TAPS else entry.act
    if act not in _AS_THEY_ARE:
        return f"# {name} {act}: {', '.join(map(repr, entry.args))}"
    given = [repr(one) for one in entry.args]
    if act in {"reacts", "edits"}:
        given = given[:1]
    elif act == "unreacts":
        given = []
    else:
        given += [f"{key}={value!r}" for key, value in entry.options.items() if key != "reply_to"]
    return f"{name}.{act}({', '.join(given)})"


def _sees(name: str, bubble: Bubble) -> str:
    text = bubble.text or next((str(element.get("title", "")) for element in bubble.elements), "")
    buttons = [str(one.get("title", "")) for one in (*bubble.all_buttons(), *bubble.quick_replies)]
    given = [repr(text)] if text else []
    if shown := [title for title in dict.fromkeys(buttons) if title]:
        given.append(f"buttons={shown!r}")
    if not given:
        return f"# {name} sees a message of the kind {bubble.template or bubble.kind}"
    return f"{name}.sees({', '.join(given)})"
