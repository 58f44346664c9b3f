"""Signatures of Meta: of the callbacks it posts, and of the calls made to it.

Platform facts: Messenger Platform, "Webhooks" (set-up page, May 2026): the header ``X-Hub-Signature-256``
holds ``sha256=`` and the HMAC-SHA256 of the body under the App Secret, as 64 lower-case hex digits. Graph
API, "Secure requests": ``appsecret_proof`` is the HMAC-SHA256 of the access token under the App Secret.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

_HEADER = re.compile(r"sha256=[0-9a-f]{64}", re.ASCII)


def sign(secret: str, body: bytes) -> str:
    """Give the value of ``X-Hub-Signature-256`` for these very bytes."""
    return f"sha256={_digest(secret, body)}"


def verify(body: bytes, header: str | None, secrets: Mapping[str, str]) -> str | None:
    """Give the id of the app whose secret signed the body, or ``None``.

    ``secrets`` maps app id (may be ``""`` where it is not known) to App Secret; an empty secret matches
    nothing. The body is the one the socket gave: Meta signs its own escaped spelling, which no
    re-serialising reproduces. Never raises, whatever the header holds.
    """
    if header is None or not _HEADER.fullmatch(header):
        return None
    given = header.encode("ascii")
    signer: str | None = None
    for app_id, secret in secrets.items():
        if secret and hmac.compare_digest(sign(secret, body).encode("ascii"), given) and signer is None:
            signer = app_id
    return signer


def appsecret_proof(token: str, secret: str) -> str:
    """Give what goes with every Graph call made under ``token``: a stolen token alone is of no use."""
    return _digest(secret, token.encode())


def _digest(secret: str, message: bytes) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
