"""Attachments of messages and their payloads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from djmessenger.receiving.parts import (
    Part,
    part,
    read_number,
    read_optional_id,
    read_optional_text,
    read_text,
    wire,
    wire_part,
)
from djmessenger.receiving.types import AttachmentType


class Coordinates(Part):
    """Latitude and longitude in degrees."""

    lat: float | None = wire(read_number)
    long: float | None = wire(read_number)

    def __init__(self, lat: Any, llong: Any) -> None:
        self.lat = read_number(lat)
        self.long = read_number(llong)


class LocationAttachmentPayload(Part):
    """Attachment payload with coordinates."""

    coordinates: Coordinates | None = wire_part(Coordinates)

    def __init__(self, coordinates: Coordinates | None) -> None:
        self.coordinates = coordinates


class MultimediaAttachmentPayload(Part):
    """Attachment payload with a url, the title of a share and the id of a sticker; other keys are in ``raw``."""

    url: str = wire(read_text, "")
    title: str = wire(read_text, "")
    sticker_id: str | None = wire(read_optional_id)

    def __init__(self, url: str) -> None:
        self.url = url


_read_location = part(LocationAttachmentPayload)
_read_multimedia = part(MultimediaAttachmentPayload)


class Attachment(Part):
    """One attachment; its type decides whether the payload is a location or a multimedia payload.

    ``type`` is the spelling of Meta; ``kind`` is the member, if there is one. ``url`` is the url outside of the
    payload (locations, and links in echoes); some callbacks spell it ``URL``. ``best_url`` prefers the url inside
    the payload.
    """

    type: str = wire(read_text, "")
    payload: LocationAttachmentPayload | MultimediaAttachmentPayload | None = wire(_read_multimedia)
    url: str | None = wire(read_optional_text)
    URL: str | None = wire(read_optional_text)
    title: str = wire(read_text, "")

    def __init__(
        self,
        ttype: AttachmentType | str,
        payload: LocationAttachmentPayload | MultimediaAttachmentPayload | None,
        url: str | None,
    ) -> None:
        self.type = str(ttype)
        self.payload = payload
        self.url = url

    @classmethod
    def deserialize(cls, json_data: Any) -> Self:
        """Build an Attachment; its type decides the class of the payload, and an unknown type is kept."""
        return super().deserialize(json_data)

    @classmethod
    def _from_json(cls, data: Mapping[str, Any]) -> Self:
        instance = super()._from_json(data)
        if instance.type == AttachmentType.LOCATION.name:
            instance.payload = _read_location(data.get("payload"))
        return instance

    @property
    def kind(self) -> AttachmentType | None:
        return AttachmentType.members.get(self.type)

    @property
    def best_url(self) -> str:
        """Url in the payload, otherwise the url outside of it, otherwise ``""``."""
        inside = self.payload.url if isinstance(self.payload, MultimediaAttachmentPayload) else ""
        return inside or self.url or self.URL or ""

    @property
    def sticker_id(self) -> str | None:
        return self.payload.sticker_id if isinstance(self.payload, MultimediaAttachmentPayload) else None

    @property
    def coordinates(self) -> Coordinates | None:
        return self.payload.coordinates if isinstance(self.payload, LocationAttachmentPayload) else None
