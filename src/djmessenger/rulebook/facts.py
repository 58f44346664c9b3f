"""The table of the rulebook: facts of Meta's pages on the day when each page was read.

A new row needs a value, a sentence, the page and the day it was read; nothing else in the project changes.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

READ = datetime.date(2026, 11, 23)
"""Day of the last reading of all pages."""
NEWS_READ = datetime.date(2026, 11, 30)
"""Day of the last reading of Meta's changelogs."""


@dataclass(frozen=True, slots=True)
class Row:
    """One fact of the platform that has a date."""

    key: str
    value: int | str | None
    """Limit in the unit that ``what`` names; ``None`` if the row has dates only."""
    what: str
    source: str
    """Page of Meta, or another source of the fact."""
    date: datetime.date
    """Day on which the source was read."""
    since: datetime.date | None = None
    """First day on which the fact applies; ``None`` if it is older than this table."""
    until: datetime.date | None = None
    """First day on which the fact no longer applies; ``None`` if no end is announced."""
    instead: str = ""
    """Replacement after the end."""


_ROOT = "https://developers.facebook.com/documentation/business-messaging/messenger-platform"
POLICY = f"{_ROOT}/policy"
SEND = f"{_ROOT}/send-messages"
SEND_API = "https://developers.facebook.com/docs/messenger-platform/reference/send-api"
ERRORS = f"{_ROOT}/error-codes"
RATES = f"{_ROOT}/overview/rate-limiting"
ASSETS = f"{SEND}/saving-assets"
TEMPLATE = f"{SEND}/template"
BUTTONS = f"{SEND}/buttons"
QUICK_REPLIES = f"{SEND}/quick-replies"
STICKERS = f"{SEND}/sticker-api"
UTILITY = f"{SEND}/utility-messages"
FEEDBACK = f"{SEND}/templates/customer-feedback-template"
INFORMATION = f"{SEND}/templates/structured-information-template"
CALLING = f"{_ROOT}/calling"
PROFILE = f"{_ROOT}/reference/messenger-profile-api"
MENU = f"{SEND}/persistent-menu"
PERSONAS = f"{_ROOT}/identity/personas"
ROUTING = f"{_ROOT}/conversation-routing"
LINKS = f"{_ROOT}/discovery/m-me-links"
PRIVATE_REPLIES = f"{_ROOT}/discovery/private-replies"
CONVERSATIONS = f"{_ROOT}/conversations"
MARKETING = f"{_ROOT}/marketing-messages-on-messenger"
IG_CHANGES = "https://developers.facebook.com/docs/instagram-platform/changelog"
VERSIONS = "https://developers.facebook.com/docs/graph-api/changelog"
BATCH = "https://developers.facebook.com/docs/graph-api/batch-requests"
INSTAGRAM = "https://developers.facebook.com/documentation/business-messaging/instagram-messaging/features/send-message"
IG_TOKENS = "https://developers.facebook.com/documentation/instagram-platform/reference/refresh_access_token"
IG_MODERATION = INSTAGRAM.replace("send-message", "moderate-conversations")
OBSERVED = "answers of Graph as reported in public; not in Meta's pages"


def _limits(source: str, *rows: tuple[str, int, str]) -> list[Row]:
    return [Row(key, value, what, source, READ) for key, value, what in rows]


def _ends(
    key: str,
    until: str,
    what: str,
    source: str,
    instead: str = "",
    *,
    since: str = "",
    read: datetime.date = READ,
) -> Row:
    start = datetime.date.fromisoformat(since) if since else None
    end = datetime.date.fromisoformat(until) if until else None
    return Row(key, None, what, source, read, start, end, instead)


TABLE: tuple[Row, ...] = (
    # Messages
    *_limits(
        SEND_API,
        ("text.length", 2000, "characters in a text; counted as UTF-16 units, as the unit is not documented"),
        ("metadata.length", 999, "characters in metadata; the page says fewer than 1000"),
        ("payload.length", 1000, "characters in any payload"),
    ),
    Row(
        "metadata.reserved",
        80,
        "characters of metadata kept for the token that finds a message again in its echo",
        "djmessenger",
        READ,
    ),
    *_limits(
        INSTAGRAM,
        ("text.bytes.instagram", 1000, "bytes of UTF-8 in a text on Instagram"),
        ("quick_replies.count.instagram", 13, "quick replies to one message on Instagram"),
        ("images.count.instagram", 10, "images in one message on Instagram"),
        ("generic.elements.instagram", 10, "elements of a generic template on Instagram"),
    ),
    *_limits(
        QUICK_REPLIES,
        ("quick_replies.count", 13, "quick replies to one message"),
        ("quick_reply.title", 20, "characters in the title of a quick reply"),
        ("quick_reply.payload", 1000, "characters in the payload of a quick reply"),
        ("quick_reply.image", 24, "least width and height of the picture of a quick reply, in pixels"),
    ),
    *_limits(
        ASSETS,
        ("attachment.bytes", 25 * 1024 * 1024, "bytes in a file that is sent"),
        ("attachment.bytes.image", 8 * 1024 * 1024, "bytes in an image that is sent"),
        ("attachment.days", 90, "days until an attachment id expires"),
        ("attachment.fetch.video", 75, "seconds in which Meta must have fetched a video"),
        ("attachment.fetch", 10, "seconds in which Meta must have fetched any other file"),
    ),
    *_limits(
        SEND,
        ("images.count", 30, "images in one message"),
        ("window.standard", 24, "hours after the person's last action in which a bot may write"),
        ("window.human_agent", 7, "days after the person's last message in which staff may write"),
        ("window.customer_feedback", 7, "days after the person's last message to ask for feedback"),
        ("sticker_search.query", 2, "least characters in a search for stickers"),
    ),
    Row(
        "window.ad",
        7,
        "most days after the first message that follows a click on an ad in which a bot may write",
        POLICY,
        NEWS_READ,
        datetime.date(2026, 9, 28),
    ),
    # Buttons
    *_limits(
        BUTTONS,
        ("buttons.count", 3, "buttons in one template or element"),
        ("button.title", 20, "characters in the title of a button"),
        ("button.payload", 1000, "characters in the payload of a button"),
    ),
    *_limits(CALLING, ("audio_call.days", 7, "days after which a call button expires")),
    # Templates
    *_limits(f"{TEMPLATE}/button", ("button_template.text", 640, "characters in the text above buttons")),
    *_limits(
        f"{TEMPLATE}/generic",
        ("generic.elements", 10, "elements of a generic template"),
        ("generic.title", 80, "characters in the title of an element"),
        ("generic.subtitle", 80, "characters in the subtitle of an element"),
    ),
    *_limits(f"{TEMPLATE}/media", ("media.elements", 1, "elements of a media template")),
    *_limits(f"{TEMPLATE}/receipt", ("receipt.elements", 100, "items on a receipt")),
    *_limits(f"{TEMPLATE}/product", ("product.elements", 10, "products in a product template")),
    *_limits(
        f"{TEMPLATE}/coupon",
        ("coupon.title", 80, "characters in the title of a coupon"),
        ("coupon.subtitle", 80, "characters in the subtitle of a coupon"),
    ),
    *_limits(
        FEEDBACK,
        ("feedback.title", 65, "characters in the title of a feedback template"),
        ("feedback.subtitle", 80, "characters in the subtitle of a feedback template"),
        ("feedback.button_title", 20, "characters in the button of a feedback template"),
        ("feedback.screens", 1, "screens of a feedback template"),
        ("feedback.questions", 1, "questions on a screen of a feedback template"),
        ("feedback.question.id", 80, "characters in the id of a question"),
        ("feedback.question.title.least", 5, "least characters in a question"),
        ("feedback.question.title", 85, "characters in a question"),
        ("feedback.placeholder", 65, "characters in the placeholder of a free text"),
        ("feedback.answer", 400, "characters a person may answer"),
        ("feedback.days", 7, "days after which a feedback template expires"),
    ),
    *_limits(INFORMATION, ("information.days", 7, "days after which a request for information expires")),
    *_limits(
        f"{TEMPLATE}/image-grid",
        ("image_grid.images.least", 2, "least images in a grid"),
        ("image_grid.images", 6, "images in a grid"),
        ("image_grid.title", 45, "characters in the title of a grid"),
        ("image_grid.subtitle", 80, "characters in the subtitle of a grid"),
    ),
    *_limits(
        f"{SEND} (one-time notification and recurring notifications)",
        ("opt_in.title", 65, "characters in the title of a request to be notified"),
    ),
    # Profile of the Page
    *_limits(f"{PROFILE}/greeting", ("greeting.text", 160, "characters in a greeting")),
    *_limits(PROFILE, ("get_started.payload", 1000, "characters in the payload of the get-started button")),
    *_limits(
        MENU,
        ("menu.items", 20, "items of the persistent menu for one locale"),
        ("menu.title", 30, "characters in the title of a menu item"),
        ("menu.payload", 1000, "characters in the payload of a menu item"),
    ),
    *_limits(
        f"{PROFILE}/ice-breakers",
        ("ice_breakers.count", 4, "ice breakers for one locale"),
        ("ice_breakers.payload", 1000, "characters in the payload of an ice breaker"),
    ),
    *_limits(
        f"{PROFILE}/commands",
        ("commands.count", 100, "commands for one locale"),
        ("command.name", 32, "characters in the name of a command"),
        ("command.description", 64, "characters in the description of a command"),
    ),
    *_limits(f"{PROFILE}/domain-whitelisting", ("domains.count", 50, "whitelisted domains")),
    *_limits(
        PERSONAS,
        ("persona.name", 50, "characters in the name of a persona"),
        ("persona.picture.bytes", 8 * 1024 * 1024, "bytes in the picture of a persona"),
    ),
    # Calls
    *_limits(LINKS, ("m_me.ref", 2083, "characters in the ref of an m.me link, URL-encoded")),
    *_limits(PRIVATE_REPLIES, ("private_reply.days", 7, "days to answer a comment privately")),
    *_limits(ROUTING, ("thread_control.seconds", 7 * 24 * 3600, "seconds by which control is extended")),
    *_limits(CONVERSATIONS, ("conversation.messages", 20, "newest messages that can be read")),
    *_limits(
        IG_TOKENS,
        ("instagram_token.days", 60, "days until a token of Instagram Login ends"),
        ("instagram_token.least_hours", 24, "hours until a token of Instagram Login can be renewed"),
    ),
    *_limits(
        IG_MODERATION,
        ("moderation.ids", 10, "persons in one call of moderate_conversations"),
        ("moderation.actions", 2, "actions in one call of moderate_conversations"),
    ),
    *_limits(
        MARKETING, ("notification_tokens.page", 1000, "tokens on a page of notification_message_tokens")
    ),
    *_limits(
        RATES,
        ("rate.calls_per_engaged_user", 200, "calls in 24 hours for each person engaged with the Page"),
        (
            "rate.pages.calls_per_engaged_user",
            4800,
            "calls of the Pages API, likewise",
        ),
        ("rate.text", 300, "calls of the Send API in a second with texts, links, reactions or stickers"),
        ("rate.media", 10, "calls of the Send API in a second with audio or video"),
        ("rate.conversations", 2, "calls of the Conversations API in a second"),
        ("rate.private_replies", 750, "private replies in an hour"),
        ("rate.profile", 10, "calls of the Messenger Profile API in 10 minutes"),
        ("rate.user_menu", 10, "calls for the menu of one person in 10 minutes"),
    ),
    *_limits(BATCH, ("batch.count", 50, "calls in one batch")),
    # Retirements
    *(
        _ends(
            f"tag.{tag}",
            "2026-04-27",
            f"message tag {tag}; a call with it is refused even inside the window",
            SEND_API,
            "a utility message",
        )
        for tag in ("CONFIRMED_EVENT_UPDATE", "ACCOUNT_UPDATE", "POST_PURCHASE_UPDATE")
    ),
    _ends("tag.HUMAN_AGENT", "", "message tag for answers that staff write", SEND_API),
    _ends("tag.CUSTOMER_FEEDBACK", "", "message tag of the customer feedback template", FEEDBACK),
    _ends(
        "template.notification_messages",
        "2026-02-10",
        "recurring notifications; they go on in AU, EU, JP, KR and UK only",
        f"{MARKETING}/faq",
        "a marketing message",
    ),
    _ends("template.list", "2019-07-29", "list template", VERSIONS, "a generic template"),
    _ends("template.open_graph", "2019-07-29", "open graph template", VERSIONS, "a generic template"),
    _ends("template.image_grid", "", "image grid template", f"{TEMPLATE}/image-grid", since="2026-06-30"),
    _ends("sticker", "", "stickers sent by id", STICKERS, since="2026-06-01"),
    _ends("quick_reply.location", "2019-10-29", "quick reply that asks for a place", OBSERVED, "a text"),
    *(
        _ends(
            f"quick_reply.{kind}.instagram",
            "2026-10-05",
            f"quick reply with the person's own {what} on Instagram, in all versions of Graph",
            IG_CHANGES,
            "a text that asks for it",
            read=NEWS_READ,
        )
        for kind, what in (("user_phone_number", "phone number"), ("user_email", "e-mail address"))
    ),
    _ends("button.element_share", "2019-10-01", "share button", OBSERVED, "a url button"),
    _ends("profile.home_url", "2020-05-05", "home url of the Messenger profile (Graph v7.0)", VERSIONS),
    _ends("graph.v20.0", "2026-09-24", "Graph API v20.0", VERSIONS, "v26.0", since="2024-05-21"),
    _ends("graph.v21.0", "2027-01-21", "Graph API v21.0", VERSIONS, "v26.0", since="2024-10-02"),
    _ends("graph.v22.0", "2027-05-20", "Graph API v22.0", VERSIONS, "v26.0", since="2025-01-21"),
    _ends("graph.v23.0", "2027-10-08", "Graph API v23.0", VERSIONS, "v26.0", since="2025-05-29"),
    _ends("graph.v24.0", "2028-02-18", "Graph API v24.0", VERSIONS, "v26.0", since="2025-10-08"),
    _ends("graph.v25.0", "2028-07-29", "Graph API v25.0", VERSIONS, "v26.0", since="2026-02-18"),
    _ends("graph.v26.0", "", "Graph API v26.0", VERSIONS, since="2026-07-29"),
    _ends("graph.v27.0", "", "Graph API v27.0", VERSIONS, since="2026-11-04", read=NEWS_READ),
)
