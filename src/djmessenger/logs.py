"""Internal: values for log lines: a hash in place of an id of Meta, and an error without its text."""

from __future__ import annotations

import hashlib

from django.conf import settings

_SIZE = 5
"""Bytes of a hash; enough to distinguish the people in one log."""


def error_label(error: BaseException) -> str:
    """Return class and Graph codes of an exception, without its text, which may quote a person or Meta."""
    code, subcode = getattr(error, "code", None), getattr(error, "subcode", None)
    codes = "/".join(str(number) for number in (code, subcode) if isinstance(number, int))
    return f"{type(error).__name__} {codes}".strip()


def hidden(identity: object) -> str:
    """Return a short hash of an id of Meta, keyed with ``SECRET_KEY``.

    All processes of a project return the same hash for the same id.
    """
    text = "" if identity is None else str(identity)
    if not text:
        return ""
    key = settings.SECRET_KEY.encode()[:64] if settings.configured else b""
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), key=key, digest_size=_SIZE).hexdigest()
