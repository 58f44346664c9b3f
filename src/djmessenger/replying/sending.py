"""Insertion of messages into the outbox, with the language of the person, the prefix and the conversation."""

from __future__ import annotations

import contextlib
import datetime
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from django.utils import timezone, translation

from djmessenger import models
from djmessenger.exceptions import DJMException, DJMInvalidValueException
from djmessenger.graph.context import current as current_client
from djmessenger.logs import error_label, hidden
from djmessenger.models.replies import ReplyBuffer
from djmessenger.outgoing.rendering import Words, bodies, language_of, locale_of, prefix_for, renderer
from djmessenger.receiving import Messaging
from djmessenger.settings import app_settings
from djmessenger.sql import connection, on_commit

logger = logging.getLogger("djmessenger.replying")

_person: ContextVar[models.FBUserProfile | None] = ContextVar("djmessenger_person", default=None)
_page_language: ContextVar[str] = ContextVar("djmessenger_page_language", default="")
_buffered: ContextVar[tuple[Messaging, ReplyBuffer] | None] = ContextVar("djmessenger_buffered", default=None)


def use_language_of(
    person: models.FBUserProfile | None, page: models.Page | None = None
) -> contextlib.AbstractContextManager[None]:
    """Return a context in which code runs, and texts are rendered, in the person's language and time zone.

    It makes no query. A person of unknown language has that of the Page, otherwise that of the project. Without a
    person only the language of rendered texts is set.
    """
    page_language = _language_of_page(page)
    is_nested = _person.get() is person and _page_language.get() == page_language
    if person is None:
        return contextlib.nullcontext() if is_nested else _rendering_for(None, page_language)
    language, tzinfo = language_of(locale_of(person.locale, page_language)), person.get_tzinfo()
    # Each rule of an event is a block of its own in that of the event, because the DEFAULT rule may fetch the profile.
    # In most of them nothing changes. The outer block restores what a rule activates itself.
    if is_nested and translation.get_language() == language and timezone.get_current_timezone() == tzinfo:
        return contextlib.nullcontext()
    return _in_language(person, page_language, language, tzinfo)


@contextlib.contextmanager
def _rendering_for(person: models.FBUserProfile | None, page_language: str) -> Iterator[None]:
    tokens = _person.set(person), _page_language.set(page_language)
    try:
        yield
    finally:
        _person.reset(tokens[0])
        _page_language.reset(tokens[1])


@contextlib.contextmanager
def _in_language(
    person: models.FBUserProfile, page_language: str, language: str, tzinfo: datetime.tzinfo
) -> Iterator[None]:
    with (
        _rendering_for(person, page_language),
        translation.override(language),
        timezone.override(tzinfo),
    ):
        yield


@contextlib.contextmanager
def buffering(messaging: Messaging, buffer: ReplyBuffer | None) -> Iterator[None]:
    """Put the replies to this event into the buffer during the block, as long as the buffer is open."""
    token = _buffered.set(None if buffer is None else (messaging, buffer))
    try:
        yield
    finally:
        _buffered.reset(token)


def queue(messaging: Messaging, message: Any, *, rule: str = "") -> list[models.Reply]:
    """Insert a reply to the sender of an event, inside the caller's transaction, and return its rows.

    ``message`` is an outgoing message, its plain data, a text, or several of these. Each call of the Send API is one
    row. Each text is rendered in the person's language, after ``DJM_BOT_PREFIX``. A sender action makes no row: it is
    sent once, after the commit, and a failure is logged. Inside ``buffering`` the rows are inserted later.

    Raises ``DJMInvalidConfigException`` if a message is over a limit of the platform, and ``DJMInvalidValueException``
    if the event has no person or no Page.
    """
    rows: list[models.Reply] = []
    for kind, body in bodies(message, locale=_locale_of(messaging), channel=messaging.channel):
        if "message" in body:
            rows.append(queue_body(messaging, body, kind, rule=rule))
        else:
            act(messaging, body)
    return rows


def queue_body(messaging: Messaging, body: dict[str, Any], kind: str, *, rule: str = "") -> models.Reply:
    """Insert one call of the Send API as a reply, inside the caller's transaction, and return its row.

    Inside ``buffering`` the row is inserted later.
    """
    # Guard: a rule may answer another event than its own. The commit of its own event knows nothing of that
    # conversation. Test: tests/test_inbox.py, test_a_reply_to_another_event_is_inserted_at_once.
    event, buffer = _buffered.get() or (None, None)
    return models.Reply.objects.queue(
        _conversation(messaging),
        body,
        type=kind,
        messaging=messaging.row,
        rule=rule,
        buffer=buffer if event is messaging else None,
    )


def act(messaging: Messaging, body: Mapping[str, Any]) -> None:
    """Send a sender action once, when the open transaction commits, or at once if none is open.

    A failure is logged, and the action is not sent again.
    """
    psid = messaging.get_psid()

    def failed(error: Exception) -> None:
        logger.warning(
            "Sender action %s was not sent and is dropped: %s",
            body.get("sender_action"),
            error_label(error),
            extra={"action": "sender_action_failed", "person": hidden(psid)},
        )

    if not psid:
        failed(DJMInvalidValueException("the event has no person"))
        return
    try:
        client = current_client()
    except DJMException as error:
        failed(error)
        return

    def send() -> None:
        try:
            client.send({"id": psid}, body)
        except (DJMException, OSError) as error:
            failed(error)

    if connection().in_atomic_block:
        # The call of Graph waits for the commit, so that no transaction and no lock stays open during it.
        on_commit(send, robust=True)
    else:
        # ``on_commit`` would open a database connection in the thread of each slow rule with ``typing``.
        # test_a_slow_rule_costs_no_connection_of_its_own
        send()


def render_for(psid: str, text: Words, add_prefix: bool) -> str:
    """Return a text in the language of a person, after ``DJM_BOT_PREFIX`` if ``add_prefix`` is set."""
    person = _person.get()
    if person is not None and person.psid == psid:
        locale: str | None = person.locale
    else:
        locale = _stored_locale(psid)
    locale = locale_of(locale, _page_language.get())
    return f"{prefix_for(locale) if add_prefix else ''}{renderer(locale)(text)}"


def _locale_of(messaging: Messaging) -> str:
    person: models.FBUserProfile | None = messaging.person
    locale = person.locale if person is not None else _stored_locale(messaging.get_psid())
    return locale_of(locale, _language_of_page(messaging.page))


def _language_of_page(page: models.Page | None) -> str:
    return page.configured("language") if page is not None else ""


def _stored_locale(psid: str) -> str | None:
    return models.FBUserProfile.objects.filter(pk=psid).values_list("locale", flat=True).first()


def _conversation(messaging: Messaging) -> models.Conversation:
    """Return the conversation of an event. If the event did not come by the engine, read or insert the conversation.

    Raises ``DJMInvalidValueException`` if the event has no person or no Page.
    """
    conversation: models.Conversation | None = messaging.conversation
    if conversation is None:
        psid = messaging.get_psid()
        page_id = messaging.get_page_id() or app_settings.DJM_PAGE_ID
        if not psid or not page_id:
            raise DJMInvalidValueException(
                f"the event has no {'Page' if psid else 'person'}, so no reply can be queued"
            )
        conversation = models.Conversation.objects.between(page_id, psid)
        messaging.bind(conversation=conversation, person=messaging.person or conversation.person)
    return conversation
