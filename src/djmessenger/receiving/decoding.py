"""Decoding of a body to JSON that every database can store.

msgspec decodes a well-formed body. The standard library decodes a body that msgspec refuses. Values that a
database cannot store are replaced, so that one bad item does not affect the others.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

DEEPEST = 64
"""Levels of nesting that are kept; a deeper value becomes ``None``."""
REPLACEMENT = "\ufffd"

_LEAST, _GREATEST = -(2**63), 2**63 - 1
_MOST_DIGITS = 20
_SURROGATES = re.compile("[\ud800-\udfff]")
_STRUCTURE = re.compile(r'"(?:[^"\\]++|\\.)*+"|["\[\]{}]', re.DOTALL)
_VALUES = re.compile(rb'"(?:[^"\\]++|\\.)*+"|([,\[{])|"', re.DOTALL)

_decode = msgspec.json.Decoder().decode


def decode(body: bytes) -> Any:
    """Return the decoded JSON without values that PostgreSQL or SQLite cannot store.

    NUL characters and lone surrogates become U+FFFD. Numbers beyond 64 bits, NaN and infinities become ``None``,
    and so does a value nested deeper than 64 levels. Raise ``ValueError`` if the bytes are no JSON.
    """
    body = bytes(body)
    try:
        document = _decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        document = _decode_tolerantly(body)
    return cleaned(document)


def has_more_values(body: bytes, limit: int) -> bool:
    """Return whether JSON has more than ``limit`` values, in memory and time that do not depend on the values.

    Bytes that are no JSON give any result.
    """
    # Each value but the first follows a comma, or is the first one in its object or array.
    if body.count(b",") + body.count(b"[") + body.count(b"{") < limit:
        return False
    # Some of these bytes may be in texts. The spans of texts are skipped.
    count = 1
    for match in _VALUES.finditer(body):
        if match.lastindex:
            count += 1
            if count > limit:
                return True
        elif match.end() - match.start() == 1:
            # A text without an end. The search for its end must not begin again at each quote in it.
            return False
    return False


def _decode_tolerantly(body: bytes) -> Any:
    text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    try:
        return _loads(text)
    except RecursionError:
        pass
    try:
        return _loads(_flattened(text))
    except RecursionError as error:
        raise ValueError("the body is nested too deep") from error


def _loads(text: str) -> Any:
    return json.loads(text, parse_int=_int, parse_float=_float, parse_constant=_constant, strict=False)


def _int(digits: str) -> int | None:
    # int() raises ValueError for 4300 digits and more.
    return int(digits) if len(digits) <= _MOST_DIGITS else None


def _float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _constant(_name: str) -> None:
    return None


def _flattened(text: str) -> str:
    """Return the text with ``null`` for each value nested too deep, found by counting brackets."""
    kept: list[str] = []
    depth = start = 0
    for match in _STRUCTURE.finditer(text):
        symbol = match.group()
        if symbol == '"':
            raise ValueError("a text in the body has no end")
        if symbol in "[{":
            depth += 1
            if depth == DEEPEST + 1:
                kept.append(text[start : match.start()])
        elif symbol in "]}":
            depth -= 1
            if depth == DEEPEST:
                kept.append("null")
                start = match.end()
            elif depth < 0:
                raise ValueError("a bracket in the body has no beginning")
    if depth:
        raise ValueError("a bracket in the body has no end")
    kept.append(text[start:])
    return "".join(kept)


def cleaned(value: Any) -> Any:
    """Return JSON-ready data without values that a database cannot store, as ``decode`` does."""
    return _cleaned(value, DEEPEST)


def _cleaned(value: Any, levels: int) -> Any:
    kind = type(value)
    if kind is str:
        return _clean_text(value)
    if kind is dict:
        if not levels:
            return None
        return {
            (key if key.isascii() and "\0" not in key else _clean_text(key)): _cleaned(item, levels - 1)
            for key, item in value.items()
        }
    if kind is list:
        return [_cleaned(item, levels - 1) for item in value] if levels else None
    if kind is int:
        return value if _LEAST <= value <= _GREATEST else None
    if kind is float:
        return value if math.isfinite(value) else None
    return value


def _clean_text(text: str) -> str:
    if "\0" in text:
        text = text.replace("\0", REPLACEMENT)
    if not text.isascii() and _SURROGATES.search(text):
        text = _SURROGATES.sub(REPLACEMENT, text)
    return text
