"""Types of events and of attachments."""

from __future__ import annotations

from typing import Any, NamedTuple

from djmessenger.channels import INSTAGRAM
from djmessenger.utils.serializable import SerializableEnum, member


class WebhookField(NamedTuple):
    """Name of one webhook field on each channel; empty if the channel has none.

    Messenger Platform, "Webhooks" and Graph API, "Page subscribed_apps" (v26.0); Instagram Platform, "Webhooks"
    (September 2026).
    """

    messenger: str
    instagram: str = ""

    def on(self, channel: str) -> str:
        """Return the name of the field on a channel."""
        return self.instagram if channel == INSTAGRAM else self.messenger


MESSAGES = WebhookField("messages", "messages")
POSTBACKS = WebhookField("messaging_postbacks", "messaging_postbacks")
ECHOES = WebhookField("message_echoes")
"""Field of echoes; on Instagram they arrive with the messages."""
DELIVERIES = WebhookField("message_deliveries")
READS = WebhookField("message_reads", "messaging_seen")
OPT_INS = WebhookField("messaging_optins", "messaging_optins")
HANDOVERS = WebhookField("messaging_handovers", "messaging_handover")
STANDBY_EVENTS = WebhookField("standby", "standby")


_ACT: dict[str, bool] = {"authored": True, "opens_window": True}
"""An act of a person that wants an answer."""
_WRITTEN: dict[str, bool] = {**_ACT, "is_consent": True}
"""An act by which a person begins or continues a conversation."""


def _message(spelling: str, description: str) -> Any:
    return member(spelling, description, webhook=(MESSAGES,), **_WRITTEN)


def _tap(spelling: str, description: str) -> Any:
    return member(spelling, description, webhook=(POSTBACKS,), **_WRITTEN)


def _opt_in(spelling: str, description: str, **facts: bool) -> Any:
    return member(spelling, description, webhook=(OPT_INS,), **facts)


class ReceivingType(SerializableEnum):
    """Types of the events that Meta sends, and further types for rules.

    One row has all facts of a type. Checkers, webhook subscriptions and the docs read them from here. A project
    registers a type by creating it: ``ReceivingType("SURVEY", "our own")``. A checker of the project returns it.
    Events: Messenger Platform, "Webhook Events" and Instagram Platform, "Webhooks" (state of September 2026).
    """

    authored: bool = False
    """True if a person wrote, tapped or sent it and expects an answer. Such an event also opens Meta's window."""
    opens_window: bool = False
    """True if it opens the window in which a bot may write (``Messaging.window``).

    Messenger Platform, "Send messages" and "Policy" (September 2026).
    """
    is_consent: bool = False
    """True if Graph returns the profile after it: a message, a tap, the Send-to-Messenger plugin.

    Messenger Platform, "User Profile API" (2026).
    """
    key: str = ""
    """Key of an item that is enough to recognise the type; empty if a checker needs other signs."""
    by_meta: bool = False
    """True if the Page is never the sender, although Meta's samples interchange sender and recipient."""
    webhook: tuple[WebhookField, ...] = ()
    """Webhook fields with events of this type; empty for a type without a field of its own."""

    SIMPLE_TEXT: ReceivingType = _message("SIMPLE_TEXT", "a text that a person typed")
    QUICK_REPLY: ReceivingType = _message("QUICK_REPLY", "a tap on a quick reply")
    POSTBACK: ReceivingType = _tap("POSTBACK", "a tap on a button")
    GET_STARTED_BUTTON: ReceivingType = _tap("GET_STARTED_BUTTON", "a tap on the get-started button")
    PERSISTENT_MENU_ONE: ReceivingType = _tap("PERSISTENT_MENU_ONE", "a tap on entry 1 of the menu")
    PERSISTENT_MENU_TWO: ReceivingType = _tap("PERSISTENT_MENU_TWO", "a tap on entry 2 of the menu")
    PERSISTENT_MENU_THREE: ReceivingType = _tap("PERSISTENT_MENU_THREE", "a tap on entry 3 of the menu")
    PERSISTENT_MENU_FOUR: ReceivingType = _tap("PERSISTENT_MENU_FOUR", "a tap on entry 4 of the menu")
    PERSISTENT_MENU_FIVE: ReceivingType = _tap("PERSISTENT_MENU_FIVE", "a tap on entry 5 of the menu")
    STICKER: ReceivingType = _message("STICKER", "a sticker, thumbs up included")
    IMAGE: ReceivingType = _message("IMAGE", "one picture or several")
    AUDIO: ReceivingType = _message("AUDIO", "a recording or another sound file")
    VIDEO: ReceivingType = _message("VIDEO", "a video")
    FILE: ReceivingType = _message("FILE", "a file")
    LOCATION: ReceivingType = _message("LOCATION", "a place; Messenger has stopped offering it")
    LINK: ReceivingType = _message(
        "LINK", "a shared link without text, or a share that has no form of its own"
    )
    TEMPLATE: ReceivingType = _message("TEMPLATE", "a product of the shop, shared")
    REEL: ReceivingType = _message("REEL", "a reel, shared")
    POST: ReceivingType = _message("POST", "a post, shared")
    STORY_MENTION: ReceivingType = _message("STORY_MENTION", "the account was named in a story")
    STORY_REPLY: ReceivingType = _message("STORY_REPLY", "an answer to a story that is not text")
    EPHEMERAL: ReceivingType = _message("EPHEMERAL", "a disappearing picture; Meta does not send its content")
    LIKE_HEART: ReceivingType = _message("LIKE_HEART", "the heart of Instagram")
    APPOINTMENT: ReceivingType = _message("APPOINTMENT", "an appointment was requested or changed")
    UNSUPPORTED: ReceivingType = _message("UNSUPPORTED", "a message whose content Meta does not send")
    AUTHENTICATION: ReceivingType = _opt_in("AUTHENTICATION", "an opt-in by a plugin", **_WRITTEN)
    ONE_TIME_NOTIFICATION: ReceivingType = _opt_in(
        "ONE_TIME_NOTIFICATION", "an opt-in for one notification", **_ACT
    )
    NOTIFICATION_MESSAGES: ReceivingType = _opt_in(
        "NOTIFICATION_MESSAGES", "an opt-in for marketing messages, or its renewal", **_ACT
    )
    NOTIFICATIONS_STOPPED: ReceivingType = _opt_in(
        "NOTIFICATIONS_STOPPED", "a person stopped marketing messages"
    )
    ACCOUNT_LINKING: ReceivingType = member(
        "ACCOUNT_LINKING",
        "an account was linked or unlinked",
        webhook=(WebhookField("messaging_account_linking"),),
    )
    # Recognised by their key. An item with several keys is the first of these types.
    REACTION: ReceivingType = member(
        "REACTION",
        "a reaction to a message, or its removal",
        key="reaction",
        webhook=(WebhookField("message_reactions", "message_reactions"),),
        opens_window=True,
    )
    MESSAGE_EDIT: ReceivingType = member(
        "MESSAGE_EDIT",
        "a person edited a message",
        key="message_edit",
        webhook=(WebhookField("message_edits", "message_edit"),),
    )
    # The referral of an ad that opens a conversation is inside a message, and needs both fields.
    REFERRAL: ReceivingType = member(
        "REFERRAL",
        "an m.me link, an ad or a code opened the conversation again; or a message with nothing but a product",
        key="referral",
        webhook=(WebhookField("messaging_referrals", "messaging_referral"), MESSAGES),
        **_ACT,
    )
    PASS_THREAD_CONTROL: ReceivingType = member(
        "PASS_THREAD_CONTROL",
        "control of the conversation was passed to an app",
        key="pass_thread_control",
        webhook=(HANDOVERS,),
        by_meta=True,
    )
    TAKE_THREAD_CONTROL: ReceivingType = member(
        "TAKE_THREAD_CONTROL",
        "control of the conversation was taken by an app",
        key="take_thread_control",
        webhook=(HANDOVERS,),
        by_meta=True,
    )
    REQUEST_THREAD_CONTROL: ReceivingType = member(
        "REQUEST_THREAD_CONTROL",
        "an app requests control of the conversation",
        key="request_thread_control",
        webhook=(HANDOVERS,),
        by_meta=True,
    )
    APP_ROLES: ReceivingType = member(
        "APP_ROLES",
        "the roles of the handover protocol; withdrawn by Meta",
        key="app_roles",
        webhook=(HANDOVERS,),
        by_meta=True,
    )
    POLICY_ENFORCEMENT: ReceivingType = member(
        "POLICY_ENFORCEMENT",
        "Meta warned, blocked or unblocked the Page",
        key="policy_enforcement",
        webhook=(WebhookField("messaging_policy_enforcement"),),
        by_meta=True,
    )
    FEEDBACK: ReceivingType = member(
        "FEEDBACK",
        "the feedback form was filled in",
        key="messaging_feedback",
        webhook=(WebhookField("messaging_feedback"),),
        **_ACT,
    )
    RESPONSE_FEEDBACK: ReceivingType = member(
        "RESPONSE_FEEDBACK",
        "a thumb on an answer of the bot",
        key="response_feedback",
        webhook=(WebhookField("response_feedback"),),
    )
    CUSTOMER_INFORMATION: ReceivingType = member(
        "CUSTOMER_INFORMATION",
        "the address form was filled in",
        key="messaging_customer_information",
        webhook=(WebhookField("messaging_customer_information"),),
        **_ACT,
    )
    CART: ReceivingType = member(
        "CART", "a cart was sent", key="order", webhook=(WebhookField("send_cart"),), **_ACT
    )
    GAME_PLAY: ReceivingType = member(
        "GAME_PLAY",
        "a round of an instant game ended",
        key="game_play",
        webhook=(WebhookField("messaging_game_plays"),),
    )
    PAYMENT: ReceivingType = member(
        "PAYMENT",
        "a payment; withdrawn by Meta",
        key="payment",
        webhook=(WebhookField("messaging_payments"),),
    )
    PRE_CHECKOUT: ReceivingType = member(
        "PRE_CHECKOUT",
        "a purchase before its payment; withdrawn by Meta",
        key="pre_checkout",
        webhook=(WebhookField("messaging_pre_checkouts"),),
    )
    CHECKOUT_UPDATE: ReceivingType = member(
        "CHECKOUT_UPDATE",
        "a changed address; withdrawn by Meta",
        key="checkout_update",
        webhook=(WebhookField("messaging_checkout_updates"),),
    )
    CALL_PERMISSION: ReceivingType = member(
        "CALL_PERMISSION",
        "a person allowed or refused calls",
        key="call_permission_reply",
        webhook=(WebhookField("call_permission_reply"),),
    )
    # Recognised by other signs
    MESSAGE_DELETED: ReceivingType = member(
        "MESSAGE_DELETED", "a person deleted a message", webhook=(MESSAGES,)
    )
    DELIVERED: ReceivingType = member(
        "DELIVERED", "messages of the Page were delivered", webhook=(DELIVERIES,)
    )
    READ: ReceivingType = member("READ", "messages of the Page were read", webhook=(READS,))
    ECHO: ReceivingType = member(
        "ECHO", "a message of the Page itself, from this bot, another app or the inbox", webhook=(ECHOES,)
    )
    CALL: ReceivingType = member("CALL", "a call began, changed or ended", webhook=(WebhookField("calls"),))
    GROUP_FEED: ReceivingType = member(
        "GROUP_FEED", "a comment in a group", webhook=(WebhookField("group_feed"),)
    )
    CHANGE: ReceivingType = member("CHANGE", "a change that is no part of a conversation, such as a mention")
    # HANDOVERS: the event that the other app has passed control of the conversation.
    STANDBY: ReceivingType = member(
        "STANDBY",
        "anything but an echo while another app has the conversation",
        webhook=(STANDBY_EVENTS, HANDOVERS),
    )
    UNKNOWN: ReceivingType = member("UNKNOWN", "an event of no known type; stored unchanged")
    DEFAULT: ReceivingType = member("DEFAULT", "rules only: the rule around all others")
    FALLBACK: ReceivingType = member("FALLBACK", "rules only: when no other rule applied")
    ANY: ReceivingType = member("ANY", "rules only: any event that a person authored")


KEYS_OF_TYPES: dict[str, ReceivingType] = {
    **{each.key: each for each in ReceivingType.get_members().values() if each.key},
    "policy-enforcement": ReceivingType.POLICY_ENFORCEMENT,  # the spelling of some of Meta's samples
}
"""Type by key of an item."""
KEYS_OF_META = frozenset(each.key for each in ReceivingType.get_members().values() if each.by_meta)
"""Keys of types that the Page never sends."""


class AttachmentType(SerializableEnum):
    """Types of attachments; ``Attachment.type`` is a text, because Meta may send types that are not listed here.

    Messenger Platform, "messages" (June 2026) and Instagram Platform, "Webhooks" (September 2026).
    """

    AUDIO: AttachmentType = member("audio", "a recording or another sound file")
    FILE: AttachmentType = member("file", "a file")
    IMAGE: AttachmentType = member("image", "a picture, animated ones included")
    LOCATION: AttachmentType = member("location", "a place")
    VIDEO: AttachmentType = member("video", "a video")
    STICKER: AttachmentType = member("sticker", "a sticker, since June 2026")
    FALLBACK: AttachmentType = member("fallback", "a link, or a share that has no form of its own")
    TEMPLATE: AttachmentType = member("template", "a product; in echoes any template")
    REEL: AttachmentType = member("reel", "a reel of Facebook")
    IG_REEL: AttachmentType = member("ig_reel", "a reel of Instagram")
    POST: AttachmentType = member("post", "a post of Facebook")
    IG_POST: AttachmentType = member("ig_post", "a post of Instagram")
    SHARE: AttachmentType = member("share", "a post of Instagram, until 2026")
    STORY_MENTION: AttachmentType = member("story_mention", "a story that names the account")
    IG_STORY: AttachmentType = member("ig_story", "a story, shared")
    EPHEMERAL: AttachmentType = member("ephemeral", "a disappearing picture")
    LIKE_HEART: AttachmentType = member("like_heart", "the heart of Instagram")
    APPOINTMENT_BOOKING: AttachmentType = member("appointment_booking", "an appointment")
