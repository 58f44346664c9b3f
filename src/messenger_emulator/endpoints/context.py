"""What an edge gets to see of a call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from messenger_emulator.encoding import Upload
from messenger_emulator.limits import Limits
from messenger_emulator.person import Person
from messenger_emulator.refusals import bad, missing, no_matching_user, permission_missing
from messenger_emulator.state import Page
from messenger_emulator.validation import as_object, required
from messenger_emulator.world import World


@dataclass
class Context:
    """One call after authentication: who calls, with what."""

    world: World
    page: Page
    method: str
    path: str
    target: str
    """The first part of the path: an id, or ``me`` resolved to the Page's id."""
    params: dict[str, Any]
    files: list[Upload] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def limits(self) -> Limits:
        """The limits of the emulator that answers."""
        return self.world.limits

    def need(self, permission: str) -> None:
        """Refuse with 200 when the token lacks a permission."""
        if permission not in self.page.permissions:
            raise permission_missing(permission)

    def person(self, psid: Any) -> Person:
        """Give the person of this Page; refuses with 100/2018001."""
        person = self.world.persons.get(str(psid))
        if person is None or person.page is not self.page:
            raise no_matching_user()
        return person

    def recipient(self) -> Person:
        """Give the person that ``recipient[id]`` names."""
        holder = as_object(required(self.params, "recipient", ""), "recipient")
        return self.person(numeric_id(holder.get("id")))

    def text(self, key: str) -> str:
        """Give a parameter that must be there, as text."""
        return str(required(self.params, key, ""))


def numeric_id(value: Any) -> str:
    """Give an id; refuses what is no string of digits."""
    if value is None:
        raise missing("recipient[id]")
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit()):
        raise bad('Param recipient[id] must be a valid ID string (e.g., "123")', path="recipient")
    return text
