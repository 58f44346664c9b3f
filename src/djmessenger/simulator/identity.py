"""Ids of the simulator, and the signature of its callbacks.

With a real app secret in the settings, everybody whom the page is open to could otherwise have an event of a real
person signed.
"""

from __future__ import annotations

import re

from djmessenger.bot.pages import configured_app_secrets
from djmessenger.receiving.decoding import decode
from djmessenger.receiving.parsing import split
from messenger_emulator import Emulator, Page

PREFIX = "900000000"
"""First digits of ids of simulated persons and Pages. These ids have 19 digits, more than any real id."""
DIGITS = 10
"""Number of the digits after the prefix."""
SIMULATED = re.compile(rf"(?<![0-9]){PREFIX}[0-9]{{{DIGITS}}}(?![0-9])", re.ASCII)
"""Pattern that finds a simulated id in a text."""
_SIGNATURES = frozenset({"X-Hub-Signature", "X-Hub-Signature-256"})


def is_simulated_id(text: str) -> bool:
    return SIMULATED.fullmatch(text) is not None


def is_of_simulated_persons(body: bytes) -> bool:
    """Return whether each item in a body is an event of a simulated person, read as the bot reads it."""
    try:
        items = list(split(decode(body)))
    except ValueError:
        return False
    return bool(items) and all(
        item.messaging is not None and is_simulated_id(item.messaging.get_psid()) for item in items
    )


def is_real_secret(app_secret: str) -> bool:
    """Return whether a secret is one of the settings, and so not made up by this package."""
    return any(secret.matches(app_secret) for secret in configured_app_secrets().values())


def without_signatures(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in _SIGNATURES}


class SimulatorEmulator(Emulator):
    """Emulator that uses a real app secret only to sign events of simulated persons."""

    def headers_of(self, page: Page, body: bytes) -> dict[str, str]:
        headers = super().headers_of(page, body)
        if is_real_secret(page.app_secret) and not is_of_simulated_persons(body):
            return without_signatures(headers)
        return headers
