"""Dedup keys of events of erased persons: keyed hashes that recognise a repeated event and reveal nothing about it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from django.utils.crypto import salted_hmac

from djmessenger import models

PREFIX = "forgotten|"


def erased_key(key: str) -> str:
    """Return the replacement for the dedup key of an erased event, made with the project's ``SECRET_KEY``."""
    return f"{PREFIX}{salted_hmac('djmessenger.forgotten', key, algorithm='sha256').hexdigest()}"


def erased_among(keys: Iterable[str]) -> Collection[str]:
    """Return those of the dedup keys that belong to erased events."""
    keys_by_erased_key = {erased_key(key): key for key in keys}
    if not keys_by_erased_key:
        return ()
    erased = models.Messaging.objects.filter(key__in=keys_by_erased_key).values_list("key", flat=True)
    return {keys_by_erased_key[key] for key in erased if key is not None}
