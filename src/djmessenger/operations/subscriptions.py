"""The webhook fields that the rules need, and those that a Page has.

Messenger Platform, "Webhooks" and Graph API, "Page subscribed_apps" (v26.0); Instagram Platform, "Webhooks" (September
2026), whose fields have names of their own, some of them in the singular.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from djmessenger import bot, graph, models
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.receiving import ReceivingType
from djmessenger.routing.wants import wanted_types
from djmessenger.settings import app_settings


class Field(NamedTuple):
    """The name of one webhook field on each channel, empty where the channel has none."""

    messenger: str
    instagram: str = ""

    def on(self, channel: str) -> str:
        """Give the name on a channel."""
        return self.instagram if channel == "instagram" else self.messenger


MESSAGES = Field("messages", "messages")
POSTBACKS = Field("messaging_postbacks", "messaging_postbacks")
ECHOES = Field("message_echoes")
"""On Instagram echoes come with the messages."""
DELIVERIES = Field("message_deliveries")
READS = Field("message_reads", "messaging_seen")
OPT_INS = Field("messaging_optins", "messaging_optins")
HANDOVERS = Field("messaging_handovers", "messaging_handover")
STANDBY = Field("standby", "standby")

ALWAYS = (MESSAGES, POSTBACKS, ECHOES, DELIVERIES, READS)
"""What every bot needs: what persons write and tap, and the echoes and receipts that settle the fate of replies."""

FIELDS: Mapping[ReceivingType, tuple[Field, ...]] = {
    **{
        ReceivingType.value_of(name): (MESSAGES,)
        for name in (
            "SIMPLE_TEXT", "QUICK_REPLY", "STICKER", "IMAGE", "AUDIO", "VIDEO", "FILE", "LOCATION", "LINK", "TEMPLATE",
            "REEL", "POST", "STORY_MENTION", "STORY_REPLY", "EPHEMERAL", "LIKE_HEART", "APPOINTMENT", "UNSUPPORTED",
            "MESSAGE_DELETED",
        )
    },
    **{
        ReceivingType.value_of(name): (POSTBACKS,)
        for name in (
            "POSTBACK", "GET_STARTED_BUTTON", "PERSISTENT_MENU_ONE", "PERSISTENT_MENU_TWO", "PERSISTENT_MENU_THREE",
            "PERSISTENT_MENU_FOUR", "PERSISTENT_MENU_FIVE",
        )
    },
    # An ad that opens a conversation comes inside the message, and only with both.
    ReceivingType.REFERRAL: (Field("messaging_referrals", "messaging_referral"), MESSAGES),
    ReceivingType.AUTHENTICATION: (OPT_INS,),
    ReceivingType.ONE_TIME_NOTIFICATION: (OPT_INS,),
    ReceivingType.NOTIFICATION_MESSAGES: (OPT_INS,),
    ReceivingType.ACCOUNT_LINKING: (Field("messaging_account_linking"),),
    ReceivingType.FEEDBACK: (Field("messaging_feedback"),),
    ReceivingType.RESPONSE_FEEDBACK: (Field("response_feedback"),),
    ReceivingType.CUSTOMER_INFORMATION: (Field("messaging_customer_information"),),
    ReceivingType.CART: (Field("send_cart"),),
    ReceivingType.GAME_PLAY: (Field("messaging_game_plays"),),
    ReceivingType.PAYMENT: (Field("messaging_payments"),),
    ReceivingType.PRE_CHECKOUT: (Field("messaging_pre_checkouts"),),
    ReceivingType.CHECKOUT_UPDATE: (Field("messaging_checkout_updates"),),
    ReceivingType.REACTION: (Field("message_reactions", "message_reactions"),),
    ReceivingType.MESSAGE_EDIT: (Field("message_edits", "message_edit"),),
    ReceivingType.DELIVERED: (DELIVERIES,),
    ReceivingType.READ: (READS,),
    ReceivingType.ECHO: (ECHOES,),
    ReceivingType.PASS_THREAD_CONTROL: (HANDOVERS,),
    ReceivingType.TAKE_THREAD_CONTROL: (HANDOVERS,),
    ReceivingType.REQUEST_THREAD_CONTROL: (HANDOVERS,),
    ReceivingType.APP_ROLES: (HANDOVERS,),
    ReceivingType.POLICY_ENFORCEMENT: (Field("messaging_policy_enforcement"),),
    ReceivingType.CALL: (Field("calls"),),
    ReceivingType.CALL_PERMISSION: (Field("call_permission_reply"),),
    ReceivingType.GROUP_FEED: (Field("group_feed"),),
    # Who listens while another app has the conversation wants to know when it is given away.
    ReceivingType.STANDBY: (STANDBY, HANDOVERS),
}  # fmt: skip
"""Type to the fields that bring it; a type that is not here comes with no field of its own."""

SINGULAR = {
    "message_edits": "message_edit",
    "messaging_handovers": "messaging_handover",
    "messaging_referrals": "messaging_referral",
    "message_reads": "messaging_seen",
}
"""Names of the Page's fields to those of an Instagram account's."""


def fields_for(types: Iterable[ReceivingType], channel: str = "messenger") -> frozenset[str]:
    """Give the fields that a bot with rules for these types has to be subscribed to."""
    wanted = {*ALWAYS, *(field for kind in types for field in FIELDS.get(kind, ()))}
    return frozenset(filter(None, (field.on(channel) for field in wanted)))


@dataclass(frozen=True)
class Comparison:
    """The fields of one Page: wanted, and there."""

    wanted: frozenset[str]
    present: frozenset[str]

    @property
    def missing(self) -> list[str]:
        return sorted(self.wanted - self.present)

    @property
    def superfluous(self) -> list[str]:
        return sorted(self.present - self.wanted)

    @property
    def agrees(self) -> bool:
        return self.wanted == self.present


def wanted_fields(page: models.Page) -> frozenset[str]:
    """Give the fields that follow from the rules of a Page, and those of ``DJM_WEBHOOK_FIELDS``."""
    channel = page.configured("channel")
    more = app_settings.DJM_WEBHOOK_FIELDS
    if channel == models.Page.Channel.INSTAGRAM:
        more = [SINGULAR.get(name, name) for name in more]
    return fields_for(wanted_types(bot.get_policy(page)), channel) | frozenset(more)


def subscribed_fields(client: graph.Client, app_id: str) -> frozenset[str]:
    """Give the fields to which this app is subscribed at the Page; one GET.

    Raises ``DJMInvalidConfigException`` where several apps are and nobody says which is this one.
    """
    listed = client.subscriptions()
    mine = [item for item in listed if str(item.id) == app_id] if app_id else list(listed)
    if len(mine) > 1:
        raise DJMInvalidConfigException(
            "Several apps are subscribed to the Page; set DJM_APP_ID, so that this one can be told from them."
        )
    return frozenset(mine[0].subscribed_fields) if mine else frozenset()


def app_fields(client: graph.Client, channel: str) -> frozenset[str] | None:
    """Give the fields of the app itself, asked with its own client; None where the app has no webhook yet."""
    wanted = "instagram" if channel == models.Page.Channel.INSTAGRAM else "page"
    found = next((item for item in client.app_subscriptions() if item.object == wanted), None)
    return None if found is None else frozenset(found.fields)
