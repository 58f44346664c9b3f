"""The bodies of the Messenger Profile API, their limits and their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.utils.translation import gettext_lazy

from djmessenger.exceptions import InvalidField, LimitExceeded
from djmessenger.operations import profile_properties as profile
from djmessenger.utils.utils import LocalizedString

if TYPE_CHECKING:
    from collections.abc import Callable

POSTBACK = profile.MenuPostback("a", "A")


def test_greeting() -> None:
    assert profile.greeting("Hi {{user_first_name}}") == [
        {"locale": "default", "text": "Hi {{user_first_name}}"}
    ]
    hello = LocalizedString("Hello", {"de_DE": "Hallo"})
    assert profile.greeting(hello, locales=["de_DE", "fr_FR"]) == [
        {"locale": "default", "text": "Hello"},
        {"locale": "de_DE", "text": "Hallo"},
        {"locale": "fr_FR", "text": "Hello"},
    ]
    assert profile.greeting({"de_DE": "Hallo", "default": "Hi"})[0] == {"locale": "de_DE", "text": "Hallo"}


def test_gettext_in_each_locale() -> None:
    texts = profile.greeting(gettext_lazy("Yes"), locales=["de_DE", "fr_FR"])
    assert [entry["text"] for entry in texts] == ["Yes", "Ja", "Oui"]


def test_get_started() -> None:
    assert profile.get_started("GET_STARTED") == {"payload": "GET_STARTED"}


def test_persistent_menu() -> None:
    hello = LocalizedString("Hello", {"de_DE": "Hallo"})
    menu = [
        profile.MenuPostback(hello, "HI"),
        profile.MenuUrl("Shop", "https://example.com", webview_height_ratio="tall"),
        {"type": "postback", "title": "Help", "payload": "HELP"},
        {"type": "web_url", "title": "Site", "url": "https://example.com"},
    ]
    written = profile.persistent_menu(menu, locales=["de_DE"])  # type: ignore[arg-type]
    assert written[0] == {
        "locale": "default",
        "composer_input_disabled": False,
        "call_to_actions": [
            {"type": "postback", "title": "Hello", "payload": "HI"},
            {
                "type": "web_url",
                "title": "Shop",
                "url": "https://example.com",
                "webview_height_ratio": "tall",
            },
            {"type": "postback", "title": "Help", "payload": "HELP"},
            {"type": "web_url", "title": "Site", "url": "https://example.com"},
        ],
    }
    assert written[1]["locale"] == "de_DE"
    assert written[1]["call_to_actions"][0]["title"] == "Hallo"


def test_ice_breakers_and_commands() -> None:
    assert profile.ice_breakers([profile.IceBreaker("Where?", "WHERE")]) == [
        {"call_to_actions": [{"question": "Where?", "payload": "WHERE"}], "locale": "default"}
    ]
    assert profile.commands({"default": [profile.Command("help", "Shows help")]}) == [
        {"locale": "default", "commands": [{"name": "help", "description": "Shows help"}]}
    ]


def test_domains_and_linking() -> None:
    assert profile.whitelisted_domains(["https://shop.example.com"]) == ["https://shop.example.com"]
    assert profile.account_linking_url("https://example.com/login") == "https://example.com/login"


@pytest.mark.parametrize(
    ("most", "make"),
    [
        (160, lambda n: profile.greeting("x" * n)),
        (1000, lambda n: profile.get_started("x" * n)),
        (20, lambda n: profile.persistent_menu([POSTBACK] * n)),
        (30, lambda n: profile.MenuPostback("x" * n, "A")),
        (30, lambda n: profile.MenuUrl("x" * n, "https://example.com")),
        (1000, lambda n: profile.MenuPostback("a", "x" * n)),
        (4, lambda n: profile.ice_breakers([profile.IceBreaker("a", "b")] * n)),
        (100, lambda n: profile.commands([profile.Command("a", "b")] * n)),
        (32, lambda n: profile.Command("x" * n, "b")),
        (64, lambda n: profile.Command("a", "x" * n)),
        (50, lambda n: profile.whitelisted_domains(["https://example.com"] * n)),
    ],
)
def test_at_the_limit_and_one_over(most: int, make: Callable[[int], Any]) -> None:
    make(most)
    with pytest.raises(LimitExceeded, match=f"at most {most}"):
        make(most + 1)


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("greeting", lambda: profile.greeting({"de_DE": "Hallo"})),
        ("greeting", lambda: profile.greeting({"default": "Hi", "german": "Hallo"})),
        ("greeting[default].text", lambda: profile.greeting("")),
        ("get_started.payload", lambda: profile.get_started("")),
        (
            "persistent_menu[default].call_to_actions",
            lambda: profile.persistent_menu([], composer_input_disabled=True),
        ),
        ("call_to_actions[0].type", lambda: profile.persistent_menu([{"type": "nested"}])),  # type: ignore[list-item]
        ("url", lambda: profile.MenuUrl("a", "javascript:alert(1)")),
        ("ice_breakers[default].call_to_actions", lambda: profile.ice_breakers([])),
        ("commands[default].commands", lambda: profile.commands([])),
        ("name", lambda: profile.Command("/help", "a")),
        ("name", lambda: profile.Command("", "a")),
        ("description", lambda: profile.Command("a", "")),
        ("whitelisted_domains[0]", lambda: profile.whitelisted_domains(["http://example.com"])),
        ("whitelisted_domains[0]", lambda: profile.whitelisted_domains(["https://127.0.0.1"])),
        ("whitelisted_domains[0]", lambda: profile.whitelisted_domains(["https://[::1]"])),
        ("whitelisted_domains[0]", lambda: profile.whitelisted_domains(["https://localhost"])),
        ("account_linking_url", lambda: profile.account_linking_url("http://example.com")),
        ("home_url", lambda: profile.in_order({"home_url": "a"})),
        ("persistent_menu", lambda: profile.in_order({"persistent_menu": []})),
        ("get_started", lambda: profile.deletion_order(["get_started"], ["get_started", "persistent_menu"])),
    ],
)
def test_a_property_that_meta_would_refuse_is_refused(field: str, make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidField) as caught:
        make()
    assert caught.value.field.endswith(field)


def test_an_item_that_is_wrong_is_named() -> None:
    with pytest.raises(LimitExceeded) as caught:
        profile.persistent_menu(
            [POSTBACK, {"type": "postback", "title": "x" * 31, "payload": "A"}]  # type: ignore[list-item]
        )
    assert caught.value.field == "persistent_menu[default].call_to_actions[1].title"
    with pytest.raises(InvalidField, match=r"persistent_menu\[default\]\.call_to_actions\[0\]\.caption"):
        profile.persistent_menu([{"type": "postback", "caption": "a"}])  # type: ignore[list-item]


def test_order() -> None:
    properties: dict[str, Any] = {
        "commands": [],
        "persistent_menu": profile.persistent_menu(
            [profile.MenuUrl("a", "https://example.com/a", messenger_extensions=True)]
        ),
        "get_started": profile.get_started("A"),
        "whitelisted_domains": ["https://example.com"],
    }
    assert [next(iter(body)) for body in profile.in_order(properties)] == [
        "whitelisted_domains",
        "get_started",
        "persistent_menu",
        "commands",
    ]
    properties["whitelisted_domains"] = ["https://other.example.com"]
    with pytest.raises(InvalidField, match=r"call_to_actions\[0\]\.url"):
        profile.in_order(properties)


def test_order_with_what_is_there_already() -> None:
    assert profile.in_order({"persistent_menu": []}, present=["get_started"]) == [{"persistent_menu": []}]
    assert profile.deletion_order(["get_started", "persistent_menu"], ["get_started", "persistent_menu"]) == [
        "persistent_menu",
        "get_started",
    ]
