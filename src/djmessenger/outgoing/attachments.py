"""Media by URL, by attachment id, or from a file on this machine.

The JSON of a call cannot contain a file, so the body contains its path. The sender calls ``pending_file(body)``.
If the result is a ``LocalFile``, the sender uploads it and sends ``with_attachment_id(body, id)`` instead.

Sources: Messenger Platform, "Saving assets" and "Sending messages", read November 2026.
"""

from __future__ import annotations

import copy
import mimetypes
import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar

from djmessenger.channels import INSTAGRAM, MESSENGER
from djmessenger.exceptions import InvalidField
from djmessenger.outgoing.base import Writer, has_value, limit_of, present
from djmessenger.outgoing.local_files import LocalPath, size_of
from djmessenger.outgoing.message import ContentMessage

PATH_KEY = "djmessenger_path"
"""Key in the payload for the path of a file to upload; never sent to Meta."""
LIKE = 369239263222822
"""Sticker id of the thumb of Messenger."""
LIKE_HEART = "like_heart"
"""Sticker id of the heart of Instagram."""


@dataclass(frozen=True)
class LocalFile:
    """A file that has to be uploaded before its message can be sent."""

    path: Path
    kind: str
    """Meta's type of attachment: image, audio, video or file."""
    content_type: str


@dataclass(frozen=True)
class MediaMessage(ContentMessage):
    """Parent of image, audio, video and file: exactly one of ``url``, ``attachment_id`` and ``path``.

    The limit is 25 MB, and 8 MB for an image. With ``reusable`` Meta returns an attachment id for the URL, valid for
    90 days.
    """

    url: str = ""
    _: KW_ONLY
    attachment_id: str = ""
    path: str | os.PathLike[str] = ""
    reusable: bool = False

    def content(self, out: Writer) -> dict[str, Any]:
        sources = [name for name in ("url", "attachment_id", "path") if has_value(getattr(self, name))]
        if len(sources) != 1:
            out.refuse(sources[1] if sources else "url", "exactly one of url, attachment_id and path")
        reusable = out.flag("reusable", self.reusable)
        if sources == ["url"]:
            payload = {"url": out.url("url", self.url), **present(is_reusable=reusable)}
        elif sources == ["attachment_id"]:
            payload = {"attachment_id": out.plain("attachment_id", self.attachment_id)}
        else:
            payload = {PATH_KEY: self._checked_path(out), "is_reusable": True}
        return {"attachment": {"type": self.kind, "payload": payload}}

    def _checked_path(self, out: Writer) -> str:
        if not isinstance(self.path, (str, os.PathLike)):
            out.wrong_type("path", "a path", self.path)
        path = Path(self.path)
        if out.making:
            return str(path)
        try:
            size = size_of(path)
        except (OSError, ValueError) as error:
            out.refuse("path", f"cannot be read: {error}")
        row = out.row("attachment.bytes.image" if self.kind == "image" else "attachment.bytes")
        if size > limit_of(row):
            out.over("path", f"{size} bytes, at most {row.value}", row)
        return LocalPath(path.absolute())


@dataclass(frozen=True)
class Image(MediaMessage):
    """A picture: ``Image("https://example.com/cat.png")``; at most 8 MB."""

    kind: ClassVar[str] = "image"


@dataclass(frozen=True)
class Audio(MediaMessage):
    """A recording or another sound file."""

    kind: ClassVar[str] = "audio"


@dataclass(frozen=True)
class Video(MediaMessage):
    """A video; Meta has to fetch it within 75 seconds."""

    kind: ClassVar[str] = "video"


@dataclass(frozen=True)
class File(MediaMessage):
    """Any other file."""

    kind: ClassVar[str] = "file"


@dataclass(frozen=True)
class Images(ContentMessage):
    """Several pictures in one message, by URL: at most 30, on Instagram 10.

    Meta's page described the parameter in May 2026 and no longer in September 2026; Graph still accepts it.
    ``ImageGrid`` is the documented form for two to six pictures.
    """

    kind: ClassVar[str] = "images"

    urls: tuple[str, ...] | list[str]

    def content(self, out: Writer) -> dict[str, Any]:
        out.count("urls", self.urls, "images.count")
        return {
            "attachments": [
                {"type": "image", "payload": {"url": out.url(f"urls[{index}]", url)}}
                for index, url in enumerate(self.urls)
            ]
        }


@dataclass(frozen=True)
class Sticker(ContentMessage):
    """A sticker of Meta's free packs by its number; on Instagram only ``Sticker(LIKE_HEART)``.

    Source: Messenger Platform, "Sticker API", June 2026.
    """

    kind: ClassVar[str] = "sticker"

    sticker_id: int | str = LIKE

    def content(self, out: Writer) -> dict[str, Any]:
        if self.sticker_id == LIKE_HEART:
            out.only_on(INSTAGRAM, "the sticker like_heart")
            return {"attachment": {"type": LIKE_HEART}}
        out.only_on(MESSENGER, "a sticker by number")
        return {"sticker_id": out.number("sticker_id", self.sticker_id)}


def pending_file(body: Mapping[str, Any]) -> LocalFile | None:
    """Return the file that has to be uploaded before this body can be sent, or ``None``."""
    attachment = body.get("message", {}).get("attachment", {})
    path = attachment.get("payload", {}).get(PATH_KEY)
    if not path:
        return None
    media_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
    kind = attachment["type"]
    if kind == "audio" and not media_type.startswith("audio/"):
        # Meta accepts a sound only as audio/*; Python guesses video/* for some containers of sound.
        media_type = (
            media_type.replace("video/", "audio/") if media_type.startswith("video/") else "audio/mpeg"
        )
    return LocalFile(Path(path), kind, media_type)


def refuse_strange_file(body: Mapping[str, Any]) -> None:
    """Raise ``InvalidField`` if a body names a file that no ``MediaMessage`` named.

    Such a body may be data that arrived at run time.
    """
    path: Any = body
    for key in ("message", "attachment", "payload", PATH_KEY):
        path = path.get(key) if isinstance(path, Mapping) else None
    if path is not None and not isinstance(path, LocalPath):
        raise InvalidField(PATH_KEY, "names a file that only code may name: send File(path=...) instead")


def with_attachment_id(body: Mapping[str, Any], attachment_id: str) -> dict[str, Any]:
    """Return a copy of the body with the id of the uploaded file in place of its path."""
    result = copy.deepcopy(dict(body))
    result["message"]["attachment"]["payload"] = {"attachment_id": attachment_id}
    return result
