"""An event as its rules get it: with copies of its rows. The engine works with rows of its own.

A rule may assign any attribute of the objects that it gets. If the engine used the same objects, a new ``row.pk`` would
make it commit another event, and handle this one without end.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from djmessenger import models, receiving
from djmessenger.exceptions import DJMInvalidValueException
from djmessenger.pipeline.connections import execute_wrappers_restored

_IDENTITY: Final = {
    "row": ("pk", "conversation_id", "page_id", "queue_id"),
    "page": ("pk", "page_id"),
    "conversation": ("pk", "page_id", "person_id"),
    "person": ("pk",),
}
"""Attributes by which the replies of a rule find their conversation."""


class RuleEvent:
    """An event for rules: ``messaging``, to which copies of ``row`` and of its related rows are bound.

    Rules may change ``is_kept`` of the row, the state of the conversation, and the profile of the person. ``take_back``
    copies these to the rows of the engine.
    """

    def __init__(self, row: models.Messaging, messaging: receiving.Messaging) -> None:
        self.row = row
        self.messaging = messaging
        given = copy.copy(row)
        self.page, conversation = copy.copy(row.page), copy.copy(row.conversation)
        self.person = copy.copy(conversation.person) if conversation is not None else None
        if self.page is not None:
            given.page = self.page
        if conversation is not None and self.person is not None:
            given.conversation, conversation.person = conversation, self.person
            if self.page is not None:
                conversation.page = self.page
        # ``SaveMessagingHandler`` sets ``is_kept`` on this object only; ``event_results.finish`` saves it.
        given.is_being_handled = True
        self._given = given
        messaging.bind(row=given, page=self.page, conversation=conversation, person=self.person)
        self._rows: dict[str, Any] = {
            "row": given,
            "page": self.page,
            "conversation": conversation,
            "person": self.person,
        }
        self._identity = self._read_identity()
        self._psid = messaging.get_psid()

    def _read_identity(self) -> dict[tuple[str, str], Any]:
        return {
            (name, attribute): getattr(row, attribute)
            for name, row in self._rows.items()
            if row is not None
            for attribute in _IDENTITY[name]
        }

    @contextmanager
    def used_by_rules(self) -> Iterator[None]:
        """Run a block with code of rules. Call ``take_back`` after it, also if it raised."""
        with execute_wrappers_restored():
            try:
                yield
            finally:
                self.take_back()

    def take_back(self) -> None:
        """Copy what rules may change to the rows of the engine.

        Raises ``DJMInvalidValueException`` if a rule changed which rows the objects of the event are.
        """
        # The engine never uses these attributes of the copies. But the replies of this rule may have gone astray.
        # tests/faults/test_attacks_rules.py, test_fails_and_ends
        for (name, attribute), expected in self._identity.items():
            # A rule that deletes a row finds None in its key.
            value = getattr(self._rows[name], attribute)
            if value is not None and value != expected:
                raise _changed(f"{name}.{attribute}")
        for name, row in self._rows.items():
            if row is not None and getattr(self.messaging, name) is not row:
                raise _changed(name)
        if self.messaging.get_psid() != self._psid:
            raise _changed("get_psid()")
        self.row.is_kept = bool(self._given.is_kept)
        conversation = self.row.conversation
        if conversation is not None:
            conversation.state = self._rows["conversation"].state
            conversation.person.new_profile = self._rows["person"].new_profile


def _changed(name: str) -> DJMInvalidValueException:
    return DJMInvalidValueException(
        f"a rule changed event.{name}, by which its replies find their person; read another row into a variable of its "
        "own instead"
    )
