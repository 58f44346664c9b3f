"""Answers of Graph as small frozen values; unknown keys are kept in ``extra``."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Self, TypeVar

from djmessenger.graph.errors import GraphError
from djmessenger.secret import Secret


class _Known:
    """Parent of results that are read from a JSON object field by field."""

    @classmethod
    def read(cls, data: Any) -> Self:
        """Build the result from an answer of Graph; a key without a field goes to ``extra``."""
        data = data if isinstance(data, Mapping) else {}
        names = {item.name for item in fields(cls)} - {"extra"}  # type: ignore[arg-type]
        arguments = {key: value for key, value in data.items() if key in names and value is not None}
        extra = {key: value for key, value in data.items() if key not in names}
        return cls(**arguments, extra=extra)  # type: ignore[call-arg]


def text_of(value: Any) -> str:
    """Return an id, text or number, as text; empty for any other value."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def time_of(value: Any) -> datetime.datetime | None:
    """Return the time of Graph's ``2026-06-01T12:00:00+0000`` or of a Unix time in seconds, otherwise ``None``."""
    try:
        if isinstance(value, str):
            parsed = datetime.datetime.fromisoformat(value)
            return parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.datetime.fromtimestamp(value, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


@dataclass(frozen=True)
class Sent:
    """A send that Graph accepted."""

    recipient_id: str = ""
    """Page-scoped id; empty if the recipient was a ``user_ref`` or a phone number."""
    message_id: str = ""
    """Message id; empty for sender actions only."""
    attachment_id: str = ""
    """Id of the attachment if the message had a reusable one."""
    status_code: int = 200
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Done:
    """Answer of a call that returns success alone; false if Graph reported a failure."""

    success: bool
    data: Any = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return self.success

    @classmethod
    def read(cls, data: Any) -> Self:
        """Build it from ``{"success": true}`` in all its spellings, or from ``{"result": "..."}``."""
        answer = data if isinstance(data, Mapping) else {"success": data}
        success = answer.get("success") in (True, "true", "True", 1) or "success" in str(
            answer.get("result", "")
        )
        return cls(success, data)


_TEXTS_OF_A_PROFILE = {"name", "first_name", "last_name", "username", "profile_pic", "locale", "gender"}


@dataclass(frozen=True)
class Profile(_Known):
    """Profile of a person; a field that Graph does not return is empty ("User Profile API", 2026)."""

    id: str = ""
    name: str = field(default="", repr=False)
    first_name: str = field(default="", repr=False)
    last_name: str = field(default="", repr=False)
    username: str = field(default="", repr=False)
    """Unique name on Instagram."""
    profile_pic: str = field(default="", repr=False)
    """URL of the picture; it expires."""
    locale: str = ""
    timezone: float | None = None
    """Hours ahead of UTC; may be a fraction (5.5, -3.5)."""
    gender: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, data: Any) -> Self:
        """Build the profile; a field of a wrong type is treated as absent."""
        data = dict(data) if isinstance(data, Mapping) else {}
        for key, value in list(data.items()):
            if key == "id":
                data[key] = text_of(value)
            elif key == "timezone":
                data[key] = _hours(value)
            elif key in _TEXTS_OF_A_PROFILE:
                data[key] = value if isinstance(value, str) else None
        return super().read(data)


def _hours(value: Any) -> float | None:
    try:
        hours = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return hours if not isinstance(value, bool) and -24 <= hours <= 24 else None


@dataclass(frozen=True)
class MessengerProfile(_Known):
    """Properties of a Page's Messenger Profile; ``None`` for a property that is not set."""

    greeting: list[Any] | None = None
    get_started: Mapping[str, Any] | None = None
    persistent_menu: list[Any] | None = None
    ice_breakers: list[Any] | None = None
    commands: list[Any] | None = None
    whitelisted_domains: list[str] | None = None
    account_linking_url: str | None = None
    subject_to_new_eu_privacy_rules: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """Return the properties that are set, in the form in which ``set_messenger_profile`` takes them."""
        properties = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "extra"}
        return {**{key: value for key, value in properties.items() if value is not None}, **self.extra}


@dataclass(frozen=True)
class UserSettings(_Known):
    """Menu of one person and menu of the Page."""

    user_level_persistent_menu: list[Any] | None = None
    page_level_persistent_menu: list[Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Persona(_Known):
    """Name and picture under which a Page can send messages."""

    id: str = ""
    name: str = ""
    profile_picture_url: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Label(_Known):
    """A label that staff and apps put on people."""

    id: str = ""
    page_label_name: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subscription(_Known):
    """An app that receives the Page's webhooks."""

    id: str = ""
    name: str = ""
    subscribed_fields: list[str] = field(default_factory=list)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AppSubscription(_Known):
    """Webhook subscription of an app for one object (Graph API, "Application subscriptions", v26.0)."""

    object: str = ""
    """Kind of object; ``page`` or ``instagram`` for a bot."""
    callback_url: str = ""
    active: bool | None = None
    fields: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, data: Any) -> Self:
        """Build it; Graph sends each field as a name, or as an object with name and version."""
        data = dict(data) if isinstance(data, Mapping) else {}
        items = data.get("fields") if isinstance(data.get("fields"), list) else []
        names = [item.get("name") if isinstance(item, Mapping) else item for item in items or ()]
        data["fields"] = tuple(name for name in names if isinstance(name, str))
        return super().read(data)


@dataclass(frozen=True)
class TokenInfo:
    """Graph's facts about a token (Graph API, "Debug-Token", v26.0)."""

    is_valid: bool = False
    app_id: str = ""
    type: str = ""
    """Kind of token; ``PAGE`` for the token of a Page."""
    profile_id: str = ""
    """Id of the Page if it is the token of a Page."""
    scopes: tuple[str, ...] = ()
    expires_at: datetime.datetime | None = None
    """End of the token; ``None`` if it does not expire."""
    data_access_expires_at: datetime.datetime | None = None
    problem: str = ""
    """Meta's reason why the token is not valid."""

    @classmethod
    def read(cls, data: Any) -> Self:
        """Build it; the time 0 in Graph's answer stands for never."""
        data = data if isinstance(data, Mapping) else {}
        scopes = data.get("scopes")
        error = data.get("error")
        message = error.get("message") if isinstance(error, Mapping) else ""
        return cls(
            is_valid=data.get("is_valid") is True,
            app_id=text_of(data.get("app_id")),
            type=text_of(data.get("type")),
            profile_id=text_of(data.get("profile_id")),
            scopes=tuple(scope for scope in scopes if isinstance(scope, str))
            if isinstance(scopes, list)
            else (),
            expires_at=time_of(data.get("expires_at") or None),
            data_access_expires_at=time_of(data.get("data_access_expires_at") or None),
            problem=text_of(message),
        )


@dataclass(frozen=True)
class RenewedToken:
    """Answer to the renewal of a token of Instagram Login."""

    token: Secret
    seconds: int
    """Time until the token ends; 0 if Graph named none."""


@dataclass(frozen=True)
class Metric(_Known):
    """One metric of a Page with its values."""

    name: str = ""
    period: str = ""
    values: list[Any] = field(default_factory=list)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MessageTemplate(_Known):
    """A template of utility messages."""

    id: str = ""
    name: str = ""
    status: str = ""
    """Status of the review: ``APPROVED``, ``PENDING``, ``REJECTED``, ``PAUSED``, ..."""
    category: str = ""
    language: str = ""
    components: list[Any] = field(default_factory=list)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ThreadOwner:
    """App that has control of a conversation; both fields are empty if no app has it or it is not visible."""

    app_id: str = ""
    expiration: datetime.datetime | None = None


@dataclass(frozen=True)
class ConversationInfo(_Known):
    """A conversation in Graph."""

    id: str = ""
    updated_time: datetime.datetime | None = None
    link: str = ""
    message_count: int | None = None
    unread_count: int | None = None
    can_reply: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, data: Any) -> Self:
        data = dict(data) if isinstance(data, Mapping) else {}
        data["updated_time"] = time_of(data.get("updated_time"))
        return super().read(data)


@dataclass(frozen=True)
class MessageInfo:
    """A message in Graph; only the 20 newest of a conversation can be read."""

    id: str
    created_time: datetime.datetime | None = None
    from_id: str = ""
    to_ids: tuple[str, ...] = ()
    message: str = field(default="", repr=False)
    attachments: tuple[Any, ...] = field(default=(), repr=False)
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, data: Any) -> Self:
        """Build it; a field that the call did not request is empty."""
        data = data if isinstance(data, Mapping) else {}
        sender = data.get("from")
        message = data.get("message")
        return cls(
            id=text_of(data.get("id")),
            created_time=time_of(data.get("created_time")),
            from_id=text_of(sender.get("id")) if isinstance(sender, Mapping) else "",
            to_ids=tuple(text_of(person.get("id")) for person in items_of(data.get("to"))),
            message=message if isinstance(message, str) else "",
            attachments=tuple(items_of(data.get("attachments"))),
            data=data,
        )


def items_of(answer: Any) -> list[Mapping[str, Any]]:
    """Return the objects of a ``{"data": [...]}``."""
    data = answer.get("data") if isinstance(answer, Mapping) else None
    return [item for item in data if isinstance(item, Mapping)] if isinstance(data, list) else []


Item = TypeVar("Item")


@dataclass(frozen=True)
class Paged(Generic[Item]):
    """One page of a list; pass ``after`` to the same call for the next page. It is empty on the last page."""

    items: tuple[Item, ...]
    after: str = ""

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


def after_of(answer: Any) -> str:
    """Return the cursor of the next page of a list, or an empty text on the last page."""
    paging = answer.get("paging") if isinstance(answer, Mapping) else None
    if not isinstance(paging, Mapping) or not paging.get("next"):
        return ""
    cursors = paging.get("cursors")
    return text_of(cursors.get("after")) if isinstance(cursors, Mapping) else ""


@dataclass(frozen=True)
class BatchAnswer:
    """The answer to one call of a batch: its JSON, or its error."""

    data: Any = field(default=None, repr=False)
    error: GraphError | None = None

    def get(self) -> Any:
        """Return the JSON, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.data
