"""Export of a conversation as a test for the kit, ``djmessenger.testing``."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from djmessenger.simulator.session import Entry, Session
from messenger_emulator import Person
from messenger_emulator.state import Bubble

_UNCHANGED = frozenset(
    {"gets_started", "says", "taps", "sends_sticker", "sends_location", "opens_link", "edits", "reacts"}
)
_FILES = {"image": "sends_image", "audio": "sends_audio", "video": "sends_video", "file": "sends_file"}
_TAPS = frozenset({"taps", "taps_button", "taps_menu", "taps_quick_reply", "taps_ice_breaker"})


@dataclass(frozen=True)
class _Line:
    time: float
    order: int
    text: str


def as_test(session: Session, page_id: str) -> str:
    """Return the source of a test that repeats the acts on a Page and expects the same answers."""
    with session.emulator.lock:
        persons = [one for one in session.emulator.persons.values() if one.page.id == page_id and one.thread]
        names = _names(persons)
        lines = [_Line(entry.time, 0, text) for entry in session.journal if (text := _act_line(entry, names))]
        for person in persons:
            lines += [
                _Line(bubble.time, 1, _sees_line(names[person.id], bubble))
                for bubble in person.thread
                if bubble.by_page
            ]
    body = [_person_line(names[person.id], person) for person in persons]
    body += [line.text for line in sorted(lines, key=lambda line: (line.time, line.order))]
    source = "\n".join(f"    {line}" for line in body) or "    # No messages yet."
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


def _person_line(name: str, person: Person) -> str:
    arguments = [f"name={person.name!r}", f"locale={person.locale!r}"]
    if person.timezone:
        arguments.append(f"timezone={person.timezone!r}")
    return f"{name} = messenger.person({', '.join(arguments)})"


def _act_line(entry: Entry, names: Mapping[str, str]) -> str:
    if entry.act == "travel":
        return f"messenger.travel(hours={entry.options['hours']!r})"
    if entry.act == "fault":
        switch, name = "messenger.emulator.faults", entry.args[0]
        way = "on" if entry.options.get("on") else "off"
        return f"{switch}.{way}({name!r})" if name else f"{switch}.clear()"
    name = names.get(entry.person, "")
    if not name:
        return ""
    act, args = ("taps" if entry.act in _TAPS else entry.act), list(entry.args)
    options = {key: value for key, value in entry.options.items() if key != "reply_to"}
    if act == "sends_attachment" and args and args[0] in _FILES:
        # The uploaded file is lost when the process ends, so the test uses the default address of the kit.
        return f"{name}.{_FILES[args[0]]}()"
    if act in {"reacts", "edits"}:
        args = args[:1]
    arguments = [*map(repr, args), *(f"{key}={value!r}" for key, value in options.items())]
    if act not in _UNCHANGED:
        return f"{name}.does({', '.join([repr(act), *arguments])})"
    return f"{name}.{act}({', '.join(arguments)})"


def _sees_line(name: str, bubble: Bubble) -> str:
    arguments = [repr(bubble.text)] if bubble.text else []
    shown = {
        "buttons": [str(one.get("title", "")) for one in bubble.buttons],
        "quick_replies": [str(one.get("title") or one.get("content_type")) for one in bubble.quick_replies],
        "cards": [str(one["title"]) for one in bubble.elements if bubble.template == "generic"],
    }
    arguments += [f"{kind}={titles!r}" for kind, titles in shown.items() if titles]
    if bubble.kind == "image":
        arguments.append("image=True")
    note = "" if arguments else f"  # {bubble.template or bubble.kind}"
    return f"{name}.sees({', '.join(arguments)}){note}"
