"""Dedup keys of events of erased persons: keyed hashes that recognise a repeated event and reveal nothing about it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from django.conf import settings
from django.utils.crypto import salted_hmac

from djmessenger import models

PREFIX = "forgotten|"


def erased_key(key: str) -> str:
    """Return the replacement for the dedup key of an erased event, made with the project's ``SECRET_KEY``."""
    return _erased_key(key, settings.SECRET_KEY)


def erased_among(keys: Iterable[str]) -> Collection[str]:
    """Return those of the dedup keys that belong to erased events, also of those erased under a former ``SECRET_KEY``.

    ``SECRET_KEY_FALLBACKS`` has the former keys.
    """
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    keys_by_erased_key = {_erased_key(key, secret): key for key in keys for secret in secrets}
    if not keys_by_erased_key:
        return ()
    erased = models.Messaging.objects.filter(key__in=keys_by_erased_key).values_list("key", flat=True)
    return {keys_by_erased_key[key] for key in erased if key is not None}


def _erased_key(key: str, secret: str | bytes) -> str:
    digest = salted_hmac("djmessenger.forgotten", key, secret=secret, algorithm="sha256").hexdigest()
    return f"{PREFIX}{digest}"
