"""The webhook fields that the rules need, and those to which a Page is subscribed.

Sources: Messenger Platform, "Webhooks"; Graph API, "Page subscribed_apps" (v26.0); Instagram Platform, "Webhooks"
(September 2026). The fields of Instagram have other names, some of them in the singular.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from djmessenger import bot, models
from djmessenger.channels import INSTAGRAM, channel_of
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.graph.client import Client
from djmessenger.receiving import ReceivingType
from djmessenger.receiving.types import DELIVERIES, ECHOES, MESSAGES, POSTBACKS, READS
from djmessenger.routing.wants import wanted_types
from djmessenger.settings import app_settings

ALWAYS = (MESSAGES, POSTBACKS, ECHOES, DELIVERIES, READS)
"""Fields that each bot needs: messages and taps of persons, and the echoes and receipts that settle replies."""

INSTAGRAM_NAMES = {
    field.messenger: field.instagram
    for known in ReceivingType.get_members().values()
    for field in known.webhook
    if field.instagram
}
"""Name of a webhook field of a Page to its name on Instagram."""


def fields_for(types: Iterable[ReceivingType], channel: str = "messenger") -> frozenset[str]:
    """Return the fields that a bot with rules for these types needs."""
    wanted = {*ALWAYS, *(field for kind in types for field in kind.webhook)}
    return frozenset(filter(None, (field.on(channel) for field in wanted)))


@dataclass(frozen=True)
class Comparison:
    """The fields of one Page: the wanted ones and the present ones."""

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
    """Return the fields that the rules of a Page need, and those of ``DJM_WEBHOOK_FIELDS``."""
    channel = page.configured("channel")
    more = app_settings.DJM_WEBHOOK_FIELDS
    if channel == INSTAGRAM:
        more = [INSTAGRAM_NAMES.get(name, name) for name in more]
    return fields_for(wanted_types(bot.get_policy(page)), channel) | frozenset(more)


def subscribed_fields(client: Client, app_id: str) -> frozenset[str]:
    """Return the fields to which this app is subscribed at the Page; one GET.

    Raises ``DJMInvalidConfigException`` if several apps are subscribed and ``app_id`` is empty.
    """
    listed = client.subscriptions()
    subscriptions = [item for item in listed if str(item.id) == app_id] if app_id else list(listed)
    if len(subscriptions) > 1:
        raise DJMInvalidConfigException(
            "Several apps are subscribed to the Page; set DJM_APP_ID to the id of this one."
        )
    return frozenset(subscriptions[0].subscribed_fields) if subscriptions else frozenset()


def app_fields(client: Client, channel: str) -> frozenset[str] | None:
    """Return the fields of the app, read with the app's client, or None if the app has no webhook yet."""
    object_name = channel_of(channel).object_name
    subscription = next((item for item in client.app_subscriptions() if item.object == object_name), None)
    return None if subscription is None else frozenset(subscription.fields)
