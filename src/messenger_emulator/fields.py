"""The parameter ``fields`` of a read: names, limits and nested names (Graph API, "Field expansion", 2026)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from messenger_emulator.refusals import Refusal, bad

_TOKEN = re.compile(r"\s*(?:([A-Za-z_]\w*)|\.(\w+)\(([^(){}]*)\)|([{},]))\s*", re.ASCII)


@dataclass
class Wanted:
    """One requested field: its nested names, and arguments such as ``limit``."""

    inner: dict[str, Wanted] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)


def read_fields(text: str) -> dict[str, Wanted]:
    """Return the requested fields by name. Raise a refusal for braces that do not match."""
    levels: list[dict[str, Wanted]] = [{}]
    last, at = Wanted(), 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _unreadable(text, at)
        at = match.end()
        name, argument, value, mark = match.groups()
        if name:
            last = levels[-1].setdefault(name, Wanted())
        elif argument:
            last.arguments[argument] = value
        elif mark == "{":
            levels.append(last.inner)
        elif mark == "}":
            levels.pop()
            if not levels:
                raise _unreadable(text, at)
    if len(levels) > 1:
        raise _unreadable(text, at)
    return levels[0]


def _unreadable(text: str, at: int) -> Refusal:
    # The wording is that of public reports; Meta does not document it.
    return Refusal(
        2500,
        f"Syntax error \"Expected end of string instead of '{text[at : at + 1]}'.\" at character {at}: "
        f"{text}",
        numbered=False,
    )


def select(values: Mapping[str, Any], wanted: Mapping[str, Wanted], node: str) -> dict[str, Any]:
    """Return the requested values of a node, and its id. A field that the node does not have fails the call.

    A value of None is left out. Nested names select from an object, and from each entry of a list under ``data``.
    """
    found: dict[str, Any] = {}
    for name, one in wanted.items():
        if name not in values:
            raise bad(f"Tried accessing nonexisting field ({name}) on node type ({node})")
        if values[name] is not None:
            found[name] = _narrow(values[name], one.inner)
    return {**found, "id": values["id"]}


def _narrow(value: Any, inner: Mapping[str, Wanted]) -> Any:
    if not inner or not isinstance(value, dict):
        return value
    if isinstance(value.get("data"), list):
        return {**value, "data": [_narrow(entry, inner) for entry in value["data"]]}
    return {name: _narrow(entry, inner[name].inner) for name, entry in value.items() if name in inner}
