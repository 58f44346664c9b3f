"""The calls about people and what is said to them, as methods over one ``execute``.

Sources: the Messenger Platform's pages on each subject, read in 2026; where a page disagrees with Meta's own
specification of the Page object (v25), the docstring says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from djmessenger.exceptions import DJMInvalidValueException
from djmessenger.graph import results
from djmessenger.graph.calls import Calls, person, segment
from djmessenger.graph.errors import (
    GraphError,
    MessageRejected,
    PermissionMissing,
    PersonUnreachable,
    ProfileRefused,
)
from djmessenger.graph.results import Done, Paged, Sent
from djmessenger.graph.wire import Call, Upload

NAME_FIELDS = ("id", "name", "first_name", "last_name", "profile_pic")

PROFILE_FIELDS = (*NAME_FIELDS, "locale", "timezone", "gender")

NO_FIELD_PERMISSION, BAD_PARAMETER = 2018247, 100


def _for_its_fields(error: GraphError) -> bool:
    """Whether Graph refused the fields asked for, not the person."""
    return NO_FIELD_PERMISSION in (error.code, error.subcode) or (
        error.code == BAD_PARAMETER and error.subcode is None
    )


class PeopleCalls(Calls):
    """Sending, profiles, conversations, who has a conversation, labels."""

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

    # People.

    def profile(self, psid: str, fields: Iterable[str] = PROFILE_FIELDS) -> results.Profile:
        """Ask who a person is. ``ProfileRefused`` when Graph does not tell, which is worth remembering.

        No access shows as an empty object, as 100/33 or as 100/2018218; a field that the app may not see, or
        that is retired, fails the whole call: then the names alone are asked for ("User Profile API", 2026).
        """
        fields = tuple(fields)
        data, refused = self._profile(psid, fields)
        if refused is not None and _for_its_fields(refused) and set(fields) - set(NAME_FIELDS):
            data, refused = self._profile(psid, NAME_FIELDS)
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

    def _profile(self, psid: str, fields: Iterable[str]) -> tuple[Any, GraphError | None]:
        try:
            return self._get(segment(psid), fields=",".join(fields)), None
        except (MessageRejected, PermissionMissing, PersonUnreachable) as error:
            return None, error

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
