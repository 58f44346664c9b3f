"""Removal of single mechanisms that exist for speed alone. ``benchmarks.bench_mechanisms`` measures their gain."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from django.db.models import AutoField

from djmessenger import sql
from djmessenger.pipeline import claims, pools, reads, split, worker, worker_run
from djmessenger.pipeline.event_transaction import EventTransaction
from djmessenger.pipeline.notifications import QUEUES, Listener
from djmessenger.pipeline.sending import Outbox


def _replace(function: Callable[..., Any], replacement: Callable[..., Any]) -> None:
    """Replace a function in all modules that have imported it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("djmessenger."):
            for key, value in list(vars(module).items()):
                if value is function:
                    setattr(module, key, replacement)


def _flat(fields: Sequence[Any], rows: Iterable[Sequence[Any]]) -> tuple[str, list[Any]]:
    """Return the VALUES list of rows as SQL text, and its parameters."""
    connection = sql.connection()
    values = [
        field.get_db_prep_save(value, connection)
        for row in rows
        for field, value in zip(fields, row, strict=True)
    ]
    kinds = [getattr(field, "target_field", field).db_type(connection) for field in fields]
    kinds = ["bigint" if kind.startswith("bigint") else kind for kind in kinds]
    one = f"({', '.join(f'%s::{kind}' for kind in kinds)})"
    return ", ".join([one] * (len(values) // len(fields))), values


def _update_each(
    model: Any, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, where: str = ""
) -> set[Any]:
    if not rows:
        return set()
    fields = [model._meta.pk, *(model._meta.get_field(name) for name in columns)]
    values, parameters = _flat(fields, rows)
    names = ["row_id", *(f"v{number}" for number in range(len(columns)))]
    settings = ", ".join(f'"{field.column}" = fresh.v{number}' for number, field in enumerate(fields[1:]))
    table, key = model._meta.db_table, fields[0].column
    text = (
        f'UPDATE "{table}" SET {settings} FROM (VALUES {values}) AS fresh ({", ".join(names)}) '  # noqa: S608 - no input
        f'WHERE "{table}"."{key}" = fresh.row_id{f" AND {where}" if where else ""} RETURNING "{table}"."{key}"'
    )
    return {row[0] for row in sql.fetch(text, parameters)}


def _insert_each(rows: Sequence[Any], *by: str, unless_there: bool = False) -> None:
    if not rows:
        return
    model = type(rows[0])
    fields = [field for field in model._meta.concrete_fields if not isinstance(field, AutoField)]
    named = [model._meta.get_field(name) for name in by]
    values, parameters = _flat(fields, [[field.pre_save(row, True) for field in fields] for row in rows])
    returned = ", ".join(field.column for field in (model._meta.pk, *named))
    text = (
        f'INSERT INTO "{model._meta.db_table}" ({", ".join(field.column for field in fields)}) VALUES {values} '  # noqa: S608 - no input
        f"{'ON CONFLICT DO NOTHING ' if unless_there else ''}RETURNING {returned}"
    )
    keys = {
        tuple(field.to_python(value) for field, value in zip(named, key, strict=True)): pk
        for pk, *key in sql.fetch(text, parameters)
    }
    for row in rows:
        row.pk = keys.get(tuple(getattr(row, field.attname) for field in named))
        row._state.adding, row._state.db = row.pk is None, sql.alias()


def _no_packed_writes() -> None:
    _replace(sql.update_each, _update_each)
    _replace(sql.insert_each, _insert_each)


def _no_lazy_transaction() -> None:
    @contextlib.contextmanager
    def begun(self: EventTransaction) -> Iterator[None]:
        self.begin()
        yield

    EventTransaction.begun_by_the_first_query = begun  # type: ignore[method-assign]


def _no_claim_at_the_split() -> None:
    split_many = split.split_many
    _replace(split_many, lambda callback_ids, claim_limit=0, **options: split_many(callback_ids, **options))


def _no_attempt_at_the_commit() -> None:
    insert_and_begin = Outbox.insert_and_begin
    Outbox.insert_and_begin = (  # type: ignore[method-assign]
        lambda self, replies, deadline, limit: insert_and_begin(self, replies, deadline, 0)
    )


def _no_batches() -> None:
    pools.MOST_QUEUES = 1  # type: ignore[misc]


def _no_pauses() -> None:
    pools.PollBudget.seconds_to_wait = lambda self: 0.0  # type: ignore[method-assign]


def _no_direct_wake() -> None:
    worker.Worker.wake_to_split = worker.Worker.wake  # type: ignore[method-assign]
    worker_run.Listener = lambda wake: Listener(lambda what: wake(QUEUES))  # type: ignore[assignment,misc]


def _no_freeze() -> None:
    gc.freeze = lambda: None


def _no_named_sql() -> None:
    from benchmarks import orm_reads  # noqa: PLC0415 - needs the models

    for read in orm_reads.READS:
        setattr(reads, read.__name__, read)


_OLDER_IS_UNSPLIT = (
    "EXISTS (SELECT 1 FROM {callbacks} older WHERE older.state = 'new' AND older.id < "
    "(SELECT waiting.callback_id FROM {events} waiting WHERE waiting.conversation_id = queue_.conversation_id "
    "AND waiting.state = 'new' ORDER BY waiting.position, waiting.id LIMIT 1))"
)
"""SQL condition: a callback that is older than the first event of the queue is not split yet."""


def _claims_wait() -> None:
    """Keep the order of callbacks by claims that wait for older callbacks. Splits then do not wait for each other."""
    from djmessenger import models  # noqa: PLC0415 - needs the models

    waits = _OLDER_IS_UNSPLIT.format(
        callbacks=models.Callback._meta.db_table, events=models.Messaging._meta.db_table
    )
    fetch = sql.fetch

    def skipping(callback_ids: Iterable[int]) -> list[Any]:
        waiting = models.Callback.objects.filter(pk__in=list(callback_ids), state="new").order_by("pk")
        return list(waiting.select_for_update(skip_locked=True))

    def fetch_claims(text: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Add the wait to the claim of due queues, which is the statement that chooses by ``ready_at``."""
        if text.startswith("WITH chosen AS") and "ORDER BY ready_at" in text:
            table = f'"{models.ConversationQueue._meta.db_table}"'
            text = text.replace(f"FROM {table} WHERE", f"FROM {table} queue_ WHERE NOT {waits} AND", 1)
        return fetch(text, values)

    reads.new_callbacks = skipping
    claims.fetch = fetch_claims  # type: ignore[attr-defined]
    # The claim at the split would need the same wait, for the callbacks that other processes split meanwhile.
    _no_claim_at_the_split()


ALTERNATIVES: dict[str, Callable[[], None]] = {"claims that wait": _claims_wait}
"""Replacements of mechanisms that keep the order of events, by name. They are measured in the same way."""

MECHANISMS: dict[str, Callable[[], None]] = {
    "JSON-packed writes": _no_packed_writes,
    "lazy event transaction, shared commits": _no_lazy_transaction,
    "claim at the split": _no_claim_at_the_split,
    "attempt at the commit of the event": _no_attempt_at_the_commit,
    "batches of the writers": _no_batches,
    "pauses of polls and writers": _no_pauses,
    "direct wake of the splitter": _no_direct_wake,
    "gc.freeze": _no_freeze,
    "named SQL": _no_named_sql,
}
"""Removal of each mechanism, by name. Only for PostgreSQL."""
