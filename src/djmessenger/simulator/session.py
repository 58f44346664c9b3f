"""Meta as the simulator plays it: one emulator for the process, a clock to move, and what carries its callbacks."""

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
from djmessenger.settings import app_settings
from messenger_emulator import Emulator, Page, Person, VirtualClock
from messenger_emulator.server import Callback
from messenger_emulator.webhook import Delivery

logger = logging.getLogger(__name__)

PAGE_ID = "104233987650012"
"""The Page, where the settings name none."""
APP_ID = "883041772661055"
PREFIX = "900000000"
"""How the ids of simulated persons and Pages begin. They have 19 digits, more than any that Meta gives."""
_DIGITS = 10
_MOST_CALLBACKS = 1_000
"""Callbacks, and Graph calls, that are remembered for the side panel."""
_MOST_FATES = 5_000
"""Acts, and fates of messages, that are remembered."""
_INTERVAL = 0.05


@dataclass(frozen=True)
class Entry:
    """One act of the journal, from which a test can be written."""

    time: float
    person: str
    act: str
    args: list[Any] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Posted:
    """When a body was posted by this machine's clock, and how long the answer took, in seconds."""

    at: float
    took: float


class Session:
    """The emulator of this process and the thread that posts what it has to say."""

    def __init__(self) -> None:
        self.process = secrets.token_hex(8)
        """Tells one process from another: the state is in memory."""
        self.lock = threading.RLock()
        self.callback_url = ""
        self.journal: list[Entry] = []
        self.fates: dict[str, str] = {}
        """Message id to the fate of its callback: ``delivered`` or what went wrong."""
        self.posted: OrderedDict[str, Posted] = OrderedDict()
        self.problem = ""
        self.emulator = self._new_emulator()
        self._is_configured = False
        self._poster: threading.Thread | None = None
        self._ended = threading.Event()
        self._wake = threading.Event()

    # Setting up

    @staticmethod
    def _new_emulator() -> Emulator:
        """Make Meta with the Pages that are set up to speak; with a made-up one where there is none."""
        emulator = Emulator(VirtualClock(running=True))
        for row in _pages():
            app_id, secret = _app_of(row)
            with contextlib.suppress(DJMException, ValueError):
                page = emulator.add_page(
                    row.page_id,
                    token_of(row).reveal(),
                    app_id=app_id or APP_ID,
                    app_secret=secret,
                    name=row.name or ("Your Page" if not emulator.pages else f"Page {row.page_id}"),
                    channel=row.configured("channel") or "messenger",
                    require_proof=bool(secret and secret == app_secrets().get(row.get_app_id())),
                )
                page.account_id = row.page_id
        if not emulator.pages:
            emulator.add_page(PAGE_ID, secrets.token_hex(16), name="Your Page")
        return emulator

    @property
    def first_page(self) -> Page:
        """The Page that the settings name."""
        return next(iter(self.emulator.pages.values()))

    def add_page(self, name: str, channel: str = "messenger") -> Page:
        """Add a Page of the same app; it begins with the Messenger Profile of the first."""
        with self.lock, self.emulator.lock:
            first = self.first_page
            if not is_default(models.Page(page_id=PAGE_ID if first.id != PAGE_ID else "1")):
                raise ValueError(
                    "The settings name the Pages of this bot, so another would have no token: add it to DJM_PAGES."
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
            # The settings know one token; the emulator goes by the Page that a call names.
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
        return f"{PREFIX}{self.emulator.ids.number(kind, _DIGITS)}"

    def person(self, person_id: str) -> Person:
        """Give a person; ``LookupError`` when there is none of that id."""
        if person_id not in self.emulator.persons:
            raise LookupError("There is no such person here any more.")
        return self.emulator.persons[person_id]

    def restart(self) -> None:
        """Begin anew with the same Pages and persons; to the bot they are strangers."""
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

    # Callbacks on their way

    def start(self, callback_url: str = "") -> None:
        """Let callbacks go to this address from now on; without one, only configure the Page."""
        with self.lock:
            self.callback_url = callback_url or self.callback_url
            if self._poster is None or not self._poster.is_alive():
                self._ended.clear()
                self._poster = threading.Thread(target=self._run, name="djmessenger-simulator", daemon=True)
                self._poster.start()

    def stop(self) -> None:
        """Post nothing any more."""
        self._ended.set()
        self._wake.set()
        if self._poster is not None:
            self._poster.join(timeout=6)

    def wake(self) -> None:
        """Look for callbacks at once."""
        self._wake.set()

    def _run(self) -> None:
        try:
            self.configure()
        except Exception:
            logger.exception("The simulated Page could not be configured")
        finally:
            # This thread asks the database nothing more.
            connections.close_all()
        while not self._ended.is_set():
            self._wake.wait(_INTERVAL)
            self._wake.clear()
            try:
                if self.callback_url:
                    self.post_due()
            except Exception:
                logger.exception("The simulator could not carry a callback")

    def post_due(self) -> None:
        """Post everything that is due."""
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
        what = (
            "delivered" if delivery.accepted else delivery.error or f"the webhook answered {delivery.status}"
        )
        for item in delivery.items:
            if mid := mid_of(item):
                self.fates[mid] = what
        while len(self.fates) > _MOST_FATES:
            del self.fates[next(iter(self.fates))]
        del self.journal[:-_MOST_FATES]
        self.problem = "" if delivery.accepted else what

    def configure(self) -> None:
        """Have the bot set greeting, Get Started and menu, as ``manage.py`` does on a real Page; once."""
        with self.lock:
            if self._is_configured:
                return
            self._is_configured = True
        if app_settings.DJM_PROFILE:
            commands = [["djmessenger", "profile", "apply"]]
        else:
            commands = [[name] for name in _thread_setting_commands()]
        before = threading.current_thread()
        _configuring_threads.add(before)
        try:
            for command in commands:
                try:
                    call_command(*command, verbosity=0, stdout=io.StringIO(), stderr=io.StringIO())
                except CommandError as error:
                    self.problem = f"{' '.join(command)}: {error}"
        finally:
            _configuring_threads.discard(before)


def _thread_setting_commands() -> list[str]:
    """Give the commands for what the settings of 2016 have of the Messenger Profile."""
    wanted = {
        "configure_get_started_button": app_settings.DJM_THREAD_ENABLE_GET_STARTED_BUTTON,
        "configure_greetings": app_settings.DJM_THREAD_GREETINGS_TEXT,
        "configure_persistent_menu": app_settings.DJM_THREAD_PERSISTENT_MENUS,
    }
    return [name for name, value in wanted.items() if value]


_configuring_threads: set[threading.Thread] = set()


def is_configuring() -> bool:
    """Whether what this thread sends is about the simulated Page, whatever it names."""
    return threading.current_thread() in _configuring_threads


def _pages() -> list[models.Page]:
    """Give the Pages of the settings, then those that have a token of their own, else one to be made up."""
    ids = dict.fromkeys([app_settings.DJM_PAGE_ID, *app_settings.DJM_PAGES])
    ids.update(
        dict.fromkeys(models.Page.objects.exclude(token_ciphertext="").values_list("page_id", flat=True))
    )
    return [find_page(page_id) for page_id in ids if page_id] or [models.Page(page_id=PAGE_ID)]


def _app_of(page: models.Page) -> tuple[str, str]:
    """Give the app of a Page and the secret that signs its callbacks, by default the first of the settings."""
    found = app_secrets()
    app_id = page.get_app_id()
    if app_id not in found:
        app_id = next(iter(found), "")
    return (app_id if app_id.isdecimal() else ""), found.get(app_id, "")


_session_lock = threading.Lock()


@functools.lru_cache(maxsize=1)
def _session() -> Session:
    return Session()


def get_session() -> Session:
    """Give the session of this process; made at the first need, once."""
    with _session_lock:
        return _session()


def forget_session() -> None:
    """Let the next ``get_session`` make a new one."""
    _session.cache_clear()


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def mid_of(item: Any) -> str:
    """Give the message id in an item of a callback; empty when it has none."""
    if not isinstance(item, dict):
        return ""
    for key in ("message", "postback"):
        part = item.get(key)
        if isinstance(part, dict) and part.get("mid"):
            return str(part["mid"])
    return ""
