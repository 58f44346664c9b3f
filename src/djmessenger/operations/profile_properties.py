"""Values of the properties of the Messenger Profile API.

Each builder returns the value of one property; ``in_order`` puts the properties into the order that Meta accepts. A
text that depends on the language is a dict by locale, ``{"default": "Hi!", "de_DE": "Hallo!"}``, or one text with the
locales for which it is rendered.

Source: Messenger Platform, "Messenger Profile API", 18 March 2026, and the page of each property.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from django.utils.functional import Promise

from djmessenger.exceptions import InvalidField
from djmessenger.outgoing.base import Localized, Part, PayloadLike, TextLike, Writer
from djmessenger.outgoing.buttons import UrlAction
from djmessenger.outgoing.data import read_chosen, read_part
from djmessenger.utils.utils import LocalizedString

DEFAULT = "default"
ORDER = (
    "whitelisted_domains",
    "account_linking_url",
    "greeting",
    "get_started",
    "ice_breakers",
    "persistent_menu",
    "commands",
)
"""All properties, each after the properties that it needs."""
NEEDS = {"persistent_menu": "get_started"}
"""Property to the property that must be set before it. Otherwise Graph answers 100/2018145."""
GREETING_VARIABLES = ("{{user_first_name}}", "{{user_last_name}}", "{{user_full_name}}")

RenderIn: TypeAlias = Callable[[Any, str], str]
"""Function that returns a text in the language of a locale, which may be ``default``."""

_LOCALE = re.compile(r"[a-z]{2,3}_[A-Z]{2}")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]", re.IGNORECASE)


def in_locale(text: Any, locale: str) -> str:
    """Return a text, lazy text or ``LocalizedString`` in the language of the locale."""
    if isinstance(text, Promise):
        text = LocalizedString(text)
    if isinstance(text, Localized):
        return text.get_text_by_locale(None if locale == DEFAULT else locale)
    return str(text)


@dataclass(frozen=True)
class MenuPostback(Part):
    """A menu item that sends its payload back; title at most 30, payload at most 1,000 characters."""

    title: TextLike
    payload: PayloadLike

    def write(self, out: Writer) -> dict[str, Any]:
        return {
            "type": "postback",
            "title": out.text("title", self.title, "menu.title"),
            "payload": out.payload("payload", self.payload, "menu.payload"),
        }


@dataclass(frozen=True)
class MenuUrl(Part):
    """A menu item that opens a web page; title at most 30 characters. The other fields are those of ``UrlAction``."""

    title: TextLike
    url: str
    _: KW_ONLY
    webview_height_ratio: str = ""
    messenger_extensions: bool = False
    fallback_url: str = ""
    share_button: bool = True

    def write(self, out: Writer) -> dict[str, Any]:
        action = UrlAction(
            self.url,
            webview_height_ratio=self.webview_height_ratio,
            messenger_extensions=self.messenger_extensions,
            fallback_url=self.fallback_url,
            share_button=self.share_button,
        )
        return {"title": out.text("title", self.title, "menu.title"), **action.write(out)}


MenuItem: TypeAlias = MenuPostback | MenuUrl


@dataclass(frozen=True)
class IceBreaker(Part):
    """A question that starts a conversation, and the payload that a tap on it sends back."""

    question: TextLike
    payload: PayloadLike

    def write(self, out: Writer) -> dict[str, Any]:
        return {
            "question": out.text("question", self.question),
            "payload": out.payload("payload", self.payload, "ice_breakers.payload"),
        }


@dataclass(frozen=True)
class Command(Part):
    """A command: name of 1 to 32 characters without a leading slash, description of 1 to 64."""

    name: str
    description: TextLike

    def write(self, out: Writer) -> dict[str, Any]:
        name = out.plain("name", self.name, "command.name")
        if name.startswith("/"):
            out.refuse("name", f"{name!r} begins with a slash")
        return {
            "name": name,
            "description": out.text("description", self.description, "command.description"),
        }


def greeting(
    texts: TextLike | Mapping[str, TextLike], *, locales: Iterable[str] = (), render: RenderIn = in_locale
) -> list[dict[str, str]]:
    """Return the greeting for each locale: at most 160 characters; it may contain ``GREETING_VARIABLES``."""
    return [
        {"locale": locale, "text": out.text("text", text, "greeting.text")}
        for locale, text, out in _by_locale("greeting", texts, locales, render)
    ]


def get_started(payload: PayloadLike) -> dict[str, str]:
    """Return the get-started button; payload at most 1,000 characters."""
    return {"payload": Writer(str, path="get_started").payload("payload", payload, "get_started.payload")}


def persistent_menu(
    menus: Sequence[MenuItem] | Mapping[str, Sequence[MenuItem]],
    *,
    locales: Iterable[str] = (),
    composer_input_disabled: bool = False,
    render: RenderIn = in_locale,
) -> list[dict[str, Any]]:
    """Return the menu for each locale: at most 20 items, not nested. Items may be plain data, as in the settings.

    With ``composer_input_disabled`` a person can use only the menu, so it must have items.
    """
    result = []
    for locale, items, out in _by_locale("persistent_menu", menus, locales, render):
        typed = _items("call_to_actions", items, out, _menu_item)
        written = out.parts("call_to_actions", typed, (MenuPostback, MenuUrl), "menu.items", least=0)
        if composer_input_disabled and not written:
            out.refuse("call_to_actions", "is needed if composer_input_disabled is true")
        menu: dict[str, Any] = {"locale": locale, "composer_input_disabled": composer_input_disabled}
        result.append(menu | ({"call_to_actions": written} if written else {}))
    return result


def ice_breakers(
    questions: Sequence[IceBreaker] | Mapping[str, Sequence[IceBreaker]],
    *,
    locales: Iterable[str] = (),
    render: RenderIn = in_locale,
) -> list[dict[str, Any]]:
    """Return the ice breakers for each locale, in the form with locales; at most 4."""
    return [
        {
            "call_to_actions": out.parts(
                "call_to_actions",
                _items("call_to_actions", items, out, _ice_breaker),
                IceBreaker,
                "ice_breakers.count",
            ),
            "locale": locale,
        }
        for locale, items, out in _by_locale("ice_breakers", questions, locales, render)
    ]


def commands(
    known: Sequence[Command] | Mapping[str, Sequence[Command]],
    *,
    locales: Iterable[str] = (),
    render: RenderIn = in_locale,
) -> list[dict[str, Any]]:
    """Return the commands for each locale; 1 to 100. On a Page with both, commands take precedence over the menu."""
    return [
        {
            "locale": locale,
            "commands": out.parts(
                "commands", _items("commands", items, out, _command), Command, "commands.count"
            ),
        }
        for locale, items, out in _by_locale("commands", known, locales, render)
    ]


def whitelisted_domains(domains: Sequence[str]) -> list[str]:
    """Return the domains that may use the extensions: at most 50, https, full host names."""
    out = Writer(str)
    out.count("whitelisted_domains", domains, "domains.count", least=0)
    result = []
    for index, domain in enumerate(domains):
        name = f"whitelisted_domains[{index}]"
        url = out.url(name, domain, schemes=("https",))
        if not _is_public_name(urlsplit(url).hostname or ""):
            out.refuse(name, f"{url!r} is not a full host name")
        result.append(url)
    return result


def account_linking_url(url: str) -> str:
    """Return the https address of the login page for account linking."""
    return Writer(str).url("account_linking_url", url, schemes=("https",))


def in_order(properties: Mapping[str, Any], present: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return one body for each property, in the order in which Meta accepts them.

    ``present`` are the names of properties that the Page has. Raises ``InvalidField`` for an unknown property, for one
    whose needed property is missing, and for a menu item with extensions whose domain is not whitelisted.
    """
    for name in properties:
        if name not in ORDER:
            raise InvalidField(
                name, f"is not a property of the profile; the properties are {', '.join(ORDER)}"
            )
    for name, needed in NEEDS.items():
        if name in properties and needed not in properties and needed not in present:
            raise InvalidField(name, f"needs {needed}")
    if "whitelisted_domains" in properties:
        _check_extensions(properties)
    return [{name: properties[name]} for name in ORDER if name in properties]


def deletion_order(names: Collection[str], present: Collection[str]) -> list[str]:
    """Return the names in the order in which Meta deletes them.

    Raises ``InvalidField`` for a property that a remaining property needs.
    """
    for name, needed in NEEDS.items():
        if needed in names and name in present and name not in names:
            raise InvalidField(needed, f"cannot be removed while {name} is set")
    return [name for name in reversed(ORDER) if name in names]


def with_locales(ice_breakers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return ice breakers in the form with locales. A Page may have them in either of two forms."""
    if all("call_to_actions" in entry for entry in ice_breakers):
        return list(ice_breakers)
    return [{"locale": DEFAULT, "call_to_actions": list(ice_breakers)}]


def _check_extensions(properties: Mapping[str, Any]) -> None:
    hosts = {urlsplit(domain).hostname or "" for domain in properties["whitelisted_domains"]}
    for menu in properties.get("persistent_menu", ()):
        for index, item in enumerate(menu.get("call_to_actions", ())):
            host = urlsplit(item.get("url", "")).hostname or ""
            if item.get("messenger_extensions") and host not in hosts:
                raise InvalidField(
                    f"persistent_menu[{menu['locale']}].call_to_actions[{index}].url",
                    f"{host} is not among the whitelisted_domains",
                )


def _by_locale(
    name: str, value: Any, locales: Iterable[str], render: RenderIn
) -> list[tuple[str, Any, Writer]]:
    """Return locale, value and writer of each entry. Raises ``InvalidField`` without the default locale."""
    by_locale = value if isinstance(value, Mapping) else dict.fromkeys((DEFAULT, *locales), value)
    if DEFAULT not in by_locale:
        raise InvalidField(name, "needs an entry for the locale 'default'")
    for locale in by_locale:
        if locale != DEFAULT and not (isinstance(locale, str) and _LOCALE.fullmatch(locale)):
            raise InvalidField(name, f"{locale!r} is not a locale such as de_DE")

    def writer(locale: str) -> Writer:
        return Writer(lambda text: render(text, locale), path=f"{name}[{locale}]")

    return [(locale, item, writer(locale)) for locale, item in by_locale.items()]


def _items(name: str, values: Any, out: Writer, read: Callable[[Mapping[str, Any], str], Part]) -> list[Any]:
    """Return the items as objects; items that are plain data are read."""
    if not isinstance(values, (list, tuple)):
        out.wrong_type(name, "a list", values)
    return [
        read(value, out.where(f"{name}[{index}]")) if isinstance(value, Mapping) else value
        for index, value in enumerate(values)
    ]


def _menu_item(data: Mapping[str, Any], path: str) -> Part:
    return read_chosen(data, "type", "", {"postback": MenuPostback, "web_url": MenuUrl}, path)


def _ice_breaker(data: Mapping[str, Any], path: str) -> Part:
    return read_part(IceBreaker, data, path)


def _command(data: Mapping[str, Any], path: str) -> Part:
    return read_part(Command, data, path)


def _is_public_name(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(_HOST.fullmatch(host)) and not host.lower().endswith(".localhost")
    return False
