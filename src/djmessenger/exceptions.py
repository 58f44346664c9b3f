"""The errors that djmessenger raises, as one tree::

    DJMException
    ├── DJMInvalidConfigException      settings, a policy or a message break a rule of the platform
    │   ├── TokenKeyError              a token in the database cannot be read with ``DJM_TOKEN_KEYS``
    │   └── InvalidField               a field of a message or profile; also a DJMInvalidValueException
    │       └── LimitExceeded          the field is over a dated limit
    │           └── HasEnded           Meta has withdrawn the field
    ├── DJMInvalidValueException       a value cannot be accepted
    │   └── WrongType                  a message or a part of one has a wrong type; also a TypeError
    ├── ProjectExit                    code of the project raised what ends a thread or a process
    └── TransactionLeft                code of the project left a transaction open

The errors of Graph have a tree of their own under the same root, ``djmessenger.graph.errors``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class DJMException(Exception):
    """Root of all exceptions of djmessenger."""

    is_final: ClassVar[bool] = False
    """True if the same work raises the same exception again, so that an event is not tried again for it."""


class DJMInvalidConfigException(DJMException):
    """A setting, a policy or a message breaks a rule of the platform, such as a fourth button."""


class TokenKeyError(DJMInvalidConfigException):
    """A token cannot be encrypted or decrypted: wrong ``DJM_TOKEN_KEYS``, or no package ``cryptography``."""


class DJMInvalidValueException(DJMException):
    """A value cannot be accepted."""

    is_final = True


class WrongType(DJMInvalidValueException, TypeError):
    """A message, a part of one, or the answer of a rule has a wrong type."""


class InvalidField(DJMInvalidConfigException, DJMInvalidValueException):
    """A field of a message or of a profile is missing or wrong; the error names field and problem."""

    def __init__(self, field: str, problem: str, source: str = "") -> None:
        self.field = field
        self.problem = problem
        self.source = source
        super().__init__(f"{field}: {problem}{f' ({source})' if source else ''}")

    def __reduce__(self) -> tuple[type[InvalidField], tuple[str, str, str]]:
        return type(self), (self.field, self.problem, self.source)


class LimitExceeded(InvalidField):
    """A field is over a limit of the platform; the error names field, limit and source of the limit."""

    def __init__(self, field: str, limit: str, source: str = "") -> None:
        self.limit = limit
        super().__init__(field, limit, source)


class HasEnded(LimitExceeded):
    """Meta has withdrawn the feature that the field requests; raised at sending, never while a program starts."""


class ProjectExit(DJMException):
    """Code of the project raised an exception that is no ``Exception``, such as ``SystemExit``; its cause."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(
            f"{type(cause).__name__}: {cause}; rules, callbacks and receivers cannot end a thread or a process. "
            "Raise an Exception instead"
        )


class TransactionLeft(DJMException):
    """Code of the project left a transaction open, or ended one that it did not begin; it was rolled back."""

    def __init__(self, code: str, aliases: Sequence[str]) -> None:
        super().__init__(
            f"{code} left a transaction open, or ended one that it did not begin, on the connection "
            f"{', '.join(aliases)}; use transaction.atomic() in a with statement, and leave autocommit as it is"
        )
