"""What a log line may say: ids as hashes that bring lines together and betray nobody, errors without their words."""

from __future__ import annotations

import hashlib

from django.conf import settings

_SIZE = 5
"""Bytes; enough to tell the people of one log apart."""


def error_label(error: BaseException) -> str:
    """Name an exception without its words, which may be a person's or Meta's: its class, and Graph's codes."""
    code, subcode = getattr(error, "code", None), getattr(error, "subcode", None)
    codes = "/".join(str(number) for number in (code, subcode) if isinstance(number, int))
    return f"{type(error).__name__} {codes}".strip()


def hidden(identity: object) -> str:
    """Give a short hash of an id of Meta's, keyed with ``SECRET_KEY``: the same in all processes of a project."""
    text = "" if identity is None else str(identity)
    if not text:
        return ""
    key = settings.SECRET_KEY.encode()[:64] if settings.configured else b""
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), key=key, digest_size=_SIZE).hexdigest()
