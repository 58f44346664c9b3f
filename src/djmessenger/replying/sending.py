"""From a message to rows of the outbox: language, prefix, conversation."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from django.db import transaction

from djmessenger import graph, models
from djmessenger.exceptions import DJMException, DJMInvalidValueException
from djmessenger.logs import error_label, hidden
from djmessenger.models.conversations import ReplyBuffer
from djmessenger.outgoing.rendering import Words, bodies, prefix_for, renderer
from djmessenger.receiving import Messaging
from djmessenger.settings import app_settings

logger = logging.getLogger("djmessenger.replying")

_person: ContextVar[models.FBUserProfile | None] = ContextVar("djmessenger_person", default=None)
_page_language: ContextVar[str] = ContextVar("djmessenger_page_language", default="")


@contextlib.contextmanager
def use_language_of(person: models.FBUserProfile | None, page: models.Page | None = None) -> Iterator[None]:
    """Spare what is rendered inside from looking the person up again; the Page's language is the second choice."""
    tokens = _person.set(person), _page_language.set(_language_of_page(page))
    try:
        yield
    finally:
        _person.reset(tokens[0])
        _page_language.reset(tokens[1])


def queue(
    messaging: Messaging, message: Any, *, rule: str = "", buffer: ReplyBuffer | None = None
) -> list[models.Reply]:
    """Queue an answer to the sender of a messaging, inside the caller's transaction: a row for each call.

    ``message`` is an outgoing message, its plain data, a text, or several of these; each text is rendered in the
    person's language, with ``DJM_BOT_PREFIX`` in front. A sender action makes no row: it is sent once, after the
    commit, and a failure is logged. Given ``buffer``, rows may be left there to be inserted later. Raises
    ``DJMInvalidConfigException`` for what breaks a limit of the platform, and ``DJMInvalidValueException`` where
    there is nobody to answer.
    """
    rows: list[models.Reply] = []
    for kind, body in bodies(message, locale=_locale_of(messaging), channel=messaging.channel):
        if "message" in body:
            rows.append(queue_body(messaging, body, kind, rule=rule, buffer=buffer))
        else:
            act(messaging, body)
    return rows


def queue_body(
    messaging: Messaging,
    body: dict[str, Any],
    kind: str,
    *,
    rule: str = "",
    buffer: ReplyBuffer | None = None,
) -> models.Reply:
    """Queue one call of the Send API as it is."""
    return models.Reply.objects.queue(
        _conversation(messaging), body, type=kind, messaging=messaging.row, rule=rule, buffer=buffer
    )


def act(messaging: Messaging, body: Mapping[str, Any]) -> None:
    """Send a sender action once, best effort: after the commit of the transaction that is open, or at once."""
    psid = messaging.get_psid()

    def failed(error: Exception) -> None:
        logger.warning(
            "Sender action %s was not sent: %s",
            body.get("sender_action"),
            error_label(error),
            extra={"action": "sender_action_failed", "person": hidden(psid)},
        )

    if not psid:
        failed(DJMInvalidValueException("the event is nobody's"))
        return
    try:
        client = graph.current()
    except DJMException as error:
        failed(error)
        return

    def send() -> None:
        try:
            client.send({"id": psid}, body)
        except (DJMException, OSError) as error:
            failed(error)

    # No transaction stays open while somebody else is waited for.
    transaction.on_commit(send, robust=True)


def render_for(psid: str, text: Words, add_prefix: bool) -> str:
    """Give a text in the language of a person, with ``DJM_BOT_PREFIX`` in front where that is wanted."""
    known = _person.get()
    if known is not None and known.psid == psid:
        locale: str | None = known.locale
    else:
        locale = _stored_locale(psid)
    locale = locale or _page_language.get()
    return f"{prefix_for(locale) if add_prefix else ''}{renderer(locale)(text)}"


def _locale_of(messaging: Messaging) -> str | None:
    person: models.FBUserProfile | None = messaging.person
    locale = person.locale if person is not None else _stored_locale(messaging.get_psid())
    return locale or _language_of_page(messaging.page)


def _language_of_page(page: models.Page | None) -> str:
    return page.configured("language") if page is not None else ""


def _stored_locale(psid: str) -> str | None:
    return models.FBUserProfile.objects.filter(pk=psid).values_list("locale", flat=True).first()


def _conversation(messaging: Messaging) -> models.Conversation:
    """Give the conversation of an event; for one that did not come by the engine it is looked up or made."""
    conversation: models.Conversation | None = messaging.conversation
    if conversation is None:
        psid = messaging.get_psid()
        page_id = messaging.get_page_id() or app_settings.DJM_PAGE_ID
        if not psid or not page_id:
            raise DJMInvalidValueException(
                f"the event names no {'Page' if psid else 'person'}, so there is nobody to answer"
            )
        conversation = models.Conversation.objects.between(page_id, psid)
        messaging.bind(conversation=conversation, person=messaging.person or conversation.person)
    return conversation
