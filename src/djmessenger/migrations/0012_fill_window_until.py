"""Set the end of Meta's window for conversations in which it is open, from the last message of the person.

Each portion has a transaction of its own, so no lock is held long.
"""

import datetime
from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import F
from django.utils import timezone

PORTION = 500
WINDOW = datetime.timedelta(hours=24)


def fill(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    conversations = apps.get_model("djmessenger", "Conversation").objects.using(
        schema_editor.connection.alias
    )
    open_ones = conversations.filter(date_last_inbound__gt=timezone.now() - WINDOW).order_by("pk")
    last = 0
    while portion := list(open_ones.filter(pk__gt=last).values_list("pk", flat=True)[:PORTION]):
        # A worker of this version may set a later end between the read and this update. The condition keeps it.
        conversations.filter(pk__in=portion, window_until=None).update(
            window_until=F("date_last_inbound") + WINDOW
        )
        last = portion[-1]


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("djmessenger", "0011_window_until"),
    ]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
