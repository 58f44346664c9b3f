"""Handlers, which do internal work for an event, such as the storage of rows."""

from __future__ import annotations

import abc
import dataclasses
import datetime
import decimal
import logging
from typing import Any, ClassVar, Final

from django.db.models import F
from django.utils import timezone

from djmessenger import models
from djmessenger.clock import as_stored
from djmessenger.exceptions import DJMException
from djmessenger.graph.context import current as current_client
from djmessenger.graph.errors import ProfileRefused
from djmessenger.graph.results import Profile
from djmessenger.logs import error_label, hidden
from djmessenger.payload import Payload
from djmessenger.receiving import Coordinates, Messaging
from djmessenger.settings import app_settings

logger = logging.getLogger(__name__)

ASK_AGAIN: Final = datetime.timedelta(days=30)
"""Time after which a refused profile is requested again: the app may have its permission, or the person may agree."""

PLACES: Final = decimal.Decimal("1e-16")
"""Decimal places of the columns of ``UserLocation``."""


class BaseHandler(abc.ABC):
    """Parent of handlers. A subclass implements ``handle``.

    A text, a message or several of them that ``handle`` returns are queued as the reply. All threads share an instance,
    so it must not keep anything about one event.
    """

    slow: ClassVar[bool] = False
    """True if it waits for another service. It then runs outside a transaction and may run again after a crash."""
    only_calls_graph: ClassVar[bool] = False
    """True if a slow handler waits for Graph only, and makes no query for an event of a conversation.

    The handler then runs in a free sender thread of the worker instead of a thread for slow rules. A subclass must set
    it again, because its own code may wait for something else.
    """

    @abc.abstractmethod
    def handle(self, messaging: Messaging) -> Any:
        """Do the work for the event. A slow handler runs outside a transaction, other handlers inside one."""

    def is_slow_for(self, messaging: Messaging) -> bool:
        """Return whether the handler may wait for another service for this event. Override it if it seldom waits."""
        return self.slow


class UserProfileHandler(BaseHandler):
    """A handler that stores the sender as a row of ``FBUserProfile``.

    With ``DJM_SAVE_USER_PROFILE`` it requests the profile from Graph, once; otherwise it keeps the page-scoped id only.
    After a refusal the next request is made when ``ASK_AGAIN`` has passed. After a failed call it is made with the next
    event. Neither prevents the reply. The profile is requested only with an event that is consent. Before it Graph
    refuses the profile (Messenger Platform, "User Profile API", 2026).
    """

    slow = True
    only_calls_graph = True

    def handle(self, messaging: Messaging) -> None:
        person = _person(messaging)
        if person is None:
            return
        if app_settings.DJM_SAVE_USER_PROFILE and messaging.is_consent and self._is_unknown(person):
            self._fetch(messaging, person)

    def is_slow_for(self, messaging: Messaging) -> bool:
        """Return whether the profile must be requested from Graph."""
        if not (app_settings.DJM_SAVE_USER_PROFILE and messaging.is_consent):
            return False
        person: models.FBUserProfile | None = messaging.person
        return person is None or self._is_unknown(person)

    @staticmethod
    def _is_unknown(person: models.FBUserProfile) -> bool:
        states = models.FBUserProfile.ProfileState
        if person.profile_state == states.REFUSED:
            date_refused = person.date_profile
            return date_refused is not None and date_refused < timezone.now() - ASK_AGAIN
        return person.profile_state == states.NEW

    def _fetch(self, messaging: Messaging, person: models.FBUserProfile) -> None:
        states = models.FBUserProfile.ProfileState
        try:
            profile = current_client().profile(person.psid)
        except ProfileRefused as error:
            logger.info(
                "Graph refused the profile of a person; it is requested again after 30 days: %s",
                error_label(error),
                extra={"action": "profile_refused", "person": hidden(person.psid)},
            )
            self._keep(messaging, person, {"profile_state": states.REFUSED})
        except (DJMException, OSError) as error:
            logger.warning(
                "The profile of a person could not be fetched; it is requested again with the next event: %s",
                error_label(error),
                extra={"action": "profile_failed", "person": hidden(person.psid)},
            )
        else:
            self._keep(messaging, person, {**_columns(profile), "profile_state": states.FETCHED})

    @staticmethod
    def _keep(messaging: Messaging, person: models.FBUserProfile, columns: dict[str, Any]) -> None:
        """Set the columns of ``person``.

        While the engine handles an event of a conversation, it writes them together with the result of the event.
        Otherwise they are written here, unless another worker stored the profile meanwhile.
        """
        person.set_profile({**columns, "date_profile": timezone.now()})
        row: models.Messaging | None = messaging.row
        # Guard: the engine reads the person from the conversation. Without one the profile would be lost, and be
        # requested with each event.
        # Test: tests/test_inbox.py, test_the_profile_of_a_person_without_a_conversation_is_stored.
        is_saved_later = row is not None and row.is_being_handled and row.conversation_id is not None
        if not is_saved_later and not models.FBUserProfile.objects.save_profiles([person]):
            person.refresh_from_db()


def _columns(profile: Profile) -> dict[str, Any]:
    """Return the columns for which Graph returned a value, cut to the length of the column."""
    values = {field.name: getattr(profile, field.name) for field in dataclasses.fields(profile)}
    if not values["first_name"] and not values["last_name"]:
        # Instagram returns the whole name only, and none if the person set none.
        values["first_name"] = values["name"] or values["username"]
    columns: dict[str, Any] = {}
    for name in models.FBUserProfile.FROM_GRAPH:
        value = values[name]
        if isinstance(value, str):
            value = value[: getattr(models.FBUserProfile._meta.get_field(name), "max_length", None)]
        if value not in {"", None}:
            columns[name] = value
    return columns


class SaveMessagingHandler(BaseHandler):
    """A handler that keeps the event: its row exists and is not purged."""

    def handle(self, messaging: Messaging) -> None:
        row: models.Messaging | None = messaging.row
        if row is None:
            row = self._make(messaging)
            messaging.bind(row=row)
        if not row.is_kept:
            row.is_kept = True
            if not row.is_being_handled:
                models.Messaging.objects.filter(pk=row.pk).update(is_kept=True)

    @staticmethod
    def _make(messaging: Messaging) -> models.Messaging:
        """Read or insert the row of an event that did not come by the engine. The dedup key keeps it unique."""
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
    """A handler that counts the thumb-up on the person's row, which is inserted if it does not exist."""

    def handle(self, messaging: Messaging) -> None:
        person = _person(messaging)
        if person is None:
            return
        # Guard: two workers that read 3 and write 4 would lose a thumb, so the database increments the column.
        # test_thumbs_at_the_same_time_all_count_and_nothing_else_is_written
        models.FBUserProfile.objects.filter(pk=person.pk).update(thumbups=F("thumbups") + 1)
        person.refresh_from_db(fields=["thumbups"])


class LocationHandler(BaseHandler):
    """A handler that stores a shared location. A location without valid coordinates is logged and not stored."""

    def handle(self, messaging: Messaging) -> None:
        person = _person(messaging)
        shared = next((item for item in messaging.attachments if item.coordinates is not None), None)
        place = _place(shared.coordinates) if shared is not None else None
        if person is None or shared is None or place is None:
            logger.warning(
                "A shared location has no valid coordinates and is not stored",
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
            timestamp=as_stored(messaging.date),
        )


def _place(coordinates: Coordinates | None) -> tuple[decimal.Decimal, decimal.Decimal] | None:
    """Return latitude and longitude as exact as Meta sent them, or None if they are missing or out of range."""
    if coordinates is None or coordinates.lat is None or coordinates.long is None:
        return None
    if not (-90 <= coordinates.lat <= 90 and -180 <= coordinates.long <= 180):
        return None
    latitude, longitude = (decimal.Decimal(str(value)) for value in (coordinates.lat, coordinates.long))
    return latitude.quantize(PLACES), longitude.quantize(PLACES)


class BasePayloadHandler(BaseHandler):
    """Parent of handlers for events with a payload, for example to continue a dialogue with the next question."""

    @abc.abstractmethod
    def get_payload_string_from_messaging(self, messaging: Messaging) -> str:
        """Return the payload text of the event."""

    def get_payload(self, messaging: Messaging) -> Payload:
        """Return an instance of the ``Payload`` subclass that the payload text names.

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
        """Return the title of the quick reply."""
        return messaging.get_text()


def _person(messaging: Messaging) -> models.FBUserProfile | None:
    """Return the person of an event, inserted and bound if necessary, or None if the event has no person."""
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
