"""Ids in log lines: hashes by which lines can be brought together, and nobody can be found."""

from __future__ import annotations

import hashlib

from django.conf import settings as django_settings

_SIZE = 5
"""Bytes; enough to tell the people of one log apart."""


def hidden(identity: object) -> str:
    """Give a short hash of an id of Meta's, keyed with ``SECRET_KEY``: the same in all processes of a project."""
    text = "" if identity is None else str(identity)
    if not text:
        return ""
    key = django_settings.SECRET_KEY.encode()[:64] if django_settings.configured else b""
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), key=key, digest_size=_SIZE).hexdigest()
