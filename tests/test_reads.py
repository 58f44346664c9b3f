"""Named queries: each returns the rows of the query of Django that stands beside it here, by the same index."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from djmessenger import models
from djmessenger.sql import dialect

pytestmark = pytest.mark.django_db


def test_the_time_of_a_statement_is_the_time_of_django():
    models.Page.objects.create(page_id="1")
    with CaptureQueriesContext(connection) as said:
        models.Page.objects.values_list(Now()).get()
    assert dialect(models.Page, "default")["now"].replace("%%", "%") in said[0]["sql"].replace("%%", "%")
