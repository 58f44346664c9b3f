"""Form of one call inside a batch and of the answer to it (Graph API, "Batch Requests")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from djmessenger.exceptions import DJMInvalidValueException
from djmessenger.graph.decoding import MAX_VALUES, decoded_answer
from djmessenger.graph.errors import UnknownFate, error_from
from djmessenger.graph.results import BatchAnswer
from djmessenger.graph.wire import Call

BATCH_SIZE = 50
"""Largest number of calls in one batch."""

FIRST_FAILURE = 300
"""Lowest HTTP status that counts as a failure."""


def batch_entry(call: Call) -> dict[str, str]:
    """Return the call as an entry of a batch; raise ``DJMInvalidValueException`` if it has files."""
    if call.files:
        raise DJMInvalidValueException("A batch cannot contain a call with files; upload the file first")
    query = _form(call.params)
    entry = {"method": call.method, "relative_url": f"{call.path}?{query}" if query else call.path}
    if call.json:
        entry["body"] = _form(call.json)
    return entry


def _form(values: Mapping[str, Any] | None) -> str:
    pairs = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)
        for key, value in (values or {}).items()
        if value is not None
    }
    return urlencode(pairs, errors="replace")


def batch_answer(call: Call, slot: Any, of: int = 1) -> BatchAnswer:
    """Return the answer to one call, read from its slot in the answer to the batch ``of`` so many calls.

    A slot that is empty or cannot be read becomes ``UnknownFate``, because Graph may have executed the call.
    """
    status = slot.get("code") if isinstance(slot, Mapping) else None
    body = slot.get("body") if isinstance(slot, Mapping) else None
    name = f"{call.method} in a batch"
    if not isinstance(status, int) or not isinstance(body, str):
        return BatchAnswer(error=UnknownFate(meaning="no answer to this call of the batch", call=name))
    try:
        data = decoded_answer(body, MAX_VALUES // of)
    except ValueError as error:
        return BatchAnswer(error=UnknownFate(meaning=str(error), status=status, call=name))
    if status >= FIRST_FAILURE or (isinstance(data, Mapping) and data.get("error")):
        return BatchAnswer(error=error_from(status, {}, data, call=name))
    return BatchAnswer(data)
