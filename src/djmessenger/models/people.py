"""Who talks: persons, their conversations and the places they shared."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models, transaction
from django.utils.timezone import get_default_timezone, now
from django.utils.translation import gettext_lazy as _

from djmessenger.exceptions import DJMInvalidValueException
from djmessenger.models import speaking
from djmessenger.models.history import SPOKEN, Line, said, told
from djmessenger.models.pages import Page

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from djmessenger.models.inbox import Messaging
    from djmessenger.models.outbox import Reply


class FBUserProfile(models.Model):
    """A person who has written to the Page, with the details looked up for that person."""

    class ProfileState(models.TextChoices):
        NEW = "new", _("not asked yet")
        FETCHED = "fetched", _("fetched")
        REFUSED = "refused", _("refused by Meta")

    psid = models.CharField(
        _("page-scoped id"), max_length=64, primary_key=True, help_text=_("Known to this Page alone.")
    )
    page = models.ForeignKey(
        Page, verbose_name=_("page"), null=True, blank=True, on_delete=models.PROTECT, related_name="persons"
    )
    first_name = models.CharField(_("first name"), max_length=255, blank=True)
    last_name = models.CharField(_("last name"), max_length=255, blank=True)
    profile_pic = models.TextField(
        _("profile picture"), blank=True, help_text=_("Address on Meta's servers; it expires.")
    )
    locale = models.CharField(
        _("locale"), max_length=16, blank=True, help_text=_("As Facebook spells it, such as en_US.")
    )
    timezone = models.FloatField(
        _("time zone"), null=True, blank=True, help_text=_("Hours from UTC, such as 5.75.")
    )
    gender = models.CharField(_("gender"), max_length=32, blank=True)
    date_joined = models.DateTimeField(_("date joined"), default=now)
    is_active = models.BooleanField(_("active"), default=True)
    thumbups = models.PositiveIntegerField(_("thumbs up"), default=0)
    profile_state = models.CharField(
        _("profile"), max_length=8, choices=ProfileState, default=ProfileState.NEW, editable=False
    )
    date_profile = models.DateTimeField(_("profile asked"), null=True, blank=True, editable=False)
    date_unreachable = models.DateTimeField(
        _("unreachable since"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("Meta said that this person receives nothing from the Page; a new message ends it."),
    )

    if TYPE_CHECKING:
        conversations: RelatedManager[Conversation]
        reply_set: RelatedManager[Reply]
        userlocation_set: RelatedManager[UserLocation]

    objects: ClassVar[models.Manager[FBUserProfile]] = models.Manager()

    class Meta:
        verbose_name = _("person")
        verbose_name_plural = _("persons")

    def __str__(self) -> str:
        return self.get_full_name() or self.psid

    def get_full_name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip()

    def get_tzinfo(self) -> datetime.tzinfo:
        """Give the person's offset from UTC, or the project's time zone where it is not known or is none."""
        if self.timezone is None or not -24 < self.timezone < 24:
            return get_default_timezone()
        return datetime.timezone(datetime.timedelta(hours=self.timezone))

    def get_conversation(self) -> Conversation:
        """Give the conversation with the person's Page, made where there is none.

        Raises ``DJMInvalidValueException`` for a person of no Page.
        """
        conversation = self.conversations.select_related("page").order_by("-date_last_activity").first()
        if conversation is None:
            if self.page is None:
                raise DJMInvalidValueException(
                    f"person {self.psid} belongs to no Page, so nothing can be sent"
                )
            conversation = Conversation.objects.between(self.page.page_id, self.psid)
        conversation.person = self
        return conversation

    def send(self, message: Any, *, rule: str = "") -> list[Reply]:
        """Queue a message to the person inside the caller's transaction; see ``Conversation.send``."""
        return self.get_conversation().send(message, rule=rule)

    def history(self, n: int = 20) -> list[Line]:
        """Give the last ``n`` lines of the conversation, the oldest first; see ``Conversation.history``."""
        conversation = self.conversations.order_by("-date_last_activity").first()
        return [] if conversation is None else conversation.history(n)


class ConversationManager(models.Manager["Conversation"]):
    def between(self, page_id: str, psid: str) -> Conversation:
        """Give the conversation of a person with a Page; what is not there yet is made, rows for both included."""
        conversation = (
            self.select_related("person", "page").filter(page__page_id=page_id, person_id=psid).first()
        )
        if conversation is not None:
            return conversation
        page, _made = Page.objects.get_or_create(page_id=page_id)
        person, _made = FBUserProfile.objects.get_or_create(psid=psid, defaults={"page": page})
        return self.get_or_create(page=page, person=person)[0]


class Conversation(models.Model):
    """One person with one Page: the unit of order and of state."""

    page = models.ForeignKey(
        Page, verbose_name=_("page"), on_delete=models.PROTECT, related_name="conversations"
    )
    person = models.ForeignKey(
        FBUserProfile, verbose_name=_("person"), on_delete=models.CASCADE, related_name="conversations"
    )
    state = models.JSONField(
        _("state"), default=dict, blank=True, help_text=_("What the rules remember; saved with the event.")
    )
    date_last_inbound = models.DateTimeField(
        _("last message of the person"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("Opens Meta's window of 24 hours."),
    )
    date_last_activity = models.DateTimeField(_("last activity"), default=now, editable=False, db_index=True)

    if TYPE_CHECKING:
        messagings: RelatedManager[Messaging]
        replies: RelatedManager[Reply]

    objects: ClassVar[ConversationManager] = ConversationManager()

    class Meta:
        verbose_name = _("conversation")
        verbose_name_plural = _("conversations")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["page", "person"], name="djm_conversation_page_person")
        ]

    def __str__(self) -> str:
        return f"{self.person} – {self.page}"

    def send(self, message: Any, *, rule: str = "") -> list[Reply]:
        """Queue a message to the person, inside the caller's transaction: a row for each call that it needs.

        ``message`` is an outgoing message, its plain data, a text, or several of these; texts are rendered in the
        person's language, with ``DJM_BOT_PREFIX`` in front. ``rule`` names what sent it, in the admin and in logs.
        It is sent after the commit, after what was queued before; a rollback takes it back. Raises
        ``DJMInvalidConfigException`` for what breaks a limit of the platform, and ``DJMInvalidValueException`` for
        a sender action, which is shown at once or never and so cannot be queued.
        """
        locale = self.person.locale or self.page.configured("language")
        bodies = list(speaking.bodies(message, locale=locale, channel=self.page.configured("channel")))
        for kind, body in bodies:
            if "message" not in body:
                raise DJMInvalidValueException(
                    f"{kind} is no message: a rule may show it, but it cannot be queued"
                )
        with transaction.atomic():
            # A related manager has the methods of the model's own.
            queue = self.replies.queue  # type: ignore[attr-defined]
            return [queue(self, body, type=kind, rule=rule) for kind, body in bodies]

    def history(self, n: int = 20) -> list[Line]:
        """Give the last ``n`` lines that were said, both sides, the oldest first; also what is being handled now.

        What was not sent for good is left out; what waits to be sent is in.
        """
        if n <= 0:
            return []
        spoken = self.messagings.filter(type__in=SPOKEN).order_by("-timestamp", "-id")[:n]
        lines = [Line("person", said(row.body, row), _when(row)) for row in spoken]
        replies = list(self.replies.exclude(state__in=["failed", "parked", "expired"]).order_by("-id")[:n])
        lines += [Line("bot", told(reply.data), reply.date_sent) for reply in replies]
        # Echoes without a token of ours: somebody else spoke for the Page.
        others = self.messagings.filter(type="ECHO", echo_token=None).order_by("-timestamp", "-id")[:n]
        ours = {reply.mid for reply in replies}
        lines += [Line("staff", said(row.body, row), _when(row)) for row in others if row.mid not in ours]
        return sorted(lines, key=lambda line: line.when)[-n:]


def _when(row: Messaging) -> datetime.datetime:
    """The latest moment at which an event can have been: Meta tells the millisecond, our clock when it was here."""
    begun = row.date_event
    return max(begun, min(row.date_received, begun + datetime.timedelta(microseconds=999)))


class UserLocation(models.Model):
    """A location that a person shared."""

    user = models.ForeignKey(FBUserProfile, verbose_name=_("person"), on_delete=models.CASCADE)
    latitude = models.DecimalField(_("latitude"), max_digits=19, decimal_places=16)
    longitude = models.DecimalField(_("longitude"), max_digits=19, decimal_places=16)
    title = models.CharField(_("title"), max_length=255, blank=True)
    url = models.TextField(_("address of the map"), blank=True)
    mid = models.CharField(_("message id"), max_length=255, blank=True)
    seq = models.BigIntegerField(
        _("sequence number"), null=True, blank=True, help_text=_("Sent by Meta until 2019 only.")
    )
    timestamp = models.DateTimeField(_("sent"), null=True, blank=True)
    date_created = models.DateTimeField(_("stored"), default=now, editable=False)

    objects: ClassVar[models.Manager[UserLocation]] = models.Manager()

    class Meta:
        verbose_name = _("location")
        verbose_name_plural = _("locations")

    def __str__(self) -> str:
        return self.title or f"{self.latitude}, {self.longitude}"
