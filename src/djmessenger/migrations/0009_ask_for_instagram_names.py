"""Request the profiles of Instagram persons again that Graph refused because of fields that Instagram does not have.

A new event of such a person makes the request. Each portion has a transaction of its own, so no lock is held long.
"""

from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

PORTION = 500


def forget_refusals(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    people = apps.get_model("djmessenger", "FBUserProfile").objects.using(schema_editor.connection.alias)
    refused = people.filter(profile_state="refused", page__channel="instagram").order_by("pk")
    last = ""
    while portion := list(refused.filter(pk__gt=last).values_list("pk", flat=True)[:PORTION]):
        # A worker may store a profile between the read and this update. The condition keeps it.
        people.filter(pk__in=portion, profile_state="refused").update(profile_state="new", date_profile=None)
        last = portion[-1]


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("djmessenger", "0008_instagram_names"),
    ]

    operations = [migrations.RunPython(forget_refusals, migrations.RunPython.noop)]
