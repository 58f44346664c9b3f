"""Renewal of tokens of Instagram Login (Instagram Platform, "Refresh Access Token", 17 Jul 2025)."""

from __future__ import annotations

from typing import Any

from messenger_emulator.endpoints.context import Context
from messenger_emulator.refusals import Refusal, bad
from messenger_emulator.state import DAY, HOUR
from messenger_emulator.validation import one_of, required


def renew(context: Context, token: str) -> dict[str, Any]:
    """Answer ``GET /refresh_access_token`` for a token with a new one. The former one lives until its own end.

    Meta documents neither the refusal of a young token nor whether the former token still works.
    """
    page, world = context.page, context.world
    if context.method != "GET" or not page.has_instagram_login:
        message = f"Unsupported request - method type: {context.method.lower()}"
        raise Refusal(100, message, type="IGApiException", numbered=False)
    one_of(required(context.params, "grant_type", ""), {"ig_refresh_token"}, "grant_type")
    now = world.clock()
    made = page.former_tokens.get(token, page.token_made)
    if made is not None:
        if now - made < context.limits["instagram_token.least_hours"] * HOUR:
            raise bad("The access token is less than 24 hours old")
        page.former_tokens[token] = made
    if page.token_made is not None:
        page.former_tokens[page.token] = page.token_made
    page.token, page.token_made = f"IG{world.number('token')}{world.number('token')}", now
    return {
        "access_token": page.token,
        "token_type": "bearer",
        "expires_in": int(context.limits["instagram_token.days"] * DAY),
    }
