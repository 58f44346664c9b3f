"""The kit: Meta, the persons at the other end, and the bot of the project in between."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import logging
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from django.core.management import call_command
from django.db.models import Model
from django.db.models.signals import post_save
from django.test import Client, override_settings
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from djmessenger import bot, models
from djmessenger.emulator import EmulatorTransport
from djmessenger.receiving import ReceivingType
from djmessenger.settings import app_settings
from djmessenger.signals import messaging_failed, reply_failed
from djmessenger.testing.driver import Kind, WaitingDispatcher, depth, drain, handle, work
from djmessenger.testing.explanation import LastOutcome
from djmessenger.testing.failures import (
    ErrorLog,
    ReplyRefused,
    filter_failed,
    reply_refused,
    rule_failed,
    sender,
)
from djmessenger.testing.person import Person
from djmessenger.testing.travel import Clock, age, next_due
from messenger_emulator import Emulator, Page
from messenger_emulator.faults import Fault

PAGE_ID = "104233987650012"
APP_ID = "883041772661055"
TOKEN = "made-up-token-of-the-page"  # noqa: S105 - taken by the emulator alone
SECRET = "made-up-secret-of-the-app"  # noqa: S105 - likewise
NAMES = ("Ana Torres", "Ben Okafor", "Chen Wei", "Dora Lang", "Emil Novak", "Fatima Haddad")
ACCEPTED = 200
REPORTS = {
    "echoes": ReceivingType.ECHO,
    "deliveries": ReceivingType.DELIVERED,
    "reads": ReceivingType.READ,
}
"""What Meta may report of its own accord, and the type of the event."""

SETTINGS: dict[str, Any] = {
    "DJM_DISPATCHER": "djmessenger.testing.driver.WaitingDispatcher",
    "DJM_PAGE_ACCESS_TOKEN": TOKEN,
    "DJM_APP_SECRET": SECRET,
    "DJM_TRIES": 1,
}
"""What the kit sets for the time of a test."""


class Messenger:
    """Meta with one Page, for the time of one test; ``with Messenger() as messenger:``, or a fixture or mixin.

    The real engine: signed bytes through the webhook's view, rows, the policy, the Graph client; only Meta is the
    emulator's. Nothing sleeps and nothing leaves the process. Token, app secret and dispatcher are the kit's,
    all other settings the project's.
    """

    def __init__(self, overrides: Any = None) -> None:
        """Take what sets settings for the time of a test, such as the fixture of pytest-django.

        Settings set in a test are taken back in the reverse order, so all have to be set by the same means.
        """
        self._overrides = overrides
        self._stack = contextlib.ExitStack()
        self._log = ErrorLog()
        self._failed: list[AssertionError] = []
        self._deliberate = 0
        self._calls_checked = 0
        self._people: list[Person] = []
        self._to_send: set[int] = set()
        self._senders: dict[int, str] = {}
        self._depth = 0

    # Beginning and end

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *details: object) -> None:
        self.stop()

    def start(self) -> None:
        """Put the emulator in Meta's place; the database may be used from here on."""
        if self._overrides is None:
            self._stack.enter_context(override_settings(**SETTINGS))
        else:
            for name, value in SETTINGS.items():
                setattr(self._overrides, name, value)
        self.clock = Clock()
        self.emulator = Emulator(self.clock)
        self.page = self.add_page(app_settings.DJM_PAGE_ID or PAGE_ID, name="Page")
        bot.use_transport(EmulatorTransport(self.emulator))
        self._stack.callback(bot.use_transport, None)
        messaging_failed.connect(self._messaging_failed)
        self._stack.callback(messaging_failed.disconnect, self._messaging_failed)
        reply_failed.connect(self._reply_failed)
        self._stack.callback(reply_failed.disconnect, self._reply_failed)
        post_save.connect(self._reply_saved, sender=models.Reply)
        self._stack.callback(post_save.disconnect, self._reply_saved, sender=models.Reply)
        filters = logging.getLogger("djmessenger.filtering")
        filters.addHandler(self._log)
        self._stack.callback(filters.removeHandler, self._log)
        self._client = Client(enforce_csrf_checks=True)
        self._depth = depth()
        self.report(**{name: self._has_rules_for(kind) for name, kind in REPORTS.items()})
        self._configure()

    def stop(self) -> None:
        """Take the emulator away again."""
        self._stack.close()

    def _configure(self) -> None:
        """Send what a person sees before the first message, as the commands do."""
        if app_settings.DJM_PROFILE:
            call_command("djmessenger", "profile", "apply", stdout=io.StringIO(), stderr=io.StringIO())
            return
        commands = {
            "configure_greetings": app_settings.DJM_THREAD_GREETINGS_TEXT,
            "configure_get_started_button": app_settings.DJM_THREAD_ENABLE_GET_STARTED_BUTTON,
            "configure_persistent_menu": app_settings.DJM_THREAD_PERSISTENT_MENUS,
        }
        for command, wanted in commands.items():
            if wanted:
                call_command(command, stdout=io.StringIO(), no_color=True)

    # Who is there

    @property
    def pages(self) -> dict[str, Page]:
        """The Pages of the emulator by id; ``messenger.page`` is the first."""
        return self.emulator.pages

    def add_page(self, page_id: str, *, name: str = "", channel: str = "messenger", **options: Any) -> Page:
        """Add another Page of the same app; ``options`` as ``Emulator.add_page`` has them."""
        page = self.emulator.add_page(
            page_id,
            f"{TOKEN}-{page_id}",
            app_id=app_settings.DJM_APP_ID or APP_ID,
            app_secret=SECRET,
            name=name or f"Page {page_id}",
            channel=channel,
            require_proof=True,
            **options,
        )
        # The settings know one token; the emulator goes by the Page that a call names.
        page.token = TOKEN
        return page

    def person(
        self,
        name: str = "",
        *,
        locale: str = "en_US",
        timezone: float | str = 0,
        page: Page | None = None,
        **options: Any,
    ) -> Person:
        """Add a person who knows the Page; ``timezone`` in hours from UTC, or as ``Europe/Vienna``."""
        if isinstance(timezone, str):
            offset = datetime.datetime.now(zoneinfo.ZoneInfo(timezone)).utcoffset()
            timezone = offset.total_seconds() / 3600 if offset is not None else 0
        name = name or NAMES[len(self._people) % len(NAMES)]
        screen = self.emulator.add_person(page or self.page, name, locale, timezone, **options)
        person = Person(self, screen)
        self._people.append(person)
        return person

    # What happens

    def report(self, *, echoes: bool, deliveries: bool, reads: bool) -> None:
        """Say which of its own events Meta reports: the Page's messages, what was delivered, what was read.

        At first those that the policy has rules for, since each costs as much time as a message of a person.
        Faults switch echoes on, for they settle what is in doubt.
        """
        self.emulator.echoes = echoes
        self.emulator.delivery_receipts = deliveries
        self.emulator.read_receipts = reads

    @staticmethod
    def _has_rules_for(kind: ReceivingType) -> bool:
        return bool(bot.get_policy().get_rules(kind))

    def run(self) -> None:
        """Deliver, handle and send everything that can be now; acts and looks do it by themselves.

        Does nothing inside a transaction that the test itself opened: nothing is sent before its commit.
        Raises ``RuleFailed`` and ``ReplyRefused`` for what went wrong meanwhile.
        """
        __tracebackhide__ = True
        self.settle()
        if not self._is_in_transaction():
            while drain():
                self.settle()
            self._raise_failures()

    def settle(self) -> None:
        """Do what is known to wait: the same as ``run``, without looking into the tables for more."""
        __tracebackhide__ = True
        if self._is_in_transaction():
            return
        dispatcher = bot.get_dispatcher()
        if not isinstance(dispatcher, WaitingDispatcher):
            raise TypeError("DJM_DISPATCHER was changed during the test; the kit needs its own")
        busy = True
        while busy:
            due = self.emulator.next_due()
            busy = due is not None and due <= self.clock() and bool(self.emulator.deliver(self._post))
            for callback_id in dispatcher.take():
                handle(callback_id)
            conversations, self._to_send = sorted(self._to_send), set()
            for conversation_id in conversations:
                while work(Kind.OUT, conversation_id):
                    busy = True
        self._raise_failures()

    def _is_in_transaction(self) -> bool:
        return depth() > self._depth

    def _reply_saved(self, instance: models.Reply, created: bool, **kwargs: Any) -> None:
        if created and instance.conversation_id is not None:
            self._to_send.add(instance.conversation_id)
            self._senders[instance.pk] = sender()

    def _post(self, body: bytes, headers: dict[str, str]) -> int:
        path = _webhook()
        answer = self._client.post(
            path,
            body,
            content_type=headers.pop("Content-Type"),
            headers=headers,
            secure=True,
        )
        if answer.status_code != ACCEPTED and not self._deliberate:
            self._failed.append(
                AssertionError(
                    f"the webhook at {path} answered {answer.status_code}, not 200: "
                    "look at DJM_ENDPOINT, at the URLs of the project and at the log"
                )
            )
        return int(answer.status_code)

    def posts(self, body: Mapping[str, Any] | str | bytes, *, page: Page | None = None) -> None:
        """Post a callback of one's own, signed as it is."""
        if isinstance(body, Mapping):
            body = json.dumps(body)
        self.emulator.emit_raw(page or self.page, body.encode() if isinstance(body, str) else body)
        self.run()

    def posts_again(self) -> None:
        """Post the last callback once more, byte for byte, as Meta does when a 200 got lost."""
        last = self.emulator.deliveries[-1]
        self.posts(last.body, page=self.emulator.pages[last.page_id])

    def travel(self, *, models: tuple[type[Model], ...] = (), **span: float) -> None:
        """Let time pass, as ``datetime.timedelta`` names it: ``travel(hours=25)``.

        Now stays now: what the bot and Meta remember gets older, step by step, and what falls due on the way
        happens. ``models`` are further models whose times go back too. The time of day does not change; for
        that see ``at``.
        """
        left = datetime.timedelta(**span).total_seconds()
        self.run()
        while left > 0:
            # In a transaction of the test nothing can happen on the way.
            due = None if self._is_in_transaction() else next_due(self.emulator)
            step = left if due is None else min(left, max(due, 0.5))
            age(self.emulator, step, models)
            left -= step
            self.run()

    @contextlib.contextmanager
    def at(self, moment: datetime.datetime) -> Iterator[None]:
        """Let what persons do inside bear another time, for rules that go by the time of the event."""
        before, self.clock.ahead = self.clock.ahead, 0.0
        self.clock.ahead = moment.timestamp() - self.clock()
        try:
            yield
        finally:
            self.clock.ahead = before

    @contextlib.contextmanager
    def fault(self, name: str, **options: Any) -> Iterator[Fault]:
        """Have Meta, or the way to it, misbehave; ``messenger_emulator.FAULTS`` has the names.

        What is refused because of it fails no test. ``times`` limits how often it strikes.
        """
        echoes, self.emulator.echoes = self.emulator.echoes, True
        models.Page.objects.update(date_last_echo=timezone.now())
        self._deliberate += 1
        try:
            with self.emulator.faults.active(name, **options) as fault:
                yield fault
                self.run()
        finally:
            self._deliberate -= 1
            self.emulator.echoes = echoes

    # What came of it

    def outcome(self, of: Person | None = None) -> LastOutcome:
        """Give the outcome of the last event of a person, or of all; ``LookupError`` when there was none."""
        self.run()
        rows = models.Messaging.objects.exclude(type__in=["ECHO", "DELIVERED", "READ"])
        if of is not None:
            rows = rows.filter(conversation__person_id=of.psid)
        row = rows.order_by("-timestamp", "-id").first()
        if row is None:
            raise LookupError("nothing that a person did has reached the bot")
        return LastOutcome(row.type, row.state, row.outcome or {})

    def coverage(self) -> list[str]:
        """Give the names of the rules that never fired in this test, in the order of the policy."""
        self.run()
        outcomes: Iterable[Any] = models.Messaging.objects.filter(outcome__isnull=False).values_list(
            "outcome", flat=True
        )
        fired = {
            trace["position"]
            for outcome in outcomes
            for trace in filter(None, [outcome.get("default"), *outcome.get("rules", ())])
            if trace["applied"]
        }
        return [rule.label for place, rule in enumerate(bot.get_policy().rules) if place not in fired]

    def waiting(self, person: Person) -> list[str]:
        """Give a line for each reply to a person that is not sent, with its fate."""
        replies = models.Reply.objects.filter(recipient_id=person.psid).exclude(state=models.Reply.State.SENT)
        return [
            f"Not sent: {reply.get_state_display()}, {reply.error.partition(chr(10))[0] or reply.data}"
            for reply in replies.order_by("id")
        ]

    # What fails a test

    def _messaging_failed(self, messaging: models.Messaging, **kwargs: Any) -> None:
        self._failed.append(rule_failed(messaging))

    def _reply_failed(self, reply: models.Reply, **kwargs: Any) -> None:
        if not self._is_deliberate(reply.recipient_id):
            self._failed.append(reply_refused(reply, self._senders.get(reply.pk, "")))

    def _is_deliberate(self, psid: str) -> bool:
        screen = self.emulator.persons.get(psid)
        if self._deliberate or screen is None:
            return bool(self._deliberate)
        page = screen.page
        owner = self.emulator.owner(screen)
        return (
            screen.blocked
            or page.restricted
            or page.token_error is not None
            or owner not in {"", page.app_id}
        )

    def _raise_failures(self) -> None:
        __tracebackhide__ = True
        found = [*map(filter_failed, self._log.records), *self._failed]
        for call in self.emulator.calls[self._calls_checked :]:
            recipient = call.body.get("recipient")
            psid = str(recipient.get("id", "")) if isinstance(recipient, dict) else ""
            if call.error and "sender_action" in call.body and not self._is_deliberate(psid):
                found.append(
                    ReplyRefused(f"Graph refused {call.body['sender_action']}: {call.error.get('message')}")
                )
        self._calls_checked = len(self.emulator.calls)
        self._log.records.clear()
        self._failed.clear()
        if len(found) == 1:
            raise found[0]
        if found:
            raise type(found[0])("\n\n".join(map(str, found)))


def _webhook() -> str:
    """Give the path of the webhook in the URLs of the project, or the one where it should be."""
    try:
        return reverse("djmessenger-webhook")
    except NoReverseMatch:
        return f"/{app_settings.DJM_ENDPOINT.strip('/')}"
