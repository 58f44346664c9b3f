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
    hidden = {erased_key(key): key for key in keys}
    if not hidden:
        return ()
    found = models.Messaging.objects.filter(key__in=hidden).values_list("key", flat=True)
    return {hidden[key] for key in found if key is not None}
