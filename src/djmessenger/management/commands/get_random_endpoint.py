"""``manage.py get_random_endpoint``."""

from __future__ import annotations

import secrets
import string
from typing import Any

from django.core.management.base import BaseCommand

LENGTH = 50
_ALPHABET = string.ascii_letters + string.digits + "-_"


class Command(BaseCommand):
    help = (
        "Print a path that nobody guesses, for DJM_ENDPOINT. It keeps scanners away; what proves that a callback is "
        "Meta's is its signature, for which DJM_APP_SECRET is needed all the same."
    )
    requires_system_checks: list[str] = []  # noqa: RUF012 - as Django declares it; the endpoint may be missing yet

    def handle(self, *args: Any, **options: Any) -> None:
        # A letter first: a path that begins with a dash is awkward in shells and consoles.
        first = secrets.choice(string.ascii_letters)
        self.stdout.write(first + "".join(secrets.choice(_ALPHABET) for _ in range(LENGTH - 1)))
