"""Calls to Graph that a bot makes, as methods over one ``execute``.

Sources: the Messenger Platform's pages on each subject, read in 2026. A docstring mentions each point in which
a page disagrees with Meta's own specification of the Page object (v25).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from djmessenger.channels import Channel
from djmessenger.exceptions import DJMInvalidValueException, LimitExceeded
from djmessenger.graph.batches import BATCH_SIZE, batch_answer, batch_entry
from djmessenger.graph.errors import (
    GraphError,
    MessageRejected,
    PermissionMissing,
    PersonUnreachable,
    ProfileRefused,
)
from djmessenger.graph.results import (
    AppSubscription,
    BatchAnswer,
    ConversationInfo,
    Done,
    Label,
    MessageInfo,
    MessageTemplate,
    MessengerProfile,
    Metric,
    Paged,
    Persona,
    Profile,
    Sent,
    Subscription,
    ThreadOwner,
    UserSettings,
    after_of,
    items_of,
    text_of,
    time_of,
)
from djmessenger.graph.wire import Call, Upload
from djmessenger.secret import without_texts_in_frames

Item = TypeVar("Item")

MESSENGER_PROFILE_FIELDS = (
    "greeting",
    "get_started",
    "persistent_menu",
    "ice_breakers",
    "commands",
    "whitelisted_domains",
    "account_linking_url",
)

NO_FIELD_PERMISSION, BAD_PARAMETER = 2018247, 100


def segment(value: str) -> str:
    """Return an id as one quoted segment of a path.

    Raise ``DJMInvalidValueException`` for an empty text, ``.`` and ``..``.
    """
    text = quote(str(value), safe="")
    if not text or text in {".", ".."}:
        raise DJMInvalidValueException("An id for Graph is missing")
    return text


def person(psid: str) -> dict[str, str]:
    """Return the recipient object of a person with this page-scoped id."""
    return {"id": str(psid)}


def _for_its_fields(error: GraphError) -> bool:
    """Return whether Graph refused the requested fields and not the person."""
    return NO_FIELD_PERMISSION in (error.code, error.subcode) or (
        error.code == BAD_PARAMETER and error.subcode is None
    )


class _Requests:
    """Requests and paths that all calls have in common."""

    page_id: str
    channel: Channel

    def execute(self, call: Call) -> Any:
        raise NotImplementedError

    def _answer(self, call: Call, *, needs: str = "") -> tuple[int, Any]:
        """Return status and JSON; raise ``UnknownFate`` if the JSON lacks the id that ``needs`` names."""
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
        return Paged(tuple(map(read, items_of(data))), after_of(data))

    def _id(self, call: Call, key: str = "id") -> str:
        return text_of(self._answer(call, needs=key)[1][key])


class _PersonCalls(_Requests):
    """Calls about persons: messages, profiles, conversations, control of a conversation and labels."""

    # Sending.

    @without_texts_in_frames
    def send(
        self, recipient: Mapping[str, Any], body: Mapping[str, Any], *, file: Upload | None = None
    ) -> Sent:
        """Send one message or sender action; ``body`` is the JSON of the call without the recipient.

        ``file`` is sent as ``filedata``. Raise ``UnknownFate`` if the answer to a message has no message id.
        """
        call = Call(
            "POST",
            self._page("messages"),
            {"recipient": dict(recipient), **body},
            files={"filedata": file} if file else None,
        )
        status, data = self._answer(call, needs="message_id" if "message" in body else "")
        answer = data if isinstance(data, Mapping) else {}
        return Sent(
            recipient_id=text_of(answer.get("recipient_id")),
            message_id=text_of(answer.get("message_id")),
            attachment_id=text_of(answer.get("attachment_id")),
            status_code=status,
            data=answer,
        )

    @without_texts_in_frames
    def private_reply(
        self, body: Mapping[str, Any], *, comment_id: str | None = None, post_id: str | None = None
    ) -> Sent:
        """Answer a comment or a visitor's post in private, once, within 7 days.

        Meta accepts further messages after the person has answered ("Private Replies", 16 Apr 2026).
        """
        if (comment_id is None) == (post_id is None):
            raise DJMInvalidValueException("A private reply answers either a comment or a post")
        recipient = {"comment_id": comment_id} if comment_id is not None else {"post_id": post_id}
        return self.send(recipient, body)

    # People.

    @without_texts_in_frames
    def profile(self, psid: str, fields: Iterable[str] = ()) -> Profile:
        """Return the profile of a person; raise ``ProfileRefused`` if Graph returns none.

        ``fields`` default to those of the channel. Graph answers with an empty object, 100/33 or 100/2018218 if the
        app has no access. One field that is retired, or that the app may not see, fails the whole call. A second call
        then requests the names alone ("User Profile API", 2026).
        """
        fields, names = tuple(fields) or self.channel.profile_fields, self.channel.name_fields
        data, refused = self._profile(psid, fields)
        if refused is not None and _for_its_fields(refused) and set(fields) - set(names):
            data, refused = self._profile(psid, names)
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
        return Profile.read(data)

    def _profile(self, psid: str, fields: Iterable[str]) -> tuple[Any, GraphError | None]:
        try:
            return self._get(segment(psid), fields=",".join(fields)), None
        except (MessageRejected, PermissionMissing, PersonUnreachable) as error:
            return None, error

    def linked_person(self, account_linking_token: str) -> str:
        """Return the page-scoped id behind an account linking token; the token is valid for 5 minutes."""
        params = {"fields": "recipient", "account_linking_token": account_linking_token}
        return self._id(Call("GET", "me", params=params), "recipient")

    def unlink_account(self, psid: str) -> Done:
        """Remove the link between a person and an account of the site."""
        return Done.read(self._post("me/unlink_accounts", {"psid": psid}))

    def moderate(self, psids: Sequence[str], actions: Sequence[str]) -> Done:
        """Block or ban people, or move them to spam.

        Actions are ``block_user``, ``unblock_user``, ``ban_user``, ``unban_user`` and ``move_to_spam``.
        """
        body = {"user_ids": [person(psid) for psid in psids], "actions": list(actions)}
        return Done.read(self._post(self._page("moderate_conversations"), body))

    # Conversations in Graph. 2 calls a second for each Page; only the 20 newest messages can be read.

    def conversations(
        self,
        *,
        user_id: str | None = None,
        platform: str | None = None,
        folder: str | None = None,
        fields: Iterable[str] = ("id", "updated_time", "link", "message_count", "unread_count", "can_reply"),
        after: str | None = None,
    ) -> Paged[ConversationInfo]:
        """Return one page of conversations, newest first; ``user_id`` selects the one with that person."""
        return self._paged(
            self._page("conversations"),
            ConversationInfo.read,
            user_id=user_id,
            platform=platform,
            folder=folder,
            fields=",".join(fields),
            after=after,
        )

    @without_texts_in_frames
    def recent_messages(
        self, psid: str, *, limit: int = 20, platform: str | None = None
    ) -> tuple[MessageInfo, ...]:
        """Return the newest messages with one person, newest first, by one call; empty if there are none."""
        fields = f"messages.limit({limit}){{id,created_time,from,to,message,attachments}}"
        data = self._get(self._page("conversations"), user_id=psid, platform=platform, fields=fields)
        return tuple(
            MessageInfo.read(item)
            for conversation in items_of(data)
            for item in items_of(conversation.get("messages"))
        )

    @without_texts_in_frames
    def message(
        self,
        message_id: str,
        fields: Iterable[str] = ("id", "created_time", "from", "to", "message", "attachments"),
    ) -> MessageInfo:
        """Return one message."""
        return MessageInfo.read(self._get(segment(message_id), fields=",".join(fields)))

    # Conversation routing ("Conversation Routing", 24 Sep 2025). Control ends after 24 hours without a message.

    def pass_thread(self, psid: str, target_app_id: str, metadata: str | None = None) -> Done:
        """Pass control of a conversation to another app; 263902037430900 is the Page's inbox."""
        return self._route("pass", psid, target_app_id=target_app_id, metadata=metadata)

    def take_thread(self, psid: str, metadata: str | None = None) -> Done:
        """Take control of a conversation; Graph accepts the call only if the Page has a default app."""
        return self._route("take", psid, metadata=metadata)

    def request_thread(self, psid: str, metadata: str | None = None) -> Done:
        """Request control from the app that has the conversation."""
        return self._route("request", psid, metadata=metadata)

    def release_thread(self, psid: str) -> Done:
        """Release control of a conversation; no app has it afterwards."""
        return self._route("release", psid)

    def extend_thread(self, psid: str, duration: int) -> Done:
        """Extend control of a conversation by ``duration`` seconds, at most 7 days."""
        return self._route("extend", psid, duration=duration)

    def _route(self, verb: str, psid: str, **body: Any) -> Done:
        return Done.read(
            self._post(self._page(f"{verb}_thread_control"), {"recipient": person(psid), **body})
        )

    def thread_owner(self, psid: str) -> ThreadOwner:
        """Return the app that has control of a conversation."""
        items = items_of(self._get(self._page("thread_owner"), recipient=psid))
        owner = items[0].get("thread_owner") if items else None
        if not isinstance(owner, Mapping):
            return ThreadOwner()
        return ThreadOwner(text_of(owner.get("app_id")), time_of(owner.get("expiration")))

    # Labels.

    def create_label(self, name: str) -> str:
        """Create a label and return its id."""
        return self._id(Call("POST", self._page("custom_labels"), {"page_label_name": name}))

    def labels(self, *, psid: str | None = None, after: str | None = None) -> Paged[Label]:
        """Return one page of the labels of the Page, or of those on one person."""
        path = self._page("custom_labels") if psid is None else f"{segment(psid)}/custom_labels"
        return self._paged(path, Label.read, fields="id,page_label_name", after=after)

    def put_label(self, label_id: str, psid: str) -> Done:
        """Put a label on a person."""
        return Done.read(self._post(f"{segment(label_id)}/label", {"user": psid}))

    def take_label(self, label_id: str, psid: str) -> Done:
        """Take a label off a person."""
        return Done.read(self.execute(Call("DELETE", f"{segment(label_id)}/label", params={"user": psid})))

    def delete_label(self, label_id: str) -> Done:
        """Remove a label from the Page."""
        return Done.read(self.execute(Call("DELETE", segment(label_id))))


class _PageCalls(_Requests):
    """Calls about the Page: its Messenger Profile, its objects, and batches of calls."""

    # The Messenger Profile. 10 calls in 10 minutes for each Page.

    def get_messenger_profile(
        self, fields: Iterable[str] = MESSENGER_PROFILE_FIELDS, *, platform: str | None = None
    ) -> MessengerProfile:
        """Return properties of the Messenger Profile; a property that is not set is ``None``."""
        data = self._get(self._page("messenger_profile"), fields=",".join(fields), platform=platform)
        merged: dict[str, Any] = {}
        for item in items_of(data):
            merged.update(item)
        return MessengerProfile.read(merged)

    def set_messenger_profile(self, properties: Mapping[str, Any], *, platform: str | None = None) -> Done:
        """Overwrite the given properties; leave all other properties as they are."""
        return Done.read(self._post(self._page("messenger_profile"), {**properties, "platform": platform}))

    def delete_messenger_profile(self, fields: Iterable[str], *, platform: str | None = None) -> Done:
        """Remove properties."""
        body = {"fields": list(fields), **({"platform": platform} if platform else {})}
        return Done.read(self.execute(Call("DELETE", self._page("messenger_profile"), body)))

    def get_user_settings(self, psid: str) -> UserSettings:
        """Return the menu of one person and the menu of the Page."""
        data = self._get(self._page("custom_user_settings"), psid=psid)
        items = items_of(data)
        return UserSettings.read(items[0] if items else {})

    def set_user_settings(self, psid: str, persistent_menu: Sequence[Mapping[str, Any]]) -> Done:
        """Set the menu of one person, with immediate effect. 10 calls in 10 minutes for each person."""
        body = {"psid": psid, "persistent_menu": list(persistent_menu)}
        return Done.read(self._post(self._page("custom_user_settings"), body))

    def delete_user_settings(self, psid: str) -> Done:
        """Delete the menu of one person; the person sees the menu of the Page again."""
        return Done.read(
            self.execute(
                Call(
                    "DELETE",
                    self._page("custom_user_settings"),
                    params={"psid": psid, "params": ["persistent_menu"]},
                )
            )
        )

    # Objects of the Page: attachments, personas, subscriptions, insights.

    def upload(
        self,
        kind: str,
        source: str | Upload,
        *,
        reusable: bool = True,
        platform: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Upload an attachment from a URL or a local file; return its id, valid for 90 days on this Page.

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
        """Create a persona and return its id."""
        body = {"name": name, "profile_picture_url": profile_picture_url}
        return self._id(Call("POST", self._page("personas"), body))

    def personas(self, *, after: str | None = None) -> Paged[Persona]:
        """Return one page of the personas of the Page."""
        return self._paged(self._page("personas"), Persona.read, after=after)

    def persona(self, persona_id: str) -> Persona:
        """Return one persona."""
        return Persona.read(self._get(segment(persona_id), fields="id,name,profile_picture_url"))

    def delete_persona(self, persona_id: str) -> Done:
        """Delete a persona; its old messages stay, and new messages under it fail."""
        return Done.read(self.execute(Call("DELETE", segment(persona_id))))

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return the apps that receive the Page's webhooks, with their fields."""
        return tuple(map(Subscription.read, items_of(self._get(self._page("subscribed_apps")))))

    def subscribe(self, fields: Iterable[str]) -> Done:
        """Subscribe this app to these fields of the Page's webhooks and to no other field."""
        return Done.read(self._post(self._page("subscribed_apps"), {"subscribed_fields": ",".join(fields)}))

    def unsubscribe(self) -> Done:
        """Remove the subscription of this app to the Page's webhooks."""
        return Done.read(self.execute(Call("DELETE", self._page("subscribed_apps"))))

    def insights(self, metrics: Iterable[str], **params: Any) -> tuple[Metric, ...]:
        """Return metrics of the Page; ``period``, ``since`` and ``until`` are passed on to Graph."""
        data = self._get(self._page("insights"), metric=",".join(metrics), **params)
        return tuple(map(Metric.read, items_of(data)))

    def page_fields(self, fields: Iterable[str] = ("id", "name")) -> Mapping[str, Any]:
        """Return fields of the Page itself, such as ``messaging_feature_status``."""
        data = self._get(self._page(), fields=",".join(fields))
        return data if isinstance(data, Mapping) else {}

    # Templates of utility messages ("Utility messages", 2026).

    def create_message_template(self, template: Mapping[str, Any]) -> MessageTemplate:
        """Submit a template for review.

        ``template`` contains name, language, category and components, or the name of a template in Meta's library.
        """
        call = Call("POST", self._page("message_templates"), template)
        return MessageTemplate.read(self._answer(call, needs="id")[1])

    def message_templates(self, *, after: str | None = None, **filters: Any) -> Paged[MessageTemplate]:
        """Return one page of templates; filters are ``name``, ``content``, ``language``, ``status``, ``category``."""
        return self._paged(self._page("message_templates"), MessageTemplate.read, after=after, **filters)

    def delete_message_template(self, name: str, template_id: str | None = None) -> Done:
        """Delete a template in all languages, or the one with ``template_id``."""
        params = {"name": name, "template_id": template_id}
        return Done.read(self.execute(Call("DELETE", self._page("message_templates"), params=params)))

    # Batches.

    @without_texts_in_frames
    def batch(self, calls: Sequence[Call]) -> tuple[BatchAnswer, ...]:
        """Execute up to 50 calls in one request, in order; return one answer or error for each call.

        An empty slot means a timeout inside Graph. The call may have been executed, so its answer is
        ``UnknownFate``. Each call counts towards the limits. Raise ``LimitExceeded`` for more than 50 calls.
        """
        if len(calls) > BATCH_SIZE:
            raise LimitExceeded("batch", f"at most {BATCH_SIZE} calls", "Graph API, Batch Requests")
        if not calls:
            return ()
        body = {"batch": [batch_entry(call) for call in calls], "include_headers": False}
        data = self.execute(Call("POST", "", body))
        slots: list[Any] = data if isinstance(data, list) else []
        return tuple(
            batch_answer(call, slots[index] if index < len(slots) else None, len(calls))
            for index, call in enumerate(calls)
        )

    # Calls about the app itself: the token of the client is the token of the app, and ``page_id`` is the app id.

    def app_subscriptions(self) -> tuple[AppSubscription, ...]:
        """Return the objects whose changes Meta posts to the app, with fields and address."""
        data = self._get(self._page("subscriptions"))
        return tuple(map(AppSubscription.read, items_of(data)))

    def app_permissions(self) -> dict[str, str]:
        """Return the status of each permission that App Review has decided (Graph API, v26.0)."""
        permissions = items_of(self._get(self._page("permissions")))
        return {text_of(item.get("permission")): text_of(item.get("status")).lower() for item in permissions}


class Calls(_PersonCalls, _PageCalls):
    """Parent of the client: one method for each call that a bot of one Page makes."""
