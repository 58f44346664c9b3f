"""The calls of the Messenger Platform as methods, over one ``execute``.

Sources: the Messenger Platform's pages on each subject, read in 2026; where a page disagrees with Meta's own
specification of the Page object (v25), the docstring says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from djmessenger.exceptions import DJMInvalidValueException, LimitExceeded
from djmessenger.graph import batches, results
from djmessenger.graph.errors import (
    GraphError,
    MessageRejected,
    PermissionMissing,
    PersonUnreachable,
    ProfileRefused,
)
from djmessenger.graph.results import Answer, Done, Paged, Sent
from djmessenger.graph.wire import Call, Upload

PROFILE_FIELDS = ("id", "name", "first_name", "last_name", "profile_pic", "locale", "timezone", "gender")

MESSENGER_PROFILE_FIELDS = (
    "greeting",
    "get_started",
    "persistent_menu",
    "ice_breakers",
    "commands",
    "whitelisted_domains",
    "account_linking_url",
)

Item = TypeVar("Item")


def segment(value: str) -> str:
    """Give an id as one segment of a path; ``DJMInvalidValueException`` for one that cannot be an id."""
    text = quote(str(value), safe="")
    if not text or text in {".", ".."}:
        raise DJMInvalidValueException("An id for Graph is missing")
    return text


def person(psid: str) -> dict[str, str]:
    """Give the recipient that is a person known by page-scoped id."""
    return {"id": str(psid)}


class Calls:
    """Every call that a bot for one Page makes; ``djmessenger.graph.Client`` executes them."""

    page_id: str

    def execute(self, call: Call) -> Any:
        raise NotImplementedError

    def _answer(self, call: Call, *, needs: str = "") -> tuple[int, Any]:
        """Give status and JSON; ``UnknownFate`` where the JSON lacks the id that ``needs`` names."""
        raise NotImplementedError

    def _page(self, edge: str = "") -> str:
        return f"{segment(self.page_id)}/{edge}" if edge else segment(self.page_id)

    def _get(self, path: str, **params: Any) -> Any:
        return self.execute(Call("GET", path, params=params))

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self.execute(
            Call("POST", path, {key: value for key, value in body.items() if value is not None})
        )

    def _paged(self, path: str, read: Callable[[Any], Item], **params: Any) -> Paged[Item]:
        data = self._get(path, **params)
        return Paged(tuple(map(read, results.items_of(data))), results.after_of(data))

    # Sending.

    def send(
        self, recipient: Mapping[str, Any], body: Mapping[str, Any], *, file: Upload | None = None
    ) -> Sent:
        """Send one message or sender action: ``body`` is the call's JSON without the recipient.

        ``file`` goes along as ``filedata``. An answer to a message without an id is ``UnknownFate``.
        """
        call = Call(
            "POST",
            self._page("messages"),
            {"recipient": dict(recipient), **body},
            files={"filedata": file} if file else None,
        )
        status, data = self._answer(call, needs="message_id" if "message" in body else "")
        given = data if isinstance(data, Mapping) else {}
        return Sent(
            recipient_id=results.text_of(given.get("recipient_id")),
            message_id=results.text_of(given.get("message_id")),
            attachment_id=results.text_of(given.get("attachment_id")),
            status_code=status,
            data=given,
        )

    def private_reply(
        self, body: Mapping[str, Any], *, comment_id: str | None = None, post_id: str | None = None
    ) -> Sent:
        """Answer a comment or a visitor's post in private: once, within 7 days.

        Further messages go out once the person has answered ("Private Replies", 16 Apr 2026).
        """
        if (comment_id is None) == (post_id is None):
            raise DJMInvalidValueException("A private reply answers either a comment or a post")
        recipient = {"comment_id": comment_id} if comment_id is not None else {"post_id": post_id}
        return self.send(recipient, body)

    def upload(
        self, kind: str, source: str | Upload, *, reusable: bool = True, platform: str | None = None
    ) -> str:
        """Upload an attachment from a URL or a local file; give its id, good for 90 days on this Page.

        ``kind`` is ``image``, ``audio``, ``video`` or ``file``.
        """
        payload: dict[str, Any] = {"is_reusable": reusable}
        if isinstance(source, str):
            payload["url"] = source
        body: dict[str, Any] = {"message": {"attachment": {"type": kind, "payload": payload}}}
        if platform:
            body["platform"] = platform
        files = {"filedata": source} if isinstance(source, Upload) else None
        return self._id(Call("POST", self._page("message_attachments"), body, files=files), "attachment_id")

    def _id(self, call: Call, key: str = "id") -> str:
        return results.text_of(self._answer(call, needs=key)[1][key])

    # People.

    def profile(self, psid: str, fields: Iterable[str] = PROFILE_FIELDS) -> results.Profile:
        """Ask who a person is. ``ProfileRefused`` when Graph does not tell, which is worth remembering.

        No access shows as an empty object, as 100/33, 100/2018218 or 2018247 ("User Profile API", 2026).
        """
        refused: GraphError | None = None
        data: Any = None
        try:
            data = self._get(segment(psid), fields=",".join(fields))
        except (MessageRejected, PermissionMissing, PersonUnreachable) as error:
            refused = error
        if refused is not None:
            raise ProfileRefused(
                refused.message,
                code=refused.code,
                subcode=refused.subcode,
                type=refused.type,
                fbtrace_id=refused.fbtrace_id,
                status=refused.status,
                meaning=refused.meaning,
                call=refused.call,
            )
        if not isinstance(data, Mapping) or not data.keys() - {"id"}:
            raise ProfileRefused(meaning="Graph answered with an empty profile")
        return results.Profile.read(data)

    def linked_person(self, account_linking_token: str) -> str:
        """Give the page-scoped id behind an account linking token, which lives 5 minutes."""
        params = {"fields": "recipient", "account_linking_token": account_linking_token}
        return self._id(Call("GET", "me", params=params), "recipient")

    def unlink_account(self, psid: str) -> Done:
        """Forget the link between a person and an account of the site."""
        return Done.read(self._post("me/unlink_accounts", {"psid": psid}))

    def moderate(self, psids: Sequence[str], actions: Sequence[str]) -> Done:
        """Block, ban or file people.

        Actions are ``block_user``, ``unblock_user``, ``ban_user``, ``unban_user`` and ``move_to_spam``.
        """
        body = {"user_ids": [person(psid) for psid in psids], "actions": list(actions)}
        return Done.read(self._post(self._page("moderate_conversations"), body))

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

    # Personas.

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

    # Conversations as Graph keeps them. 2 calls a second for each Page; only the 20 newest messages.

    def conversations(
        self,
        *,
        user_id: str | None = None,
        platform: str | None = None,
        folder: str | None = None,
        fields: Iterable[str] = ("id", "updated_time", "link", "message_count", "unread_count", "can_reply"),
        after: str | None = None,
    ) -> Paged[results.ConversationInfo]:
        """List conversations, newest first; ``user_id`` leaves the one with that person."""
        return self._paged(
            self._page("conversations"),
            results.ConversationInfo.read,
            user_id=user_id,
            platform=platform,
            folder=folder,
            fields=",".join(fields),
            after=after,
        )

    def recent_messages(
        self, psid: str, *, limit: int = 20, platform: str | None = None
    ) -> tuple[results.MessageInfo, ...]:
        """Give the newest messages with one person, newest first, in one call; empty when there are none."""
        fields = f"messages.limit({limit}){{id,created_time,from,to,message,attachments}}"
        data = self._get(self._page("conversations"), user_id=psid, platform=platform, fields=fields)
        return tuple(
            results.MessageInfo.read(item)
            for conversation in results.items_of(data)
            for item in results.items_of(conversation.get("messages"))
        )

    def message(
        self,
        message_id: str,
        fields: Iterable[str] = ("id", "created_time", "from", "to", "message", "attachments"),
    ) -> results.MessageInfo:
        """Read one message."""
        return results.MessageInfo.read(self._get(segment(message_id), fields=",".join(fields)))

    # Conversation routing ("Conversation Routing", 24 Sep 2025). Control lapses after 24 hours of silence.

    def pass_thread(self, psid: str, target_app_id: str, metadata: str | None = None) -> Done:
        """Hand a conversation to another app; 263902037430900 is the Page's inbox."""
        return self._route("pass", psid, target_app_id=target_app_id, metadata=metadata)

    def take_thread(self, psid: str, metadata: str | None = None) -> Done:
        """Take a conversation; works only where a default app is set."""
        return self._route("take", psid, metadata=metadata)

    def request_thread(self, psid: str, metadata: str | None = None) -> Done:
        """Ask the app that has the conversation for it."""
        return self._route("request", psid, metadata=metadata)

    def release_thread(self, psid: str) -> Done:
        """Give a conversation back to nobody."""
        return self._route("release", psid)

    def extend_thread(self, psid: str, duration: int) -> Done:
        """Keep a conversation for so many seconds, at most 7 days."""
        return self._route("extend", psid, duration=duration)

    def _route(self, verb: str, psid: str, **body: Any) -> Done:
        return Done.read(
            self._post(self._page(f"{verb}_thread_control"), {"recipient": person(psid), **body})
        )

    def thread_owner(self, psid: str) -> results.ThreadOwner:
        """Say which app has a conversation."""
        items = results.items_of(self._get(self._page("thread_owner"), recipient=psid))
        owner = items[0].get("thread_owner") if items else None
        if not isinstance(owner, Mapping):
            return results.ThreadOwner()
        return results.ThreadOwner(
            results.text_of(owner.get("app_id")), results.time_of(owner.get("expiration"))
        )

    # Labels.

    def create_label(self, name: str) -> str:
        """Make a label and give its id."""
        return self._id(Call("POST", self._page("custom_labels"), {"page_label_name": name}))

    def labels(self, *, psid: str | None = None, after: str | None = None) -> Paged[results.Label]:
        """List the labels of the Page, or those on one person."""
        path = self._page("custom_labels") if psid is None else f"{segment(psid)}/custom_labels"
        return self._paged(path, results.Label.read, fields="id,page_label_name", after=after)

    def put_label(self, label_id: str, psid: str) -> Done:
        """Put a label on a person."""
        return Done.read(self._post(f"{segment(label_id)}/label", {"user": psid}))

    def take_label(self, label_id: str, psid: str) -> Done:
        """Take a label off a person."""
        return Done.read(self.execute(Call("DELETE", f"{segment(label_id)}/label", params={"user": psid})))

    def delete_label(self, label_id: str) -> Done:
        """Remove a label from the Page."""
        return Done.read(self.execute(Call("DELETE", segment(label_id))))

    # The Page.

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
