"""Statements (internal) that the ORM cannot express or that it makes too slowly, and the rows that they return.

All of them run on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

import msgspec
from django.apps import apps
from django.conf import settings
from django.core.signals import setting_changed
from django.db import connections, models, router, transaction
from django.db.models import functions
from django.db.models.expressions import Combinable
from django.db.transaction import TransactionManagementError

from djmessenger.secret import Body, without_frames

_BITS = 64
"""Bits of an integer from which SQLite stores it as an inexact float; it has signed integers of 64 bits."""


_Function = TypeVar("_Function", bound=Callable[..., Any])
_caches: list[Any] = []


def cached(function: _Function) -> _Function:
    """Keep the last 512 results of a function, until a test changes the databases or their routers."""
    kept = functools.lru_cache(maxsize=512)(function)
    _caches.append(kept)
    return cast("_Function", kept)


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting in {"DATABASES", "DATABASE_ROUTERS"}:
        for kept in _caches:
            kept.cache_clear()


setting_changed.connect(_forget, dispatch_uid="djmessenger.sql")


@cached
def alias() -> str:
    """Return the alias of the database of the app's models, by the project's routers.

    All transactions, locks, statements and notifications of the app use this database.
    """
    return router.db_for_write(apps.get_model("djmessenger", "Messaging"))


def connection() -> Any:
    """Return this thread's connection to the database of the app's models."""
    return connections[alias()]


def atomic(*, savepoint: bool = True) -> AbstractContextManager[None]:
    """Return ``transaction.atomic`` for the database of the app's models."""
    return transaction.atomic(using=alias(), savepoint=savepoint)


def on_commit(function: Callable[[], object], *, robust: bool = False) -> None:
    """Call a function after the commit of the open transaction, or at once if none is open."""
    transaction.on_commit(function, using=alias(), robust=robust)


def _local() -> str:
    """Return the modifier by which SQLite makes a time of UTC a local one, if the project stores local times."""
    # Guard: SQLite compares times as text. East of UTC no queue would be due for hours, and west of it each lease
    # would have ended. Test: tests/test_deployments.py, test_a_project_without_time_zones_answers_everyone.
    return "" if settings.USE_TZ else ", 'localtime'"


class Now(functions.Now):
    """Time of the database's clock, as Django stores times. On SQLite Django's own function always returns UTC."""

    def as_sqlite(self, compiler: Any, connection: Any, **extra_context: Any) -> tuple[str, Any]:
        template = f"STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'NOW'{_local()})"
        return self.as_sql(compiler, connection, template=template, **extra_context)


@cached
def dialect(model: type[models.Model]) -> dict[str, str]:
    """Return the parts of a statement that differ between databases, for ``str.format_map``.

    ``now`` is the time by the database's clock. ``later`` has one parameter: the seconds after that time.

    ``FROM {given} table WHERE column {is_given_id}`` selects the rows whose column is one of the given integers. Both
    parts together have one parameter, which ``many`` returns. ``is_given_text`` is the same for texts. ``FROM
    {given_ids}`` selects the integers themselves, as ``given.value``. ``{is_other_id}`` stands alone and has the same
    parameter; it is true for all other integers.
    """
    # Guard: with stale statistics a planner takes a large table for a small one and reads all of it. SQLite does so
    # for IN; it begins a CROSS JOIN always with the left side. PostgreSQL does so for a join; it looks up each value
    # of an array in the index. Not prevented: SQLite expects 25 values, and reads a table for a Bloom filter if its
    # statistics say that it has fewer rows.
    # Test: tests/test_reads.py, test_a_query_scans_no_table.
    database = connection()
    sqlite = database.vendor == "sqlite"
    # As Now(), with the percent signs of a statement that has parameters.
    now = f"STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW'{_local()})" if sqlite else "STATEMENT_TIMESTAMP()"
    return {
        "table": database.ops.quote_name(model._meta.db_table),
        "now": now,
        "later": f"{now[:-1]}, %s || ' seconds')" if sqlite else f"({now} + %s * INTERVAL '1 second')",
        "greatest": "MAX" if sqlite else "GREATEST",
        "least": "MIN" if sqlite else "LEAST",
        "given": "json_each(%s) AS given CROSS JOIN" if sqlite else "",
        "given_ids": "json_each(%s) AS given" if sqlite else "UNNEST(%s::bigint[]) AS given (value)",
        "is_given_id": "= given.value" if sqlite else "= ANY(%s::bigint[])",
        "is_given_text": "= given.value" if sqlite else "= ANY(%s::text[])",
        "is_other_id": "NOT IN (SELECT value FROM json_each(%s))" if sqlite else "<> ALL(%s::bigint[])",
        "for_update": "FOR UPDATE" if database.features.has_select_for_update else "",
        "skip_locked": "FOR UPDATE SKIP LOCKED"
        if database.features.has_select_for_update_skip_locked
        else "",
    }


class _HiddenText(str):
    """Text of a parameter. An error tracker shows the parameters of a failed statement by their representation."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<text of {len(self)} characters>"


def _hidden(values: Sequence[Any]) -> list[Any]:
    """Return the parameters of a statement in forms whose representation shows no text of a person."""
    return [
        _HiddenText(value)
        if type(value) is str
        else memoryview(value.reveal())
        if isinstance(value, Body)
        else value
        for value in values
    ]


def execute(text: str, values: Sequence[Any]) -> int:
    """Execute a statement and return the number of rows that it changed."""
    with connection().cursor() as cursor:
        cursor.execute(text, _hidden(values))
        return int(cursor.rowcount)


def fetch(text: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Execute a statement and return its rows."""
    with connection().cursor() as cursor:
        cursor.execute(text, _hidden(values))
        return list(cursor.fetchall())


def require_transaction() -> None:
    """Raise ``TransactionManagementError`` if no transaction is open and the database locks rows."""
    # Guard: without a transaction the locks of a SELECT end with it, and another worker changes the same rows.
    # Test (PostgreSQL): tests/test_reads.py, test_a_query_that_locks_rows_needs_a_transaction.
    if connection().features.has_select_for_update and transaction.get_autocommit(using=alias()):
        raise TransactionManagementError("this query locks rows, so it must run inside transaction.atomic()")


def many(values: Iterable[Any]) -> Any:
    """Return different values as the one parameter of ``{given}`` and ``{is_given_id}`` or ``{is_given_text}``."""
    unique = list(dict.fromkeys(values))
    return json.dumps(unique) if connection().vendor == "sqlite" else unique


def columns(model: type[models.Model], name: str) -> str:
    """Return the columns of a model as SQL, in the order of its fields. ``name`` is the name of its table there."""
    quote = connection().ops.quote_name
    fields: Any = model._meta.concrete_fields
    return ", ".join(f"{name}.{quote(field.column)}" for field in fields)


class Rows:
    """Conversion of the rows of a statement into Python values, as Django's own queries convert them.

    The statement selects the ``columns`` of each model of ``parts``, and one value for each expression of them.
    """

    def __init__(self, *parts: type[models.Model] | Combinable) -> None:
        self._parts: tuple[Any, ...] = parts

    def fetch(self, text: str, values: Sequence[Any]) -> list[list[Any]]:
        """Execute a statement and return a list for each row: an instance of each model, the value of each expression.

        An instance is None if its primary key is NULL, as after a LEFT JOIN.
        """
        rows = fetch(text, values)
        database, converters = connection(), self._converters()
        built = []
        for columns_of_row in rows:
            row = list(columns_of_row)
            for place, convert, column in converters:
                row[place] = convert(row[place], column, database)
            built.append(
                [
                    row[key]
                    if names is None or row[key] is None
                    else part.from_db(database.alias, names, row[start:end])
                    for part, names, start, end, key in self._places
                ]
            )
        return built

    @functools.cached_property
    def _places(self) -> list[tuple[Any, list[str] | None, int, int, int]]:
        """Return each part, its field names, the range of its columns, and the place of its primary key."""
        places: list[tuple[Any, list[str] | None, int, int, int]] = []
        start = 0
        for part in self._parts:
            names, key, end = None, start, start + 1
            if not isinstance(part, Combinable):
                fields = part._meta.concrete_fields
                names = [field.attname for field in fields]
                key, end = start + fields.index(part._meta.pk), start + len(fields)
            places.append((part, names, start, end, key))
            start = end
        return places

    @cached
    def _converters(self) -> list[tuple[int, Any, Any]]:
        """Return the converters of a row: for each the index of a column, the function, and the column itself."""
        # Guard: a connection belongs to one thread, and a converter keeps its connection. This one is never opened.
        # Test: tests/test_reads.py, test_a_query_serves_any_thread_and_keeps_none_of_its_connections.
        database = connections.create_connection(alias())
        selected: list[Any] = []
        for part in self._parts:
            if isinstance(part, Combinable):
                selected.append(part)
            else:
                selected += [field.get_col(part._meta.db_table) for field in part._meta.concrete_fields]
        return [
            (place, convert, column)
            for place, column in enumerate(selected)
            for convert in database.ops.get_db_converters(column) + column.get_db_converters(database)
        ]


def update_each(
    model: type[models.Model],
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    unless_changed: Sequence[str] = (),
    unless_later: Sequence[str] = (),
    at_now: str = "",
    where: str = "",
) -> set[Any]:
    """Update ``columns`` of many rows in one statement, and return the keys of the rows that it changed.

    Each of ``rows`` is a primary key, followed by the values of the columns. Rows that do not exist are skipped.
    ``unless_changed`` names some of the columns, and their expected values follow in each row. Such a column keeps its
    stored value if it is another one. ``unless_later`` names some of the columns; they keep a stored value that is
    later, and never become None. ``at_now`` names a further column, which gets the time of the database. ``where``
    is a further SQL condition on the stored rows; it must be a constant of the caller.
    """
    if not rows:
        return set()
    text = _update_statement(model, tuple(columns), tuple(unless_changed), tuple(unless_later), at_now, where)
    fields: list[Any] = [
        model._meta.pk,
        *(model._meta.get_field(name) for name in (*columns, *unless_changed)),
    ]
    values: list[Any] = [_HiddenText(_as_one(fields, rows))]
    if connection().vendor != "sqlite":
        values.append(many(row[0] for row in rows))
    return {row[0] for row in fetch(text, values)}


def insert_each(rows: Sequence[models.Model], *by: str, unless_there: bool = False, at_now: str = "") -> None:
    """Insert rows in their order in one statement, and set the primary keys of the instances.

    ``by`` names the fields of a unique constraint. By their values each returned key is assigned to its instance. With
    ``unless_there`` rows that violate a constraint are skipped; their key is None afterwards. ``at_now`` names a column
    that gets the time of the database; the instances keep their own. Django's signals are not sent.
    """
    if not rows:
        return
    model = type(rows[0])
    named: list[Any] = [model._meta.get_field(name) for name in by]
    text, fields = _insert_statement(model, by, unless_there, at_now)
    # No variable holds the values, because a traceback would show the texts of persons in them.
    found = fetch(text, [_HiddenText(_as_one(fields, _values(fields, rows)))])
    keys = {
        tuple(field.to_python(value) for field, value in zip(named, key, strict=True)): pk
        for pk, *key in found
    }
    for row in rows:
        row.pk = keys.get(tuple(getattr(row, field.attname) for field in named))
        if row.pk is not None:
            row._state.adding, row._state.db = False, alias()


def _values(fields: Sequence[Any], rows: Iterable[models.Model]) -> Iterator[list[Any]]:
    return ([field.pre_save(row, True) for field in fields] for row in rows)


def _as_one(fields: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Return the values of all rows as one JSON parameter, which is faster than a parameter for each value."""
    try:
        return msgspec.json.encode(_packed(fields, rows), enc_hook=_text).decode()
    except Exception as error:  # noqa: BLE001 - raised again below, without the frames that hold values
        problem = without_frames(error)
    raise problem


def _packed(fields: Sequence[Any], rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    database = connection()
    typed = [(field, _type_of_column(field)) for field in fields]
    return [
        [_plain(field, kind, value, database) for (field, kind), value in zip(typed, row, strict=True)]
        for row in rows
    ]


def _text(value: Any) -> str:
    # ``str`` of a safe string of Django is the same object, which msgspec would pass on again without end.
    # Test: tests/test_statements.py, test_a_text_of_a_class_of_its_own_is_stored_as_a_text.
    return str.__str__(str(value))


@functools.cache
def _type_of_column(field: Any) -> type | None:
    """Return the Python type whose values a column stores unchanged, or None if Django converts each value."""
    kinds: list[tuple[Any, type]] = [
        ((models.CharField, models.TextField), str),
        (models.BooleanField, bool),
        (models.IntegerField, int),
    ]
    stored = getattr(field, "target_field", field)
    return next((kind for classes, kind in kinds if isinstance(stored, classes)), None)


def _plain(field: Any, kind: type | None, value: Any, database: Any) -> Any:
    if value is None:
        return None
    if isinstance(field, models.JSONField):
        return json.dumps(value, cls=field.encoder)
    if type(value) is not kind:
        value = field.get_db_prep_save(value, database)
    if isinstance(value, str) and "\0" in value:
        # PostgreSQL refuses such a text, and SQLite would cut it off at the NUL.
        raise ValueError(f"{field.name} contains a NUL character")
    if isinstance(value, int) and value.bit_length() >= _BITS:
        # SQLite would store a float and lose digits.
        raise OverflowError(f"{value} is too large for {field.name}")
    return value


@cached
def _update_statement(
    model: type[models.Model],
    columns: tuple[str, ...],
    unless_changed: tuple[str, ...],
    unless_later: tuple[str, ...],
    at_now: str,
    where: str,
) -> str:
    is_sqlite = connection().vendor == "sqlite"
    given = (*columns, *unless_changed)
    fields: list[Any] = [model._meta.pk, *(model._meta.get_field(name) for name in given)]
    quote = connection().ops.quote_name
    table, key = quote(model._meta.db_table), quote(fields[0].column)
    is_same = "IS" if is_sqlite else "IS NOT DISTINCT FROM"
    settings = []
    for number, (name, field) in enumerate(zip(columns, fields[1:], strict=False)):
        column, value = quote(field.column), f"fresh.v{number}"
        if name in unless_changed:
            expected = f"fresh.v{len(columns) + unless_changed.index(name)}"
            value = f"CASE WHEN {table}.{column} {is_same} {expected} THEN {value} ELSE {table}.{column} END"
        if name in unless_later:
            value = (
                f"CASE WHEN {table}.{column} IS NULL OR {table}.{column} < {value} "
                f"THEN {value} ELSE {table}.{column} END"
            )
        settings.append(f"{column} = {value}")
    if at_now:
        time_column: Any = model._meta.get_field(at_now)
        settings.append(f"{quote(time_column.column)} = {dialect(model)['now']}")
    names = ["row_id", *(f"v{number}" for number in range(len(given)))]
    values, rows = _unpacked(fields)
    fresh = ", ".join(f"{value} AS {name}" for value, name in zip(values, names, strict=True))
    # From JSON PostgreSQL cannot estimate the number of rows and would scan the whole table. The array shows it, so
    # each row is found through the index. Test (PostgreSQL): tests/test_statements.py,
    # test_few_rows_of_a_table_are_looked_up_in_its_index.
    listed = "" if is_sqlite else f" AND {table}.{key} = ANY(%s::{fields[0].db_type(connection())}[])"
    # Names and casts come from the model. Values are a parameter.
    return (
        f"UPDATE {table} SET {', '.join(settings)} FROM (SELECT {fresh} FROM {rows}) AS fresh "  # noqa: S608
        f"WHERE {table}.{key} = fresh.row_id{listed}{f' AND {where}' if where else ''} RETURNING {table}.{key}"
    )


@cached
def _insert_statement(
    model: type[models.Model], by: tuple[str, ...], unless_there: bool, at_now: str
) -> tuple[str, list[Any]]:
    fields: list[Any] = [
        field for field in model._meta.concrete_fields if not isinstance(field, models.AutoField)
    ]
    quote = connection().ops.quote_name
    returned: list[Any] = [model._meta.pk, *(model._meta.get_field(name) for name in by)]
    values, rows = _unpacked(fields)
    values = [
        dialect(model)["now"] if field.name == at_now else value
        for field, value in zip(fields, values, strict=True)
    ]
    text = (
        f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(quote(field.column) for field in fields)}) "  # noqa: S608
        f"SELECT {', '.join(values)} FROM {rows} WHERE true ORDER BY item.place "
        f"{'ON CONFLICT DO NOTHING ' if unless_there else ''}"
        f"RETURNING {', '.join(quote(field.column) for field in returned)}"
    )
    return text, fields


def _unpacked(fields: Sequence[Any]) -> tuple[list[str], str]:
    """Return the SQL expression of each value in the parameter of ``_as_one``, and the FROM item of its rows."""
    database = connection()
    if database.vendor == "sqlite":
        values = [f"json_extract(item.value, '$[{number}]')" for number in range(len(fields))]
        return values, "(SELECT value, key AS place FROM json_each(%s)) AS item"
    values = []
    for number, field in enumerate(fields):
        value = f"item.value->>{number}"
        # A cast to varchar(n) cuts a longer text without an error. Without the cast the column refuses it.
        texts = models.CharField, models.TextField
        kind = "" if isinstance(getattr(field, "target_field", field), texts) else field.db_type(database)
        values.append(f"({value})::{kind}" if kind else value)
    return values, "jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS item (value, place)"
