"""From a message to rows of the outbox: language, prefix, conversation."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from django.conf import settings as django_settings
from django.db import transaction
from django.utils import translation
from django.utils.functional import Promise

from djmessenger import graph, models, settings
from djmessenger.exceptions import DJMException, DJMInvalidValueException
from djmessenger.facebook_locales import language_code
from djmessenger.outgoing import as_messages
from djmessenger.receiving import Messaging
from djmessenger.utils.utils import LocalizedString

logger = logging.getLogger("djmessenger.replying")

Words = str | Promise | LocalizedString

_rule: ContextVar[str] = ContextVar("djmessenger_rule", default="")
_rows: ContextVar[list[models.Reply] | None] = ContextVar("djmessenger_rows", default=None)
_person: ContextVar[models.FBUserProfile | None] = ContextVar("djmessenger_person", default=None)
_page_language: ContextVar[str] = ContextVar("djmessenger_page_language", default="")


@contextlib.contextmanager
def answering(rule: str) -> Iterator[list[models.Reply]]:
    """Name the rule in every row that is queued inside; give the rows as they come."""
    rows: list[models.Reply] = []
    tokens = _rule.set(rule), _rows.set(rows)
    try:
        yield rows
    finally:
        _rule.reset(tokens[0])
        _rows.reset(tokens[1])


@contextlib.contextmanager
def speaking_to(person: models.FBUserProfile | None, page: models.Page | None = None) -> Iterator[None]:
    """Spare what is rendered inside from looking the person up again; the Page's language is the second choice."""
    tokens = _person.set(person), _page_language.set(_language_of_page(page))
    try:
        yield
    finally:
        _person.reset(tokens[0])
        _page_language.reset(tokens[1])


def queue(messaging: Messaging, message: Any, *, rule: str = "") -> list[models.Reply]:
    """Queue an answer to the sender of a messaging, inside the caller's transaction: a row for each call.

    ``message`` is an outgoing message, its plain data, a text, or several of these; each text is rendered in the
    person's language, with ``DJM_BOT_PREFIX`` in front. A sender action makes no row: it is sent once, after the
    commit, and a failure is logged. Raises ``DJMInvalidConfigException`` for what breaks a limit of the platform,
    and ``DJMInvalidValueException`` where there is nobody to answer.
    """
    rows: list[models.Reply] = []
    render = _renderer(_locale_of(messaging))
    for item in as_messages(message):
        prefix = render(settings.DJM_BOT_PREFIX)
        for body in item.requests(render, channel=messaging.channel, prefix=prefix):
            if "message" in body:
                rows.append(queue_body(messaging, body, item.kind, rule=rule))
            else:
                act(messaging, body)
    return rows


def queue_body(messaging: Messaging, body: dict[str, Any], kind: str, *, rule: str = "") -> models.Reply:
    """Queue one call of the Send API as it is."""
    row = models.Reply.objects.queue(
        _conversation(messaging), body, type=kind, messaging=messaging.row, rule=(rule or _rule.get())[:255]
    )
    rows = _rows.get()
    if rows is not None:
        rows.append(row)
    return row


def act(messaging: Messaging, body: Mapping[str, Any]) -> None:
    """Send a sender action once, best effort: after the commit of the transaction that is open, or at once."""
    psid = messaging.get_psid()

    def failed(error: Exception) -> None:
        logger.warning(
            "Sender action %s was not sent: %s",
            body.get("sender_action"),
            error,
            extra={"action": "sender_action_failed", "psid": psid},
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
    render = _renderer(locale or _page_language.get())
    return f"{render(settings.DJM_BOT_PREFIX) if add_prefix else ''}{render(text)}"


def _renderer(locale: str | None) -> Callable[[Any], str]:
    language = _language_of(locale)

    def render(text: Any) -> str:
        if isinstance(text, str):
            return text
        with translation.override(language):
            if isinstance(text, Promise):
                return str(text)
            rendered: str = text.get_text_by_locale(locale)
            return rendered

    return render


def _language_of(locale: str | None) -> str:
    """Give Django's code for a locale; the project's language for one that says nothing."""
    known = language_code(locale)
    if known is None and locale:
        with contextlib.suppress(LookupError):
            known = translation.get_supported_language_variant(locale.replace("_", "-").lower())
    return known or django_settings.LANGUAGE_CODE


def _locale_of(messaging: Messaging) -> str | None:
    person: models.FBUserProfile | None = messaging.person
    locale = person.locale if person is not None else _stored_locale(messaging.get_psid())
    return locale or _language_of_page(messaging.page)


def _language_of_page(page: models.Page | None) -> str:
    return page.configured("language") if page is not None else ""


def _stored_locale(psid: str) -> str | None:
    return models.FBUserProfile.objects.filter(pk=psid).values_list("locale", flat=True).first()


def _conversation(messaging: Messaging) -> models.Conversation:
    """Give the conversation of an event; for one that did not come by the road it is looked up or made."""
    conversation: models.Conversation | None = messaging.conversation
    if conversation is None:
        psid = messaging.get_psid()
        page_id = messaging.get_page_id() or settings.DJM_PAGE_ID
        if not psid or not page_id:
            raise DJMInvalidValueException(
                f"the event names no {'Page' if psid else 'person'}, so there is nobody to answer"
            )
        conversation = models.Conversation.objects.between(page_id, psid)
        messaging.bind(conversation=conversation, person=messaging.person or conversation.person)
    return conversation
