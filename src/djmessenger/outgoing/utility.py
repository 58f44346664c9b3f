"""Utility messages: approved templates for updates that a person expects, also outside of the window.

Source: Messenger Platform, "Utility messages", read November 2026. The Page needs ``page_utility_messaging``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from djmessenger.channels import MESSENGER
from djmessenger.outgoing.base import Inside, Part, PayloadLike, TextLike, Writer, present
from djmessenger.outgoing.message import ContentMessage


class UtilityButton(Part):
    """Parent of the values for buttons of a utility template."""


@dataclass(frozen=True)
class UtilityPostback(UtilityButton):
    """Payload of a postback button."""

    payload: PayloadLike

    def write(self, out: Writer) -> dict[str, Any]:
        return {"type": "POSTBACK", "payload": out.payload("payload", self.payload, "button.payload")}


@dataclass(frozen=True)
class UtilityUrl(UtilityButton):
    """Address of a URL button, or its suffix if the template contains the rest."""

    url: str

    def write(self, out: Writer) -> dict[str, Any]:
        return {"type": "URL", "url": out.plain("url", self.url)}


UTILITY_BUTTONS: dict[str, type[Part]] = {"POSTBACK": UtilityPostback, "URL": UtilityUrl}


@dataclass(frozen=True)
class Utility(ContentMessage):
    """An approved template: ``Utility("order_shipped", "en_US", body=["1234", "Monday"])``.

    ``header`` and ``body`` contain the parameters: a list of numbered ones or a dict of named ones.
    """

    kind: ClassVar[str] = "utility"
    fixed_messaging_type: ClassVar[str] = "UTILITY"
    channels: ClassVar[frozenset[str]] = frozenset({MESSENGER})
    inside: ClassVar[Mapping[str, Inside]] = {"buttons": ("type", "", UTILITY_BUTTONS)}

    name: str
    language: str
    _: KW_ONLY
    header: tuple[TextLike, ...] | list[TextLike] | Mapping[str, TextLike] = ()
    body: tuple[TextLike, ...] | list[TextLike] | Mapping[str, TextLike] = ()
    buttons: Sequence[UtilityButton] = ()

    def content(self, out: Writer) -> dict[str, Any]:
        components: list[dict[str, Any]] = []
        for name, values in (("header", self.header), ("body", self.body)):
            if values:
                components.append({"type": name, "parameters": _parameters(out, name, values)})
        buttons = out.parts("buttons", self.buttons, UtilityButton, "buttons.count", least=0)
        if buttons:
            components.append({"type": "buttons", "parameters": buttons})
        return {
            "template": {
                "name": out.plain("name", self.name),
                "language": {"code": out.plain("language", self.language)},
                **present(components=components),
            }
        }


def _parameters(out: Writer, name: str, values: Any) -> list[dict[str, Any]]:
    if isinstance(values, Mapping):
        return [
            {
                "type": "text",
                "text": out.text(f"{name}[{key}]", value),
                "parameter_name": out.plain(f"{name}[{key}]", key),
            }
            for key, value in values.items()
        ]
    out.count(name, values)
    return [
        {"type": "text", "text": out.text(f"{name}[{index}]", value)} for index, value in enumerate(values)
    ]
