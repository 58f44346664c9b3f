"""Models: persons, conversations and events."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, cast

from django.db import models
from django.utils.timezone import get_default_timezone, now
from django.utils.translation import gettext_lazy as _

from djmessenger.clock import as_stored
from djmessenger.exceptions import DJMInvalidValueException
from djmessenger.models.history import Line, last_lines
from djmessenger.models.pages import Page
from djmessenger.models.replies import Reply
from djmessenger.outgoing.rendering import bodies, locale_of
from djmessenger.rulebook import limit
from djmessenger.sql import atomic, update_each

_FROM_GRAPH = ("first_name", "last_name", "username", "profile_pic", "locale", "timezone", "gender")
"""Columns of a person that have a value of Graph."""
_NAMES = frozenset({"first_name", "last_name"})
_PROFILE = (*_FROM_GRAPH, "profile_state", "date_profile")
"""Columns of a person that a fetched profile changes."""


class PersonManager(models.Manager["FBUserProfile"]):
    def save_profiles(self, people: Iterable[FBUserProfile]) -> set[str]:
        """Write the new profiles of persons in one statement, and return the ids of those whose row was changed.

        A person whose profile another worker stored meanwhile is not changed. A column that was changed since the
        person was read keeps its value.
        """
        # Guard: a slow rule, or a view, stores what the person said while the profile is on its way from Graph.
        # Test: tests/test_inbox.py, test_what_a_slow_rule_stores_about_a_person_is_not_lost_to_the_profile.
        # Guard: another worker may have stored the profile after the person was read. The condition keeps its columns.
        # Test: tests/test_handling.py, test_a_profile_that_another_worker_found_meanwhile_stays.
        rows = [(person.pk, *person.new_profile) for person in people if person.new_profile is not None]
        return update_each(
            FBUserProfile, _PROFILE, rows, unless_changed=_FROM_GRAPH, where="profile_state <> 'fetched'"
        )


class FBUserProfile(models.Model):
    """A person known by a page-scoped id, with the profile that Meta returned."""

    FROM_GRAPH: ClassVar[tuple[str, ...]] = _FROM_GRAPH

    class ProfileState(models.TextChoices):
        NEW = "new", _("not requested yet")
        FETCHED = "fetched", _("fetched")
        REFUSED = "refused", _("refused by Meta")

    # Columns that rules read have a plain type: without django-stubs a type checker takes them for fields.
    psid: str = cast(
        "Any",
        models.CharField(
            _("page-scoped id"),
            max_length=64,
            primary_key=True,
            help_text=_("Meta gives each Page a different id for the same person."),
        ),
    )
    page = models.ForeignKey(
        "djmessenger.Page",
        verbose_name=_("page"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="persons",
    )
    first_name: str = cast("Any", models.CharField(_("first name"), max_length=255, blank=True))
    last_name: str = cast("Any", models.CharField(_("last name"), max_length=255, blank=True))
    username: str = cast(
        "Any",
        models.CharField(
            _("username"),
            max_length=64,
            blank=True,
            # During a rolling update processes of the previous version insert persons without this column.
            db_default="",
            default="",
            help_text=_("Unique name on Instagram."),
        ),
    )
    profile_pic: str = cast(
        "Any",
        models.TextField(
            _("profile picture"),
            blank=True,
            help_text=_("Address on Meta's servers, valid for a limited time."),
        ),
    )
    locale: str = cast(
        "Any",
        models.CharField(
            _("locale"),
            max_length=16,
            blank=True,
            help_text=_("In the form that Facebook uses, such as en_US."),
        ),
    )
    timezone = models.FloatField(
        _("time zone"), null=True, blank=True, help_text=_("Hours from UTC, such as 5.75.")
    )
    gender: str = cast("Any", models.CharField(_("gender"), max_length=32, blank=True))
    date_joined = models.DateTimeField(_("date joined"), default=now)
    is_active = models.BooleanField(_("active"), default=True)
    thumbups = models.PositiveIntegerField(_("thumbs up"), default=0)
    profile_state = models.CharField(
        _("profile"), max_length=8, choices=ProfileState, default=ProfileState.NEW, editable=False
    )
    date_profile = models.DateTimeField(_("profile requested"), null=True, blank=True, editable=False)
    date_unreachable = models.DateTimeField(
        _("unreachable since"),
        null=True,
        blank=True,
        editable=False,
        help_text=_(
            "Since then Meta refuses messages to this person. A new message of the person clears it."
        ),
    )

    objects: ClassVar[PersonManager] = PersonManager()

    new_profile: tuple[Any, ...] | None = None
    """Values of ``set_profile``, which ``save_profiles`` writes with the result of the event.

    The values of ``_FROM_GRAPH`` before ``set_profile`` follow them.
    """

    class Meta:
        verbose_name = _("person")
        verbose_name_plural = _("persons")

    def __str__(self) -> str:
        return self.get_full_name() or self.psid

    def set_profile(self, columns: Mapping[str, Any]) -> None:
        """Set columns of the profile on this object, for ``save_profiles``.

        A column that has a value keeps it. First and last name count as one, because an import may put the whole name
        into one of them.
        """
        expected = [getattr(self, name) for name in _FROM_GRAPH]
        # Only the project can have set these values: the engine sets all columns once, with the state "fetched".
        kept = {name for name in _FROM_GRAPH if getattr(self, name) not in {None, ""}}
        if kept & _NAMES:
            kept |= _NAMES
        for name, value in columns.items():
            if name not in kept:
                setattr(self, name, value)
        # Guard: a rule changes the object before the profile is saved. A value that no column takes would make each
        # save fail, also that of the failed try, and the event would be tried for ever. So the values are copied.
        # Test: tests/test_inbox.py, test_what_a_rule_sets_on_a_person_is_not_stored_with_the_profile.
        self.new_profile = (*(getattr(self, name) for name in _PROFILE), *expected)

    def get_full_name(self) -> str:
        """Return first and last name, or the username if both are empty."""
        return f"{self.first_name} {self.last_name}".strip() or self.username

    @property
    def name(self) -> str:
        return self.get_full_name()

    def get_tzinfo(self) -> datetime.tzinfo:
        """Return the person's offset from UTC, or the project's time zone if the offset is unknown or impossible."""
        if self.timezone is None or not -24 < self.timezone < 24:
            return get_default_timezone()
        return datetime.timezone(datetime.timedelta(hours=self.timezone))

    def get_conversation(self) -> Conversation:
        """Return the person's most recent conversation. If there is none, insert one with the person's Page.

        Raises ``DJMInvalidValueException`` if the person has neither a conversation nor a Page.
        """
        conversation = self.conversations.select_related("page").order_by("-date_last_activity").first()
        if conversation is None:
            if self.page is None:
                raise DJMInvalidValueException(
                    f"person {self.psid} belongs to no Page, so nothing can be sent: set the person's page"
                )
            conversation = Conversation.objects.between(self.page.page_id, self.psid)
        conversation.person = self
        return conversation

    def send(self, message: Any, *, rule: str = "") -> list[Reply]:
        """Queue a message to the person in the caller's transaction; see ``Conversation.send``."""
        return self.get_conversation().send(message, rule=rule)

    def history(self, n: int = 20) -> list[Line]:
        """Return the last ``n`` lines of the most recent conversation, oldest first; see ``Conversation.history``."""
        conversation = self.conversations.order_by("-date_last_activity").first()
        return [] if conversation is None else conversation.history(n)


class ConversationManager(models.Manager["Conversation"]):
    def between(self, page_id: str, psid: str) -> Conversation:
        """Return the conversation of a person with a Page. Missing rows are inserted: Page, person and conversation."""
        conversation = (
            self.select_related("person", "page").filter(page__page_id=page_id, person_id=psid).first()
        )
        if conversation is not None:
            return conversation
        page, _made = Page.objects.get_or_create(page_id=page_id)
        person, _made = FBUserProfile.objects.get_or_create(psid=psid, defaults={"page": page})
        return self.get_or_create(page=page, person=person)[0]


class Conversation(models.Model):
    """One person with one Page.

    Its events are handled in order, its replies are sent in order, and its rules share one ``state``.
    """

    page = models.ForeignKey(
        "djmessenger.Page",
        verbose_name=_("page"),
        on_delete=models.PROTECT,
        related_name="conversations",
        db_index=False,  # ``djm_conversation_page_person`` begins with it.
    )
    person = models.ForeignKey(
        "djmessenger.FBUserProfile",
        verbose_name=_("person"),
        on_delete=models.CASCADE,
        related_name="conversations",
    )
    state: dict[str, Any] = cast(
        "Any",
        models.JSONField(
            _("state"),
            default=dict,
            blank=True,
            help_text=_("Data that the rules keep about this conversation, saved together with each event."),
        ),
    )
    date_last_inbound = models.DateTimeField(
        _("last message of the person"),
        null=True,
        blank=True,
        editable=False,
    )
    window_until = models.DateTimeField(
        _("window open until"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("Until then a reply is sent. A reply that waits longer expires."),
    )
    fast_exchanges = models.PositiveIntegerField(
        _("fast exchanges"),
        default=0,
        # During a rolling update processes of the previous version insert conversations without this column.
        db_default=0,
        editable=False,
        help_text=_(
            "Events of the person in a row, each soon after the one before. Over DJM_FAST_EXCHANGES answers wait."
        ),
    )
    date_last_activity = models.DateTimeField(_("last activity"), default=now, editable=False, db_index=True)

    objects: ClassVar[ConversationManager] = ConversationManager()

    class Meta:
        verbose_name = _("conversation")
        verbose_name_plural = _("conversations")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["page", "person"], name="djm_conversation_page_person")
        ]

    def __str__(self) -> str:
        return f"{self.person} – {self.page}"

    def get_window_until(self) -> datetime.datetime | None:
        """Return the end of Meta's window, or None if no event of the person has opened it."""
        # Guard: during a rolling update a process of the previous version splits an event of the person and sets
        # ``date_last_inbound`` only. The reply to it must not expire.
        # Test: tests/test_windows.py, test_an_event_that_the_version_before_split_opens_the_window.
        if self.date_last_inbound is None:
            return self.window_until
        until = self.date_last_inbound + datetime.timedelta(hours=limit("window.standard"))
        return until if self.window_until is None else max(until, self.window_until)

    def send(self, message: Any, *, rule: str = "") -> list[Reply]:
        """Queue a message to the person in the caller's transaction, and return its rows: one for each call of Graph.

        ``message`` is an outgoing message, its plain data, a text, or several of these. Texts are rendered in the
        person's language, with ``DJM_BOT_PREFIX`` in front. ``rule`` is the name of the sender in admin and logs.
        The message is sent after the commit, in the order of queueing. A rollback removes it.

        Raises ``DJMInvalidConfigException`` if the message exceeds a limit of the platform. Raises
        ``DJMInvalidValueException`` for a sender action, which has no meaning later and so cannot be queued.
        """
        locale = locale_of(self.person.locale, self.page.configured("language"))
        calls = list(bodies(message, locale=locale, channel=self.page.configured("channel")))
        for kind, body in calls:
            if "message" not in body:
                raise DJMInvalidValueException(
                    f"{kind} is a sender action and cannot be queued: use it in a rule"
                )
        with atomic():
            return [self.replies.queue(self, body, type=kind, rule=rule) for kind, body in calls]

    def history(self, n: int = 20) -> list[Line]:
        """Return the last ``n`` messages of both sides, oldest first, including the event that is handled now.

        Replies that wait to be sent are included. Failed, parked and expired replies are not.
        """
        return last_lines(self.messagings, self.replies, n)


class Messaging(models.Model):
    """One event of a callback: an inbox row until it is handled, a record afterwards."""

    class State(models.TextChoices):
        NEW = "new", _("waiting")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")
        IGNORED = "ignored", _("ignored")
        PAUSED = "paused", _("paused")

    type = models.CharField(_("type"), max_length=64)
    body = models.JSONField(
        _("body"), help_text=_("A callback with this event alone. The item in it is as Meta sent it.")
    )
    key = models.CharField(  # noqa: DJ001 - null, because the empty text could be there once only
        _("key"),
        max_length=128,
        unique=True,
        null=True,
        help_text=_("The same each time Meta sends the same event."),
    )
    mid = models.CharField(_("message id"), max_length=255, blank=True, db_index=True)
    echo_token = models.CharField(  # noqa: DJ001 - null, because most rows have none
        _("token of the echo"),
        max_length=64,
        null=True,
        blank=True,
        db_index=True,
        help_text=_("Token of the attempt that this echo confirms."),
    )
    callback = models.ForeignKey(
        "djmessenger.Callback",
        verbose_name=_("callback"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="messagings",
    )
    page = models.ForeignKey(
        "djmessenger.Page",
        verbose_name=_("page"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="messagings",
    )
    conversation = models.ForeignKey(
        "djmessenger.Conversation",
        verbose_name=_("conversation"),
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="messagings",
        db_index=False,  # ``djm_messaging_dialogue`` begins with it.
    )
    queue = models.ForeignKey(
        "djmessenger.ConversationQueue",
        verbose_name=_("queue of an event without a conversation"),
        null=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="messagings",
        db_index=False,  # Instead of it, ``djm_messaging_subject`` has only rows with a queue.
    )
    is_standby = models.BooleanField(
        _("standby"),
        default=False,
        help_text=_("Another app controlled the conversation when the event came."),
    )
    timestamp = models.BigIntegerField(
        _("time of the event"), help_text=_("Milliseconds since 1970-01-01 UTC.")
    )
    position = models.BigIntegerField(
        _("position"),
        default=0,
        # During a rolling update processes of the previous version insert events without this column.
        db_default=0,
        editable=False,
        help_text=_(
            "Milliseconds; the time of the event, or later if an earlier callback has a later event."
        ),
    )
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.NEW)
    reason = models.CharField(_("reason"), max_length=255, blank=True)
    outcome = models.JSONField(_("outcome"), null=True, blank=True)
    error = models.TextField(_("traceback"), blank=True)
    tries = models.PositiveSmallIntegerField(_("failed tries"), default=0)
    crashes = models.PositiveSmallIntegerField(
        _("crashes"),
        default=0,
        # During a rolling update processes of the previous version insert events without this column.
        db_default=0,
        help_text=_("How often a process died while it handled the event."),
    )
    not_before = models.DateTimeField(_("not before"), null=True, blank=True)
    is_kept = models.BooleanField(
        _("kept"), default=False, help_text=_("Not removed together with old rows.")
    )
    date_received = models.DateTimeField(_("received"), default=now)
    date_handled = models.DateTimeField(_("handled"), null=True, blank=True)

    ORDER: ClassVar[tuple[str, ...]] = ("position", "timestamp", "callback_id", "id")
    """Sort order of the waiting events of a queue; the first in this order is handled first."""
    window: datetime.timedelta | None = None
    """Time from the event on in which a bot may write. It is None outside of a split."""
    waits_in: int | None = None
    """Id of the queue into which a split puts the event. It is None outside of a split."""
    is_being_handled = False
    """True on the object of a row that the pipeline handles.

    The pipeline saves ``is_kept`` of this object with the result of the event. A handler therefore sets ``is_kept`` on
    it and issues no UPDATE.
    """

    class Meta:
        verbose_name = _("messaging")
        verbose_name_plural = _("messagings")
        permissions = [  # noqa: RUF012 - as Django declares it
            ("replay_messaging", "Can have messagings handled again")
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["conversation", "timestamp", "id"], name="djm_messaging_dialogue"),
            models.Index(
                fields=["conversation", "position", "timestamp", "callback", "id"],
                name="djm_messaging_next",
                condition=models.Q(state="new"),
            ),
            models.Index(
                fields=["queue", "state", "position", "timestamp", "callback", "id"],
                name="djm_messaging_subject",
                # Not only new events: the deletion of a queue finds all its events by this index.
                condition=models.Q(queue__isnull=False),
            ),
            models.Index(fields=["date_received"], name="djm_messaging_received"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.date_event:%Y-%m-%d %H:%M:%S}"

    @property
    def date_event(self) -> datetime.datetime:
        """Time of the event, or the time of arrival if Meta's timestamp is out of range or far in the future."""
        # A time in the year 9998 would keep the window open for ever. The timestamp itself stays, so that
        # the key is kept as long as a repetition could be handled. An hour is left to the clocks.
        # Test: tests/faults/test_odd_databases.py, test_an_event_far_in_the_future_opens_no_window_without_an_end.
        try:
            moment = as_stored(datetime.datetime.fromtimestamp(self.timestamp / 1000, tz=datetime.UTC))
        except (OverflowError, OSError, ValueError):
            return self.date_received
        is_late = moment > self.date_received + datetime.timedelta(hours=1)
        return self.date_received if is_late else moment
