"""Edges of user profiles, thread control, moderation and account linking.

Messenger Platform, "User profile" (2026), "Conversation routing" (Sept 2025), "Account linking", "Moderate
conversations" (July 2026).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from messenger_emulator.endpoints.context import Context, numeric_id
from messenger_emulator.endpoints.messages import is_known_app
from messenger_emulator.person import Person
from messenger_emulator.refusals import Refusal, bad, no_such_object, other_app_controls
from messenger_emulator.validation import as_list, as_number, as_object, one_of, required

NAMES = ("name", "first_name", "last_name", "profile_pic", "id")
_PERMISSIONS = {
    "locale": "pages_user_locale",
    "timezone": "pages_user_timezone",
    "gender": "pages_user_gender",
}


def user_profile(context: Context, person: Person) -> dict[str, Any]:
    """Answer ``GET /{psid}`` with the fields of the channel that permissions and consent allow."""
    if person.profile_error is not None:
        if person.profile_error == 33:
            raise no_such_object("get", person.id)
        raise bad("No profile available for this user.", person.profile_error)
    if context.page.is_instagram:
        return _instagram_profile(context, person)
    names = _fields(context, [*NAMES, *_PERMISSIONS], "User", NAMES)
    if not person.consented:
        return {}
    values: dict[str, Any] = {
        "name": person.name,
        "first_name": person.first_name,
        "last_name": person.last_name,
        "profile_pic": person.picture,
        "locale": person.locale,
        "timezone": person.timezone,
        "gender": person.gender,
    }
    allowed = context.page.permissions
    profile: dict[str, Any] = {}
    for name in names:
        permission = _PERMISSIONS.get(name, "business_asset_user_profile_access")
        if name != "id" and permission in allowed and values[name] not in (None, ""):
            profile[name] = values[name]
    return {**profile, "id": person.id} if profile else {}


def _instagram_profile(context: Context, person: Person) -> dict[str, Any]:
    """Return the profile of an Instagram person (Instagram Messaging, "User Profile API", 1 Apr 2026).

    Node type and the code 230 are not on the page; they are quoted in public reports.
    """
    values: dict[str, Any] = {
        "name": person.name,
        "username": person.username,
        "profile_pic": person.picture,
        "follower_count": person.followers,
        "is_verified_user": False,
        "is_user_follow_business": person.follows_page,
        "is_business_follow_user": person.followed_by_page,
    }
    names = _fields(context, ["id", *values], "IGBusinessScopedID", ["name", "profile_pic"])
    context.need("business_asset_user_profile_access")
    if not person.consented:
        raise Refusal(230, "User consent is required to access user profile")
    profile = {name: values[name] for name in names if name != "id" and values[name] != ""}
    return {**profile, "id": person.id}


def _fields(context: Context, known: Sequence[str], node: str, usual: Sequence[str]) -> Sequence[str]:
    """Return the requested fields. One that the node does not have fails the whole call."""
    fields = context.params.get("fields")
    names = [name.strip() for name in str(fields).split(",") if name.strip()] if fields else usual
    for name in names:
        if name not in known:
            raise bad(f"Tried accessing nonexisting field ({name}) on node type ({node})")
    return names


def thread_control(context: Context) -> dict[str, Any]:
    """Answer the POST edges ``pass_``, ``take_``, ``request_``, ``release_`` and ``extend_thread_control``."""
    context.need("pages_messaging")
    page, world = context.page, context.world
    person = context.recipient()
    verb = context.path.rpartition("/")[2].removesuffix("_thread_control")
    owner = world.owner(person)
    metadata = str(context.params.get("metadata") or "")
    has_other_owner = owner not in {"", page.app_id}
    if verb == "pass":
        target = context.text("target_app_id")
        if not is_known_app(context, target):
            raise bad("Wrong app ID", 2018164, "target_app_id")
        if has_other_owner:
            raise other_app_controls()
        world.hand_over(person, target, metadata)
    elif verb == "take":
        if not page.default_app:
            raise Refusal(10, "No default app is set for this Page.")
        world.give_control(person, page.app_id)
    elif verb == "release":
        if has_other_owner:
            raise other_app_controls()
        world.give_control(person, "")
    elif verb == "extend":
        if owner != page.app_id:
            raise other_app_controls()
        span = as_number(
            required(context.params, "duration", ""),
            "duration",
            least=1,
            most=context.limits["thread_control.seconds"],
        )
        world.give_control(person, page.app_id, seconds=span)
    return {"success": True}


def thread_owner(context: Context) -> dict[str, Any]:
    """Answer ``GET /{page}/thread_owner``; the list is empty while no app controls the thread."""
    context.need("pages_messaging")
    person = context.person(numeric_id(required(context.params, "recipient", "")))
    owner = context.world.owner(person)
    if not owner:
        return {"data": []}
    return {"data": [{"thread_owner": {"app_id": owner, "expiration": int(person.owner_until)}}]}


_MODERATION = {"block_user", "unblock_user", "ban_user", "unban_user", "move_to_spam"}


def moderate(context: Context) -> dict[str, Any]:
    """Answer ``POST /{page}/moderate_conversations``; its ``success`` is a string."""
    context.need("pages_messaging")
    ids = as_list(
        required(context.params, "user_ids", ""), "user_ids", least=1, most=context.limits["moderation.ids"]
    )
    actions = as_list(
        required(context.params, "actions", ""), "actions", least=1, most=context.limits["moderation.actions"]
    )
    chosen = {one_of(action, _MODERATION, f"actions[{number}]") for number, action in enumerate(actions)}
    for pair in ({"block_user", "unblock_user"}, {"ban_user", "unban_user"}):
        if pair <= chosen:
            raise bad("Param actions must not hold opposite actions", path="actions")
    persons = [context.person(as_object(entry, "user_ids").get("id")) for entry in ids]
    for person in persons:
        if chosen & {"block_user", "ban_user"}:
            person.blocked_by_page = True
        if chosen & {"unblock_user", "unban_user"}:
            person.blocked_by_page = False
    return {"success": "true"}


def linked_person(context: Context) -> dict[str, Any]:
    """Answer ``/me?fields=recipient&account_linking_token=...``."""
    psid = context.page.linking_psid(str(context.params["account_linking_token"]), context.world.clock())
    if not psid:
        raise Refusal(10303, "The account_linking_token is invalid")
    return {"id": context.page.id, "recipient": psid}


def unlink_account(context: Context) -> dict[str, Any]:
    person = context.person(required(context.params, "psid", ""))
    person.linked = ""
    return {"result": "unlink account success"}
