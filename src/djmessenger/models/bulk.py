"""Statements that the ORM cannot say, or says too slowly for what every message needs; SQLite and PostgreSQL."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from django.db import connections, models, router
from django.db.models.functions import Now


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
    """Set ``columns`` of each row to its values, which follow its key; give the keys of what was there.

    ``where`` is a condition in SQL over the rows as they are, of names and constants of the caller's own.
    """
    if not rows:
        return set()
    connection = connections[router.db_for_write(model)]
    fields: list[Any] = [model._meta.get_field(name) for name in columns]
    quote = connection.ops.quote_name
    table = quote(model._meta.db_table)
    typed = connection.vendor == "postgresql"
    settings = ", ".join(
        f"{quote(field.column)} = "
        + (f"fresh.v{number}::{field.db_type(connection)}" if typed else f"fresh.v{number}")
        for number, field in enumerate(fields)
    )
    places = f"({', '.join(['%s'] * (len(fields) + 1))})"
    names = ", ".join(["row_id", *(f"v{number}" for number in range(len(fields)))])
    key = "fresh.row_id::bigint" if typed else "fresh.row_id"
    # Names and casts come from the model, values travel as parameters.
    statement = (
        f"WITH fresh ({names}) AS (VALUES {', '.join([places] * len(rows))}) "  # noqa: S608
        f"UPDATE {table} SET {settings} FROM fresh WHERE {table}.{quote('id')} = {key}"
        f"{f' AND {where}' if where else ''} RETURNING {table}.{quote('id')}"
    )
    values: list[Any] = []
    for key_value, *own in rows:
        values.append(key_value)
        values += [
            field.get_db_prep_save(value, connection) for field, value in zip(fields, own, strict=True)
        ]
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return {row[0] for row in cursor.fetchall()}
