"""Kit: the emulator, its persons, and the bot of the project."""

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
from djmessenger.testing.pages import add_page, made_up, main_page_id
from djmessenger.testing.person import Person
from djmessenger.testing.travel import Clock, age, next_due
from messenger_emulator import Emulator, Page
from messenger_emulator.faults import Fault

NAMES = ("Ana Torres", "Ben Okafor", "Chen Wei", "Dora Lang", "Emil Novak", "Fatima Haddad")
ACCEPTED = 200
REPORTS = {
    "echoes": ReceivingType.ECHO,
    "deliveries": ReceivingType.DELIVERED,
    "reads": ReceivingType.READ,
}
"""Reports that Meta can send without an act of a person, and the type of their event."""


class Messenger:
    """Emulator with one Page, for one test: ``with Messenger() as messenger:``, or a fixture or mixin.

    The test runs the real engine: signed bytes through the webhook's view, rows, the policy and the Graph client.
    Only Meta is emulated. No code sleeps and no call leaves the process. The kit sets token, app secret and
    dispatcher; all other settings are those of the project.
    """

    def __init__(self, overrides: Any = None) -> None:
        """Build a kit; ``overrides`` is an object that sets settings, such as the fixture of pytest-django.

        Settings are restored in reverse order, so the kit and the test have to set them by the same object.
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

    # Start and stop

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *details: object) -> None:
        self.stop()

    def start(self) -> None:
        """Connect the bot to the emulator and send the Messenger Profile. Requires access to the database."""
        for name, value in made_up().items():
            self._override(name, value)
        self.clock = Clock()
        self.emulator = Emulator(self.clock)
        self.page = self.add_page(main_page_id(), name="Page")
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

    def _override(self, name: str, value: Any) -> None:
        if self._overrides is None:
            self._stack.enter_context(override_settings(**{name: value}))
        else:
            setattr(self._overrides, name, value)

    def stop(self) -> None:
        """Disconnect the emulator and restore the settings."""
        self._stack.close()

    def _configure(self) -> None:
        """Run the commands that set greeting, Get Started and menu."""
        if app_settings.DJM_PROFILE or app_settings.DJM_PAGES:
            words = ("djmessenger", "profile", "apply", "--page", self.page.account_id)
            call_command(*words, stdout=io.StringIO(), stderr=io.StringIO())
            return
        commands = {
            "configure_greetings": app_settings.DJM_THREAD_GREETINGS_TEXT,
            "configure_get_started_button": app_settings.DJM_THREAD_ENABLE_GET_STARTED_BUTTON,
            "configure_persistent_menu": app_settings.DJM_THREAD_PERSISTENT_MENUS,
        }
        for command, value in commands.items():
            if value:
                call_command(command, stdout=io.StringIO(), no_color=True)

    # Pages and persons

    @property
    def pages(self) -> dict[str, Page]:
        """Pages of the emulator by their ids at Graph; ``messenger.page`` is the first."""
        return self.emulator.pages

    def add_page(
        self, page_id: str, *, name: str = "", channel: str = "", login: str = "", **options: Any
    ) -> Page:
        """Add another Page or Instagram account; ``page_id`` is its id in callbacks.

        ``channel="instagram"`` adds an account behind a Facebook Page, and with ``login="instagram"`` one with
        Instagram Login. By default both are as in ``DJM_PAGES``. ``options`` are those of ``Emulator.add_page``.
        """
        return add_page(
            self.emulator, self._override, page_id, name=name, channel=channel, login=login, **options
        )

    def person(
        self,
        name: str = "",
        *,
        locale: str = "en_US",
        timezone: float | str = 0,
        page: Page | None = None,
        **options: Any,
    ) -> Person:
        """Add a person who can write to the Page; ``timezone`` is hours from UTC or a name (``Europe/Vienna``)."""
        if isinstance(timezone, str):
            offset = datetime.datetime.now(zoneinfo.ZoneInfo(timezone)).utcoffset()
            timezone = offset.total_seconds() / 3600 if offset is not None else 0
        name = name or NAMES[len(self._people) % len(NAMES)]
        screen = self.emulator.add_person(page or self.page, name, locale, timezone, **options)
        person = Person(self, screen)
        self._people.append(person)
        return person

    # Running the bot

    def report(self, *, echoes: bool, deliveries: bool, reads: bool) -> None:
        """Choose the reports that Meta sends: echoes, delivery receipts and read receipts.

        By default, those that the policy has rules for, because each costs as much time as a message of a person.
        ``fault`` switches echoes on, because an echo settles a reply of unknown fate.
        """
        self.emulator.echoes = echoes
        self.emulator.delivery_receipts = deliveries
        self.emulator.read_receipts = reads

    @staticmethod
    def _has_rules_for(kind: ReceivingType) -> bool:
        return bool(bot.get_policy().get_rules(kind))

    def run(self) -> None:
        """Deliver, handle and send all due work. Acts and expectations of a person call this method.

        Inside a transaction of the test it does nothing, because no reply is sent before the commit.
        Raise ``RuleFailed`` or ``ReplyRefused`` if a rule failed or a message was refused.
        """
        __tracebackhide__ = True
        self.settle()
        if not self._is_in_transaction():
            while drain():
                self.settle()
            self._raise_failures()

    def settle(self) -> None:
        """Do the announced work: as ``run``, without a sweep of the tables."""
        __tracebackhide__ = True
        if self._is_in_transaction():
            return
        dispatcher = bot.get_dispatcher()
        if not isinstance(dispatcher, WaitingDispatcher):
            raise TypeError("DJM_DISPATCHER was changed during the test. The kit needs its own dispatcher.")
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
                    "check DJM_ENDPOINT, the URLs of the project and the log"
                )
            )
        return int(answer.status_code)

    def posts(self, body: Mapping[str, Any] | str | bytes, *, page: Page | None = None) -> None:
        """Sign a body, post it unchanged to the webhook and run the bot."""
        if isinstance(body, Mapping):
            body = json.dumps(body)
        self.emulator.emit_raw(page or self.page, body.encode() if isinstance(body, str) else body)
        self.run()

    def posts_again(self) -> None:
        """Post the last callback again, byte for byte, as Meta does if the answer 200 was lost."""
        last = self.emulator.deliveries[-1]
        self.posts(last.body, page=self.emulator.pages[last.page_id])

    def travel(self, *, models: tuple[type[Model], ...] = (), **span: float) -> None:
        """Move time forward by ``span``, as in ``datetime.timedelta``: ``travel(hours=25)``.

        The clock does not move. Instead, all stored times of the bot and of Meta move back step by step, and work
        that becomes due on the way is done. ``models`` are further models whose times move back. The time of
        day does not change; use ``at`` for that.
        """
        remaining = datetime.timedelta(**span).total_seconds()
        self.run()
        while remaining > 0:
            # In a transaction of the test no work is done, so one step is enough.
            due = None if self._is_in_transaction() else next_due(self.emulator)
            step = remaining if due is None else min(remaining, max(due, 0.5))
            age(self.emulator, step, models)
            remaining -= step
            self.run()

    @contextlib.contextmanager
    def at(self, moment: datetime.datetime) -> Iterator[None]:
        """Set the time of acts in this block to ``moment``, for rules that check the time of an event."""
        before, self.clock.ahead = self.clock.ahead, 0.0
        self.clock.ahead = moment.timestamp() - self.clock()
        try:
            yield
        finally:
            self.clock.ahead = before

    @contextlib.contextmanager
    def fault(self, name: str, **options: Any) -> Iterator[Fault]:
        """Switch a fault of Meta, or of the connection to Meta, on in this block.

        ``messenger_emulator.FAULTS`` lists the names; ``times`` limits the number of strikes. A message that is
        refused in the block does not fail the test.
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

    # Results

    def outcome(self, of: Person | None = None) -> LastOutcome:
        """Return the outcome of the last event of a person, or of all persons; raise ``LookupError`` without any."""
        self.run()
        rows = models.Messaging.objects.exclude(type__in=["ECHO", "DELIVERED", "READ"])
        if of is not None:
            rows = rows.filter(conversation__person_id=of.psid)
        row = rows.order_by("-timestamp", "-id").first()
        if row is None:
            raise LookupError("no act of a person has reached the bot")
        return LastOutcome(row.type, row.state, row.outcome or {})

    def coverage(self) -> list[str]:
        """Return the names of the rules that never applied in this test, in the order of their policies.

        The policies are those of the Pages of the emulator, each once.
        """
        self.run()
        rows = {page.page_id: page for page in models.Page.objects.all()}
        policies = {
            page.account_id: bot.get_policy(rows.get(page.account_id) or models.Page(page_id=page.account_id))
            for page in self.pages.values()
        }
        outcomes: Iterable[Any] = models.Messaging.objects.filter(
            outcome__isnull=False, page__page_id__in=policies
        ).values_list("page__page_id", "outcome")
        applied = {
            (id(policies[page_id]), trace["position"])
            for page_id, outcome in outcomes
            for trace in filter(None, [outcome.get("default"), *outcome.get("rules", ())])
            if trace["applied"]
        }
        return [
            rule.label
            for policy in {id(policy): policy for policy in policies.values()}.values()
            for place, rule in enumerate(policy.rules)
            if (id(policy), place) not in applied
        ]

    def waiting(self, person: Person) -> list[str]:
        """Return one line for each unsent reply to a person, with its state."""
        replies = models.Reply.objects.filter(recipient_id=person.psid).exclude(state=models.Reply.State.SENT)
        return [
            f"Not sent: {reply.get_state_display()}, {reply.error.partition(chr(10))[0] or reply.data}"
            for reply in replies.order_by("id")
        ]

    # Failures

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
        failures = [*map(filter_failed, self._log.records), *self._failed]
        for call in self.emulator.calls[self._calls_checked :]:
            recipient = call.body.get("recipient")
            psid = str(recipient.get("id", "")) if isinstance(recipient, dict) else ""
            if call.error and "sender_action" in call.body and not self._is_deliberate(psid):
                failures.append(
                    ReplyRefused(f"Graph refused {call.body['sender_action']}: {call.error.get('message')}")
                )
        self._calls_checked = len(self.emulator.calls)
        self._log.records.clear()
        self._failed.clear()
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise type(failures[0])("\n\n".join(map(str, failures)))


def _webhook() -> str:
    """Return the path of the webhook from the URLs of the project, or from ``DJM_ENDPOINT``."""
    try:
        return reverse("djmessenger-webhook")
    except NoReverseMatch:
        return f"/{app_settings.DJM_ENDPOINT.strip('/')}"
