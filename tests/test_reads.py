"""Named queries: each returns the rows of the query of Django that stands beside it here, by the same index."""

from __future__ import annotations

import datetime
import decimal
import os
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection, transaction
from django.db import models as fields
from django.db.models import Case, OuterRef, Q, Subquery, When
from django.db.models.functions import Length
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext, isolate_apps
from django.utils import timezone

from djmessenger import models
from djmessenger.models.queues import seconds_from_now
from djmessenger.pipeline import claims, reads
from djmessenger.pipeline.claims import Lease
from djmessenger.sql import Now, Rows, columns, dialect
from tests import pipeline_tools as tools

pytestmark = pytest.mark.django_db

ROWS = 1_000_000 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 30_000
"""Rows of each large table. Without statistics PostgreSQL prefers to read a table of ten thousand rows whole."""
FEW = 50
"""Rows of a table at the time of stale statistics. SQLite reads a table of less than 25 rows for a Bloom filter."""
IN, OUT = tools.IN, tools.OUT


def queues(kind: str, conversations: Iterable[int] | None = None) -> list[int]:
    found = models.ConversationQueue.objects.filter(kind=kind).order_by("pk")
    if conversations is not None:
        found = found.filter(conversation__in=conversations)
    return list(found.values_list("pk", flat=True))


def lock(conversations: Iterable[int], kind: str) -> dict[int, int]:
    return models.ConversationQueue.objects.lock(conversations, kind)


def all_of(model: type[fields.Model]) -> list[Any]:
    return list(model._default_manager.order_by("pk").values_list("pk", flat=True))


# The queries of Django that the named ones stand for.


def next_events_of_django() -> Iterable[Any]:
    waiting = models.Messaging.objects.filter(state="new").order_by(*models.Messaging.ORDER)
    own = Q(conversation=OuterRef("conversation")) | Q(queue=OuterRef("pk"))
    first = waiting.filter(own).values("pk")[:1]
    chosen = models.ConversationQueue.objects.filter(kind=IN).annotate(first=Subquery(first))
    return (
        models.Messaging.objects.filter(Q(not_before=None) | Q(not_before__lte=Now()))
        .filter(pk__in=chosen.values("first"))
        .select_related("page", "conversation__person")
    )


def next_replies_of_django() -> Iterable[Any]:
    waiting = models.Reply.objects.filter(state__in=models.Reply.OPEN).order_by("pk")
    first = waiting.filter(conversation=OuterRef("conversation")).values("pk")[:1]
    chosen = models.ConversationQueue.objects.filter(kind=OUT).annotate(first=Subquery(first))
    last = models.Attempt.objects.filter(reply=OuterRef("pk")).order_by("-number").values("number")[:1]
    return (
        models.Reply.objects.filter(pk__in=chosen.values("first"))
        .select_related("conversation__page")
        .annotate(now=Now(), last_number=Subquery(last))
    )


def conversations_of_django() -> Iterable[Any]:
    idle = models.ConversationQueue.objects.filter(conversation=OuterRef("pk"), kind=IN, leased_until=None)
    return (
        models.Conversation.objects.filter(person__in=["700", "702", "703", "705"])
        .select_related("page", "person")
        .annotate(unleased_token=Subquery(idle.values("fencing_token")))
    )


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A named query with the query of Django for the same rows."""

    named: Callable[[], Iterable[Any]]
    django: Callable[[], Iterable[Any]]
    large: Callable[[Sample], Iterable[Any]]
    """The named query for a few rows of large tables."""
    related: tuple[str, ...] = ()
    """Relations that are read without a query, as paths."""
    more: tuple[str, ...] = ()
    """Attributes of each row that are not columns."""
    is_ordered: bool = False
    locks: bool = False


TWINS = {
    "next_events": Twin(
        named=lambda: reads.next_events(queues(IN)),
        django=next_events_of_django,
        large=lambda sample: reads.next_events([*sample.incoming, *sample.of_subjects]),
        related=("page", "conversation", "conversation.person"),
    ),
    "next_replies": Twin(
        named=lambda: reads.next_replies(queues(OUT)),
        django=next_replies_of_django,
        large=lambda sample: reads.next_replies(sample.outgoing),
        related=("conversation", "conversation.page"),
        more=("last_number",),
    ),
    "replies_by_mid": Twin(
        named=lambda: reads.replies_by_mid(["m_1 1", "m_2 2", "m_2 2", "no", "'", ""]).items(),
        django=lambda: models.Reply.objects.filter(mid__in=["m_1 1", "m_2 2"]).values_list("mid", "pk"),
        large=lambda sample: reads.replies_by_mid(sample.mids),
    ),
    "new_callbacks": Twin(
        named=lambda: reads.new_callbacks(reversed(all_of(models.Callback))),
        django=lambda: models.Callback.objects.filter(state="new").order_by("pk").select_for_update(),
        large=lambda sample: reads.new_callbacks(sample.callbacks),
        is_ordered=True,
        locks=True,
    ),
    "waiting_events": Twin(
        named=lambda: reads.waiting_events(all_of(models.Conversation)[:4]),
        django=lambda: (
            models.Messaging.objects.filter(conversation__in=all_of(models.Conversation)[:4], state="new")
            .values_list("conversation", "callback")
            .annotate(fields.Count("id"), fields.Max("position"))
        ),
        large=lambda sample: reads.waiting_events(sample.conversations),
    ),
    "waiting_events of subjects": Twin(
        named=lambda: reads.waiting_events(queues(IN), "queue_id"),
        django=lambda: (
            models.Messaging.objects.exclude(queue=None)
            .filter(state="new")
            .values_list("queue", "callback")
            .annotate(fields.Count("id"), fields.Max("position"))
        ),
        large=lambda sample: reads.waiting_events(sample.of_subjects, "queue_id"),
    ),
    "oldest_callbacks": Twin(
        named=lambda: reads.oldest_callbacks(3, 60.0),
        django=lambda: (
            models.Callback.objects.filter(state="new")
            .order_by("id")
            .values_list(
                "id",
                Length("body"),
                "app_id",
                "crashes",
                Case(When(date_received__lt=seconds_from_now(-60.0), then=True), default=False),
            )[:3]
        ),
        large=lambda sample: reads.oldest_callbacks(100, 60.0),
        is_ordered=True,
    ),
    "fenced_queues": Twin(
        named=lambda: reads.fenced_queues(reversed(all_of(models.ConversationQueue)[1:])),
        django=lambda: (
            models.ConversationQueue.objects.filter(pk__in=all_of(models.ConversationQueue)[1:])
            .order_by("conversation_id", "pk")
            .select_for_update()
            .values_list("pk", "fencing_token")
        ),
        large=lambda sample: reads.fenced_queues([*sample.incoming, *sample.of_subjects]),
        locks=True,
    ),
    "conversations_of": Twin(
        named=lambda: reads.conversations_of(["700", "702", "703", "705", "no", "'"]),
        django=conversations_of_django,
        large=lambda sample: reads.conversations_of(sample.persons),
        related=("page", "person"),
        more=("unleased_token",),
    ),
    "pages_of": Twin(
        named=lambda: reads.pages_of(["1", "2", "2", "3", "'"]),
        django=lambda: models.Page.objects.filter(page_id__in=["1", "2", "3"]),
        large=lambda sample: reads.pages_of(sample.pages),
    ),
    "lock": Twin(
        named=lambda: lock(reversed(all_of(models.Conversation)), OUT).items(),
        django=lambda: (
            models.ConversationQueue.objects.filter(kind=OUT)
            .order_by("conversation_id")
            .select_for_update()
            .values_list("conversation_id", "pk")
        ),
        large=lambda sample: lock(sample.conversations, IN),
        is_ordered=True,
        locks=True,
    ),
    "lock_subjects": Twin(
        named=lambda: models.ConversationQueue.objects.lock_subjects(["2", "1", "'"]).items(),
        django=lambda: (
            models.ConversationQueue.objects.filter(subject__in=["1", "2", "'"], conversation=None)
            .order_by("pk")
            .select_for_update()
            .values_list("subject", "pk")
        ),
        large=lambda sample: models.ConversationQueue.objects.lock_subjects(sample.subjects),
        is_ordered=True,
        locks=True,
    ),
}


def seen(twin: Twin, rows: Iterable[Any]) -> list[Any]:
    """Return all values of rows and of their relations, with the types."""
    found = [_seen_of(row, twin) if isinstance(row, fields.Model) else tuple(row) for row in rows]
    return found if twin.is_ordered else sorted(found, key=repr)


def _seen_of(row: Any, twin: Twin) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in twin.more}
    for path in ("", *twin.related):
        related = row
        for name in filter(None, path.split(".")):
            related = related and getattr(related, name)
        if related is not None:
            values |= {
                f"{path}.{field.attname}": getattr(related, field.attname)
                for field in related._meta.concrete_fields
            }
            values[f"{path} is stored in"] = (related._state.db, related._state.adding)
    return {name: (type(value), value) for name, value in values.items()}


@pytest.fixture(params=[True, False], ids=["aware", "naive"])
def now(request, settings) -> datetime.datetime:
    """The time, in a project with time zones and in one without."""
    settings.USE_TZ = request.param
    return timezone.now()


def fill(now: datetime.datetime) -> None:
    """Store conversations with each kind of row that the queries distinguish."""
    second = datetime.timedelta(seconds=1)
    pages = [
        models.Page.objects.create(page_id="1", echo_lag=0.1 + 0.2, is_logged=True),
        models.Page.objects.create(page_id="2", paused_until=now.replace(microsecond=0), date_last_echo=now),
    ]
    for number in range(6):
        person = models.FBUserProfile.objects.create(
            psid=f"70{number}", page=pages[0] if number % 2 else None, timezone=5.75, first_name="Ö'\"%s\\"
        )
        made = models.Conversation.objects.create(
            page=pages[number % 2],
            person=person,
            state={"a": [1, None, 1.5, "ü\\u0000"], "b": {}} if number else {},
            date_last_inbound=None if number == 1 else now - second,
        )
        models.ConversationQueue.objects.ensure([made.pk])
        if number == 5:
            continue
        callback = models.Callback.objects.create(
            sha256=f"{number}",
            body=b"\x00\xff{}",
            app_id=str(number % 2),
            state="split" if number == 3 else "new",
        )
        models.ConversationQueue.objects.filter(conversation=made, kind=IN).update(
            fencing_token=number, leased_until=now if number == 2 else None
        )
        states = {0: "new", 1: "done", 2: "new", 3: "failed", 4: "new"}
        for place in range(3):
            models.Messaging.objects.create(
                type="X",
                body={"n": [number, place], "t": "%s %% \\"},
                key=None if place == 2 else f"{number} {place}",
                callback=callback if place else None,
                page=None if number == 4 else pages[number % 2],
                conversation=made,
                is_standby=place == 1,
                timestamp=2**40 - place,
                position=2**40 - (place == 1),
                state="new" if place == 2 else states[number],
                outcome={"why": "ü"} if place else None,
                not_before={0: now + 60 * second, 1: now - 60 * second, 2: None}[place if number != 2 else 1],
                is_kept=number == 2,
                date_handled=now.replace(microsecond=5) if place else None,
            )
            reply = models.Reply.objects.create(
                recipient=person,
                conversation=made,
                type="text",
                data={"message": {"text": "ü"}},
                is_parked_when_unsure={0: None, 1: True, 2: False}[place],
                state=["sent", "sending", "queued"][place] if number else "parked",
                not_before=now + second if place else None,
                observed_wait=0.1 + 0.2,
                mid=f"m_{number} {place}" if place else None,
                response=[None] if place == 2 else None,
                status_code=200 if place else None,
            )
            for attempt in range(number):
                models.Attempt.objects.create(
                    reply=reply, number=attempt + 1, token=f"{reply.pk} {attempt}", fencing_token=2**40
                )

    models.ConversationQueue.objects.ensure_subjects(["1", "2", "'"])
    for queue in models.ConversationQueue.objects.filter(conversation=None):
        for place in range(3):
            models.Messaging.objects.create(
                type="X",
                body={},
                key=f"{queue.pk} {place}",
                page=pages[0],
                queue=queue,
                timestamp=2**40 - place,
                state=["new", "new", "done"][place],
                not_before=now + 60 * second if queue.subject == "2" else None,
            )


def test_a_reply_has_the_time_of_the_database(now):
    fill(now)
    with transaction.atomic():
        wanted = models.Page.objects.annotate(now=Now()).first().now
        found = {(type(reply.now), reply.now.tzinfo) for reply in reads.next_replies(queues(OUT))}
        assert found == {(type(wanted), wanted.tzinfo)}
        assert reads.next_replies(queues(OUT))[0].now >= wanted


def test_the_time_of_a_statement_is_the_time_of_django():
    models.Page.objects.create(page_id="1")
    with CaptureQueriesContext(connection) as said:
        models.Page.objects.values_list(Now()).get()
    assert dialect(models.Page)["now"].replace("%%", "%") in said[0]["sql"].replace("%%", "%")


@isolate_apps("djmessenger")
def test_columns_of_each_type_are_converted_as_django_converts_them(now):
    class Kept(fields.Model):  # noqa: DJ008 - nothing shows it
        number = fields.UUIDField(primary_key=True)

        class Meta:
            app_label = "djmessenger"

    class Everything(fields.Model):  # noqa: DJ008
        kept = fields.ForeignKey(Kept, on_delete=fields.CASCADE, null=True)
        a_uuid = fields.UUIDField(null=True)
        a_decimal = fields.DecimalField(max_digits=12, decimal_places=4, null=True)
        a_boolean = fields.BooleanField(null=True)
        a_json = fields.JSONField(null=True)
        a_moment = fields.DateTimeField(null=True)
        a_date = fields.DateField(null=True)
        a_time = fields.TimeField(null=True)
        a_span = fields.DurationField(null=True)
        a_float = fields.FloatField(null=True)
        some_bytes = fields.BinaryField(null=True)
        upper = fields.CharField(max_length=9, null=True, db_column="Upper")  # noqa: DJ001 - all may be empty

        class Meta:
            app_label = "djmessenger"

    for model in (Kept, Everything):
        listed = ", ".join(
            f'"{field.column}" {field.db_type(connection)}' for field in model._meta.concrete_fields
        )
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE TABLE "{model._meta.db_table}" ({listed})')
    kept = Kept.objects.create(number=uuid.UUID(int=7))
    Everything(
        id=1,
        kept=kept,
        a_uuid=uuid.UUID(int=2**127),
        a_decimal=decimal.Decimal("12345678.1000"),
        a_boolean=True,
        a_json={"a": [None, 1.5, "ü"]},
        a_moment=now,
        a_date=now.date(),
        a_time=now.time(),
        a_span=datetime.timedelta(days=-1, microseconds=1),
        a_float=0.1,
        some_bytes=b"\x00\xff",
        upper="x",
    ).save(force_insert=True)
    Everything(id=2).save(force_insert=True)
    listed = ", ".join(columns(model, name) for model, name in ((Everything, "one"), (Kept, "other")))
    text = (
        f'SELECT {listed}, {dialect(Kept)["now"]} FROM "{Everything._meta.db_table}" one '  # noqa: S608
        f'LEFT JOIN "{Kept._meta.db_table}" other ON other.number = one.kept_id ORDER BY one.id'
    )
    with transaction.atomic():
        found = Rows(Everything, Kept, Now()).fetch(text, [])
        wanted = list(Everything.objects.select_related("kept").annotate(now=Now()).order_by("id"))
    twin = Twin(named=list, django=list, large=list, is_ordered=True)
    assert seen(twin, [row for row, *_ in found]) == seen(twin, wanted)
    assert [type(moment) for *_, moment in found] == [datetime.datetime] * 2
    assert [moment.tzinfo for *_, moment in found] == [row.now.tzinfo for row in wanted]
    assert [other for _, other, _ in found] == [kept, None]


@pytest.mark.django_db(transaction=True)
def test_a_query_serves_any_thread_and_keeps_none_of_its_connections(file_database, monkeypatch):
    monkeypatch.setattr(reads, "_EVENT_ROWS", Rows(*reads._EVENT_ROWS._parts))
    tools.receive(tools.text("m_1"))
    found = []
    errors = tools.threads(*[lambda: found.extend(row.mid for row in reads.next_events(queues(IN)))] * 6)
    assert (errors, found) == ([], ["m_1"] * 6)
    kept = [
        convert.__self__ for _, convert, _ in reads._EVENT_ROWS._converters() if hasattr(convert, "__self__")
    ]
    assert {operations.connection.connection for operations in kept if hasattr(operations, "connection")} <= {
        None
    }


@pytest.mark.parametrize("name", TWINS)
def test_a_query_returns_the_rows_of_django(name, now, django_assert_num_queries):
    twin = TWINS[name]
    fill(now)
    with transaction.atomic():
        found = list(twin.named())
        with django_assert_num_queries(0):
            values = seen(twin, found)
        assert values == seen(twin, twin.django())
    assert values


@pytest.mark.parametrize("name", [name for name, twin in TWINS.items() if twin.locks])
@pytest.mark.postgresql("SQLite locks no rows")
def test_a_query_locks_the_rows_that_django_locks(name):
    fill(timezone.now())
    clauses = []
    for query in (TWINS[name].named, TWINS[name].django):
        with CaptureQueriesContext(connection) as said, transaction.atomic():
            list(query())
        clauses.append(
            re.findall(r"FOR UPDATE.*", said[-1 if said[-1]["sql"].startswith("SELECT") else -2]["sql"])
        )
    assert clauses[0] == clauses[1] != []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", [name for name, twin in TWINS.items() if twin.locks])
@pytest.mark.postgresql("SQLite locks no rows")
def test_a_query_that_locks_rows_needs_a_transaction(name):
    fill(timezone.now())
    with pytest.raises(TransactionManagementError):
        list(TWINS[name].named())


def copy(row: fields.Model, numbers: range, **changes: str) -> None:
    """Insert a copy of a row for each number. ``changes`` are columns with an SQL expression of the number ``n``."""
    table, pk = row._meta.db_table, row._meta.pk
    names = [
        field.column for field in row._meta.concrete_fields if field.column in changes or field is not pk
    ]
    series = (
        "WITH RECURSIVE s (n) AS (SELECT %s UNION ALL SELECT n + 1 FROM s WHERE n < %s)"
        if connection.vendor == "sqlite"
        else "WITH s (n) AS (SELECT generate_series(%s::int, %s))"
    )
    values = ", ".join(changes.get(name, f'"{name}"') for name in names)
    listed = ", ".join(f'"{name}"' for name in names)
    with connection.cursor() as cursor:
        cursor.execute(
            f'{series} INSERT INTO "{table}" ({listed}) SELECT {values} FROM s, "{table}" WHERE "{pk.column}" = %s',  # noqa: S608
            [numbers.start, numbers.stop - 1, row.pk],
        )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Keys of a few rows from the middle of the large tables."""

    pages: list[str]
    persons: list[str]
    conversations: list[int]
    incoming: list[int]
    outgoing: list[int]
    subjects: list[str]
    of_subjects: list[int]
    """Queues of the subjects."""
    leases: dict[int, Lease]
    """Leases of the queues, by the events in them."""
    callbacks: list[int]
    mids: list[str]


def fill_large_tables(count: int, statistics: str) -> Sample:
    """Copy a conversation with all its rows ``count`` times. Of a hundred events, callbacks and replies one waits.

    The planner has ``fresh`` statistics, or ``stale`` ones from the time when each table had ``FEW`` rows, or ``none``.
    """
    page = models.Page.objects.create(page_id="1")
    person = models.FBUserProfile.objects.create(psid="700", page=page)
    made = models.Conversation.objects.create(page=page, person=person)
    models.ConversationQueue.objects.ensure([made.pk])
    incoming, outgoing = tools.queue_of(made, IN), tools.queue_of(made, OUT)
    callback = models.Callback.objects.create(sha256="0", body=b"{}")
    event = models.Messaging.objects.create(
        type="X", body={}, key="0", conversation=made, page=page, callback=callback, timestamp=1
    )
    reply = models.Reply.objects.create(
        recipient=person, conversation=made, messaging=event, type="text", data={}, mid="0"
    )
    attempt = models.Attempt.objects.create(reply=reply, number=1, token="0", fencing_token=1)
    subject = models.ConversationQueue.objects.create(subject="0", kind=IN)
    of_subject = models.Messaging.objects.create(
        type="X", body={}, key="s0", queue=subject, page=page, callback=callback, timestamp=1
    )
    conversation = f"n + {made.pk}"
    is_sqlite = connection.vendor == "sqlite"
    text = "CAST(n + 1000 AS TEXT)"
    unique = "printf('%%032d', n)" if is_sqlite else "lpad(n::text, 32, '0')::uuid"
    state = "CASE WHEN n %% 100 = 0 THEN '{}' ELSE '{}' END"

    def copy_all(numbers: range) -> None:
        # Keys follow those of the first rows, so the copies of one number belong together.
        copy(page, numbers, page_id=text)
        copy(person, numbers, psid=text)
        copy(made, numbers, person_id=text)
        copy(incoming, numbers, conversation_id=conversation)
        copy(outgoing, numbers, conversation_id=conversation)
        copy(callback, numbers, sha256=text, state=state.format("new", "split"))
        copy(event, numbers, key=text, conversation_id=conversation, state=state.format("new", "done"))
        copy(
            reply,
            numbers,
            conversation_id=conversation,
            mid=text,
            uuid=unique,
            state=state.format("queued", "sent"),
        )
        copy(subject, numbers, id="-n", subject=text)
        copy(
            of_subject,
            numbers,
            key=f"'s' || {text}",
            queue_id="-n",
            state=state.format("new", "done"),
        )
        copy(attempt, numbers, reply_id=f"n + {reply.pk}", token=text)

    if connection.vendor == "postgresql":
        # The counts of an ANALYZE stay after the rollback of its test.
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relname LIKE 'djmessenger_%'"
            )
    copy_all(range(1, FEW))
    if statistics == "stale":
        analyze()
    copy_all(range(FEW, count))
    if statistics == "fresh":
        analyze()
    numbers = [count // 2 - 100, count // 2, count // 2 + 1]
    texts = [str(number + 1000) for number in numbers]
    conversations = [made.pk + number for number in numbers]
    events = models.Messaging.objects.filter(
        Q(conversation__in=conversations) | Q(queue__in=[-number for number in numbers])
    )
    found = models.ConversationQueue.objects.filter(conversation__in=conversations, kind=IN)
    queue_ids = dict(found.values_list("conversation", "pk"))
    return Sample(
        pages=texts,
        persons=texts,
        conversations=conversations,
        incoming=queues(IN, conversations),
        outgoing=queues(OUT, conversations),
        subjects=texts,
        of_subjects=[-number for number in numbers],
        leases={
            event.pk: Lease(
                queue_id=event.queue_id or queue_ids[event.conversation_id],
                conversation_id=event.conversation_id,
                kind=IN,
                fencing_token=0,
            )
            for event in events
        },
        callbacks=[callback.pk + number for number in numbers],
        mids=texts,
    )


def analyze() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def plan_of(query: Callable[[], object]) -> list[str]:
    """Return the lines of the plan of a query, which must be one statement."""
    statements: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        assert query()
    ((sql, params),) = statements
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        cursor.execute(f"{explain} {sql}", params)
        return [str(row[-1]).strip() for row in cursor.fetchall()]


def scans_in(plan: Iterable[str]) -> list[str]:
    """Return the steps that read a whole table or index. ``djm_callback_new`` has only the rows that wait.

    SQLite reads a whole table for a Bloom filter.
    """
    scan = re.compile(
        r"^SCAN (?!given|chosen|pair|\d+ CONSTANT ROWS|.* INDEX djm_callback_new)|^BLOOM FILTER|"
        r"Seq Scan on (?!djmessenger_page )"
    )
    return [line for line in plan if scan.search(line)]


@pytest.mark.parametrize("statistics", ["fresh", "stale", "none"])
def test_a_query_scans_no_table(statistics):
    sample = fill_large_tables(ROWS, statistics)
    plans = {name: plan_of(lambda twin=twin: list(twin.large(sample))) for name, twin in TWINS.items()}
    incoming = [*sample.incoming, *sample.of_subjects]
    plans["lock_and_verify"] = plan_of(lambda: claims.lock_and_verify(sample.leases))
    plans["release_many"] = plan_of(lambda: claims.release_many(IN, incoming) or incoming)
    plans["claim_idle"] = plan_of(lambda: claims.claim_idle(IN, sample.conversations, seconds=60))
    if statistics == "none":
        # Without any statistics PostgreSQL takes each two-hundredth conversation for one of the person, and joins all
        # persons. Autovacuum collects statistics after the first rows.
        plans.pop("conversations_of")
    bad = {name: plan for name, plan in plans.items() if scans_in(plan)}
    assert not bad, bad


def test_a_query_that_scans_a_table_is_noticed():
    fill_large_tables(100, "fresh")
    assert scans_in(plan_of(lambda: list(models.Messaging.objects.filter(type="X"))))
