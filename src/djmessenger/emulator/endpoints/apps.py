"""The app itself, asked with its own token (``id|secret``): its permissions, its subscriptions, tokens of its Pages.

Graph API, "Debug-Token", "Application subscriptions" and "Application permissions" (v26.0).
"""

from __future__ import annotations

from typing import Any

from djmessenger.emulator import refusals
from djmessenger.emulator.state import FIELDS, INSTAGRAM_FIELDS, App, Page
from djmessenger.emulator.validation import required_text
from djmessenger.emulator.world import World


def answer(world: World, app: App, method: str, parts: list[str], params: dict[str, Any]) -> Any:
    """Answer a call that was made with the token of an app."""
    target, edge = parts[0], "/".join(parts[1:])
    if method != "GET":
        raise refusals.no_such_object(method, target)
    if target == "debug_token" and not edge:
        return {"data": _token(world, app, required_text(params, "input_token", ""))}
    if target not in {app.id, "app"}:
        raise refusals.no_such_object(method, target)
    if not edge:
        return {"id": app.id, "name": app.name}
    if edge == "permissions":
        return {"data": [{"permission": name, "status": status} for name, status in app.reviewed.items()]}
    if edge == "subscriptions":
        return {"data": _subscriptions(app, [page for page in world.pages.values() if page.app_id == app.id])}
    raise refusals.unknown_path(f"/{edge}")


def debug_token_of_a_page() -> refusals.Refusal:
    """Refuse the question of one who is not the app."""
    return refusals.Refusal(
        100,
        "You must provide an app access token, or a user access token that is an owner or developer of the app",
    )


def _token(world: World, app: App, token: str) -> dict[str, Any]:
    page = next((page for page in world.pages.values() if page.token == token), None)
    if page is None:
        message = refusals.token_unknown().message
        return {"error": {"code": 190, "message": message}, "is_valid": False, "scopes": []}
    if page.app_id != app.id:
        raise refusals.bad("The App_id in the input_token did not match the Viewing App")
    found: dict[str, Any] = {
        "app_id": app.id,
        "type": "PAGE",
        "application": app.name,
        "data_access_expires_at": 0,
        "expires_at": 0,
        "is_valid": page.token_error is None,
        "profile_id": page.id,
        "scopes": sorted(page.permissions),
    }
    if page.token_error is not None:
        dead = refusals.token_dead(page.token_error)
        found["error"] = {"code": dead.code, "message": dead.message, "subcode": dead.subcode}
    return found


def _subscriptions(app: App, pages: list[Page]) -> list[dict[str, Any]]:
    found = []
    for name, known, is_instagram in (("page", FIELDS, False), ("instagram", INSTAGRAM_FIELDS, True)):
        mine = [page for page in pages if page.is_instagram is is_instagram]
        if not mine or not app.callback_url:
            continue
        fields = set.union(*(set(known) if page.app_fields is None else page.app_fields for page in mine))
        found.append(
            {
                "object": name,
                "callback_url": app.callback_url,
                "active": True,
                "fields": [{"name": field, "version": "v26.0"} for field in sorted(fields)],
            }
        )
    return found
