"""Reads: the queries that run for each message, as named SQL.

Django compiles a query set at each run, which takes longer than the database needs. The texts of this file are fixed.
Their names in braces are replaced once for each database. ``{events}`` is a table. ``{event}`` is the list of columns
of a row that the text names ``event``. ``dialect`` in ``sql.py`` has the parts that differ between databases.

Related rows are joined by LEFT JOIN, so a planner cannot begin with them and scan their tables.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from django.db.models import Value

from djmessenger import models, sql
from djmessenger.sql import Now, Rows, cached, columns, dialect, fetch, many, require_transaction

_MODELS = {
    "callback": models.Callback,
    "conversation": models.Conversation,
    "event": models.Messaging,
    "page": models.Page,
    "person": models.FBUserProfile,
    "queue": models.ConversationQueue,
    "reply": models.Reply,
}
_TABLES = {
    "attempts": models.Attempt,
    "callbacks": models.Callback,
    "conversations": models.Conversation,
    "events": models.Messaging,
    "pages": models.Page,
    "persons": models.FBUserProfile,
    "queues": models.ConversationQueue,
    "replies": models.Reply,
}


def first_waiting(kind: str, value: str) -> str:
    """Return an SQL expression of ``value`` for the first waiting row of a queue. It is NULL if no row waits.

    ``value`` is SQL about that row, whose alias is ``waiting``. The expression stands in a text for ``statement``, in
    which the queue has the alias ``queue``.
    """
    if kind == models.ConversationQueue.Kind.OUT:
        return f"""(
            SELECT {value} FROM {{replies}} waiting
            WHERE waiting.conversation_id = queue.conversation_id AND waiting.state IN ({{open}})
            ORDER BY waiting.id LIMIT 1
        )"""  # noqa: S608 - no input
    # Events of a subject and events of a conversation have different indexes. With OR, all of them would be read and
    # sorted.
    first = f"""(
            SELECT {value} FROM {{events}} waiting
            WHERE waiting.%s AND waiting.state = 'new'
            ORDER BY {{order}} LIMIT 1
        )"""  # noqa: S608
    of_subject, of_conversation = "queue_id = queue.id", "conversation_id = queue.conversation_id"
    return f"CASE WHEN queue.conversation_id IS NULL THEN {first % of_subject} ELSE {first % of_conversation} END"


@cached
def statement(text: str) -> str:
    """Return an SQL text in which the names in braces are replaced for the database of the app's models."""
    connection = sql.connection()
    known = dialect(models.Messaging)
    known |= {name: connection.ops.quote_name(model._meta.db_table) for name, model in _TABLES.items()}
    known |= {name: columns(model, name) for name, model in _MODELS.items()}
    known["order"] = ", ".join(models.Messaging.ORDER)
    known["open"] = ", ".join(f"'{state.value}'" for state in models.Reply.OPEN)
    is_sqlite = connection.vendor == "sqlite"
    # As ``given`` in ``dialect``, for the rows of a CTE with the name ``chosen``.
    known["chosen"] = "chosen CROSS JOIN" if is_sqlite else ""
    known["is_chosen"] = "= chosen.id" if is_sqlite else "= ANY(ARRAY(SELECT id FROM chosen))"
    return text.format_map(known)


_DUE_ID = "CASE WHEN waiting.not_before IS NULL OR waiting.not_before <= {now} THEN waiting.id END"
_NEXT_EVENTS = f"""
    WITH chosen (id) AS (
        SELECT {first_waiting(models.ConversationQueue.Kind.IN, _DUE_ID)}
        FROM {{given}} {{queues}} queue WHERE queue.id {{is_given_id}}
    )
"""  # noqa: S608 - no input
_NEXT_EVENTS += """
    SELECT {event}, {page}, {conversation}, {person}
    FROM {chosen} {events} event
    LEFT JOIN {pages} page ON page.id = event.page_id
    LEFT JOIN {conversations} conversation ON conversation.id = event.conversation_id
    LEFT JOIN {persons} person ON person.psid = conversation.person_id
    WHERE event.id {is_chosen}
"""
_EVENT_ROWS = Rows(models.Messaging, models.Page, models.Conversation, models.FBUserProfile)


def next_events(queue_ids: Iterable[int]) -> list[models.Messaging]:
    """Return the first waiting event of each queue, if it is due, with its Page, conversation and person."""
    # Meta may deliver events late or out of order. The row id alone would handle a later event first.
    # test_without_the_order_later_events_are_handled_first
    # The first event is chosen before its due time is compared. The second event must not run while the first pauses.
    # test_a_later_event_does_not_begin_during_the_pause_of_the_first
    rows = _EVENT_ROWS.fetch(statement(_NEXT_EVENTS), [many(queue_ids)])
    for event, page, conversation, person in rows:
        if page is not None:
            event.page = page
        if conversation is not None:
            conversation.person = person
        event.conversation = conversation
    return [event for event, *_ in rows]


_NEXT_REPLIES = f"""
    WITH chosen (id) AS (
        SELECT {first_waiting(models.ConversationQueue.Kind.OUT, "waiting.id")}
        FROM {{given}} {{queues}} queue WHERE queue.id {{is_given_id}}
    )
"""  # noqa: S608 - no input
_NEXT_REPLIES += """
    SELECT {reply}, {conversation}, {page}, {now},
        (SELECT MAX(attempt.number) FROM {attempts} attempt WHERE attempt.reply_id = reply.id)
    FROM {chosen} {replies} reply
    LEFT JOIN {conversations} conversation ON conversation.id = reply.conversation_id
    LEFT JOIN {pages} page ON page.id = conversation.page_id
    WHERE reply.id {is_chosen}
"""
_REPLY_ROWS = Rows(models.Reply, models.Conversation, models.Page, Now(), Value(0))


def next_replies(queue_ids: Iterable[int]) -> list[models.Reply]:
    """Return the first open reply of each queue, with its conversation and Page.

    Each reply has the time of the database as ``now`` and the number of its last attempt as ``last_number``.
    """
    replies = []
    for row in _REPLY_ROWS.fetch(statement(_NEXT_REPLIES), [many(queue_ids)]):
        reply, conversation, page, reply.now, reply.last_number = row
        conversation.page = page
        reply.conversation = conversation
        replies.append(reply)
    return replies


_REPLIES_BY_MID = "SELECT reply.mid, reply.id FROM {given} {replies} reply WHERE reply.mid {is_given_text}"


def replies_by_mid(mids: Iterable[str]) -> dict[str, int]:
    """Return a dict of message id to reply id, for those of the message ids that a reply has."""
    return dict(fetch(statement(_REPLIES_BY_MID), [many(mids)]))


_NEW_CALLBACKS = """
    SELECT {callback} FROM {given} {callbacks} callback
    WHERE callback.id {is_given_id} AND callback.state = 'new'
    ORDER BY callback.id {for_update}
"""
_CALLBACK_ROWS = Rows(models.Callback)


def new_callbacks(callback_ids: Iterable[int]) -> list[models.Callback]:
    """Lock those of the callbacks that are still ``new`` and return them, oldest first.

    The locks last until the end of the caller's transaction.
    """
    # The split waits for rows that another process is splitting. With SKIP LOCKED it would go on with later callbacks
    # and commit first, and their events would be handled before those of a callback that was answered 200 earlier.
    # test_without_the_wait_a_later_callback_overtakes_one_that_is_being_split
    require_transaction()
    rows = _CALLBACK_ROWS.fetch(statement(_NEW_CALLBACKS), [many(callback_ids)])
    return [callback for (callback,) in rows]


_WAITING_EVENTS = """
    SELECT event.%s, event.callback_id, COUNT(*), MAX(event.position)
    FROM {given} {events} event
    WHERE event.%s {is_given_id} AND event.state = 'new'
    GROUP BY event.%s, event.callback_id
"""


def waiting_events(ids: Iterable[int], column: str = "conversation_id") -> list[tuple[Any, ...]]:
    """Count the waiting events of conversations or subjects; return one tuple for each of them and each callback.

    ``ids`` are conversation ids. With the ``column`` ``queue_id`` they are ids of queues without a conversation. A
    tuple contains such an id, the callback id, the number of events and the highest position.
    """
    text = statement(_WAITING_EVENTS.replace("event.%s", f"event.{column}"))
    return fetch(text, [many(ids)])


_OLDEST_CALLBACKS = """
    SELECT callback.id, LENGTH(callback.body), callback.app_id, callback.crashes, callback.date_received < {later}
    FROM {callbacks} callback
    WHERE callback.state = 'new'%s ORDER BY callback.id LIMIT %%s
"""


def oldest_callbacks(limit: int, late: float, without: Collection[int] = ()) -> list[tuple[Any, ...]]:
    """Return up to ``limit`` new callbacks, oldest first. Those whose ids are in ``without`` are left out.

    A tuple contains id, number of bytes, app id, crashes, and whether the callback is older than ``late`` seconds.
    """
    # Guard: a condition on the last id of the batch before would skip a callback with a lower id that was committed
    # after that batch was read. A later callback of its person would be split first.
    # Test (PostgreSQL): tests/test_held.py, test_a_lower_id_that_is_committed_late_is_split_before_a_higher_one.
    others = " AND callback.id {is_other_id}" if without else ""
    text = statement(_OLDEST_CALLBACKS % others)
    return fetch(text, [-late, *([many(without)] if without else []), limit])


_FENCED_QUEUES = """
    SELECT queue.id, queue.fencing_token FROM {given} {queues} queue WHERE queue.id {is_given_id}
    ORDER BY queue.conversation_id, queue.id {for_update}
"""


def fenced_queues(queue_ids: Iterable[int]) -> list[tuple[Any, ...]]:
    """Lock queues until the end of the caller's transaction, in conversation order; return ids and fencing tokens."""
    require_transaction()
    return fetch(statement(_FENCED_QUEUES), [many(queue_ids)])


_CONVERSATIONS = """
    SELECT {conversation}, {page}, {person}, (
        SELECT queue.fencing_token FROM {queues} queue
        WHERE queue.conversation_id = conversation.id AND queue.kind = 'in' AND queue.leased_until IS NULL
    )
    FROM {given} {conversations} conversation
    LEFT JOIN {pages} page ON page.id = conversation.page_id
    LEFT JOIN {persons} person ON person.psid = conversation.person_id
    WHERE conversation.person_id {is_given_text}
"""
_CONVERSATION_ROWS = Rows(models.Conversation, models.Page, models.FBUserProfile, Value(0))


def conversations_of(psids: Iterable[str]) -> list[models.Conversation]:
    """Return the conversations of persons, with Page and person.

    ``unleased_token`` of each is the token of its incoming queue, or None while the queue is leased.
    """
    # ``is_unchanged_since_read`` compares this token with that of a later claim.
    conversations = []
    for row in _CONVERSATION_ROWS.fetch(statement(_CONVERSATIONS), [many(psids)]):
        conversation, conversation.page, conversation.person, conversation.unleased_token = row
        conversations.append(conversation)
    return conversations


_PAGES = "SELECT {page} FROM {given} {pages} page WHERE page.page_id {is_given_text}"
_PAGE_ROWS = Rows(models.Page)


def pages_of(page_ids: Iterable[str]) -> list[models.Page]:
    """Return the Pages with these ids of Meta."""
    return [page for (page,) in _PAGE_ROWS.fetch(statement(_PAGES), [many(page_ids)])]
