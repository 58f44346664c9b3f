"""Catalogue of sample callbacks: one of each kind that Meta documents."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

from messenger_emulator import Person

_CONTAINERS = ("messaging", "standby")


@functools.lru_cache(maxsize=1)
def samples() -> dict[str, Any]:
    """Return the samples by name."""
    text = resources.files("djmessenger.simulator").joinpath("samples.json").read_text(encoding="utf-8")
    callbacks: dict[str, Any] = json.loads(text)
    return callbacks


def sample_for(name: str, person: Person, now: float) -> str:
    """Return a sample as JSON text with the ids of this person and the time ``now``.

    Raise ``LookupError`` if there is no sample of that name.
    """
    document = json.loads(json.dumps(samples()[name]))
    moment = int(now * 1000)
    for entry in document.get("entry", []):
        before, entry["id"], entry["time"] = entry.get("id"), person.page.account_id, moment
        for key in _CONTAINERS:
            for item in entry.get(key) or []:
                _set_ids(item, before, person, moment)
    return json.dumps(document, indent=2, ensure_ascii=False)


def _set_ids(item: dict[str, Any], before: Any, person: Person, moment: int) -> None:
    for side in ("sender", "recipient"):
        part = item.get(side)
        if isinstance(part, dict) and "id" in part:
            part["id"] = person.page.account_id if part["id"] == before else person.id
    if "timestamp" in item:
        item["timestamp"] = moment
    for key in ("message", "postback"):
        part = item.get(key)
        if isinstance(part, dict) and isinstance(part.get("mid"), str):
            part["mid"] = f"m_sample{moment}{part['mid'][-12:]}"
