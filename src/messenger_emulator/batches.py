"""Dependent operations of a batch (Graph API, "Batch requests", 2026): ``name``, ``depends_on``, ``{result=...}``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

_OK = 200
_REFERENCE = re.compile(r"\{result=([\w-]+):\$((?:\.(?:\w+|\*)|\[\d{1,4}\])*)\}", re.ASCII)
"""A value of the answer to an earlier operation, with a JSONPath of names, positions and ``*``."""
_STEP = re.compile(r"\.(\w+|\*)|\[(\d+)\]", re.ASCII)


def answer_batch(parts: list[Any], answer: Callable[[Mapping[str, Any]], dict[str, Any] | None]) -> list[Any]:
    """Return the answers in the order of the operations, performed one after another.

    The answer to a successful operation with a name is null if another one depends on it, unless it has
    ``omit_response_on_success`` false. An operation whose predecessor failed is not performed, and its answer is null.
    Meta's page does not show that case, so the null is our choice.
    """
    operations = [part if isinstance(part, dict) else {} for part in parts]
    named: dict[str, Any] = {}
    answers: list[Any] = []
    for operation in operations:
        if any(needed in named and named[needed] is None for needed in _needed(operation)):
            answers.append(None)
            named[str(operation.get("name", ""))] = None
            continue
        found = answer({**operation, **_filled(operation, named)})
        is_fine = found is not None and found["code"] == _OK
        if name := operation.get("name"):
            named[str(name)] = json.loads(found["body"]) if found is not None and is_fine else None
        answers.append(None if is_fine and _is_omitted(operation, operations) else found)
    return answers


def _needed(operation: Mapping[str, Any]) -> set[str]:
    """Return the names of the operations on which this one depends."""
    text = f"{operation.get('relative_url', '')} {operation.get('body', '')}"
    return {str(operation.get("depends_on", "")), *(match[1] for match in _REFERENCE.finditer(text))} - {""}


def _is_omitted(operation: Mapping[str, Any], operations: list[dict[str, Any]]) -> bool:
    name = str(operation.get("name", ""))
    is_default = bool(name) and any(name in _needed(other) for other in operations)
    return str(operation.get("omit_response_on_success", is_default)).lower() == "true"


def _filled(operation: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, str]:
    """Return the address and the body with the values of earlier answers in place of the references."""

    def value(match: re.Match[str]) -> str:
        found = [named.get(match[1])]
        for key, position in _STEP.findall(match[2]):
            found = [inner for holder in found for inner in _inner(holder, key, position)]
        return ",".join(str(one) for one in found if one is not None)

    return {
        key: _REFERENCE.sub(value, str(operation[key]))
        for key in ("relative_url", "body")
        if key in operation
    }


def _inner(holder: Any, key: str, position: str) -> list[Any]:
    if position:
        return holder[int(position) :][:1] if isinstance(holder, list) else []
    if key == "*":
        return (
            list(holder.values()) if isinstance(holder, dict) else holder if isinstance(holder, list) else []
        )
    return [holder[key]] if isinstance(holder, dict) and key in holder else []
