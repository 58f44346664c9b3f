"""Callbacks: the raw body of each correctly signed POST from Meta."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from djmessenger.sql import cached, dialect, fetch


class CallbackManager(models.Manager["Callback"]):
    def put(self, rows: Sequence[tuple[str, bytes, str]]) -> list[int]:
        """Insert rows in one statement and return the id of each. A row is ``sha256``, body and app id.

        If a row with this ``sha256`` exists, its ``copies`` are incremented and its id is returned. Commits at once if
        no transaction is open. The time of arrival is read from the database's clock.
        """
        # PostgreSQL refuses a statement that inserts one key twice.
        copies = Counter(row[0] for row in rows)
        values = {row[0]: (*row, copies[row[0]]) for row in rows}
        given = [value for row in values.values() for value in row]
        ids = dict(fetch(_put_statement(len(values)), given))
        return [int(ids[row[0]]) for row in rows]


@cached
def _put_statement(count: int) -> str:
    """Return the INSERT statement for ``count`` rows, with the values that all new rows share as constants."""
    dialect_parts = dialect(Callback)
    given = ", ".join(["(%s, %s, %s, %s)"] * count)
    return (
        "INSERT INTO {table} (sha256, body, app_id, copies, date_received, state, error, "  # noqa: S608 - no input
        "after_id) "
        "SELECT given.column1, given.column2, given.column3, given.column4, "
        f"{{now}}, '{Callback.State.NEW.value}', '', "
        # Every callback that was answered before these POSTs began is visible here, and so is not above this number.
        "(SELECT COALESCE(MAX(id), 0) FROM {table}) "
        f"FROM (VALUES {given}) AS given WHERE true "
        "ON CONFLICT (sha256) DO UPDATE SET copies = {table}.copies + excluded.copies RETURNING sha256, id"
    ).format_map(dialect_parts)


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
