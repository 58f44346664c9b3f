"""The errors that djmessenger raises, as one tree.

    DJMException
    ├── DJMInvalidConfigException      settings, a policy or a message break a rule of the platform
    │   └── LimitExceeded              a value is over a dated limit; also a DJMInvalidValueException
    └── DJMInvalidValueException       a value cannot be accepted

Graph's refusals have a tree of their own, ``djmessenger.graph.errors``, under the same root.
"""

from __future__ import annotations


class DJMException(Exception):
    """Root of every exception that djmessenger raises on purpose."""


class DJMInvalidConfigException(DJMException):
    """A setting, a policy or a message breaks a rule of the platform, such as a fourth button."""


class DJMInvalidValueException(DJMException):
    """A value cannot be accepted."""


class LimitExceeded(DJMInvalidConfigException, DJMInvalidValueException):
    """A value is over a limit of the platform: names the field, the limit and where the limit stands."""

    def __init__(self, field: str, limit: str, source: str = "") -> None:
        self.field = field
        self.limit = limit
        self.source = source
        super().__init__(f"{field}: {limit}{f' ({source})' if source else ''}")
