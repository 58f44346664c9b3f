"""Rows that are inserted and updated as one parameter are stored as Django would store them."""

from __future__ import annotations

import datetime

import pytest
from django.db import DataError, connection, transaction
from django.utils import timezone
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from djmessenger import models
from djmessenger.sql import insert_each, update_each
from tests import pipeline_tools as tools

pytestmark = pytest.mark.django_db

TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40
) | st.sampled_from(["", "null", "1", "true", "{}", "'", '"', "\\u0000", "%s", "%%"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
MOMENTS = st.datetimes(
    datetime.datetime(1970, 1, 2),  # noqa: DTZ001 - as Hypothesis wants it
    datetime.datetime(9990, 1, 1),  # noqa: DTZ001
    timezones=st.just(datetime.UTC),
)


def stored(pk: int) -> dict[str, object]:
    names = [
        field.attname for field in models.Reply._meta.concrete_fields if field.name not in {"id", "uuid"}
    ]
    return models.Reply.objects.values(*names).get(pk=pk)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "data": JSON.filter(lambda value: value is not None),
                "response": JSON,
                "error": TEXTS,
                "mid": st.none(),
                "is_parked_when_unsure": st.none() | st.booleans(),
                "observed_wait": st.floats(allow_nan=False, allow_infinity=False),
                "status_code": st.none() | st.integers(0, 2**31 - 1),
                "not_before": st.none() | MOMENTS,
                "date_sent": MOMENTS,
            }
        ),
        min_size=1,
        max_size=4,
    )
)
def test_bulk_inserts_and_updates_store_the_same_values_as_django(given_rows):
    with transaction.atomic():
        made = tools.conversation()
        shared = {
            "conversation": made,
            "recipient_id": made.person_id,
            "type": "simple_text",
            "rule": "a rule",
        }
        plain = [models.Reply.objects.create(**shared, **values) for values in given_rows]
        at_once = [models.Reply(**shared, **values) for values in given_rows]
        insert_each(at_once, "uuid")
        assert sorted(row.pk for row in at_once) == [row.pk for row in at_once]
        wanted = [stored(row.pk) for row in plain]
        assert [stored(row.pk) for row in at_once] == wanted
        bare = [models.Reply.objects.create(**shared, data={}) for _ in given_rows]
        names = list(given_rows[0])
        rows = [
            (row.pk, *(values[name] for name in names)) for row, values in zip(bare, given_rows, strict=True)
        ]
        assert update_each(models.Reply, names, rows) == {row.pk for row in bare}
        assert [stored(row.pk) for row in bare] == wanted
        transaction.set_rollback(True)


@pytest.mark.parametrize(
    ("name", "value"), [("error", "a\0b"), ("error", "\ud800"), ("type", "x" * 33), ("status_code", 2**70)]
)
def test_a_value_that_the_database_cannot_store_is_refused(name, value):
    made = tools.conversation()
    row = models.Reply(conversation=made, recipient_id=made.person_id, type="text", data={})
    setattr(row, name, value)
    if connection.vendor == "sqlite" and name == "type":
        pytest.skip("SQLite has no lengths")
    with pytest.raises((ValueError, OverflowError, DataError)), transaction.atomic():
        insert_each([row], "uuid")
    assert not models.Reply.objects.exists()


@pytest.mark.parametrize("value", [mark_safe("<b>"), models.Reply.State.SENT, gettext_lazy("Yes")])
def test_a_text_of_a_class_of_its_own_is_stored_as_a_text(value):
    made = tools.conversation()
    row = models.Reply(conversation=made, recipient_id=made.person_id, type="text", data={}, error=value)
    insert_each([row], "uuid")
    assert models.Reply.objects.get().error == str(value)


def test_a_row_that_is_there_is_left_as_it_is_and_has_no_key():
    tools.receive(tools.text("m_1"))
    old = models.Messaging.objects.get()
    rows = [
        models.Messaging(type="X", body={}, key=key, timestamp=1) for key in (old.key, "new", "newer", "new")
    ]
    insert_each(rows, "key", unless_there=True)
    assert rows[0].pk is None
    assert rows[1].pk == rows[3].pk
    assert models.Messaging.objects.count() == 3


def test_rows_with_keys_of_their_own_and_of_two_columns_are_inserted_as_django_would():
    tools.conversation("70 'a\\")
    page = models.Page.objects.get()
    psids = ["70 'a\\", "709", "708"]
    people = [models.FBUserProfile(psid=psid, page=page, timezone=5.75) for psid in psids]
    insert_each(people, "psid", unless_there=True)
    assert [person.pk for person in people] == [None, "709", "708"]
    made = [models.Conversation(page=page, person_id=psid, state={"a": [1]}) for psid in psids]
    insert_each(made, "page", "person", unless_there=True)
    assert made[0].pk is None
    for row in (*people[1:], *made[1:]):
        stored = type(row).objects.get(pk=row.pk)
        for field in row._meta.concrete_fields:
            assert getattr(stored, field.attname) == getattr(row, field.attname), field
    assert models.Conversation.objects.count() == 3
    assert update_each(models.FBUserProfile, ["first_name"], [("709", "Ada"), ("nobody", "Eve")]) == {"709"}
    assert models.FBUserProfile.objects.get(first_name="Ada").pk == "709"


@pytest.mark.postgresql("SQLite has no such plans")
def test_few_rows_of_a_table_are_looked_up_in_its_index():
    """Going by its own guess PostgreSQL would read a table of some thousand rows for one."""
    made = tools.conversation()
    models.Reply.objects.bulk_create(
        models.Reply(conversation=made, recipient_id=made.person_id, type="text", data={})
        for _ in range(3000)
    )
    pk = models.Reply.objects.latest("pk").pk
    said = []

    def note(execute, sql, params, many, context):
        said.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        update_each(models.Reply, ["date_sent"], [(pk, timezone.now())])
    ((sql, params),) = said
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        cursor.execute(f"EXPLAIN {sql}", params)
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Seq Scan" not in plan
