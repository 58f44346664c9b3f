"""Event in annotations of rules and of plain-function filters: the rows that the engine binds have types."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from djmessenger import receiving

if TYPE_CHECKING:
    from djmessenger import models

    class Messaging(receiving.Messaging):
        """Event with the rows that the engine binds before a rule runs.

        ``person`` and ``conversation`` are None for an event without a person, such as a message about a whole Page.
        ``page`` and ``row`` are None too for an event that no engine handles, such as one of a test. The types leave
        None out, because rules run for persons almost always.
        """

        @property
        def person(self) -> models.FBUserProfile: ...
        @property
        def conversation(self) -> models.Conversation: ...
        @property
        def page(self) -> models.Page: ...
        @property
        def row(self) -> models.Messaging: ...

else:
    Messaging = receiving.Messaging

EventFunction = Callable[[Messaging], object]
"""Plain function that takes the event; as a filter, it returns whether the event passes."""
