"""The kinds of event and of attachment."""

from __future__ import annotations

from djmessenger.utils.serializable import SerializableEnum, member


class ReceivingType(SerializableEnum):
    """Every kind of event that Meta sends, and what a rule may ask for beside them.

    Creating one registers it: ``ReceivingType("SURVEY", "our own")``; a checker of one's own then gives it.
    Events: Messenger Platform, "Webhook Events" and Instagram Platform, "Webhooks" (state of September 2026).
    """

    authored: bool = False
    """Whether a person wrote, tapped or sent it, so that an answer is expected."""

    SIMPLE_TEXT: ReceivingType = member("SIMPLE_TEXT", "a text that a person typed")
    QUICK_REPLY: ReceivingType = member("QUICK_REPLY", "a tap on a quick reply")
    POSTBACK: ReceivingType = member("POSTBACK", "a tap on a button")
    GET_STARTED_BUTTON: ReceivingType = member("GET_STARTED_BUTTON", "a tap on the get-started button")
    PERSISTENT_MENU_ONE: ReceivingType = member("PERSISTENT_MENU_ONE", "a tap on entry 1 of the menu")
    PERSISTENT_MENU_TWO: ReceivingType = member("PERSISTENT_MENU_TWO", "a tap on entry 2 of the menu")
    PERSISTENT_MENU_THREE: ReceivingType = member("PERSISTENT_MENU_THREE", "a tap on entry 3 of the menu")
    PERSISTENT_MENU_FOUR: ReceivingType = member("PERSISTENT_MENU_FOUR", "a tap on entry 4 of the menu")
    PERSISTENT_MENU_FIVE: ReceivingType = member("PERSISTENT_MENU_FIVE", "a tap on entry 5 of the menu")
    STICKER: ReceivingType = member("STICKER", "a sticker, thumbs up included")
    IMAGE: ReceivingType = member("IMAGE", "one picture or several")
    AUDIO: ReceivingType = member("AUDIO", "a voice message or a sound file")
    VIDEO: ReceivingType = member("VIDEO", "a video")
    FILE: ReceivingType = member("FILE", "a file")
    LOCATION: ReceivingType = member("LOCATION", "a place; Messenger has stopped offering it")
    LINK: ReceivingType = member("LINK", "a shared link without text, or a share that has no form of its own")
    TEMPLATE: ReceivingType = member("TEMPLATE", "a product of the shop, shared")
    REEL: ReceivingType = member("REEL", "a reel, shared")
    POST: ReceivingType = member("POST", "a post, shared")
    STORY_MENTION: ReceivingType = member("STORY_MENTION", "the account was named in a story")
    STORY_REPLY: ReceivingType = member("STORY_REPLY", "an answer to a story that is not text")
    EPHEMERAL: ReceivingType = member("EPHEMERAL", "a picture that vanishes; its content is not sent")
    LIKE_HEART: ReceivingType = member("LIKE_HEART", "the heart of Instagram")
    APPOINTMENT: ReceivingType = member("APPOINTMENT", "an appointment was asked for or changed")
    UNSUPPORTED: ReceivingType = member("UNSUPPORTED", "a message whose content Meta does not send")
    REFERRAL: ReceivingType = member(
        "REFERRAL", "an m.me link, an ad or a code led back into the conversation"
    )
    AUTHENTICATION: ReceivingType = member("AUTHENTICATION", "an opt-in by a plugin")
    ONE_TIME_NOTIFICATION: ReceivingType = member("ONE_TIME_NOTIFICATION", "an opt-in for one notification")
    NOTIFICATION_MESSAGES: ReceivingType = member("NOTIFICATION_MESSAGES", "an opt-in for marketing messages")
    ACCOUNT_LINKING: ReceivingType = member("ACCOUNT_LINKING", "an account was linked or unlinked")
    FEEDBACK: ReceivingType = member("FEEDBACK", "the feedback form was filled in")
    CUSTOMER_INFORMATION: ReceivingType = member("CUSTOMER_INFORMATION", "the address form was filled in")
    CART: ReceivingType = member("CART", "a cart was sent")
    GAME_PLAY: ReceivingType = member("GAME_PLAY", "a round of an instant game ended")
    PAYMENT: ReceivingType = member("PAYMENT", "a payment; withdrawn by Meta")
    PRE_CHECKOUT: ReceivingType = member("PRE_CHECKOUT", "a purchase about to be charged; withdrawn by Meta")
    CHECKOUT_UPDATE: ReceivingType = member("CHECKOUT_UPDATE", "a changed address; withdrawn by Meta")
    REACTION: ReceivingType = member("REACTION", "a reaction to a message, or its removal")
    RESPONSE_FEEDBACK: ReceivingType = member("RESPONSE_FEEDBACK", "a thumb on an answer of the bot")
    MESSAGE_EDIT: ReceivingType = member("MESSAGE_EDIT", "a person edited a message")
    MESSAGE_DELETED: ReceivingType = member("MESSAGE_DELETED", "a person took a message back")
    DELIVERED: ReceivingType = member("DELIVERED", "messages of the page have arrived")
    READ: ReceivingType = member("READ", "messages of the page were read")
    ECHO: ReceivingType = member("ECHO", "the page itself wrote, by this bot, another app or the inbox")
    PASS_THREAD_CONTROL: ReceivingType = member("PASS_THREAD_CONTROL", "the conversation was given to an app")
    TAKE_THREAD_CONTROL: ReceivingType = member("TAKE_THREAD_CONTROL", "the conversation was taken by an app")
    REQUEST_THREAD_CONTROL: ReceivingType = member(
        "REQUEST_THREAD_CONTROL", "an app asks for the conversation"
    )
    APP_ROLES: ReceivingType = member("APP_ROLES", "the roles of the handover protocol; withdrawn by Meta")
    POLICY_ENFORCEMENT: ReceivingType = member(
        "POLICY_ENFORCEMENT", "Meta warned, blocked or unblocked the page"
    )
    CALL: ReceivingType = member("CALL", "a call began, changed or ended")
    CALL_PERMISSION: ReceivingType = member("CALL_PERMISSION", "a person allowed or refused calls")
    GROUP_FEED: ReceivingType = member("GROUP_FEED", "a comment in a group")
    CHANGE: ReceivingType = member("CHANGE", "a change that is no part of a conversation, such as a mention")
    STANDBY: ReceivingType = member("STANDBY", "anything but an echo while another app has the conversation")
    UNKNOWN: ReceivingType = member("UNKNOWN", "nothing that is known; kept as it came")
    DEFAULT: ReceivingType = member("DEFAULT", "rules only: surrounds all other rules")
    FALLBACK: ReceivingType = member("FALLBACK", "rules only: when no other rule applied")
    ANY: ReceivingType = member("ANY", "rules only: whatever a person authored")


_AUTHORED = [
    "SIMPLE_TEXT",
    "QUICK_REPLY",
    "POSTBACK",
    "GET_STARTED_BUTTON",
    "PERSISTENT_MENU_ONE",
    "PERSISTENT_MENU_TWO",
    "PERSISTENT_MENU_THREE",
    "PERSISTENT_MENU_FOUR",
    "PERSISTENT_MENU_FIVE",
    "STICKER",
    "IMAGE",
    "AUDIO",
    "VIDEO",
    "FILE",
    "LOCATION",
    "LINK",
    "TEMPLATE",
    "REEL",
    "POST",
    "STORY_MENTION",
    "STORY_REPLY",
    "EPHEMERAL",
    "LIKE_HEART",
    "APPOINTMENT",
    "UNSUPPORTED",
    "REFERRAL",
    "AUTHENTICATION",
    "ONE_TIME_NOTIFICATION",
    "NOTIFICATION_MESSAGES",
    "FEEDBACK",
    "CUSTOMER_INFORMATION",
    "CART",
]

for _name in _AUTHORED:
    ReceivingType.value_of(_name).authored = True


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
