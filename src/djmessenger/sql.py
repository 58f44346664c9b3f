"""Statements and compiled queries (internal): SQL that the ORM cannot express, or expresses too slowly.

Both run on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from django.db import connections, models, router
from django.db.models.expressions import Expression
from django.db.models.functions import Now
from django.db.models.lookups import Lookup
from django.db.models.query import ModelIterable
from django.db.transaction import TransactionManagementError

M = TypeVar("M", bound=models.Model)

_BITS = 64


@functools.cache
def dialect(model: type[models.Model], alias: str) -> dict[str, str]:
    """Give what differs between databases in the text of a statement.

    ``now`` is the moment by their clock, ``later`` as many seconds after it as a parameter says.
    """
    connection = connections[alias]
    sqlite = connection.vendor == "sqlite"
    now, _ = model._default_manager.using(alias).all().query.get_compiler(using=alias).compile(Now())
    return {
        "table": connection.ops.quote_name(model._meta.db_table),
        "now": now,
        "later": f"{now[:-1]}, %s || ' seconds')" if sqlite else f"({now} + %s * INTERVAL '1 second')",
        "greatest": "MAX" if sqlite else "GREATEST",
        "least": "MIN" if sqlite else "LEAST",
        "for_update": "FOR UPDATE" if connection.features.has_select_for_update else "",
        "skip_locked": "FOR UPDATE SKIP LOCKED"
        if connection.features.has_select_for_update_skip_locked
        else "",
    }


def execute(alias: str, text: str, values: Sequence[Any]) -> int:
    """Execute a statement and give how many rows it met."""
    with connections[alias].cursor() as cursor:
        cursor.execute(text, values)
        return int(cursor.rowcount)


def fetch(alias: str, text: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Execute a statement and give the rows that it gives."""
    with connections[alias].cursor() as cursor:
        cursor.execute(text, values)
        return list(cursor.fetchall())


def update_each(
    model: type[models.Model], columns: Sequence[str], rows: Sequence[Sequence[Any]], *, where: str = ""
) -> set[int]:
    """Set ``columns`` of each row to its values, which follow its key, a number; give the keys of what was there.

    ``where`` is a condition in SQL over the rows as they are, of names and constants of the caller's own.
    """
    if not rows:
        return set()
    alias = router.db_for_write(model)
    text = _update_statement(model, alias, tuple(columns), where)
    fields: list[Any] = [model._meta.pk, *(model._meta.get_field(name) for name in columns)]
    values = [_as_one(alias, fields, rows)]
    if connections[alias].vendor != "sqlite":
        values.append(f"{{{', '.join(str(int(row[0])) for row in rows)}}}")
    return {row[0] for row in fetch(alias, text, values)}


def insert_each(rows: Sequence[models.Model], by: str, *, unless_there: bool = False) -> None:
    """Insert new rows in their order, and give keys to what was inserted; Django's signals are not sent.

    ``by`` is a field in which no two rows of the table are the same. What would break a constraint is left out
    ``unless_there``, and has no key afterwards.
    """
    if not rows:
        return
    model = type(rows[0])
    alias = router.db_for_write(model)
    named: Any = model._meta.get_field(by)
    text, fields = _insert_statement(model, alias, named.column, unless_there)
    values = [[field.pre_save(row, True) for field in fields] for row in rows]
    found = fetch(alias, text, [_as_one(alias, fields, values)])
    keys = {named.to_python(value): pk for pk, value in found}
    for row in rows:
        row.pk = keys.get(getattr(row, by))
        if row.pk is not None:
            row._state.adding, row._state.db = False, alias


def _as_one(alias: str, fields: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Give the values of rows as one parameter: a database reads it sooner than Python spells out each."""
    connection = connections[alias]
    packed = [
        [_plain(field, value, connection) for field, value in zip(fields, row, strict=True)] for row in rows
    ]
    return json.dumps(packed, default=str, ensure_ascii=False)


def _plain(field: Any, value: Any, connection: Any) -> Any:
    if value is None:
        return None
    if isinstance(field, models.JSONField):
        return json.dumps(value, cls=field.encoder)
    value = field.get_db_prep_save(value, connection)
    if isinstance(value, str) and "\0" in value:
        # PostgreSQL has no such text, and SQLite would cut it off there.
        raise ValueError(f"a NUL in {field.name}")
    if isinstance(value, int) and value.bit_length() >= _BITS:
        # SQLite would make a float of it.
        raise OverflowError(f"{value} is too large for {field.name}")
    return value


@functools.cache
def _update_statement(model: type[models.Model], alias: str, columns: tuple[str, ...], where: str) -> str:
    fields: list[Any] = [model._meta.pk, *(model._meta.get_field(name) for name in columns)]
    quote = connections[alias].ops.quote_name
    table, key = quote(model._meta.db_table), quote(fields[0].column)
    settings = ", ".join(
        f"{quote(field.column)} = fresh.v{number}" for number, field in enumerate(fields[1:])
    )
    names = ["row_id", *(f"v{number}" for number in range(len(columns)))]
    values, rows = _unpacked(alias, fields)
    fresh = ", ".join(f"{value} AS {name}" for value, name in zip(values, names, strict=True))
    # Told how many there are, PostgreSQL looks them up rather than reading the whole table.
    listed = "" if connections[alias].vendor == "sqlite" else f" AND {table}.{key} = ANY(%s::bigint[])"
    # Names and casts come from the model, values travel as a parameter.
    return (
        f"UPDATE {table} SET {settings} FROM (SELECT {fresh} FROM {rows}) AS fresh "  # noqa: S608
        f"WHERE {table}.{key} = fresh.row_id{listed}{f' AND {where}' if where else ''} RETURNING {table}.{key}"
    )


@functools.cache
def _insert_statement(
    model: type[models.Model], alias: str, by: str, unless_there: bool
) -> tuple[str, list[Any]]:
    fields: list[Any] = [field for field in model._meta.concrete_fields if not field.primary_key]
    quote = connections[alias].ops.quote_name
    values, rows = _unpacked(alias, fields)
    text = (
        f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(quote(field.column) for field in fields)}) "  # noqa: S608
        f"SELECT {', '.join(values)} FROM {rows} WHERE true ORDER BY item.place "
        f"{'ON CONFLICT DO NOTHING ' if unless_there else ''}RETURNING {quote('id')}, {quote(by)}"
    )
    return text, fields


def _unpacked(alias: str, fields: Sequence[Any]) -> tuple[list[str], str]:
    """Give the expressions of the values in what ``_as_one`` packed, and the rows that they are of."""
    connection = connections[alias]
    if connection.vendor == "sqlite":
        values = [f"json_extract(item.value, '$[{number}]')" for number in range(len(fields))]
        return values, "(SELECT value, key AS place FROM json_each(%s)) AS item"
    values = []
    for number, field in enumerate(fields):
        value = f"item.value->>{number}"
        # Cast to its length a text would be cut; put into its column it is refused.
        texts = models.CharField, models.TextField
        kind = "" if isinstance(getattr(field, "target_field", field), texts) else field.db_type(connection)
        values.append(f"({value})::{kind}" if kind else value)
    return values, "jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS item (value, place)"


class Given(Expression):
    """A value that a prepared query gets when it runs; stands in a filter where the value would."""

    def __init__(self, name: str, output_field: models.Field[Any, Any] | None = None) -> None:
        super().__init__(output_field=output_field or models.BigIntegerField())
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        """Stand as a parameter, which each run replaces by its value."""
        return "%s", (self,)

    def value_of(self, value: Any) -> Any:
        return value


class Several(Given):
    """Any number of values, for ``Among``: they travel as one, so that the statement is the same for all numbers."""

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        """Stand as a subquery of the values in one JSON parameter."""
        if connection.vendor == "sqlite":
            return "(SELECT value FROM json_each(%s))", (self,)
        kind = self.output_field.db_type(connection)
        return f"(SELECT CAST(jsonb_array_elements_text(%s::jsonb) AS {kind}))", (self,)

    def value_of(self, value: Iterable[Any]) -> str:
        return json.dumps(list(value))


class Among(Lookup):
    """Whether something is one of ``Several`` values, or of those of a query.

    In PostgreSQL they are an array, for which it looks up each in the index. To a subquery it might join the whole
    table, going by what it last counted there.
    """

    def __init__(self, name: str, values: Several | models.QuerySet[Any, Any]) -> None:
        super().__init__(models.F(name), values)

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        """Compare with an array in PostgreSQL, with a subquery in SQLite."""
        left, parameters = self.process_lhs(compiler, connection)
        values, more = self.process_rhs(compiler, connection)
        one_of = f"IN {values}" if connection.vendor == "sqlite" else f"= ANY(ARRAY{values})"
        return f"{left} {one_of}", (*parameters, *more)


class Prepared(Generic[M]):
    """A query that is compiled at its first run on a database; it asks the one that its model is written to.

    ``build`` gives it, with ``Given`` and ``Several`` in the place of what each run is told by their names.
    """

    def __init__(self, model: type[M], build: Callable[[], models.QuerySet[M, Any]]) -> None:
        self._model = model
        self._build = build
        self._compiled: dict[str, tuple[Any, str, list[Any]]] = {}

    def __call__(self, **values: Any) -> list[M]:
        """Run it; give its rows as instances."""
        compiler, rows = self._run(values)
        # Django's own way from rows to instances, with the rows that are here.
        compiler.execute_sql = lambda **_: [rows]
        query: Any = SimpleNamespace(get_compiler=lambda using: compiler)
        return list(ModelIterable(models.QuerySet(self._model, query=query, using=compiler.using)))

    def rows(self, **values: Any) -> list[tuple[Any, ...]]:
        """Run a query of ``values_list``; give its rows as tuples."""
        compiler, rows = self._run(values)
        return list(compiler.results_iter([rows], tuple_expected=True))

    def _run(self, values: dict[str, Any]) -> tuple[Any, list[Any]]:
        alias = router.db_for_write(self._model)
        if alias not in self._compiled:
            compiler: Any = self._build().using(alias).query.get_compiler(alias)
            text, parameters = compiler.as_sql()
            # A connection belongs to a thread, and lives no longer.
            compiler.connection = None
            self._compiled[alias] = compiler, text, parameters
        compiler, text, parameters = self._compiled[alias]
        compiler = copy.copy(compiler)
        compiler.connection = connections[alias]
        if compiler.query.select_for_update and compiler.connection.get_autocommit():
            raise TransactionManagementError("rows are locked to the end of a transaction, and there is none")
        told = [
            parameter.value_of(values[parameter.name]) if isinstance(parameter, Given) else parameter
            for parameter in parameters
        ]
        with compiler.connection.cursor() as cursor:
            cursor.execute(text, told)
            return compiler, cursor.fetchall()
