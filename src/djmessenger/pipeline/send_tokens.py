"""Send tokens: short texts in the ``metadata`` of messages. The echo of a message returns the token of its attempt.

Without a token, no echo proves that Meta accepted an attempt (test_without_the_send_token_no_echo_settles_a_reply).
"""

from __future__ import annotations

import uuid
from typing import Any

_PREFIX = "djm1."
LONGEST = 64


def token_of(reply: uuid.UUID, number: int) -> str:
    """Return the send token of an attempt; it has no meaning outside this database."""
    return f"{_PREFIX}{reply.hex}.{number}"


def with_token(data: dict[str, Any], token: str) -> dict[str, Any]:
    """Return the body with the token in front of the metadata that the bot's code set.

    A body without a message is returned unchanged.
    """
    if "message" not in data:
        return data
    author_metadata = data["message"].get("metadata", "")
    return {
        **data,
        "message": {
            **data["message"],
            "metadata": f"{token} {author_metadata}" if author_metadata else token,
        },
    }


def split_token(metadata: str) -> tuple[str, str]:
    """Return the send token and the metadata that the bot's code set.

    The token is an empty text if the echo has none.
    """
    if not metadata.startswith(_PREFIX):
        return "", metadata
    token, _, author_metadata = metadata.partition(" ")
    return (token, author_metadata) if len(token) <= LONGEST else ("", metadata)
