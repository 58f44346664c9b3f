"""Basic checks of Graph's validator. Each raises a refusal that names the parameter."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from messenger_emulator.refusals import (
    bad,
    invalid_keys,
    missing,
    not_a,
    not_one_of,
    too_few,
    too_long,
    too_many,
    too_short,
)


def as_object(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise not_a("an object", path)
    return value


def as_list(value: Any, path: str, *, least: int = 0, most: int | None = None) -> list[Any]:
    """Return the list; raise a refusal if it has too few (194) or too many (105) elements."""
    if not isinstance(value, list):
        raise not_a("an array", path)
    if len(value) < least:
        raise too_few(path)
    if most is not None and len(value) > most:
        raise too_many(path)
    return value


def as_text(value: Any, path: str, *, most: int | None = None, least: int = 0) -> str:
    """Return the text; raise a refusal if it is too long or too short, in code points."""
    if not isinstance(value, str):
        raise not_a("a string", path)
    if most is not None and len(value) > most:
        raise too_long(path, most)
    if len(value) < least:
        raise too_short(path, least)
    return value


def required(holder: Mapping[str, Any], key: str, path: str) -> Any:
    """Return the value of a required key; raise a refusal if it is missing or empty text."""
    value = holder.get(key)
    if value is None or value == "":
        raise missing(inner(path, key))
    return value


def required_text(holder: Mapping[str, Any], key: str, path: str, *, most: int | None = None) -> str:
    return as_text(required(holder, key, path), inner(path, key), most=most)


def optional_text(holder: Mapping[str, Any], key: str, path: str, *, most: int | None = None) -> str:
    value = holder.get(key)
    return "" if value is None else as_text(value, inner(path, key), most=most)


def one_of(value: Any, allowed: Collection[str], path: str) -> str:
    if not isinstance(value, str) or value.lower() not in allowed:
        raise not_one_of(path, allowed)
    return value.lower()


def only_keys(holder: Mapping[str, Any], allowed: Collection[str], path: str) -> None:
    unknown = [str(key) for key in holder if key not in allowed]
    if unknown:
        raise invalid_keys(unknown, path)


def as_url(value: Any, path: str, *, https: bool = False) -> str:
    text = as_text(value, path)
    try:
        parts = urlsplit(text)
        schemes = {"https"} if https else {"https", "http"}
        fine = parts.scheme.lower() in schemes and bool(parts.hostname) and not any(c.isspace() for c in text)
    except ValueError:
        fine = False
    if not fine:
        raise bad(f"Param {path} must be a valid {'https ' if https else ''}URL", path=path)
    return text


def as_flag(value: Any, path: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false", "1", "0"}:
        return value.lower() in {"true", "1"}
    raise not_a("a boolean", path)


def as_number(value: Any, path: str, *, least: int | None = None, most: int | None = None) -> int:
    try:
        if isinstance(value, bool):
            raise ValueError
        number = int(value)
    except (TypeError, ValueError):
        raise not_a("an integer", path) from None
    if (least is not None and number < least) or (most is not None and number > most):
        raise bad(f"Param {path} must be between {least} and {most}", path=path)
    return number


def inner(path: str, key: object) -> str:
    """Return the name of a parameter inside another: ``message[text]``."""
    return f"{path}[{key}]" if path else str(key)
