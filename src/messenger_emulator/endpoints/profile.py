"""Edges ``/{page}/messenger_profile`` and ``/{page}/custom_user_settings``.

Messenger Platform, "Messenger Profile API" (March 2026) with its pages on the menu, ice breakers, commands and
domains. The greeting's limit and the need of a ``default`` entry for it come from older pages.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from messenger_emulator.endpoints.context import Context
from messenger_emulator.refusals import Refusal, bad, missing, not_one_of
from messenger_emulator.state import Page
from messenger_emulator.templates import PLAIN_BUTTON, check_buttons
from messenger_emulator.validation import (
    as_flag,
    as_list,
    as_object,
    as_text,
    as_url,
    one_of,
    only_keys,
    required,
    required_text,
)

TEN_MINUTES = 600.0


def profile(context: Context) -> dict[str, Any]:
    """Answer GET, POST and DELETE of the Messenger Profile."""
    page, params = context.page, context.params
    context.need("pages_messaging")
    platform = page.channel
    if params.get("platform") is not None:
        platform = one_of(params["platform"], {"messenger", "instagram"}, "platform")
    context.world.spend(f"{page.id}:profile", page.limits["rate.profile"], TEN_MINUTES)
    settings = page.platform(platform)
    if context.method == "GET":
        wanted = _names(params.get("fields"), READABLE)
        found = {name: settings[name] for name in wanted if name in settings}
        return {"data": [found] if found else []}
    if context.method == "DELETE":
        names = _names(params.get("fields"), _PROPERTIES)
        _check_menu_needs_start(settings, dict.fromkeys(names))
        for name in names:
            settings.pop(name, None)
        return {"result": "success"}
    given = {name: params[name] for name in _PROPERTIES if params.get(name) is not None}
    retired = [name for name in ("home_url", "target_audience", "payment_settings") if name in params]
    if retired:
        raise bad(f"The property {retired[0]} is no longer supported", path=retired[0])
    if not given:
        raise bad(f"You must set at least one of {', '.join(_PROPERTIES)}")
    for name, value in given.items():
        _PROPERTIES[name](value, name, page)
    _check_menu_needs_start(settings, given)
    settings.update(given)
    return {"result": "success"}


def _check_menu_needs_start(settings: Mapping[str, Any], change: Mapping[str, Any]) -> None:
    after = {**settings, **change}
    if after.get("persistent_menu") and not after.get("get_started"):
        message = "You must set a Get Started button if you also wish to use persistent menu."
        raise bad(message, 2018145)


def _names(value: Any, allowed: Mapping[str, Any]) -> list[str]:
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    if not value:
        raise missing("fields")
    names = as_list(value, "fields")
    for number, name in enumerate(names):
        if not isinstance(name, str) or name not in allowed:
            raise not_one_of(f"fields[{number}]", allowed)
    return [str(name) for name in names]


def _get_started(value: Any, path: str, page: Page) -> None:
    only_keys(as_object(value, path), {"payload"}, path)
    required_text(value, "payload", path, most=page.limits["get_started.payload"])


def _greeting(value: Any, path: str, page: Page) -> None:
    for at, entry in _entries(value, path, {"locale", "text"}):
        required_text(entry, "text", at, most=page.limits["greeting.text"])


def _entries(value: Any, path: str, keys: set[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return the entries by locale with their paths; one has to be ``default``, and each locale has one entry."""
    entries = as_list(value, path, least=1)
    checked = []
    locales = []
    for number, entry in enumerate(entries):
        at = f"{path}[{number}]"
        only_keys(as_object(entry, at), keys, at)
        locales.append(required_text(entry, "locale", at))
        checked.append((at, entry))
    if "default" not in locales:
        raise bad(f"Param {path} must have an entry with locale default", path=path)
    if len(set(locales)) != len(locales):
        raise bad(f"Param {path} has two entries for one locale", path=path)
    return checked


def _menu(value: Any, path: str, page: Page) -> None:
    keys = {"locale", "composer_input_disabled", "call_to_actions", "disabled_surfaces"}
    for at, entry in _entries(value, path, keys):
        disabled = entry.get("composer_input_disabled")
        closed = disabled is not None and as_flag(disabled, f"{at}[composer_input_disabled]")
        items = entry.get("call_to_actions")
        if items is None:
            if closed:
                raise missing(f"{at}[call_to_actions]")
            continue
        where = f"{at}[call_to_actions]"
        if len(as_list(items, where, least=1)) > page.limits["menu.items"]:
            raise Refusal(105, "Number of call to actions exceeds the maximum allowed number")
        check_buttons(
            items,
            where,
            page,
            kinds=PLAIN_BUTTON,
            most=page.limits["menu.items"],
            title=page.limits["menu.title"],
        )
        for number, item in enumerate(items):
            if item["type"].lower() == "postback":
                as_text(item["payload"], f"{where}[{number}][payload]", most=page.limits["menu.payload"])


def _ice_breakers(value: Any, path: str, page: Page) -> None:
    entries = as_list(value, path, least=1)
    old = ["call_to_actions" not in as_object(entry, path) for entry in entries]
    if any(old) and not all(old):
        raise bad(f"Param {path} mixes two formats", path=path)
    if all(old):
        _questions(entries, path, page)
        return
    for at, entry in _entries(value, path, {"locale", "call_to_actions"}):
        _questions(
            as_list(required(entry, "call_to_actions", at), f"{at}[call_to_actions]", least=1), at, page
        )


def _questions(questions: list[Any], path: str, page: Page) -> None:
    as_list(questions, path, least=1, most=page.limits["ice_breakers.count"])
    for number, question in enumerate(questions):
        at = f"{path}[{number}]"
        only_keys(as_object(question, at), {"question", "payload"}, at)
        required_text(question, "question", at)
        required_text(question, "payload", at, most=page.limits["ice_breakers.payload"])


def _commands(value: Any, path: str, page: Page) -> None:
    for at, entry in _entries(value, path, {"locale", "commands"}):
        where = f"{at}[commands]"
        commands = as_list(
            required(entry, "commands", at), where, least=1, most=page.limits["commands.count"]
        )
        for number, command in enumerate(commands):
            spot = f"{where}[{number}]"
            only_keys(as_object(command, spot), {"name", "description"}, spot)
            name = required_text(command, "name", spot, most=page.limits["command.name"])
            if name.startswith("/"):
                raise bad(f"Param {spot}[name] must not start with /", path=path)
            required_text(command, "description", spot, most=page.limits["command.description"])


def _domains(value: Any, path: str, page: Page) -> None:
    for number, domain in enumerate(as_list(value, path, most=page.limits["domains.count"])):
        at = f"{path}[{number}]"
        host = urlsplit(as_url(domain, at, https=True)).hostname or ""
        if "." not in host or host.endswith("localhost") or _is_address(host):
            raise bad(f"Param {at} must be a fully qualified domain name", path=path)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _linking_url(value: Any, path: str, page: Page) -> None:
    as_url(value, path, https=True)


_PROPERTIES: Mapping[str, Callable[[Any, str, Page], None]] = {
    "get_started": _get_started,
    "greeting": _greeting,
    "persistent_menu": _menu,
    "ice_breakers": _ice_breakers,
    "commands": _commands,
    "whitelisted_domains": _domains,
    "account_linking_url": _linking_url,
}
READABLE: Mapping[str, Any] = {**_PROPERTIES, "subject_to_new_eu_privacy_rules": None}


def user_settings(context: Context) -> dict[str, Any]:
    """Answer GET, POST and DELETE of the persistent menu of one person."""
    page, params = context.page, context.params
    context.need("pages_messaging")
    person = context.person(required(params, "psid", ""))
    context.world.spend(f"{page.id}:settings:{person.id}", page.limits["rate.user_menu"], TEN_MINUTES)
    if context.method == "GET":
        found: dict[str, Any] = {}
        if page.user_menus.get(person.id):
            found["user_level_persistent_menu"] = page.user_menus[person.id]
        if page.platform().get("persistent_menu"):
            found["page_level_persistent_menu"] = page.platform()["persistent_menu"]
        return {"data": [found] if found else []}
    if context.method == "DELETE":
        _names(params.get("params"), {"persistent_menu": None})
        page.user_menus.pop(person.id, None)
        return {"result": "success"}
    menu = required(params, "persistent_menu", "")
    _menu(menu, "persistent_menu", page)
    _check_menu_needs_start(page.platform(), {"persistent_menu": menu})
    page.user_menus[person.id] = menu
    return {"result": "success"}
