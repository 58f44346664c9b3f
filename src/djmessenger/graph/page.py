"""The calls about the Page and what it owns, as methods over one ``execute``.

Sources: the Messenger Platform's pages on each subject, read in 2026; where a page disagrees with Meta's own
specification of the Page object (v25), the docstring says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from djmessenger.exceptions import LimitExceeded
from djmessenger.graph import batches, results
from djmessenger.graph.calls import Calls, segment
from djmessenger.graph.results import Answer, Done, Paged
from djmessenger.graph.wire import Call, Upload

MESSENGER_PROFILE_FIELDS = (
    "greeting",
    "get_started",
    "persistent_menu",
    "ice_breakers",
    "commands",
    "whitelisted_domains",
    "account_linking_url",
)


class PageCalls(Calls):
    """Messenger Profile, attachments, personas, subscriptions, insights, templates, batches."""

    # The Messenger Profile. 10 calls in 10 minutes for each Page.

    def get_messenger_profile(
        self, fields: Iterable[str] = MESSENGER_PROFILE_FIELDS, *, platform: str | None = None
    ) -> results.MessengerProfile:
        """Read properties of the Messenger Profile; those that are not set are ``None``."""
        data = self._get(self._page("messenger_profile"), fields=",".join(fields), platform=platform)
        merged: dict[str, Any] = {}
        for item in results.items_of(data):
            merged.update(item)
        return results.MessengerProfile.read(merged)

    def set_messenger_profile(self, properties: Mapping[str, Any], *, platform: str | None = None) -> Done:
        """Overwrite the given properties, and only those."""
        return Done.read(self._post(self._page("messenger_profile"), {**properties, "platform": platform}))

    def delete_messenger_profile(self, fields: Iterable[str], *, platform: str | None = None) -> Done:
        """Remove properties."""
        body = {"fields": list(fields), **({"platform": platform} if platform else {})}
        return Done.read(self.execute(Call("DELETE", self._page("messenger_profile"), body)))

    def get_user_settings(self, psid: str) -> results.UserSettings:
        """Read the menu of one person, beside that of the Page."""
        data = self._get(self._page("custom_user_settings"), psid=psid)
        items = results.items_of(data)
        return results.UserSettings.read(items[0] if items else {})

    def set_user_settings(self, psid: str, persistent_menu: Sequence[Mapping[str, Any]]) -> Done:
        """Give one person a menu of their own, at once. 10 calls in 10 minutes for each person."""
        body = {"psid": psid, "persistent_menu": list(persistent_menu)}
        return Done.read(self._post(self._page("custom_user_settings"), body))

    def delete_user_settings(self, psid: str) -> Done:
        """Give one person the menu of the Page again."""
        return Done.read(
            self.execute(
                Call(
                    "DELETE",
                    self._page("custom_user_settings"),
                    params={"psid": psid, "params": ["persistent_menu"]},
                )
            )
        )

    # What the Page owns.

    def upload(
        self,
        kind: str,
        source: str | Upload,
        *,
        reusable: bool = True,
        platform: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Upload an attachment from a URL or a local file; give its id, good for 90 days on this Page.

        ``kind`` is ``image``, ``audio``, ``video`` or ``file``; ``timeout`` is in seconds, for a large file.
        """
        payload: dict[str, Any] = {"is_reusable": reusable}
        if isinstance(source, str):
            payload["url"] = source
        body: dict[str, Any] = {"message": {"attachment": {"type": kind, "payload": payload}}}
        if platform:
            body["platform"] = platform
        files = {"filedata": source} if isinstance(source, Upload) else None
        call = Call("POST", self._page("message_attachments"), body, files=files, timeout=timeout)
        return self._id(call, "attachment_id")

    def create_persona(self, name: str, profile_picture_url: str) -> str:
        """Make a persona and give its id."""
        body = {"name": name, "profile_picture_url": profile_picture_url}
        return self._id(Call("POST", self._page("personas"), body))

    def personas(self, *, after: str | None = None) -> Paged[results.Persona]:
        """List the personas of the Page."""
        return self._paged(self._page("personas"), results.Persona.read, after=after)

    def persona(self, persona_id: str) -> results.Persona:
        """Read one persona."""
        return results.Persona.read(self._get(segment(persona_id), fields="id,name,profile_picture_url"))

    def delete_persona(self, persona_id: str) -> Done:
        """Remove a persona; its old messages stay, new ones under it fail."""
        return Done.read(self.execute(Call("DELETE", segment(persona_id))))

    def subscriptions(self) -> tuple[results.Subscription, ...]:
        """List the apps that receive the Page's webhooks, with their fields."""
        return tuple(
            map(results.Subscription.read, results.items_of(self._get(self._page("subscribed_apps"))))
        )

    def subscribe(self, fields: Iterable[str]) -> Done:
        """Subscribe this app to the Page's webhooks, for these fields only."""
        return Done.read(self._post(self._page("subscribed_apps"), {"subscribed_fields": ",".join(fields)}))

    def unsubscribe(self) -> Done:
        """Stop the Page's webhooks to this app."""
        return Done.read(self.execute(Call("DELETE", self._page("subscribed_apps"))))

    def insights(self, metrics: Iterable[str], **params: Any) -> tuple[results.Metric, ...]:
        """Read metrics of the Page; ``period``, ``since`` and ``until`` go through."""
        data = self._get(self._page("insights"), metric=",".join(metrics), **params)
        return tuple(map(results.Metric.read, results.items_of(data)))

    def page_fields(self, fields: Iterable[str] = ("id", "name")) -> Mapping[str, Any]:
        """Read fields of the Page itself, such as ``messaging_feature_status``."""
        data = self._get(self._page(), fields=",".join(fields))
        return data if isinstance(data, Mapping) else {}

    # Templates of utility messages ("Utility messages", 2026).

    def create_message_template(self, template: Mapping[str, Any]) -> results.MessageTemplate:
        """Hand a template in for review.

        It holds name, language, category and components, or the name of one in Meta's library.
        """
        call = Call("POST", self._page("message_templates"), template)
        return results.MessageTemplate.read(self._answer(call, needs="id")[1])

    def message_templates(
        self, *, after: str | None = None, **filters: Any
    ) -> Paged[results.MessageTemplate]:
        """List templates; filters are ``name``, ``content``, ``language``, ``status``, ``category``."""
        return self._paged(
            self._page("message_templates"), results.MessageTemplate.read, after=after, **filters
        )

    def delete_message_template(self, name: str, template_id: str | None = None) -> Done:
        """Remove a template in all languages, or the one that the id names."""
        params = {"name": name, "template_id": template_id}
        return Done.read(self.execute(Call("DELETE", self._page("message_templates"), params=params)))

    # Batches.

    def batch(self, calls: Sequence[Call]) -> tuple[Answer, ...]:
        """Execute up to 50 calls in one request, in order; each gets its own answer or error.

        A slot that Graph leaves empty timed out there and may have been executed: ``UnknownFate``. Each call
        counts towards the limits.
        """
        if len(calls) > batches.SIZE:
            raise LimitExceeded("batch", f"at most {batches.SIZE} calls", "Graph API, Batch Requests")
        if not calls:
            return ()
        body = {"batch": [batches.entry(call) for call in calls], "include_headers": False}
        data = self.execute(Call("POST", "", body))
        slots: list[Any] = data if isinstance(data, list) else []
        return tuple(
            batches.answer(call, slots[index] if index < len(slots) else None)
            for index, call in enumerate(calls)
        )
