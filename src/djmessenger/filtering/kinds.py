"""Filters by the kind of an event: its type, attachments, tapped payload, referral or reaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.filtering.base import GET_STARTED, BaseFilter, literal_key
from djmessenger.payload import Payload, find_payload_class
from djmessenger.receiving import AttachmentType, Messaging, ReceivingType
from djmessenger.utils.utils import get_class_name, load_class

THUMB_UPS: Final = frozenset({"369239263222822", "369239343222814", "369239383222810"})
"""Sticker ids of the three sizes of the thumb-up, unchanged since 2016."""

TAPS: Final = frozenset(
    {
        ReceivingType.QUICK_REPLY,
        ReceivingType.POSTBACK,
        ReceivingType.GET_STARTED_BUTTON,
        ReceivingType.PERSISTENT_MENU_ONE,
        ReceivingType.PERSISTENT_MENU_TWO,
        ReceivingType.PERSISTENT_MENU_THREE,
        ReceivingType.PERSISTENT_MENU_FOUR,
        ReceivingType.PERSISTENT_MENU_FIVE,
    }
)


class _OfTypes(BaseFilter):
    """Parent of filters that check only the type."""

    TYPES: ClassVar[frozenset[ReceivingType]]

    def should_pass(self, messaging: Messaging) -> bool:
        return messaging.type in self.TYPES

    def types(self) -> frozenset[ReceivingType] | None:
        return self.TYPES


class MultimediaFilter(_OfTypes):
    """A filter that passes images, audio, video and files."""

    TYPES = frozenset({ReceivingType.IMAGE, ReceivingType.AUDIO, ReceivingType.VIDEO, ReceivingType.FILE})


class LocationFilter(_OfTypes):
    """A filter that passes shared locations."""

    TYPES = frozenset({ReceivingType.LOCATION})


class PostbackFilter(_OfTypes):
    """A filter that passes postbacks: taps on buttons that have no type of their own."""

    TYPES = frozenset({ReceivingType.POSTBACK})


class AuthenticationFilter(_OfTypes):
    """A filter that passes opt-ins."""

    TYPES = frozenset({ReceivingType.AUTHENTICATION})


class TypeFilter(BaseFilter):
    """A filter that passes events of these types. ``ANY`` stands for all authored events."""

    def __init__(self, *receiving_types: ReceivingType | str) -> None:
        if not receiving_types:
            raise DJMInvalidConfigException("on(...) needs at least one type, such as 'IMAGE'")
        try:
            self.receiving_types = tuple(map(ReceivingType.deserialize, receiving_types))
        except KeyError as error:
            raise DJMInvalidConfigException(str(error.args[0])) from error
        for ruled in (ReceivingType.DEFAULT, ReceivingType.FALLBACK):
            if ruled in self.receiving_types:
                raise DJMInvalidConfigException(f"{ruled} is a type of rules only; no event has it")

    def should_pass(self, messaging: Messaging) -> bool:
        if messaging.type in self.receiving_types:
            return True
        return ReceivingType.ANY in self.receiving_types and messaging.authored

    def types(self) -> frozenset[ReceivingType] | None:
        return None if ReceivingType.ANY in self.receiving_types else frozenset(self.receiving_types)

    def describe(self) -> str:
        return f"on({', '.join(repr(str(item)) for item in self.receiving_types)})"


LONGEST_ENDING = 3
"""Characters of an entry of ``STICKER_IDS`` up to which it is an ending; ids of Meta are longer."""


class StickerFilter(BaseFilter):
    """A filter that passes stickers with one of the given ids, by default those in ``STICKER_IDS``.

    A subclass may name the last digits of ids in ``STICKER_IDS``, at most ``LONGEST_ENDING``, as ``ThumbUpFilter``.
    """

    STICKER_IDS: tuple[str, ...] = ()

    def __init__(self, *sticker_ids: str | int) -> None:
        if sticker_ids:
            self.STICKER_IDS = tuple(map(str, sticker_ids))

    def should_pass(self, messaging: Messaging) -> bool:
        if messaging.type is not ReceivingType.STICKER:
            return False
        sticker_id = messaging.get_sticker_id()
        return sticker_id is not None and self._accepts(
            str(sticker_id), {str(item) for item in self.STICKER_IDS}
        )

    def _accepts(self, sticker_id: str, accepted: set[str]) -> bool:
        if sticker_id in accepted:
            return True
        # Ids that were given to the constructor are complete.
        is_of_class = "STICKER_IDS" not in vars(self)
        endings = tuple(item for item in accepted if 0 < len(item) <= LONGEST_ENDING)
        return is_of_class and sticker_id.endswith(endings)

    def types(self) -> frozenset[ReceivingType] | None:
        return frozenset({ReceivingType.STICKER})

    def describe(self) -> str:
        if type(self) is StickerFilter:
            return f"sticker({', '.join(repr(str(item)) for item in self.STICKER_IDS)})"
        return super().describe()


class ThumbUpFilter(StickerFilter):
    """A filter that passes the three sizes of the thumb-up. ``STICKER_IDS`` contains the last digits of their ids."""

    STICKER_IDS = ("810", "814", "822")

    def __init__(self) -> None:
        super().__init__()

    def _accepts(self, sticker_id: str, accepted: set[str]) -> bool:
        # The last digits alone are not enough, because ids of other stickers end with them too.
        return sticker_id in accepted or (sticker_id in THUMB_UPS and sticker_id[-3:] in accepted)


class AttachmentFilter(BaseFilter):
    """A filter that passes events with an attachment of one of these kinds (``image``, ``reel``), by default of any.

    A sticker counts as a sticker only, although Meta may send its image as an attachment.
    """

    def __init__(self, *kinds: AttachmentType | str) -> None:
        try:
            self.kinds = tuple(AttachmentType.deserialize(kind).name for kind in kinds)
        except KeyError as error:
            raise DJMInvalidConfigException(str(error.args[0])) from error

    def should_pass(self, messaging: Messaging) -> bool:
        if messaging.type is ReceivingType.STICKER:
            kinds = {AttachmentType.STICKER.name}
        else:
            kinds = {item.type for item in messaging.attachments}
        return bool(kinds.intersection(self.kinds) if self.kinds else kinds)

    def describe(self) -> str:
        return f"attachment({', '.join(map(repr, self.kinds))})"


class TappedFilter(BaseFilter):
    """A filter that passes taps on quick replies, buttons and the menu with one of these payloads, by default with any.

    A payload is a text, an instance, or a ``Payload`` class, which includes its subclasses. ``GET_STARTED`` stands for
    the get-started button, whatever its payload. If a class or instance matches, the ``Payload`` of the event is put
    into ``context["payload"]``. In a policy a class is written ``{"payload_class": "shop.payloads.Order"}``.
    """

    def __init__(self, *payloads: str | Payload | type[Payload] | Mapping[str, Any]) -> None:
        self.payloads = tuple(map(_wanted, payloads))

    def should_pass(self, messaging: Messaging) -> bool:
        if messaging.type not in TAPS:
            return False
        if not self.payloads:
            return True
        return any(self._is(expected, messaging) for expected in self.payloads)

    @staticmethod
    def _is(expected: str | Payload | type[Payload], messaging: Messaging) -> bool:
        payload = messaging.payload
        if isinstance(expected, str):
            return expected == payload or (
                expected == GET_STARTED and messaging.type is ReceivingType.GET_STARTED_BUTTON
            )
        cls = expected if isinstance(expected, type) else type(expected)
        payload_class = find_payload_class(payload)
        if payload_class is None or not issubclass(payload_class, cls):
            return False
        if isinstance(expected, Payload) and json.loads(payload) != expected.json():
            return False
        try:
            messaging.context["payload"] = Payload.get_instance(payload)
        except (ValueError, ImportError, AttributeError):
            return False
        return True

    def types(self) -> frozenset[ReceivingType] | None:
        return TAPS

    def literals(self) -> frozenset[str] | None:
        if not self.payloads or not all(isinstance(item, str) for item in self.payloads):
            return None
        return frozenset(literal_key(item) for item in self.payloads if isinstance(item, str))

    def describe(self) -> str:
        names = (
            item.__name__
            if isinstance(item, type)
            else repr(item)
            if isinstance(item, str)
            else item.serialize()
            for item in self.payloads
        )
        return f"tapped({', '.join(names)})"

    def json_unordered(self) -> dict[str, Any]:
        key = Payload.PAYLOAD_CLASS_ATTRIBUTE
        return {
            "payloads": [
                item
                if isinstance(item, str)
                else {key: get_class_name(item)}
                if isinstance(item, type)
                else item.json()
                for item in self.payloads
            ]
        }


def _wanted(value: Any) -> str | Payload | type[Payload]:
    if isinstance(value, (str, Payload)) and value:
        return value
    if isinstance(value, type) and issubclass(value, Payload):
        return value
    if isinstance(value, Mapping):
        try:
            if set(value) == {Payload.PAYLOAD_CLASS_ATTRIBUTE}:
                return _wanted(load_class(value[Payload.PAYLOAD_CLASS_ATTRIBUTE]))
            return Payload.get_instance(dict(value))
        except (ValueError, ImportError, AttributeError) as error:
            raise DJMInvalidConfigException(f"tapped(...): {error}") from error
    raise DJMInvalidConfigException(f"tapped(...) takes texts and payloads, not {value!r}")


class ReferralFilter(BaseFilter):
    """A filter that passes referrals by a link, an ad or a code with one of these ``ref``, by default with any.

    ``source`` is Meta's name of the source, such as ``ADS`` or ``SHORTLINK``.
    """

    def __init__(self, *refs: str, source: str = "") -> None:
        self.refs = refs
        self.source = source

    def should_pass(self, messaging: Messaging) -> bool:
        referral = messaging.referral
        if referral is None or (self.refs and referral.ref not in self.refs):
            return False
        return not self.source or referral.source.upper() == self.source.upper()

    def describe(self) -> str:
        source = [f"source={self.source!r}"] if self.source else []
        return f"referral({', '.join([*map(repr, self.refs), *source])})"


class ReactionFilter(BaseFilter):
    """A filter that passes reactions, by Meta's name (``love``, ``angry``) or by the emoji; by default all reactions.

    ``action`` is ``react``, ``unreact``, or empty for both.
    """

    def __init__(self, *reactions: str, action: str = "react") -> None:
        if action not in {"react", "unreact", ""}:
            raise DJMInvalidConfigException(f"a reaction's action is react or unreact, not {action!r}")
        self.reactions = reactions
        self.action = action

    def should_pass(self, messaging: Messaging) -> bool:
        reaction = messaging.reaction
        if messaging.type is not ReceivingType.REACTION or reaction is None:
            return False
        if self.action and reaction.action != self.action:
            return False
        names = {_plain(item) for item in self.reactions}
        return not names or bool(names & {_plain(reaction.reaction), _plain(reaction.emoji)} - {""})

    def types(self) -> frozenset[ReceivingType] | None:
        return frozenset({ReceivingType.REACTION})

    def describe(self) -> str:
        action = [] if self.action == "react" else [f"action={self.action!r}"]
        return f"reaction({', '.join([*map(repr, self.reactions), *action])})"


def _plain(emoji: str) -> str:
    """Return an emoji without the variation selector for the coloured form, which Meta does not always send."""
    return emoji.replace("\ufe0f", "").casefold()
