"""Request profiles again that Graph refused because the person had not consented yet, as after a referral.

The next message of such a person makes the request. Each portion has a transaction of its own, so no lock is held long.
"""

from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Exists, OuterRef

PORTION = 500
TOO_EARLY = (
    "REFERRAL",
    "ONE_TIME_NOTIFICATION",
    "NOTIFICATION_MESSAGES",
    "FEEDBACK",
    "CUSTOMER_INFORMATION",
    "CART",
)
"""Types of events that are no consent. The version before requested the profile with them."""


def forget_refusals(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    alias = schema_editor.connection.alias
    people = apps.get_model("djmessenger", "FBUserProfile").objects.using(alias)
    events = apps.get_model("djmessenger", "Messaging").objects.using(alias)
    asked = events.filter(
        conversation__person=OuterRef("pk"),
        type__in=TOO_EARLY,
        date_received__lte=OuterRef("date_profile"),
        date_handled__gte=OuterRef("date_profile"),
    )
    last = ""
    while portion := list(
        people.filter(profile_state="refused", pk__gt=last)
        .order_by("pk")
        .values_list("pk", flat=True)[:PORTION]
    ):
        # A worker may store a profile between the read and this update. The condition keeps it.
        people.filter(Exists(asked), pk__in=portion, profile_state="refused").update(
            profile_state="new", date_profile=None
        )
        last = portion[-1]


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("djmessenger", "0012_fill_window_until"),
    ]

    operations = [migrations.RunPython(forget_refusals, migrations.RunPython.noop)]
