"""The errors that djmessenger raises, as one tree.

    DJMException
    ├── DJMInvalidConfigException      settings, a policy or a message break a rule of the platform
    │   ├── TokenKeyError              a token in the database cannot be read with the keys there are
    │   └── InvalidField               a field of a message or profile; also a DJMInvalidValueException
    │       └── LimitExceeded          it is over a dated limit
    │           └── HasEnded           it was withdrawn by Meta on a day that has come
    └── DJMInvalidValueException       a value cannot be accepted

Graph's refusals have a tree of their own, ``djmessenger.graph.errors``, under the same root.
"""

from __future__ import annotations


class DJMException(Exception):
    """Root of every exception that djmessenger raises on purpose."""


class DJMInvalidConfigException(DJMException):
    """A setting, a policy or a message breaks a rule of the platform, such as a fourth button."""


class TokenKeyError(DJMInvalidConfigException):
    """A token in the database cannot be kept or read: ``DJM_TOKEN_KEYS`` is missing, broken or of another time."""


class DJMInvalidValueException(DJMException):
    """A value cannot be accepted."""


class InvalidField(DJMInvalidConfigException, DJMInvalidValueException):
    """A field of a message or of a profile is missing or wrong: names the field and the problem."""

    def __init__(self, field: str, problem: str, source: str = "") -> None:
        self.field = field
        self.problem = problem
        self.source = source
        super().__init__(f"{field}: {problem}{f' ({source})' if source else ''}")

    def __reduce__(self) -> tuple[type[InvalidField], tuple[str, str, str]]:
        return type(self), (self.field, self.problem, self.source)


class LimitExceeded(InvalidField):
    """A field is over a limit of the platform: names the field, the limit and where the limit stands."""

    def __init__(self, field: str, limit: str, source: str = "") -> None:
        self.limit = limit
        super().__init__(field, limit, source)


class HasEnded(LimitExceeded):
    """What the field asks for was withdrawn by Meta; raised when it is sent, never while a program starts."""
