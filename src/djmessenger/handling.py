"""Handlers do internal work, such as storing rows, with a messaging."""

from __future__ import annotations

import abc
import dataclasses
import datetime
import decimal
import logging
from typing import Any, ClassVar, Final

from django.db.models import F, Q
from django.utils import timezone

from djmessenger import graph, models
from djmessenger.exceptions import DJMException
from djmessenger.logs import error_label, hidden
from djmessenger.payload import Payload
from djmessenger.receiving import Coordinates, Messaging
from djmessenger.settings import app_settings

logger = logging.getLogger(__name__)

ASK_AGAIN: Final = datetime.timedelta(days=30)
"""How long a refused profile is not asked for: by then the app may have got its permission, or the person agreed."""

PLACES: Final = decimal.Decimal("1e-16")
"""As many as the columns of ``UserLocation`` have."""


class BaseHandler(abc.ABC):
    """Parent of handlers; a subclass does its work in ``handle``.

    What ``handle`` gives besides None (a text, a message, several) is queued as an answer. Handlers are shared
    by all threads and hold nothing of one messaging.
    """

    slow: ClassVar[bool] = False
    """Whether it waits for somebody else: it then runs with no transaction open, and may run again after a crash."""

    @abc.abstractmethod
    def handle(self, messaging: Messaging) -> Any:
        """Do the work for the messaging."""

    def is_slow_for(self, messaging: Messaging) -> bool:
        """Tell whether it may wait for this messaging; one that seldom waits says so here."""
        return self.slow


class UserProfileHandler(BaseHandler):
    """Stores the sender as a row of ``FBUserProfile``.

    With ``DJM_SAVE_USER_PROFILE`` the profile is asked of Graph, once; else only the page-scoped id is kept. A
    refusal is remembered for ``ASK_AGAIN``; a call that did not get through is made again with the next messaging.
    Neither keeps the messaging from being answered. Asks only about who wrote: Meta counts that as consent
    (Messenger Platform, "User Profile API", 2026).
    """

    slow = True

    def handle(self, messaging: Messaging) -> None:
        person = _person(messaging)
        if person is None:
            return
        if app_settings.DJM_SAVE_USER_PROFILE and messaging.authored and self._is_unknown(person):
            self._fetch(person)

    def is_slow_for(self, messaging: Messaging) -> bool:
        """Only Graph is waited for, and only until the person is known."""
        if not (app_settings.DJM_SAVE_USER_PROFILE and messaging.authored):
            return False
        person: models.FBUserProfile | None = messaging.person
        return person is None or self._is_unknown(person)

    @staticmethod
    def _is_unknown(person: models.FBUserProfile) -> bool:
        states = models.FBUserProfile.ProfileState
        if person.profile_state == states.REFUSED:
            asked = person.date_profile
            return asked is not None and asked < timezone.now() - ASK_AGAIN
        return person.profile_state == states.NEW

    def _fetch(self, person: models.FBUserProfile) -> None:
        states = models.FBUserProfile.ProfileState
        try:
            profile = graph.current().profile(person.psid)
        except graph.ProfileRefused as error:
            logger.info(
                "Graph does not tell who a person is: %s",
                error_label(error),
                extra={"action": "profile_refused", "person": hidden(person.psid)},
            )
            self._keep(person, {"profile_state": states.REFUSED})
        except (DJMException, OSError) as error:
            logger.warning(
                "The profile of a person could not be asked for: %s",
                error_label(error),
                extra={"action": "profile_failed", "person": hidden(person.psid)},
            )
        else:
            self._keep(person, {**_columns(profile), "profile_state": states.FETCHED})

    @staticmethod
    def _keep(person: models.FBUserProfile, found: dict[str, Any]) -> None:
        """Write what was found, unless somebody else found out meanwhile, and put it into the object at hand."""
        found["date_profile"] = timezone.now()
        unasked = Q(pk=person.pk) & ~Q(profile_state=models.FBUserProfile.ProfileState.FETCHED)
        if models.FBUserProfile.objects.filter(unasked).update(**found):
            for name, value in found.items():
                setattr(person, name, value)
        else:
            person.refresh_from_db()


def _columns(profile: graph.Profile) -> dict[str, Any]:
    """Give the columns that Graph said something about, cut to what they hold."""
    given = {field.name: getattr(profile, field.name) for field in dataclasses.fields(profile)}
    if not given["first_name"] and not given["last_name"]:
        # Instagram gives the whole name alone.
        given["first_name"] = given["name"]
    names = ("first_name", "last_name", "profile_pic", "locale", "timezone", "gender")
    columns: dict[str, Any] = {}
    for name in names:
        value = given[name]
        if isinstance(value, str):
            value = value[: getattr(models.FBUserProfile._meta.get_field(name), "max_length", None)]
        if value not in {"", None}:
            columns[name] = value
    return columns


class SaveMessagingHandler(BaseHandler):
    """Stores the whole messaging for later reference: its row is there and is not purged."""

    def handle(self, messaging: Messaging) -> None:
        row: models.Messaging | None = messaging.row
        if row is None:
            row = self._make(messaging)
            messaging.bind(row=row)
        if not row.is_kept:
            row.is_kept = True
            if not row.is_at_hand:
                models.Messaging.objects.filter(pk=row.pk).update(is_kept=True)

    @staticmethod
    def _make(messaging: Messaging) -> models.Messaging:
        """Give the row of a messaging that did not come by the engine; the same messaging has one row."""
        conversation = _conversation(messaging)
        now = timezone.now()
        row, _made = models.Messaging.objects.get_or_create(
            key=messaging.key(),
            defaults={
                "type": messaging.type.name,
                "body": messaging.envelope(),
                "mid": messaging.mid[:255],
                "page": conversation.page if conversation else None,
                "conversation": conversation,
                "is_standby": messaging.is_standby,
                "timestamp": messaging.timestamp,
                "state": models.Messaging.State.DONE,
                "is_kept": True,
                "date_received": now,
                "date_handled": now,
            },
        )
        return row


class ThumbUpHandler(BaseHandler):
    """Counts the thumb-up on the person's row, which is made if it is not there."""

    def handle(self, messaging: Messaging) -> None:
        person = _person(messaging)
        if person is None:
            return
        # Counted by the database: two thumbs at once are two.
        models.FBUserProfile.objects.filter(pk=person.pk).update(thumbups=F("thumbups") + 1)
        person.refresh_from_db(fields=["thumbups"])


class LocationHandler(BaseHandler):
    """Stores a shared location; one without coordinates is logged and left out."""

    def handle(self, messaging: Messaging) -> None:
        person = _person(messaging)
        shared = next((item for item in messaging.attachments if item.coordinates is not None), None)
        place = _place(shared.coordinates) if shared is not None else None
        if person is None or shared is None or place is None:
            logger.warning(
                "A location came without coordinates that are any",
                extra={"action": "location_refused", "person": hidden(messaging.get_psid())},
            )
            return
        latitude, longitude = place
        models.UserLocation.objects.create(
            user=person,
            latitude=latitude,
            longitude=longitude,
            title=shared.title[:255],
            url=shared.best_url,
            mid=messaging.mid[:255],
            seq=messaging.message.seq if messaging.message is not None else None,
            timestamp=messaging.date,
        )


def _place(coordinates: Coordinates | None) -> tuple[decimal.Decimal, decimal.Decimal] | None:
    """Give latitude and longitude as exact as they came, None for a place that is not on earth."""
    if coordinates is None or coordinates.lat is None or coordinates.long is None:
        return None
    if not (-90 <= coordinates.lat <= 90 and -180 <= coordinates.long <= 180):
        return None
    latitude, longitude = (decimal.Decimal(str(value)) for value in (coordinates.lat, coordinates.long))
    return latitude.quantize(PLACES), longitude.quantize(PLACES)


class BasePayloadHandler(BaseHandler):
    """Parent of handlers for messagings that carry a payload; one answer can so lead to the next question."""

    @abc.abstractmethod
    def get_payload_string_from_messaging(self, messaging: Messaging) -> str:
        """Give the payload text of the messaging."""

    def get_payload(self, messaging: Messaging) -> Payload:
        """Give an instance of the ``Payload`` subclass that the payload text names.

        Raises ``ValueError``, ``ImportError`` or ``AttributeError`` as ``Payload.get_instance`` does.
        """
        return Payload.get_instance(self.get_payload_string_from_messaging(messaging))


class BasePostbackHandler(BasePayloadHandler):
    """Parent of handlers of custom postback payloads."""

    def get_payload_string_from_messaging(self, messaging: Messaging) -> str:
        return messaging.get_postback_payload()


class BaseQuickReplyHandler(BasePayloadHandler):
    """Parent of handlers of custom quick-reply payloads."""

    def get_payload_string_from_messaging(self, messaging: Messaging) -> str:
        return messaging.get_quick_reply_payload()

    def get_text(self, messaging: Messaging) -> str:
        """Give the text that came with the quick reply: its title."""
        return messaging.get_text()


def _person(messaging: Messaging) -> models.FBUserProfile | None:
    """Give the person of an event, made and bound where that is still to do; None where it is nobody's."""
    person: models.FBUserProfile | None = messaging.person
    psid = messaging.get_psid()
    if person is None and psid:
        page_id = messaging.get_page_id()
        page = models.Page.objects.get_or_create(page_id=page_id)[0] if page_id else None
        person, _made = models.FBUserProfile.objects.get_or_create(psid=psid, defaults={"page": page})
        messaging.bind(person=person)
    return person


def _conversation(messaging: Messaging) -> models.Conversation | None:
    conversation: models.Conversation | None = messaging.conversation
    page_id, psid = messaging.get_page_id(), messaging.get_psid()
    if conversation is None and page_id and psid:
        conversation = models.Conversation.objects.between(page_id, psid)
    return conversation
