"""Migrations keep the rows of earlier versions, and lead to one schema from any beginning."""

from __future__ import annotations

from pathlib import Path

from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from djmessenger import migrations

BEFORE = {"djmessenger": "tests.migrations_before"}
"""The three migrations that ``0001_squashed_0003`` replaces."""


def schema() -> dict[str, tuple[set[str], set[str]]]:
    """Return the columns and the named constraints and indexes of each table of the app."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if table.startswith("djmessenger_"):
                columns = connection.introspection.get_table_description(cursor, table)
                constraints = connection.introspection.get_constraints(cursor, table)
                found[table] = (
                    {column.name for column in columns},
                    {name for name in constraints if name.startswith("djm_")},
                )
    return found


def test_the_squashed_migration_makes_the_schema_of_those_that_it_replaces(empty_database, settings):
    settings.MIGRATION_MODULES = BEFORE
    call_command("migrate", verbosity=0)
    before = schema()
    call_command("migrate", "djmessenger", "zero", verbosity=0)
    assert not schema()
    settings.MIGRATION_MODULES = {}
    call_command("migrate", "djmessenger", "0001_squashed_0003", verbosity=0)
    assert schema() == before


def test_the_squashed_migration_counts_as_applied(empty_database, settings):
    settings.MIGRATION_MODULES = BEFORE
    call_command("migrate", verbosity=0)
    settings.MIGRATION_MODULES = {}
    call_command("migrate", verbosity=0)
    assert ("djmessenger", "0001_squashed_0003") in MigrationRecorder(connection).applied_migrations()


def test_no_file_bears_the_name_that_the_package_of_2016_recorded():
    names = {path.stem for path in Path(str(migrations.__file__)).parent.glob("*.py")}
    assert "0001_initial" not in names
