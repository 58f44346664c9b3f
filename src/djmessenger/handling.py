"""Handlers do internal work, such as storing rows, with a messaging."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

from djmessenger.receiving import Messaging


class BaseHandler(abc.ABC):
    """Parent of handlers; a subclass does its work in ``handle``.

    What ``handle`` gives besides None (a text, a message, several) is queued as an answer. Handlers are shared
    by all threads and hold nothing of one messaging.
    """

    slow: ClassVar[bool] = False
    """Whether it waits for somebody else: it then runs with no transaction open, and may run again after a crash."""

    @abc.abstractmethod
    def handle(self, messaging: Messaging) -> Any:
        """Do the work for the messaging."""
