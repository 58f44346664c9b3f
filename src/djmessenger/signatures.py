"""Internal: signatures of callbacks from Meta and of calls to Graph.

Sources: Messenger Platform, "Webhooks" (set-up page, May 2026). The header ``X-Hub-Signature-256`` contains
``sha256=`` and the HMAC-SHA256 of the body under the App Secret, as 64 lower-case hex digits. Graph API, "Secure
requests". ``appsecret_proof`` is the HMAC-SHA256 of the access token under the App Secret.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

from djmessenger.secret import Body, Secret

_HEADER = re.compile(r"sha256=[0-9a-f]{64}", re.ASCII)


def sign(secret: str | Secret, body: bytes | Body) -> str:
    """Return the value of ``X-Hub-Signature-256`` for exactly these bytes.

    Raises ``DJMInvalidValueException`` if the secret is no text of visible ASCII characters.
    """
    secret, body = Secret(secret), Body(body)
    return f"sha256={_digest(secret, body)}"


def verify(body: bytes | Body, header: str | None, secrets: Mapping[str, str | Secret]) -> str | None:
    """Return the id of the app whose secret signed the body, or ``None``; never raise, whatever the header is.

    ``secrets`` maps app id to App Secret; the id is ``""`` if it is not known. An empty secret matches no
    signature, and neither does one of blanks alone. ``body`` must be the bytes from the socket: Meta signs its own
    escaped JSON, and parsed JSON that is written again has other bytes.
    """
    if header is None or not _HEADER.fullmatch(header):
        return None
    # No early return: the time of the comparison must not depend on the position of the secret.
    signature = header.encode("ascii")
    signer: str | None = None
    for app_id in secrets:
        secret = Secret(secrets[app_id])
        if secret and hmac.compare_digest(sign(secret, body).encode("ascii"), signature) and signer is None:
            signer = app_id
    return signer


def appsecret_proof(token: str | Secret, secret: str | Secret) -> str:
    """Return the proof that each Graph call with ``token`` carries; without it a stolen token is useless."""
    token, secret = Secret(token), Secret(secret)
    return _digest(secret, Body(token.reveal().encode()))


def _digest(secret: Secret, message: Body) -> str:
    return hmac.new(secret.reveal().encode(), message.reveal(), hashlib.sha256).hexdigest()
