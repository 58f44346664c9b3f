"""State of the emulator: Pages, bubbles on the screens, the clock, ids."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from messenger_emulator.limits import Limits

HOUR = 3600.0
DAY = 24 * HOUR

PAGE_INBOX = "263902037430900"
"""App id of the Page inbox (Messenger Platform, "Conversation routing", Sept 2025)."""
INSTAGRAM_INBOX = "1217981644879628"
LINKING_TIME = 300.0
"""Seconds for which an account linking token is valid (Messenger Platform, "Account linking", 2026)."""
LIKE_STICKER = 369239263222822
"""The small thumb (Messenger Platform, "Sticker API", June 2026)."""

FIELDS = frozenset(
    [
        "messages",
        "message_echoes",
        "message_deliveries",
        "message_reads",
        "message_edits",
        "message_reactions",
        "message_context",
        "message_mention",
        "message_template_status_update",
        "messaging_postbacks",
        "messaging_optins",
        "messaging_optouts",
        "messaging_referrals",
        "messaging_handovers",
        "standby",
        "messaging_account_linking",
        "messaging_fblogin_account_linking",
        "messaging_policy_enforcement",
        "messaging_integrity",
        "business_integrity",
        "messaging_feedback",
        "response_feedback",
        "messaging_customer_information",
        "messaging_in_thread_lead_form_submit",
        "messaging_appointments",
        "messaging_direct_sends",
        "messaging_game_plays",
        "messaging_payments",
        "messaging_pre_checkouts",
        "messaging_checkout_updates",
        "payment_request_update",
        "send_cart",
        "inbox_labels",
        "group_feed",
        "calls",
        "call_permission_reply",
        "call_settings_update",
        "marketing_message_clicks",
        "marketing_message_deliveries",
        "marketing_message_delivery_failed",
        "marketing_message_echoes",
        "marketing_message_reads",
        "marketing_messages_subscriber_upload_status",
        "agent_messages",
        "agent_questions",
        "conversations",
        "user_action",
        "feed",
        "mention",
        "leadgen",
    ]
)
"""Values of ``subscribed_fields`` that a Page accepts (Graph API, "Page subscribed_apps", v26.0)."""

INSTAGRAM_FIELDS = frozenset(
    [
        "messages",
        "message_reactions",
        "message_edit",
        "messaging_postbacks",
        "messaging_referral",
        "messaging_seen",
        "messaging_optins",
        "messaging_handover",
        "standby",
        "agent_messages",
        "comments",
        "live_comments",
        "mentions",
        "story_insights",
    ]
)

USUAL_FIELDS = (
    "messages",
    "message_echoes",
    "message_deliveries",
    "message_reads",
    "message_edits",
    "message_reactions",
    "messaging_postbacks",
    "messaging_optins",
    "messaging_referrals",
    "messaging_handovers",
    "messaging_account_linking",
    "messaging_feedback",
    "messaging_customer_information",
    "messaging_in_thread_lead_form_submit",
    "messaging_policy_enforcement",
    "standby",
)
USUAL_INSTAGRAM_FIELDS = (
    "messages",
    "message_edit",
    "message_reactions",
    "messaging_postbacks",
    "messaging_referral",
    "messaging_seen",
    "messaging_handover",
    "standby",
)


class VirtualClock:
    """Movable clock in seconds since 1970; it stands still or runs with the clock of the machine."""

    def __init__(self, start: float | datetime.datetime | None = None, *, running: bool = False) -> None:
        if isinstance(start, datetime.datetime):
            start = start.timestamp()
        self._running = running
        self._offset = (time.time() if start is None else start) - (time.time() if running else 0.0)

    def __call__(self) -> float:
        return self._offset + (time.time() if self._running else 0.0)

    def advance(self, **span: float) -> None:
        """Move the clock forward by a span as in ``datetime.timedelta``: ``advance(hours=25)``."""
        self._offset += datetime.timedelta(**span).total_seconds()


class Ids:
    """Generator of ids in Meta's form. The same seed repeats the same ids; without one, ids are unique."""

    def __init__(self, seed: str | None = None) -> None:
        self._seed = secrets.token_hex(8) if seed is None else seed
        self._counter = itertools.count(1)
        self._lock = threading.Lock()

    def _digest(self, kind: str) -> str:
        with self._lock:
            number = next(self._counter)
        return hashlib.sha256(f"{self._seed}:{kind}:{number}".encode()).hexdigest()

    def number(self, kind: str, digits: int = 16) -> str:
        """Return an id of decimal digits without a leading zero."""
        span = 9 * 10 ** (digits - 1)
        return str(10 ** (digits - 1) + int(self._digest(kind), 16) % span)

    def mid(self, now: float, *, old: bool = False, instagram: bool = False) -> str:
        """Return an id of a message."""
        digest = self._digest("mid")
        if old:
            return f"mid.{int(now * 1000)}:{digest[:12]}"
        return f"aWdfZAG1faXRlbToxOk{digest}" if instagram else f"m_{digest}"

    def trace(self) -> str:
        """Return a value of ``fbtrace_id``."""
        return f"A{self._digest('trace')[:22]}"


@dataclass
class Bubble:
    """One message as a person sees it on the screen."""

    mid: str
    by_page: bool
    time: float
    kind: str
    """``text``, ``image``, ``audio``, ``video``, ``file``, ``template``, ``sticker``, ``location``, ``images``,
    ``utility`` or ``postback`` (the title of what was tapped)."""
    text: str = ""
    message: dict[str, Any] = field(default_factory=dict)
    """Message as it was sent, with all keys."""
    quick_replies: list[dict[str, Any]] = field(default_factory=list)
    buttons: list[dict[str, Any]] = field(default_factory=list)
    elements: list[dict[str, Any]] = field(default_factory=list)
    persona: dict[str, Any] | None = None
    app_id: str = ""
    metadata: str | None = None
    reply_to: str = ""
    notification_type: str = "REGULAR"
    delivered: bool = False
    read: bool = False
    edits: int = 0
    reactions: dict[str, str] = field(default_factory=dict)
    """Emoji by its author: ``page`` or ``person``."""

    def all_buttons(self) -> list[dict[str, Any]]:
        """Return the buttons of the message and of its elements."""
        inner = [button for element in self.elements for button in element.get("buttons") or ()]
        return [*self.buttons, *inner]

    @property
    def template(self) -> str:
        """The ``template_type``; empty if the bubble is no template."""
        if self.kind != "template":
            return ""
        return str(self.message["attachment"]["payload"]["template_type"])


@dataclass
class Comment:
    """Comment on a post of a Page, or post to the Page; it can be answered once in private."""

    id: str
    psid: str
    time: float
    is_post: bool = False
    answered: bool = False


_REVIEWED = ("pages_messaging", "instagram_manage_messages", "instagram_business_manage_messages")


@dataclass(eq=False)
class App:
    """App that Pages are connected to, with its values in the App Dashboard."""

    id: str
    name: str = "The bot"
    callback_url: str = ""
    """Address of the webhook in the dashboard."""
    reviewed: dict[str, str] = field(default_factory=lambda: dict.fromkeys(_REVIEWED, "live"))
    """Status by permission after App Review; empty while the app is in development."""


@dataclass(eq=False)
class Page:
    """Page, or Instagram account linked to one, with the app that is connected to it."""

    id: str
    token: str = field(repr=False)
    app_id: str
    app_secret: str = field(repr=False)
    name: str = "Page"
    channel: str = "messenger"
    login: str = "facebook"
    """Login of an Instagram account: ``facebook`` for one behind a Facebook Page, or ``instagram``."""
    account_id: str = ""
    """Id in callbacks: that of the Instagram account, or of the Page."""
    subscribed_fields: set[str] = field(default_factory=set)
    app_fields: set[str] | None = None
    """Fields that the app subscribed to in the dashboard; None means all."""
    require_proof: bool = False
    permissions: set[str] = field(default_factory=set)
    token_error: int | None = None
    """Subcode with which Graph refuses the token; None while the token works."""
    token_made: float | None = None
    """Time at which the token was made or renewed; None for a token that does not end by time."""
    former_tokens: dict[str, float] = field(default_factory=dict, repr=False)
    """Tokens before the last renewals, and the times at which they were made."""
    restricted: bool = False
    limits: Limits = field(default_factory=Limits, repr=False)
    """Limits of the emulator, shared by its Pages."""
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Utility templates by id."""
    other_apps: set[str] = field(default_factory=set)
    default_app: str = ""
    profile: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Messenger Profile by platform."""
    user_menus: dict[str, list[Any]] = field(default_factory=dict)
    personas: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: dict[str, dict[str, Any]] = field(default_factory=dict)
    attachments: dict[str, dict[str, Any]] = field(default_factory=dict)
    comments: dict[str, Comment] = field(default_factory=dict)
    user_refs: dict[str, str] = field(default_factory=dict)
    """PSID by reference of the checkbox plugin."""
    linking_tokens: dict[str, tuple[str, float]] = field(default_factory=dict)
    """PSID and time of issue by token of account linking."""
    one_time_tokens: dict[str, tuple[str, float]] = field(default_factory=dict)
    """PSID and time of issue by token."""
    failing_since: float | None = None
    alerts: list[str] = field(default_factory=list)

    @property
    def is_instagram(self) -> bool:
        return self.channel == "instagram"

    @property
    def has_instagram_login(self) -> bool:
        return self.is_instagram and self.login == "instagram"

    def token_end(self, token: str) -> float | None:
        """Return the time at which a token of the Page ends; None if it does not end."""
        made = self.former_tokens.get(token, self.token_made)
        return None if made is None else made + self.limits["instagram_token.days"] * DAY

    def age(self, seconds: float) -> None:
        """Move the stored times of the Page back by ``seconds``."""
        if self.failing_since is not None:
            self.failing_since -= seconds
        if self.token_made is not None:
            self.token_made -= seconds
        self.former_tokens = {token: made - seconds for token, made in self.former_tokens.items()}
        for comment in self.comments.values():
            comment.time -= seconds
        for attachment in self.attachments.values():
            attachment["time"] -= seconds
        for tokens in (self.one_time_tokens, self.linking_tokens):
            tokens |= {token: (psid, issued - seconds) for token, (psid, issued) in tokens.items()}

    def scope(self, name: str) -> str:
        """Return the permission that stands for one of a Facebook Page on the Page's channel and login."""
        if not self.is_instagram:
            return name
        return (_SCOPES_OF_INSTAGRAM_LOGIN if self.has_instagram_login else _SCOPES_OF_INSTAGRAM).get(
            name, name
        )

    def has_template(self, name: str) -> bool:
        """Return whether there is an approved utility template of that name."""
        return any(
            entry["name"] == name and entry["status"] == "APPROVED" for entry in self.templates.values()
        )

    def linking_psid(self, token: str, now: float) -> str:
        """Return the PSID of a token of account linking; empty if the token is unknown or too old."""
        psid, issued = self.linking_tokens.get(token, ("", 0.0))
        return psid if now - issued <= LINKING_TIME else ""

    def platform(self, name: Any = None) -> dict[str, Any]:
        """Return the Messenger Profile of a platform, by default of the Page's channel."""
        return self.profile.setdefault(str(name or self.channel).lower(), {})

    def receives(self, subscription: str) -> bool:
        """Return whether a field is subscribed for the Page and for the app."""
        return subscription in self.subscribed_fields and (
            self.app_fields is None or subscription in self.app_fields
        )


_SCOPES_OF_INSTAGRAM = {
    "pages_messaging": "instagram_manage_messages",
    "business_asset_user_profile_access": "instagram_manage_messages",
}
_SCOPES_OF_INSTAGRAM_LOGIN = {
    **dict.fromkeys(_SCOPES_OF_INSTAGRAM, "instagram_business_manage_messages"),
    "pages_manage_metadata": "instagram_business_manage_messages",
    "pages_read_engagement": "instagram_business_basic",
}
"""Permission by the one of a Facebook Page (Instagram Platform, "Overview" and "User Profile API", 2026)."""

PERMISSIONS: Iterable[str] = (
    "pages_messaging",
    "pages_manage_metadata",
    "pages_read_engagement",
    "page_utility_messaging",
    "pages_user_locale",
    "pages_user_timezone",
    "pages_user_gender",
    "business_asset_user_profile_access",
    "human_agent",
)
"""Permissions of a token by default."""

INSTAGRAM_PERMISSIONS = ("instagram_basic", "instagram_manage_messages")
INSTAGRAM_LOGIN_PERMISSIONS = (
    "instagram_business_basic",
    "instagram_business_manage_messages",
    "human_agent",
)


def usual_permissions(channel: str, login: str) -> Iterable[str]:
    """Return the permissions of a token by default."""
    if channel != "instagram":
        return PERMISSIONS
    return INSTAGRAM_LOGIN_PERMISSIONS if login == "instagram" else (*PERMISSIONS, *INSTAGRAM_PERMISSIONS)
