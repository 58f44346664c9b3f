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
        "Print a random path for DJM_ENDPOINT. A path that cannot be guessed keeps scanners away. It does not replace "
        "DJM_APP_SECRET, whose signature proves that a callback comes from Meta."
    )
    requires_system_checks: list[str] = []  # noqa: RUF012 - as Django declares it; the endpoint may be missing yet

    def handle(self, *args: Any, **options: Any) -> None:
        # The first character is a letter, because shells take a leading dash for an option.
        first = secrets.choice(string.ascii_letters)
        self.stdout.write(first + "".join(secrets.choice(_ALPHABET) for _ in range(LENGTH - 1)))
