"""Callbacks: the raw body of each correctly signed POST from Meta."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from djmessenger.secret import Body
from djmessenger.sql import cached, dialect, execute, fetch, many


class CallbackManager(models.Manager["Callback"]):
    def put(self, rows: Sequence[tuple[str, Body, str]]) -> list[int]:
        """Insert rows in one statement and return the id of each. A row is ``sha256``, body and app id.

        If a row with this ``sha256`` exists, its ``copies`` are incremented and its id is returned. Commits at once if
        no transaction is open. The time of arrival is read from the database's clock. Repeats need further statements.
        The copies of a row that another transaction has locked are not counted.
        """
        given = {row[0]: row for row in rows}
        ids = _insert([*given.values()])
        if len(ids) < len(rows):
            _count_repeats(rows, given, ids)
        return [ids[row[0]] for row in rows]


def _insert(rows: Sequence[tuple[str, Body, str]]) -> dict[str, int]:
    """Insert the rows whose ``sha256`` is new, and return the id of each of them by ``sha256``."""
    return dict(fetch(_put_statement(len(rows)), [value for row in rows for value in row]))


def _count_repeats(
    rows: Sequence[tuple[str, Body, str]], given: Mapping[str, tuple[str, Body, str]], ids: dict[str, int]
) -> None:
    """Add the id of each repeated ``sha256`` to ``ids``, and count the copies.

    ``given`` has one row for each ``sha256`` of ``rows``. ``ids`` has the inserted ones.
    """
    repeats = Counter(row[0] for row in rows)
    repeats.subtract(ids.keys())
    # A row can be purged after the INSERT found it and before it is read. It is then inserted again.
    while missing := given.keys() - ids.keys():
        ids |= fetch(_FIND.format_map(dialect(Callback)), [many(missing)])
        if missing := given.keys() - ids.keys():
            inserted = _insert([given[sha256] for sha256 in missing])
            repeats.subtract(inserted.keys())
            ids |= inserted
    for count in set((+repeats).values()):
        repeated = [ids[sha256] for sha256, repeat in repeats.items() if repeat == count]
        execute(_COUNT.format_map(dialect(Callback)), [many(repeated), count])


_FIND = (
    "SELECT callback.sha256, callback.id FROM {given} {table} callback WHERE callback.sha256 {is_given_text}"
)
"""Query of the stored rows of hashes, as SQL. Parameter: the hashes."""
# Guard: a frozen process may hold the lock of a callback that it splits, until the database ends its transaction. The
# answers of a whole group would wait for the count of one repeat, and Meta waits five seconds.
# Test (PostgreSQL): tests/test_intake.py, test_a_repeat_of_a_locked_callback_delays_no_answer.
_COUNT = """
    WITH chosen AS (SELECT callback.id FROM {given} {table} callback WHERE callback.id {is_given_id} {skip_locked})
    UPDATE {table} SET copies = copies + %s WHERE id IN (SELECT id FROM chosen)
"""
"""Count of further copies, as SQL. Parameters: ids of rows, and the number of copies of each of them."""


@cached
def _put_statement(count: int) -> str:
    """Return the INSERT statement for ``count`` rows, with the values that all new rows share as constants."""
    # Each callback that was answered before these POSTs began is visible to this query: its id is at most this number.
    # PostgreSQL plans this form in a fraction of the time that it needs for ``MAX(id)``.
    after_id = "COALESCE((SELECT id FROM {table} ORDER BY id DESC LIMIT 1), 0)"
    shared = f"{{now}}, '{Callback.State.NEW.value}', '', 1, {after_id}"
    values = ", ".join(["(%s, %s, %s)"] * count)
    return (
        "INSERT INTO {table} (sha256, body, app_id, date_received, state, error, copies, after_id) "  # noqa: S608
        # Most callbacks come alone. For one row the form with VALUES takes a few microseconds less.
        + (
            f"VALUES (%s, %s, %s, {shared}) "
            if count == 1
            else f"SELECT given.*, {shared} FROM (VALUES {values}) AS given WHERE true "  # noqa: S608
        )
        + "ON CONFLICT (sha256) DO NOTHING RETURNING sha256, id"
    ).format_map(dialect(Callback))


class Callback(models.Model):
    """Row with the unchanged bytes of one correctly signed POST from Meta.

    The bytes are removed if the POST contains an event of an erased person.
    """

    class State(models.TextChoices):
        NEW = "new", _("waiting for the split")
        SPLIT = "split", _("split")
        QUARANTINED = "quarantined", _("quarantined")

    sha256 = models.CharField(_("hash of the body"), max_length=64, unique=True)
    body = models.BinaryField(_("body"))
    app_id = models.CharField(
        _("app id"),
        max_length=64,
        blank=True,
        help_text=_("The Meta app whose secret signed it, if known."),
    )
    state = models.CharField(_("state"), max_length=12, choices=State, default=State.NEW)
    error = models.TextField(_("error"), blank=True)
    copies = models.PositiveIntegerField(
        _("copies"), default=1, help_text=_("Number of times that Meta sent the same bytes.")
    )
    date_received = models.DateTimeField(_("received"), default=timezone.now)
    after_id = models.BigIntegerField(
        _("follows callback"),
        default=0,
        # Processes of the version before insert callbacks too while a site is brought up to date.
        db_default=0,
        editable=False,
        help_text=_("The newest callback that was stored when this one arrived."),
    )

    tries = models.PositiveSmallIntegerField(
        _("failed splits"),
        default=0,
        db_default=0,
        editable=False,
        help_text=_("How often the database failed in the split of this callback alone."),
    )

    crashes = models.PositiveSmallIntegerField(
        _("crashes"),
        default=0,
        db_default=0,
        help_text=_("How often a process died while it split the callback."),
    )

    objects: ClassVar[CallbackManager] = CallbackManager()

    class Meta:
        verbose_name = _("callback")
        verbose_name_plural = _("callbacks")
        permissions = [("replay_callback", "Can have callbacks split again")]  # noqa: RUF012 - as Django declares it
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["date_received"], name="djm_callback_received"),
            models.Index(fields=["id"], name="djm_callback_new", condition=models.Q(state="new")),
        ]

    def __str__(self) -> str:
        return f"{self.sha256[:12]} ({self.get_state_display()})"
