"""Keys of events of erased persons: recognised when the same event comes again, telling nobody what it was."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from django.utils.crypto import salted_hmac

from djmessenger import models

PREFIX = "forgotten|"


def erased_key(key: str) -> str:
    """Give what stands for the key of an erased event: nobody without the project's secret key can tell which."""
    return f"{PREFIX}{salted_hmac('djmessenger.forgotten', key, algorithm='sha256').hexdigest()}"


def erased_among(keys: Iterable[str]) -> Collection[str]:
    """Give the keys that belong to erased events."""
    keys_by_erased_key = {erased_key(key): key for key in keys}
    if not keys_by_erased_key:
        return ()
    erased = models.Messaging.objects.filter(key__in=keys_by_erased_key).values_list("key", flat=True)
    return {keys_by_erased_key[key] for key in erased if key is not None}
