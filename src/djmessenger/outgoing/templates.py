"""Templates with cards, pictures and buttons: button, generic, media, image grid.

Sources: Messenger Platform, the page of each template, April to June 2026.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from djmessenger.channels import INSTAGRAM, MESSENGER
from djmessenger.outgoing.base import (
    Inside,
    Part,
    PayloadLike,
    TextLike,
    Writer,
    has_value,
    present,
)
from djmessenger.outgoing.buttons import Button, PostbackButton, UrlAction, UrlButton
from djmessenger.outgoing.message import ContentMessage


@dataclass(frozen=True)
class Template(ContentMessage):
    """Parent of the templates; Instagram accepts button, generic and product alone."""

    template_type: ClassVar[str] = ""
    channels: ClassVar[frozenset[str]] = frozenset({MESSENGER})

    def payload_of(self, out: Writer) -> dict[str, Any]:
        """Return the payload without its ``template_type``."""
        raise NotImplementedError

    def content(self, out: Writer) -> dict[str, Any]:
        payload = {"template_type": self.template_type, **self.payload_of(out)}
        return {"attachment": {"type": "template", "payload": payload}}


@dataclass(frozen=True)
class ButtonTemplate(Template):
    """A text of at most 640 characters above one to three buttons."""

    kind: ClassVar[str] = "button"
    template_type: ClassVar[str] = "button"
    channels: ClassVar[frozenset[str]] = frozenset({MESSENGER, INSTAGRAM})

    text: TextLike
    buttons: Sequence[Button]

    def payload_of(self, out: Writer) -> dict[str, Any]:
        return {
            "text": out.bot_text("text", self.text, "button_template.text"),
            "buttons": _buttons(out, self.buttons, least=1),
        }


@dataclass(frozen=True)
class Element(Part):
    """One card of a generic template: a title of at most 80 characters and at least one other field.

    ``default_action`` is the page that a tap on the card opens, as a ``UrlAction`` or a URL.
    """

    inside: ClassVar[Mapping[str, Inside]] = {"default_action": UrlAction}

    title: TextLike
    subtitle: TextLike = ""
    _: KW_ONLY
    image_url: str = ""
    default_action: UrlAction | str | None = None
    buttons: Sequence[Button] = ()

    def write(self, out: Writer) -> dict[str, Any]:
        if not any(map(has_value, (self.subtitle, self.image_url, self.default_action, self.buttons))):
            out.refuse(
                "title", "an element needs a subtitle, image_url, default_action or button in addition"
            )
        action: Any = self.default_action if has_value(self.default_action) else None
        if isinstance(action, str):
            action = {"type": "web_url", "url": out.url("default_action", action)}
        elif action is not None:
            action = out.part("default_action", action, UrlAction)
        return {
            "title": out.text("title", self.title, "generic.title"),
            **present(
                subtitle=out.text("subtitle", self.subtitle, "generic.subtitle", required=False),
                image_url=out.optional_url("image_url", self.image_url),
                default_action=action,
                buttons=_buttons(out, self.buttons),
            ),
        }


@dataclass(frozen=True)
class GenericTemplate(Template):
    """One to ten cards side by side; with ``sharable`` the person can forward them."""

    kind: ClassVar[str] = "generic"
    template_type: ClassVar[str] = "generic"
    channels: ClassVar[frozenset[str]] = frozenset({MESSENGER, INSTAGRAM})
    inside: ClassVar[Mapping[str, Inside]] = {"elements": Element}

    elements: Sequence[Element]
    _: KW_ONLY
    sharable: bool = False

    def payload_of(self, out: Writer) -> dict[str, Any]:
        elements = out.parts("elements", self.elements, Element, "generic.elements")
        if out.channel == INSTAGRAM:
            for index, element in enumerate(elements):
                if any(
                    button["type"] not in ("web_url", "postback") for button in element.get("buttons", [])
                ):
                    out.refuse(
                        f"elements[{index}].buttons", "Instagram accepts url and postback buttons alone"
                    )
        return {"elements": elements, **present(sharable=out.flag("sharable", self.sharable))}


@dataclass(frozen=True)
class MediaTemplate(Template):
    """A picture or video with up to three buttons, by ``attachment_id`` or by a facebook.com ``url``."""

    kind: ClassVar[str] = "media"
    template_type: ClassVar[str] = "media"

    media_type: str
    _: KW_ONLY
    attachment_id: str = ""
    url: str = ""
    buttons: Sequence[Button] = ()
    sharable: bool = False

    def payload_of(self, out: Writer) -> dict[str, Any]:
        if has_value(self.attachment_id) == has_value(self.url):
            out.refuse("url", "needs exactly one of url and attachment_id")
        if not self.media_type:
            out.refuse("media_type", "is missing: image or video")
        url = out.optional_url("url", self.url)
        host = urlsplit(url).hostname or ""
        if url and host != "facebook.com" and not host.endswith(".facebook.com"):
            out.refuse("url", f"{url!r} is not on facebook.com; send another picture by its attachment_id")
        element = {
            "media_type": out.choice("media_type", self.media_type, ("image", "video")),
            **present(
                attachment_id=out.plain("attachment_id", self.attachment_id, required=False),
                url=url,
                buttons=_buttons(out, self.buttons),
            ),
        }
        return {"elements": [element], **present(sharable=out.flag("sharable", self.sharable))}


@dataclass(frozen=True)
class GridImage(Part):
    """One picture of a grid; a tap opens ``action_url``, or sends ``payload`` with ``text``."""

    url: str
    _: KW_ONLY
    is_hero_image: bool = False
    action_url: str = ""
    payload: PayloadLike = ""
    text: TextLike = ""

    def write(self, out: Writer) -> dict[str, Any]:
        if has_value(self.action_url) and (has_value(self.payload) or has_value(self.text)):
            out.refuse("action_url", "cannot be combined with payload and text")
        if has_value(self.payload) != has_value(self.text):
            out.refuse("payload" if has_value(self.text) else "text", "payload and text need each other")
        action: dict[str, Any] = {}
        if has_value(self.action_url):
            action = {"type": "web_url", "url": out.url("action_url", self.action_url)}
        elif has_value(self.payload):
            action = {
                "type": "postback",
                "payload": out.payload("payload", self.payload, "payload.length"),
                "text": out.text("text", self.text),
            }
        hero = out.flag("is_hero_image", self.is_hero_image)
        return {"url": out.url("url", self.url), **present(is_hero_image=hero, action=action)}


@dataclass(frozen=True)
class ImageGrid(Template):
    """Two to six pictures as a grid, at most one of them large, with a title of at most 45 characters.

    Source: Messenger Platform, "Image grid template", 30 June 2026.
    """

    kind: ClassVar[str] = "image_grid"
    template_type: ClassVar[str] = "image_grid"
    inside: ClassVar[Mapping[str, Inside]] = {"images": GridImage}

    images: Sequence[GridImage]
    _: KW_ONLY
    title: TextLike = ""
    subtitle: TextLike = ""
    buttons: Sequence[UrlButton | PostbackButton] = ()

    def payload_of(self, out: Writer) -> dict[str, Any]:
        images = out.parts("images", self.images, GridImage, "image_grid.images", least=0)
        least = out.row("image_grid.images.least")
        if isinstance(least.value, int) and len(images) < least.value:
            out.over("images", f"{len(images)} given, at least {least.value}", least)
        if sum(image.get("is_hero_image", False) for image in images) > 1:
            out.refuse("images", "at most one picture may have is_hero_image")
        element = {
            "images": images,
            **present(
                title=out.text("title", self.title, "image_grid.title", required=False),
                subtitle=out.text("subtitle", self.subtitle, "image_grid.subtitle", required=False),
                buttons=out.parts(
                    "buttons", self.buttons, (UrlButton, PostbackButton), "buttons.count", least=0
                ),
            ),
        }
        return {"elements": [element]}


def _buttons(out: Writer, buttons: Any, *, least: int = 0) -> list[Any]:
    return out.parts("buttons", buttons, Button, "buttons.count", least=least)
