"""Node of the app, called with the app token (``id|secret``): permissions, subscriptions, tokens, stickers.

Graph API, "Debug-Token", "Application subscriptions" and "Application permissions" (v26.0); Messenger Platform,
"Sticker API" (June 2026). The packs are our own, because the pictures of Meta's packs belong to Meta.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from messenger_emulator.refusals import (
    Refusal,
    bad,
    no_such_object,
    not_one_of,
    token_dead,
    token_unknown,
    unknown_path,
)
from messenger_emulator.state import FIELDS, INSTAGRAM_FIELDS, App, Page
from messenger_emulator.validation import as_text, as_url, required, required_text
from messenger_emulator.world import World

_SMALL = 120
"""Width and height of a sticker in pixels."""
_PACKS: Mapping[str, tuple[str, Mapping[int, str]]] = {
    "227877430692340": (
        "Everyday",
        {788171644590353: "Coffee", 126361874215276: "Party", 144885145685752: "Thank you"},
    ),
    "227877430692341": ("Friends", {209575122566323: "Cat", 657501937666397: "In love"}),
}
"""Name and stickers of each pack by id. The simulator draws these stickers."""


def answer(world: World, app: App, method: str, parts: list[str], params: dict[str, Any]) -> Any:
    """Answer a call with an app token."""
    target, edge = parts[0], "/".join(parts[1:])
    if target in {app.id, "app"} and edge == "subscriptions" and method != "GET":
        return _change_subscriptions(world, app, method, params)
    if method != "GET":
        raise no_such_object(method, target)
    if target == "debug_token" and not edge:
        return {"data": _token(world, app, required_text(params, "input_token", ""))}
    if target in {"sticker_packs", "sticker_search"}:
        return {"data": _stickers(target, parts[1:], params)}
    if target not in {app.id, "app"}:
        raise no_such_object(method, target)
    if not edge:
        return {"id": app.id, "name": app.name}
    if edge == "permissions":
        return {"data": [{"permission": name, "status": status} for name, status in app.reviewed.items()]}
    if edge == "subscriptions":
        return {"data": _subscriptions(app, [page for page in world.pages.values() if page.app_id == app.id])}
    raise unknown_path(f"/{edge}")


def _stickers(target: str, rest: list[str], params: Mapping[str, Any]) -> list[dict[str, Any]]:
    if target == "sticker_search" and not rest:
        wanted = as_text(required_text(params, "q", ""), "q", least=2).lower()
        every = [pair for _name, stickers in _PACKS.values() for pair in stickers.items()]
        return [_sticker(number, name) for number, name in every if wanted in name.lower()]
    if target == "sticker_packs" and not rest:
        return [_pack(pack_id, name, len(stickers)) for pack_id, (name, stickers) in _PACKS.items()]
    if target == "sticker_packs" and rest[1:] == ["stickers"] and rest[0] in _PACKS:
        return [_sticker(number, name) for number, name in _PACKS[rest[0]][1].items()]
    raise no_such_object("get", "/".join([target, *rest]))


def _pack(pack_id: str, name: str, count: int) -> dict[str, Any]:
    url = f"https://cdn.example.com/stickers/packs/{pack_id}.png"
    return {"id": pack_id, "name": name, "preview_image_url": url, "sticker_count": count}


def _sticker(number: int, name: str) -> dict[str, Any]:
    url = f"https://cdn.example.com/stickers/{number}.png"
    return {"id": str(number), "name": name, "image_url": url, "width": _SMALL, "height": _SMALL}


def debug_token_of_a_page() -> Refusal:
    """Return the refusal of ``debug_token`` for a caller with another token than an app token."""
    return Refusal(
        100,
        "You must provide an app access token, or a user access token that is an owner or developer of the app",
    )


def _token(world: World, app: App, token: str) -> dict[str, Any]:
    page = next((page for page in world.pages.values() if page.token == token), None)
    if page is None:
        message = token_unknown().message
        return {"error": {"code": 190, "message": message}, "is_valid": False, "scopes": []}
    if page.app_id != app.id:
        raise bad("The App_id in the input_token did not match the Viewing App")
    data: dict[str, Any] = {
        "app_id": app.id,
        "type": "PAGE",
        "application": app.name,
        "data_access_expires_at": 0,
        "expires_at": int(page.token_end(token) or 0),
        "is_valid": page.token_error is None,
        "profile_id": page.id,
        "scopes": sorted(page.permissions),
    }
    if page.token_error is not None:
        dead = token_dead(page.token_error)
        data["error"] = {"code": dead.code, "message": dead.message, "subcode": dead.subcode}
    return data


def _change_subscriptions(world: World, app: App, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Answer ``POST`` and ``DELETE /{app}/subscriptions``.

    Meta challenges the address before it accepts it. The emulator accepts it unseen, because it has no way of its own
    to the bot: ``Emulator.verify`` challenges. A ``DELETE`` without ``fields`` ends the subscription of the object, and
    one without ``object`` ends all.
    """
    objects = {"page": (FIELDS, False), "instagram": (INSTAGRAM_FIELDS, True)}
    name = "" if method == "DELETE" and not params.get("object") else required_text(params, "object", "")
    if name and name not in objects:
        raise not_one_of("object", objects)
    fields = params.get("fields") or []
    wanted = {str(one).strip() for one in (fields if isinstance(fields, list) else str(fields).split(","))}
    if method == "POST":
        app.callback_url = as_url(required(params, "callback_url", ""), "callback_url", https=True)
        required_text(params, "verify_token", "")
        for field in sorted(wanted - objects[name][0]):
            raise bad(f"Param fields must be a list of valid fields - got {field!r}.", path="fields")
    for page in world.pages.values():
        known, is_instagram = objects[name] if name else objects["instagram" if page.is_instagram else "page"]
        if page.app_id != app.id or page.is_instagram is not is_instagram:
            continue
        before = set(known) if page.app_fields is None else page.app_fields
        page.app_fields = wanted if method == "POST" else before - wanted if fields else set()
    return {"success": True}


def _subscriptions(app: App, pages: list[Page]) -> list[dict[str, Any]]:
    subscriptions = []
    for name, all_fields, is_instagram in (("page", FIELDS, False), ("instagram", INSTAGRAM_FIELDS, True)):
        of_channel = [page for page in pages if page.is_instagram is is_instagram]
        if not of_channel or not app.callback_url:
            continue
        fields = set.union(
            *(set(all_fields) if page.app_fields is None else page.app_fields for page in of_channel)
        )
        if not fields:
            continue
        subscriptions.append(
            {
                "object": name,
                "callback_url": app.callback_url,
                "active": True,
                "fields": [{"name": field, "version": "v26.0"} for field in sorted(fields)],
            }
        )
    return subscriptions
