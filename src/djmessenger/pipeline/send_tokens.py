"""Send tokens: the mark in a message's metadata by which its echo proves which attempt Meta accepted."""

from __future__ import annotations

import uuid
from typing import Any

_PREFIX = "djm1."
LONGEST = 64


def token_of(reply: uuid.UUID, number: int) -> str:
    """Name an attempt: opaque, of no meaning outside this database."""
    return f"{_PREFIX}{reply.hex}.{number}"


def with_token(data: dict[str, Any], token: str) -> dict[str, Any]:
    """Give the body with the token in front of the message's metadata, an author's own after it."""
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
    """Give the token that leads the metadata of an echo, and the author's own metadata after it."""
    if not metadata.startswith(_PREFIX):
        return "", metadata
    token, _, author_metadata = metadata.partition(" ")
    return (token, author_metadata) if len(token) <= LONGEST else ("", metadata)
