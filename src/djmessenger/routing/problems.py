"""Mistakes of a policy: position, message, hint and part of the documentation."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.files import read_file

ANCHORS: Mapping[str, str] = {
    "E030": "not-a-policy",
    "E031": "wrong-shape",
    "E032": "unknown-key",
    "E033": "unknown-type",
    "E034": "second-default",
    "E035": "unknown-class",
    "E036": "wrong-family",
    "E037": "bad-argument",
    "E038": "bad-pattern",
    "E039": "over-a-limit",
    "E040": "signature",
    "E041": "async-function",
    "E042": "not-a-filter",
    "E043": "without-parentheses",
    "W030": "rule-without-effect",
    "W031": "rule-that-never-applies",
    "W032": "rules-left-out",
    "W033": "rule-that-answers-receipts",
}
"""Id of a mistake to its section on the page ``policy`` of the documentation."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One mistake of a policy. ``id`` is the last part of the check's id, such as ``E035`` of ``djmessenger.E035``."""

    rule: str
    """Name of the rule, or its types if it has no name."""
    position: str
    """Position in the policy, such as ``rules[3].filters[0]``."""
    message: str
    id: str
    hint: str = ""

    @property
    def is_error(self) -> bool:
        return self.id.startswith("E")

    @property
    def docs(self) -> str:
        """Address in the documentation, such as ``policy.html#unknown-class``."""
        return f"policy.html#{ANCHORS[self.id]}"

    def __str__(self) -> str:
        where = f"{self.position} ({self.rule})" if self.rule else self.position
        return f"{where}: {self.message}{f' {self.hint}' if self.hint else ''}"


class InvalidPolicy(DJMInvalidConfigException):
    """A policy cannot be built; ``problems`` contains every mistake."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        lines = "\n".join(f"  {problem.id} {problem}" for problem in self.problems)
        super().__init__(f"The routing policy has {len(self.problems)} mistakes:\n{lines}")


def read_policy(source: Any, *, path: bool = False) -> Any:
    """Return the data of JSON text, or of a JSON file if ``path`` is true. Other values are returned as they are.

    Raises ``InvalidPolicy`` if the text or file cannot be read.
    """
    where = "DJM_ROUTING_POLICY" if path else "policy"
    if path and isinstance(source, (str, os.PathLike)):
        where = os.fspath(source) or where
        try:
            if not os.fspath(source):
                raise ValueError("it is empty")
            source = read_file(Path(source))
        except (OSError, ValueError) as error:
            raise InvalidPolicy([_unreadable(where, error)]) from error
    if isinstance(source, (str, bytes, bytearray)):
        try:
            return json.loads(source)
        except (ValueError, RecursionError) as error:
            raise InvalidPolicy([_unreadable(where, error)]) from error
    return source


def _unreadable(where: str, error: Exception) -> Problem:
    return Problem(
        "",
        where,
        f"The policy cannot be read: {error}.",
        "E030",
        'Set a dict with the key "rules", or the path of a UTF-8 JSON file with such a dict.',
    )
