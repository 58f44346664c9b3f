"""The two channels, Messenger and Instagram, and their differences. Internal."""

from __future__ import annotations

from dataclasses import dataclass

MESSENGER = "messenger"
INSTAGRAM = "instagram"

_NAMES = ("id", "name", "first_name", "last_name", "profile_pic")


@dataclass(frozen=True, slots=True)
class Channel:
    """Facts of one channel that differ from those of the other."""

    name: str
    """Value of ``Page.channel``, and suffix of the limits that differ from those of Messenger."""
    object_name: str
    """``object`` of its callbacks and of its app subscription."""
    text_limit: str
    """Row of the rulebook with the limit of a text."""
    text_encoding: str
    """Encoding in whose units the limit of a text is counted."""
    has_personas: bool
    website: str
    """Scheme and host of the addresses that a shared reel or post leaves out."""
    upload_platform: str | None
    """``platform`` of an upload, ``None`` if the call has no such parameter."""
    profile_fields: tuple[str, ...]
    """Fields of a person that are requested. One field that the node does not have fails the whole call."""
    name_fields: tuple[str, ...]
    """Those of them that every app and every version of Graph may read."""


CHANNELS = {
    channel.name: channel
    for channel in (
        Channel(
            MESSENGER,
            "page",
            "text.length",
            "utf-16-le",
            has_personas=True,
            website="https://www.facebook.com",
            upload_platform=None,
            # Messenger Platform, "User Profile API" (2026).
            profile_fields=(*_NAMES, "locale", "timezone", "gender"),
            name_fields=_NAMES,
        ),
        Channel(
            INSTAGRAM,
            "instagram",
            "text.bytes.instagram",
            "utf-8",
            has_personas=False,
            website="https://www.instagram.com",
            upload_platform="INSTAGRAM",
            # Instagram Messaging, "User Profile API" (1 Apr 2026). ``username`` exists since Graph v14.0.
            profile_fields=("id", "name", "username", "profile_pic"),
            name_fields=("id", "name", "profile_pic"),
        ),
    )
}
CHANNELS_BY_OBJECT = {channel.object_name: channel for channel in CHANNELS.values()}


def channel_of(name: str) -> Channel:
    """Return the channel with a name, and Messenger for any other name."""
    return CHANNELS.get(name, CHANNELS[MESSENGER])


def channel_of_object(object_name: object) -> Channel:
    """Return the channel of a callback's ``object``, and Messenger for any other value."""
    known = CHANNELS_BY_OBJECT.get(object_name) if isinstance(object_name, str) else None
    return known or CHANNELS[MESSENGER]
