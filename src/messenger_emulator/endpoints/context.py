"""Context of one call, the argument of each edge."""

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
    """One call after authentication: the Page, the path and the parameters."""

    world: World
    page: Page
    method: str
    path: str
    target: str
    """First part of the path: an id, or the id of the Page instead of ``me``."""
    params: dict[str, Any]
    files: list[Upload] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def limits(self) -> Limits:
        """Limits of the emulator."""
        return self.world.limits

    def need(self, permission: str) -> None:
        """Raise the refusal 200 if the token lacks a permission, or what stands for it on Instagram."""
        permission = self.page.scope(permission)
        if permission not in self.page.permissions:
            raise permission_missing(permission)

    def person(self, psid: Any) -> Person:
        """Return a person of this Page; raise the refusal 100/2018001 if there is none."""
        person = self.world.persons.get(str(psid))
        if person is None or person.page is not self.page:
            raise no_matching_user()
        return person

    def recipient(self) -> Person:
        """Return the person of ``recipient[id]``."""
        holder = as_object(required(self.params, "recipient", ""), "recipient")
        return self.person(numeric_id(holder.get("id")))

    def text(self, key: str) -> str:
        """Return a required parameter as text."""
        return str(required(self.params, key, ""))


def numeric_id(value: Any) -> str:
    """Return an id; raise a refusal if it is no string of digits."""
    if value is None:
        raise missing("recipient[id]")
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit()):
        raise bad('Param recipient[id] must be a valid ID string (e.g., "123")', path="recipient")
    return text
