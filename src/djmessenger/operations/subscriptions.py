"""The webhook fields that the rules need, and those that a Page has.

Messenger Platform, "Webhooks" and Graph API, "Page subscribed_apps" (v26.0); Instagram Platform, "Webhooks" (September
2026), whose fields have names of their own, some of them in the singular.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from djmessenger import bot, graph, models
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.receiving import ReceivingType
from djmessenger.receiving.types import DELIVERIES, ECHOES, MESSAGES, POSTBACKS, READS
from djmessenger.routing.wants import wanted_types
from djmessenger.settings import app_settings

ALWAYS = (MESSAGES, POSTBACKS, ECHOES, DELIVERIES, READS)
"""What every bot needs: what persons write and tap, and the echoes and receipts that settle the fate of replies."""

INSTAGRAM_NAMES = {
    field.messenger: field.instagram
    for known in ReceivingType.get_members().values()
    for field in known.webhook
    if field.instagram
}
"""The name of a webhook field of a Page to the name on Instagram."""


def fields_for(types: Iterable[ReceivingType], channel: str = "messenger") -> frozenset[str]:
    """Give the fields that a bot with rules for these types has to be subscribed to."""
    wanted = {*ALWAYS, *(field for kind in types for field in kind.webhook)}
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
        more = [INSTAGRAM_NAMES.get(name, name) for name in more]
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
