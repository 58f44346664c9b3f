"""The Messenger Profile declared as plain data: ``DJM_PROFILE``, or a TOML file.

    {"greeting": _("Hello!"), "get_started": True, "persistent_menu": [{"title": _("Help"), "payload": "HELP"}]}

The keys are Meta's names of the properties. Each gettext-lazy text, and each text of a file, is translated: it becomes
one entry for each locale of Facebook in which the translation differs. A dict by locale declares the entries directly.
An empty value removes the property.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from django.utils import translation
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from djmessenger.exceptions import DJMInvalidConfigException, InvalidField
from djmessenger.facebook_locales import language_code
from djmessenger.files import read_file
from djmessenger.operations.profile_properties import (
    DEFAULT,
    ORDER,
    account_linking_url,
    commands,
    get_started,
    greeting,
    ice_breakers,
    in_locale,
    persistent_menu,
    whitelisted_domains,
    with_locales,
)
from djmessenger.operations.profile_thread_settings import get_started_button, menu_item, spoken_locales
from djmessenger.outgoing.base import Localized, has_value
from djmessenger.utils.utils import LocalizedString

SETTING = "DJM_PROFILE"
PAGES = "pages"
"""Key of the properties that differ on one Page, by the id of the Page."""
_TEXTS = frozenset({"greeting", "title", "question", "description"})
"""Keys of texts that a person reads. In a file gettext translates them."""
_OF_A_MENU = frozenset({"call_to_actions", "composer_input_disabled"})


def read_declaration(
    source: Mapping[str, Any] | str | os.PathLike[str], folder: str | os.PathLike[str] = ""
) -> dict[str, Any]:
    """Return a declaration from a dict, or from the path of a TOML file relative to ``folder``.

    Raises ``DJMInvalidConfigException`` for a file that cannot be read and for unknown keys.
    """
    if isinstance(source, Mapping):
        declaration = dict(source)
    else:
        path = Path(folder, source)
        try:
            declaration = _translatable(tomllib.loads(read_file(path)))
        except (OSError, ValueError) as error:
            raise DJMInvalidConfigException(f"{SETTING}: {path} cannot be read: {error}") from error
    _check_keys(declaration, SETTING, (*ORDER, PAGES))
    pages = declaration.setdefault(PAGES, {})
    if not isinstance(pages, Mapping):
        raise InvalidField(f"{SETTING}.{PAGES}", f"is a dict by the id of a Page, not {type(pages).__name__}")
    for page_id, of_page in pages.items():
        where = f"{SETTING}.{PAGES}.{page_id}"
        if not isinstance(of_page, Mapping):
            raise InvalidField(where, f"is a dict of properties, not {type(of_page).__name__}")
        _check_keys(of_page, where, ORDER)
    return declaration


def declaration_for_page(declaration: Mapping[str, Any], page_id: str) -> dict[str, Any]:
    """Return the declaration for one Page: the common properties, overridden by those of the Page."""
    common = {name: value for name, value in declaration.items() if name != PAGES}
    pages = {str(key): of_page for key, of_page in declaration.get(PAGES, {}).items()}
    return {**common, **pages.get(page_id, {})}


def declared_properties(
    declared: Mapping[str, Any], languages: Iterable[str], default_language: str
) -> dict[str, Any]:
    """Return each declared property as a value of the Messenger Profile; ``None`` for a property to remove.

    ``languages`` are the codes of ``LANGUAGES``. Raises ``InvalidField`` with the position of the mistake.
    """
    spoken = list(languages)
    result: dict[str, Any] = {}
    for name in ORDER:
        if name not in declared:
            continue
        value = declared[name]
        try:
            result[name] = _property(name, value, spoken, default_language) if _is_given(value) else None
        except InvalidField as error:
            raise type(error)(f"{SETTING}.{error.field}", error.problem, error.source) from error
        except TypeError as error:
            raise InvalidField(f"{SETTING}.{name}", str(error)) from error
    return result


def of_profile(present: Mapping[str, Any]) -> dict[str, Any]:
    """Return the declaration of the properties of a Page. ``declared_properties`` of it returns the same properties."""
    declaration: dict[str, Any] = {}
    for name in ORDER:
        value = present.get(name)
        if not value:
            continue
        if name == "greeting":
            declaration[name] = _unless_alone({entry["locale"]: entry["text"] for entry in value})
        elif name == "get_started":
            declaration[name] = value["payload"]
        elif name == "persistent_menu":
            declaration[name] = _unless_alone({entry["locale"]: _declared_menu(entry) for entry in value})
        elif name == "ice_breakers":
            entries = with_locales(value)
            declaration[name] = _unless_alone(
                {entry["locale"]: entry["call_to_actions"] for entry in entries}
            )
        elif name == "commands":
            declaration[name] = _unless_alone({entry["locale"]: entry["commands"] for entry in value})
        else:
            declaration[name] = value
    return declaration


def to_toml(declaration: Mapping[str, Any]) -> str:
    """Return a declaration as TOML."""
    return "".join(f"{_toml_key(name)} = {_toml(value)}\n" for name, value in declaration.items())


def _property(name: str, value: Any, languages: list[str], default_language: str) -> Any:
    if name == "get_started":
        if value is True:
            return get_started_button()
        return get_started(value["payload"] if isinstance(value, Mapping) and "payload" in value else value)
    if name == "whitelisted_domains":
        return whitelisted_domains(value)
    if name == "account_linking_url":
        return account_linking_url(value)
    if name == "persistent_menu":
        return _menu(value, languages, default_language)
    build: Any = {
        "greeting": greeting,
        "ice_breakers": ice_breakers,
        "commands": commands,
    }[name]
    return build(_by_locale(value, languages, default_language))


def _menu(value: Any, languages: list[str], default_language: str) -> list[dict[str, Any]]:
    """Return the menu. The menu of a locale may be a list of items, or a dict with ``composer_input_disabled``."""
    if isinstance(value, Mapping) and value.keys() <= _OF_A_MENU:
        closed, value = value.get("composer_input_disabled", False), value.get("call_to_actions", [])
        closed_in = None
    else:
        closed, closed_in = False, {}
        if isinstance(value, Mapping):
            menus = {
                locale: menu if isinstance(menu, Mapping) else {"call_to_actions": menu}
                for locale, menu in value.items()
            }
            for locale, menu in menus.items():
                _check_keys(menu, f"persistent_menu[{locale}]", _OF_A_MENU)
            closed_in = {locale: menu.get("composer_input_disabled", False) for locale, menu in menus.items()}
            value = {locale: menu.get("call_to_actions", []) for locale, menu in menus.items()}
    items = (
        {locale: _menu_items(menu, f"persistent_menu[{locale}]") for locale, menu in value.items()}
        if isinstance(value, Mapping)
        else _menu_items(value, "persistent_menu")
    )
    by_locale = _by_locale(items, languages, default_language)
    menus_by_locale = persistent_menu(by_locale, composer_input_disabled=closed)
    if closed_in is None:
        return menus_by_locale
    for menu in menus_by_locale:
        menu["composer_input_disabled"] = bool(closed_in.get(menu["locale"], False))
        if menu["composer_input_disabled"] and not menu.get("call_to_actions"):
            raise InvalidField(
                f"persistent_menu[{menu['locale']}].call_to_actions",
                "is needed if composer_input_disabled is true",
            )
    return menus_by_locale


def _menu_items(items: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(items, (list, tuple)):
        raise InvalidField(where, f"is a list of items, not {type(items).__name__}")
    return [menu_item(item, place, where) for place, item in enumerate(items)]


def _by_locale(value: Any, languages: list[str], default_language: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {
            locale: _written(inner, str(locale), _language(str(locale), default_language))
            for locale, inner in value.items()
        }
    by_locale = {DEFAULT: _written(value, DEFAULT, default_language)}
    of_texts = _locales_in(value)
    for locale, language in spoken_locales(languages if _is_lazy(value) else ()):
        of_texts.pop(locale, None)
        _add(by_locale, locale, _written(value, locale, language))
    for locale in of_texts:
        _add(by_locale, locale, _written(value, locale, _language(locale, default_language)))
    return by_locale


def _add(by_locale: dict[str, Any], locale: str, written: Any) -> None:
    if written != by_locale[DEFAULT]:
        by_locale[locale] = written


def _language(locale: str, default_language: str) -> str:
    return language_code(None if locale == DEFAULT else locale) or default_language


def _written(value: Any, locale: str, language: str) -> Any:
    """Return a value with all its texts in one language."""
    if isinstance(value, Promise):
        with translation.override(language):
            return str(value)
    if isinstance(value, Localized):
        return in_locale(value, locale)
    if isinstance(value, Mapping):
        return {key: _written(inner, locale, language) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_written(inner, locale, language) for inner in value]
    return value


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()


def _is_lazy(value: Any) -> bool:
    if isinstance(value, LocalizedString):
        return isinstance(value.base_string, Promise)
    return isinstance(value, Promise) or any(map(_is_lazy, _inner(value)))


def _locales_in(value: Any) -> dict[str, None]:
    """Return the locales for which the texts have translations of their own, in order."""
    if isinstance(value, LocalizedString):
        return dict.fromkeys(str(getattr(key, "name", key)) for key in value.translations)
    return {locale: None for inner in _inner(value) for locale in _locales_in(inner)}


def _is_given(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    return value is not False and has_value(value)


def _check_keys(declared: Mapping[str, Any], where: str, keys: Iterable[str]) -> None:
    keys = tuple(keys)
    for name in declared:
        if name not in keys:
            raise InvalidField(f"{where}.{name}", f"is unknown; the keys are {', '.join(sorted(keys))}")


def _translatable(value: Any, key: str = "") -> Any:
    """Mark the texts of a file for translation by gettext."""
    if isinstance(value, Mapping):
        # A dict of texts by locale is not translated.
        return {name: inner if key in _TEXTS else _translatable(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_translatable(inner, key) for inner in value]
    return gettext_lazy(value) if key in _TEXTS and isinstance(value, str) and value else value


def _unless_alone(by_locale: dict[str, Any]) -> Any:
    """Return the dict by locale, or its value if it has only the default locale."""
    if set(by_locale) != {DEFAULT}:
        return by_locale
    return by_locale[DEFAULT]


def _declared_menu(entry: Mapping[str, Any]) -> Any:
    items = []
    for item in entry.get("call_to_actions") or []:
        declared = {key: value for key, value in item.items() if key != "webview_share_button"}
        if item.get("webview_share_button") == "hide":
            declared["share_button"] = False
        items.append(declared)
    if entry.get("composer_input_disabled"):
        return {"call_to_actions": items, "composer_input_disabled": True}
    return items


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_toml_key(key)} = {_toml(inner)}' for key, inner in value.items())} }}"
    if isinstance(value, (list, tuple)):
        if not any(isinstance(inner, Mapping) for inner in value):
            return f"[{', '.join(map(_toml, value))}]"
        return "".join(["[\n", *(f"    {_toml(inner)},\n" for inner in value), "]"])
    if isinstance(value, str):
        # The escapes of JSON are those of TOML, except that TOML must escape DEL too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return json.dumps(value)


def _toml_key(name: Any) -> str:
    text = str(name)
    return text if text.replace("_", "").replace("-", "").isalnum() and text.isascii() else _toml(text)
