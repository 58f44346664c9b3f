"""The kinds of event and of attachment."""

from __future__ import annotations

from typing import Any, NamedTuple

from djmessenger.channels import INSTAGRAM
from djmessenger.utils.serializable import SerializableEnum, member


class WebhookField(NamedTuple):
    """The name of one webhook field on each channel, empty when the channel has none.

    Messenger Platform, "Webhooks" and Graph API, "Page subscribed_apps" (v26.0); Instagram Platform, "Webhooks"
    (September 2026).
    """

    messenger: str
    instagram: str = ""

    def on(self, channel: str) -> str:
        """Return the name on a channel."""
        return self.instagram if channel == INSTAGRAM else self.messenger


MESSAGES = WebhookField("messages", "messages")
POSTBACKS = WebhookField("messaging_postbacks", "messaging_postbacks")
ECHOES = WebhookField("message_echoes")
"""On Instagram echoes come with the messages."""
DELIVERIES = WebhookField("message_deliveries")
READS = WebhookField("message_reads", "messaging_seen")
OPT_INS = WebhookField("messaging_optins", "messaging_optins")
HANDOVERS = WebhookField("messaging_handovers", "messaging_handover")
STANDBY_EVENTS = WebhookField("standby", "standby")


def _message(spelling: str, description: str) -> Any:
    return member(spelling, description, webhook=(MESSAGES,), authored=True)


def _tap(spelling: str, description: str) -> Any:
    return member(spelling, description, webhook=(POSTBACKS,), authored=True)


def _opt_in(spelling: str, description: str) -> Any:
    return member(spelling, description, webhook=(OPT_INS,), authored=True)


class ReceivingType(SerializableEnum):
    """Every kind of event that Meta sends, and what a rule may ask for beside them.

    One row has all facts of a type. Checkers, webhook subscriptions and the docs read them from here.
    Creating one registers it: ``ReceivingType("SURVEY", "our own")``; a checker of one's own then gives it.
    Events: Messenger Platform, "Webhook Events" and Instagram Platform, "Webhooks" (state of September 2026).
    """

    authored: bool = False
    """Whether a person wrote, tapped or sent it, so that an answer is expected."""
    key: str = ""
    """The key of the item that alone tells the type; empty for a type that a checker recognises by other signs."""
    by_meta: bool = False
    """Whether the sender is never the page, even if Meta's own samples mix up sender and recipient."""
    webhook: tuple[WebhookField, ...] = ()
    """The webhook fields that bring it; empty for a type without a field of its own."""

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
    AUDIO: ReceivingType = _message("AUDIO", "a voice message or a sound file")
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
    EPHEMERAL: ReceivingType = _message("EPHEMERAL", "a picture that vanishes; its content is not sent")
    LIKE_HEART: ReceivingType = _message("LIKE_HEART", "the heart of Instagram")
    APPOINTMENT: ReceivingType = _message("APPOINTMENT", "an appointment was asked for or changed")
    UNSUPPORTED: ReceivingType = _message("UNSUPPORTED", "a message whose content Meta does not send")
    AUTHENTICATION: ReceivingType = _opt_in("AUTHENTICATION", "an opt-in by a plugin")
    ONE_TIME_NOTIFICATION: ReceivingType = _opt_in("ONE_TIME_NOTIFICATION", "an opt-in for one notification")
    NOTIFICATION_MESSAGES: ReceivingType = _opt_in(
        "NOTIFICATION_MESSAGES", "an opt-in for marketing messages"
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
    )
    MESSAGE_EDIT: ReceivingType = member(
        "MESSAGE_EDIT",
        "a person edited a message",
        key="message_edit",
        webhook=(WebhookField("message_edits", "message_edit"),),
    )
    # An ad that opens a conversation comes inside the message, and only with both fields.
    REFERRAL: ReceivingType = member(
        "REFERRAL",
        "an m.me link, an ad or a code led back into the conversation",
        key="referral",
        webhook=(WebhookField("messaging_referrals", "messaging_referral"), MESSAGES),
        authored=True,
    )
    PASS_THREAD_CONTROL: ReceivingType = member(
        "PASS_THREAD_CONTROL",
        "the conversation was given to an app",
        key="pass_thread_control",
        webhook=(HANDOVERS,),
        by_meta=True,
    )
    TAKE_THREAD_CONTROL: ReceivingType = member(
        "TAKE_THREAD_CONTROL",
        "the conversation was taken by an app",
        key="take_thread_control",
        webhook=(HANDOVERS,),
        by_meta=True,
    )
    REQUEST_THREAD_CONTROL: ReceivingType = member(
        "REQUEST_THREAD_CONTROL",
        "an app asks for the conversation",
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
        "Meta warned, blocked or unblocked the page",
        key="policy_enforcement",
        webhook=(WebhookField("messaging_policy_enforcement"),),
        by_meta=True,
    )
    FEEDBACK: ReceivingType = member(
        "FEEDBACK",
        "the feedback form was filled in",
        key="messaging_feedback",
        webhook=(WebhookField("messaging_feedback"),),
        authored=True,
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
        authored=True,
    )
    CART: ReceivingType = member(
        "CART", "a cart was sent", key="order", webhook=(WebhookField("send_cart"),), authored=True
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
        "a purchase about to be charged; withdrawn by Meta",
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
        "MESSAGE_DELETED", "a person took a message back", webhook=(MESSAGES,)
    )
    DELIVERED: ReceivingType = member("DELIVERED", "messages of the page have arrived", webhook=(DELIVERIES,))
    READ: ReceivingType = member("READ", "messages of the page were read", webhook=(READS,))
    ECHO: ReceivingType = member(
        "ECHO", "the page itself wrote, by this bot, another app or the inbox", webhook=(ECHOES,)
    )
    CALL: ReceivingType = member("CALL", "a call began, changed or ended", webhook=(WebhookField("calls"),))
    GROUP_FEED: ReceivingType = member(
        "GROUP_FEED", "a comment in a group", webhook=(WebhookField("group_feed"),)
    )
    CHANGE: ReceivingType = member("CHANGE", "a change that is no part of a conversation, such as a mention")
    # HANDOVERS bring the news that the other app has given the conversation away.
    STANDBY: ReceivingType = member(
        "STANDBY",
        "anything but an echo while another app has the conversation",
        webhook=(STANDBY_EVENTS, HANDOVERS),
    )
    UNKNOWN: ReceivingType = member("UNKNOWN", "nothing that is known; kept as it came")
    DEFAULT: ReceivingType = member("DEFAULT", "rules only: surrounds all other rules")
    FALLBACK: ReceivingType = member("FALLBACK", "rules only: when no other rule applied")
    ANY: ReceivingType = member("ANY", "rules only: whatever a person authored")


KEYS_OF_TYPES: dict[str, ReceivingType] = {
    **{known.key: known for known in ReceivingType.get_members().values() if known.key},
    "policy-enforcement": ReceivingType.POLICY_ENFORCEMENT,  # the spelling of some samples
}
"""The key of an item to the type that it tells."""
KEYS_OF_META = frozenset(known.key for known in ReceivingType.get_members().values() if known.by_meta)


class AttachmentType(SerializableEnum):
    """Kinds of attachment; ``Attachment.type`` holds the spelling, for Meta may send kinds that are not here.

    Messenger Platform, "messages" (June 2026) and Instagram Platform, "Webhooks" (September 2026).
    """

    AUDIO: AttachmentType = member("audio", "a voice message or a sound file")
    FILE: AttachmentType = member("file", "a file")
    IMAGE: AttachmentType = member("image", "a picture, moving ones included")
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
    EPHEMERAL: AttachmentType = member("ephemeral", "a picture that vanishes")
    LIKE_HEART: AttachmentType = member("like_heart", "the heart of Instagram")
    APPOINTMENT_BOOKING: AttachmentType = member("appointment_booking", "an appointment")
