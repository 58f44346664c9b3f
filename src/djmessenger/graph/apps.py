"""The calls about the app itself; they take a client whose token is the app's and whose ``page_id`` is the app's id."""

from __future__ import annotations

from djmessenger.graph import results
from djmessenger.graph.calls import Calls


class AppCalls(Calls):
    """What the app is subscribed to, and which permissions it was granted."""

    def app_subscriptions(self) -> tuple[results.AppSubscription, ...]:
        """List the objects whose changes Meta posts to the app, with fields and address."""
        data = self._get(self._page("subscriptions"))
        return tuple(map(results.AppSubscription.read, results.items_of(data)))

    def app_permissions(self) -> dict[str, str]:
        """Give the permissions that went through App Review, with their status (Graph API, v26.0)."""
        found = results.items_of(self._get(self._page("permissions")))
        return {
            results.text_of(item.get("permission")): results.text_of(item.get("status")).lower()
            for item in found
        }
