"""Drop indexes without a use: each costs time at almost each insert and update.

An index of one column is dropped if another index begins with this column. The indexes for ``LIKE`` are dropped too,
which Django adds on PostgreSQL to each indexed text column. No query of the app uses LIKE on these columns.

No row and no other index is written, so a large table is locked for a moment only.
"""

from typing import Any

import django.db.models.deletion
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

REPEATED = {
    ("attempt", "reply_id"),
    ("conversation", "page_id"),
    ("conversationqueue", "conversation_id"),
    ("graphcall", "page_id"),
    ("messaging", "conversation_id"),
    ("reply", "conversation_id"),
    ("uploadedfile", "page_id"),
}
"""Model and column of each index that is repeated."""


def drop(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Drop the indexes by the names that they have in this database. Earlier migrations renamed tables and columns."""
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        for model in apps.get_app_config("djmessenger").get_models():
            found = connection.introspection.get_constraints(cursor, model._meta.db_table)
            for name, index in found.items():
                is_of_one_column = index["index"] and not index["unique"] and len(index["columns"]) == 1
                is_repeated = {(model._meta.model_name, column) for column in index["columns"]} & REPEATED
                # The names of indexes that a model declares begin with ``djm_``. They stay.
                if (
                    is_of_one_column
                    and not name.startswith("djm_")
                    and (is_repeated or name.endswith("_like"))
                ):
                    schema_editor.execute(f"DROP INDEX {connection.ops.quote_name(name)}")


def altered(model_name: str, name: str, **options: Any) -> migrations.AlterField:
    return migrations.AlterField(
        model_name=model_name,
        name=name,
        field=models.ForeignKey(db_index=False, **options),
    )


class Migration(migrations.Migration):
    dependencies = [
        ("djmessenger", "0004_subject_queues"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            # On SQLite AlterField would copy each table. The version before works without these indexes.
            database_operations=[migrations.RunPython(drop, migrations.RunPython.noop)],
            state_operations=[
                altered(
                    "attempt",
                    "reply",
                    on_delete=django.db.models.deletion.CASCADE,
                    related_name="attempts",
                    to="djmessenger.reply",
                    verbose_name="reply",
                ),
                altered(
                    "conversation",
                    "page",
                    on_delete=django.db.models.deletion.PROTECT,
                    related_name="conversations",
                    to="djmessenger.page",
                    verbose_name="page",
                ),
                altered(
                    "conversationqueue",
                    "conversation",
                    blank=True,
                    null=True,
                    on_delete=django.db.models.deletion.CASCADE,
                    related_name="queues",
                    to="djmessenger.conversation",
                    verbose_name="conversation",
                ),
                altered(
                    "graphcall",
                    "page",
                    on_delete=django.db.models.deletion.CASCADE,
                    related_name="graph_calls",
                    to="djmessenger.page",
                    verbose_name="page",
                ),
                altered(
                    "messaging",
                    "conversation",
                    blank=True,
                    null=True,
                    on_delete=django.db.models.deletion.CASCADE,
                    related_name="messagings",
                    to="djmessenger.conversation",
                    verbose_name="conversation",
                ),
                altered(
                    "reply",
                    "conversation",
                    blank=True,
                    null=True,
                    on_delete=django.db.models.deletion.CASCADE,
                    related_name="replies",
                    to="djmessenger.conversation",
                    verbose_name="conversation",
                ),
                altered(
                    "uploadedfile",
                    "page",
                    on_delete=django.db.models.deletion.CASCADE,
                    related_name="uploaded_files",
                    to="djmessenger.page",
                    verbose_name="page",
                ),
            ],
        ),
    ]
