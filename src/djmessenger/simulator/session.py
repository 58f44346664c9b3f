"""Session of the simulator: one emulator with a movable clock, and the thread that posts its callbacks."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import logging
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from django.core.management import CommandError, call_command
from django.db import connections

from djmessenger import models
from djmessenger.bot.pages import app_secrets, find_page, is_default, token_of
from djmessenger.exceptions import DJMException
from djmessenger.secret import Secret
from djmessenger.settings import app_settings
from djmessenger.simulator.identity import DIGITS, PREFIX, SimulatorEmulator, is_real_secret
from messenger_emulator import Page, Person, VirtualClock
from messenger_emulator.server import Callback
from messenger_emulator.webhook import Delivery

logger = logging.getLogger(__name__)

PAGE_ID = "104233987650012"
"""Id of the Page if the settings name none."""
APP_ID = "883041772661055"
"""Id of the app if the settings name none."""
_MOST_CALLBACKS = 1_000
"""Number of callbacks, and of Graph calls, that the side panel can show."""
_MOST_FATES = 5_000
"""Number of acts in the journal, and of fates of messages, that the session stores."""
_INTERVAL = 0.05
"""Seconds between two looks for due callbacks."""


@dataclass(frozen=True)
class Entry:
    """One act in the journal; the export makes a test of the journal."""

    time: float
    person: str
    act: str
    args: list[Any] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Posted:
    """Time of one POST by the clock of this machine, and the seconds until its answer."""

    at: float
    took: float


class Session:
    """Emulator of this process, and the thread that posts its callbacks."""

    def __init__(self) -> None:
        self.process = secrets.token_hex(8)
        """Random id of the process. The page reloads its state if the id changes, because the state is in memory."""
        self.lock = threading.RLock()
        self.callback_url = ""
        self.journal: list[Entry] = []
        self.fates: dict[str, str] = {}
        """Fate of the callback by message id: ``delivered``, or the error."""
        self.posted: OrderedDict[str, Posted] = OrderedDict()
        self.problem = ""
        self.emulator = self._new_emulator()
        self._is_configured = False
        self._poster: threading.Thread | None = None
        self._ended = threading.Event()
        self._wake = threading.Event()

    # Setting up

    @staticmethod
    def _new_emulator() -> SimulatorEmulator:
        """Build an emulator with each Page that has a token; without any, build it with one made-up Page."""
        emulator = SimulatorEmulator(VirtualClock(running=True))
        for row in _pages():
            app_id, secret = _app_of(row)
            with contextlib.suppress(DJMException, ValueError):
                page = emulator.add_page(
                    row.page_id,
                    token_of(row).reveal(),
                    app_id=app_id or APP_ID,
                    app_secret=secret.reveal(),
                    name=row.name or ("Your Page" if not emulator.pages else f"Page {row.page_id}"),
                    channel=row.configured("channel") or "messenger",
                    login=row.configured("login") or "facebook",
                    require_proof=bool(secret and secret == app_secrets().get(row.get_app_id())),
                )
                page.account_id = row.page_id
                page.token_made = None
        if not emulator.pages:
            emulator.add_page(PAGE_ID, secrets.token_hex(16), name="Your Page")
        return emulator

    @property
    def first_page(self) -> Page:
        """Page that the settings name, or the made-up one."""
        return next(iter(self.emulator.pages.values()))

    @property
    def has_real_secret(self) -> bool:
        """Return whether a Page of the session signs with an app secret of the settings."""
        return any(is_real_secret(page.app_secret) for page in self.emulator.pages.values())

    def add_page(self, name: str, channel: str = "messenger") -> Page:
        """Add a Page of the same app with a copy of the first Page's Messenger Profile.

        Raise ``ValueError`` if the settings name their Pages, because a further Page would have no token.
        """
        with self.lock, self.emulator.lock:
            first = self.first_page
            if not is_default(models.Page(page_id=PAGE_ID if first.id != PAGE_ID else "1")):
                raise ValueError(
                    "The settings name the Pages of this bot, so another Page would have no token. Add it to DJM_PAGES."
                )
            page = self.emulator.add_page(
                self._new_id("page"),
                secrets.token_hex(16),
                app_id=first.app_id,
                app_secret=first.app_secret,
                name=name,
                channel=channel,
                require_proof=first.require_proof,
            )
            # The bot has one token for all these Pages; the emulator finds the Page by the id in the call.
            page.token = first.token
            page.platform().update(first.platform())
            return page

    def add_person(self, page: Page | None = None, name: str = "Ana Torres", **given: Any) -> Person:
        """Add a person to a Page, by default the first one."""
        with self.lock, self.emulator.lock:
            return self.emulator.add_person(
                page or self.first_page, name, **given, person_id=self._new_id("person")
            )

    def _new_id(self, kind: str) -> str:
        return f"{PREFIX}{self.emulator.ids.number(kind, DIGITS)}"

    def person(self, person_id: str) -> Person:
        """Return the person with this id; raise ``LookupError`` if there is none."""
        if person_id not in self.emulator.persons:
            raise LookupError("This person no longer exists in the simulator.")
        return self.emulator.persons[person_id]

    def restart(self) -> None:
        """Replace the emulator. Pages and persons keep their names and get new ids, so the bot does not know them."""
        with self.lock:
            before = self.emulator
            self.emulator = self._new_emulator()
            self.journal, self.fates, self.problem = [], {}, ""
            self.posted.clear()
            pages = dict(self.emulator.pages)
            self.first_page.name = next(iter(before.pages.values())).name
            self.first_page.platform().update(next(iter(before.pages.values())).platform())
            for page in before.pages.values():
                if page.id not in pages:
                    pages[page.id] = self.add_page(page.name, page.channel)
            for person in before.persons.values():
                self.add_person(
                    pages.get(person.page.id),
                    person.name,
                    locale=person.locale,
                    timezone=person.timezone,
                    picture=person.picture,
                )

    # Posting callbacks

    def start(self, callback_url: str = "") -> None:
        """Start the thread that posts callbacks to this address. Without an address it only configures the Page."""
        with self.lock:
            self.callback_url = callback_url or self.callback_url
            if self._poster is None or not self._poster.is_alive():
                self._ended.clear()
                self._poster = threading.Thread(target=self._run, name="djmessenger-simulator", daemon=True)
                self._poster.start()

    def stop(self) -> None:
        """Stop the thread; no callback is posted after that."""
        self._ended.set()
        self._wake.set()
        if self._poster is not None:
            self._poster.join(timeout=6)

    def wake(self) -> None:
        """Make the thread look for due callbacks at once."""
        self._wake.set()

    def _run(self) -> None:
        try:
            self.configure()
        except Exception:
            logger.exception(
                "The Messenger Profile of the simulated Page could not be set; the simulator goes on without it"
            )
        finally:
            # From here on, this thread makes no query.
            connections.close_all()
        while not self._ended.is_set():
            self._wake.wait(_INTERVAL)
            self._wake.clear()
            try:
                if self.callback_url:
                    self.post_due()
            except Exception:
                logger.exception(
                    "A callback of the simulator could not be posted; the next look for due callbacks goes on"
                )

    def post_due(self) -> None:
        """Post all due callbacks and store their fates."""
        emulator = self.emulator
        for delivery in emulator.deliver(self._post):
            self._note(delivery)
        with emulator.lock:
            del emulator.deliveries[:-_MOST_CALLBACKS]
            del emulator.calls[:-_MOST_CALLBACKS]

    def _post(self, body: bytes, headers: dict[str, str]) -> int:
        at, began = time.time(), time.perf_counter()
        try:
            return self._send(body, headers)
        finally:
            self.posted[digest(body)] = Posted(at, time.perf_counter() - began)
            while len(self.posted) > _MOST_CALLBACKS:
                self.posted.popitem(last=False)

    def _send(self, body: bytes, headers: dict[str, str]) -> int:
        return Callback(self.callback_url).post(body, headers)

    def _note(self, delivery: Delivery) -> None:
        fate = (
            "delivered" if delivery.accepted else delivery.error or f"the webhook answered {delivery.status}"
        )
        for item in delivery.items:
            if mid := mid_of(item):
                self.fates[mid] = fate
        while len(self.fates) > _MOST_FATES:
            del self.fates[next(iter(self.fates))]
        del self.journal[:-_MOST_FATES]
        self.problem = "" if delivery.accepted else fate

    def configure(self) -> None:
        """Run the commands that set greeting, Get Started and menu of the Page; only the first call has an effect."""
        with self.lock:
            if self._is_configured:
                return
            self._is_configured = True
        if app_settings.DJM_PROFILE:
            commands = [["djmessenger", "profile", "apply"]]
        else:
            commands = [[name] for name in _thread_setting_commands()]
        thread = threading.current_thread()
        _configuring_threads.add(thread)
        try:
            for command in commands:
                try:
                    call_command(*command, verbosity=0, stdout=io.StringIO(), stderr=io.StringIO())
                except CommandError as error:
                    self.problem = f"{' '.join(command)}: {error}"
        finally:
            _configuring_threads.discard(thread)


def _thread_setting_commands() -> list[str]:
    """Return the commands that set the Messenger Profile from the ``DJM_THREAD_*`` settings."""
    commands = {
        "configure_get_started_button": app_settings.DJM_THREAD_ENABLE_GET_STARTED_BUTTON,
        "configure_greetings": app_settings.DJM_THREAD_GREETINGS_TEXT,
        "configure_persistent_menu": app_settings.DJM_THREAD_PERSISTENT_MENUS,
    }
    return [name for name, value in commands.items() if value]


_configuring_threads: set[threading.Thread] = set()
"""Threads that run ``Session.configure`` at the moment."""


def is_configuring() -> bool:
    """Return whether this thread sets the Messenger Profile of the simulated Page; its calls never go to Meta."""
    return threading.current_thread() in _configuring_threads


def _pages() -> list[models.Page]:
    """Return the Pages of the settings, then Pages with a token in the database; without any, one unsaved Page."""
    ids = dict.fromkeys([app_settings.DJM_PAGE_ID, *app_settings.DJM_PAGES])
    ids.update(
        dict.fromkeys(models.Page.objects.exclude(token_ciphertext="").values_list("page_id", flat=True))
    )
    return [find_page(page_id) for page_id in ids if page_id] or [models.Page(page_id=PAGE_ID)]


def _app_of(page: models.Page) -> tuple[str, Secret]:
    """Return id and secret of the app of a Page; if the Page names no known app, of the first app."""
    secrets_by_app = app_secrets()
    app_id = page.get_app_id()
    if app_id not in secrets_by_app:
        app_id = next(iter(secrets_by_app), "")
    return (app_id if app_id.isdecimal() else ""), secrets_by_app.get(app_id, Secret())


_session_lock = threading.Lock()


@functools.lru_cache(maxsize=1)
def _session() -> Session:
    return Session()


def get_session() -> Session:
    """Return the session of this process; the first call builds it."""
    # Without the lock, two first requests would build two emulators and lose the messages of one.
    with _session_lock:
        return _session()


def forget_session() -> None:
    """Drop the session; the next ``get_session`` builds a new one."""
    _session.cache_clear()


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def mid_of(item: Any) -> str:
    """Return the message id in an item of a callback; empty if it has none."""
    if not isinstance(item, dict):
        return ""
    for key in ("message", "postback"):
        part = item.get(key)
        if isinstance(part, dict) and part.get("mid"):
            return str(part["mid"])
    return ""
