"""Decoding of answers of Graph, in memory that grows with their size."""

from __future__ import annotations

import json
from typing import Any

from djmessenger.receiving.decoding import cleaned, has_more_values

MAX_VALUES = 100_000
"""Number of JSON values in one answer or batch. A value of two bytes takes 70 bytes of memory, and more."""
NOT_JSON = "the answer is not JSON"


def decoded_answer(body: bytes | str, limit: int = MAX_VALUES) -> Any:
    """Return the decoded JSON without values that no database stores.

    Raise ``ValueError`` with the reason, which quotes nothing, for other bytes and for more than ``limit`` values.
    """
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogatepass")
    if has_more_values(body, limit):
        raise ValueError(f"the answer has over {limit} values")
    try:
        # The values are counted in UTF-8. From bytes, json would read UTF-16 too.
        return cleaned(json.loads(body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogatepass")))
    except (ValueError, RecursionError):
        pass
    raise ValueError(NOT_JSON)
