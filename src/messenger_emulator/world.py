"""State that Graph and the webhook sender of the emulator share: Pages, persons, switches, waiting items."""

from __future__ import annotations

import datetime
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from messenger_emulator.faults import Faults
from messenger_emulator.limits import Limits, Value
from messenger_emulator.person import Person
from messenger_emulator.refusals import throttled
from messenger_emulator.state import (
    DAY,
    FIELDS,
    INSTAGRAM_FIELDS,
    INSTAGRAM_INBOX,
    PAGE_INBOX,
    USUAL_FIELDS,
    USUAL_INSTAGRAM_FIELDS,
    App,
    Bubble,
    Comment,
    Ids,
    Page,
    usual_permissions,
)


@dataclass
class Pending:
    """An item that waits to be posted to the webhook."""

    page: Page
    container: str
    item: dict[str, Any]
    due: float
    subscription: str
    attempt: int = 0
    raw: bytes | None = None
    """Whole body that is posted unchanged."""
    shaped: bool = False
    """True if the faults ``delay`` and ``duplicate`` were applied."""


@dataclass(frozen=True)
class Fetched:
    """File that Graph fetches from a URL."""

    content_type: str
    size: int


class World:
    """Pages, persons, clock and switches of one emulator."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        *,
        seed: str | None = None,
        echoes: bool = True,
        delivery_receipts: bool = True,
        read_receipts: bool = True,
        enforce_rates: bool = True,
        enforce_window: bool = True,
        enforce_business_limit: bool = False,
        fetch: Callable[[str], Fetched | None] | None = None,
        limits: Mapping[str, Value] | None = None,
    ) -> None:
        """Build a world with a clock (seconds since 1970) and the given switches.

        ``seed`` makes ids repeatable. ``fetch`` returns the file behind the URL of an attachment, or None; without
        ``fetch`` each URL is valid. ``enforce_business_limit`` limits a Page's calls of 24 hours to 200 for each
        person who has written to it. ``limits`` replaces rows of the table of limits: ``{"buttons.count": 4}``.
        """
        self.clock = clock
        self.faults = Faults()
        self.echoes = echoes
        self.delivery_receipts = delivery_receipts
        self.read_receipts = read_receipts
        self.enforce_rates = enforce_rates
        self.enforce_window = enforce_window
        self.enforce_business_limit = enforce_business_limit
        self.fetch = fetch
        self.limits = Limits(limits)
        self.linking_page = "https://www.facebook.com/messenger_platform/account_linking"
        """Address to which a log-in page redirects the browser; the simulator sets its own."""
        self.lock = threading.RLock()
        self.pages: dict[str, Page] = {}
        self.apps: dict[str, App] = {}
        self.persons: dict[str, Person] = {}
        self.waiting: list[Pending] = []
        self.ids = Ids(seed)
        self._calls_at: dict[str, deque[float]] = {}
        self._seq = 0

    def today(self) -> datetime.date:
        """Return the date by the emulator's clock."""
        return datetime.datetime.fromtimestamp(self.clock(), tz=datetime.UTC).date()

    # Setting up

    def add_page(
        self,
        page_id: str,
        token: str,
        app_id: str = "883041772661055",
        app_secret: str = "",
        subscribed_fields: Iterable[str] | None = None,
        *,
        name: str = "Page",
        channel: str = "messenger",
        login: str = "facebook",
        account_id: str = "",
        permissions: Iterable[str] | None = None,
        require_proof: bool = False,
    ) -> Page:
        """Add a Page with the app that is connected to it.

        For Instagram (``channel="instagram"``) ``account_id`` is the id in callbacks. ``page_id`` is that of the
        Facebook Page, or with ``login="instagram"`` the account's id for this app. Raise ``ValueError`` for fields
        that Meta does not have, and for a token or id that another Page has.
        """
        instagram = channel == "instagram"
        usual = USUAL_INSTAGRAM_FIELDS if instagram else USUAL_FIELDS
        fields = set(usual if subscribed_fields is None else subscribed_fields)
        unknown = fields - (INSTAGRAM_FIELDS if instagram else FIELDS)
        if unknown:
            raise ValueError(f"Meta has no webhook field {', '.join(sorted(unknown))}")
        if page_id in self.pages or any(page.token == token for page in self.pages.values()):
            raise ValueError(f"the Page {page_id} or its token is there already")
        page = Page(
            str(page_id),
            token,
            str(app_id),
            app_secret,
            name=name,
            channel=channel,
            login=login,
            account_id=account_id or str(page_id),
            subscribed_fields=fields,
            permissions=set(usual_permissions(channel, login) if permissions is None else permissions),
            require_proof=require_proof,
            limits=self.limits,
        )
        if page.has_instagram_login:
            page.token_made = self.clock()
        self.pages[page.id] = page
        self.apps.setdefault(page.app_id, App(page.app_id))
        return page

    def add_person(
        self,
        page: Page | str,
        name: str = "Ana Torres",
        locale: str = "en_US",
        timezone: float = 0,
        picture: str = "",
        *,
        person_id: str = "",
        gender: str = "",
        username: str = "",
    ) -> Person:
        """Add a person who can write to a Page; without ``person_id`` the person gets a generated id.

        ``username`` is the unique name on Instagram, by default made from the name.
        """
        page = page if isinstance(page, Page) else self.pages[page]
        psid = person_id or self.ids.number("person")
        if psid in self.persons:
            raise ValueError(f"there is a person {psid} already")
        picture = picture or f"https://cdn.example.com/people/{psid}.jpg"
        username = username or ".".join(name.lower().split()) or f"user{psid}"
        person = Person(self, page, psid, name, locale, timezone, gender, picture, username=username)
        self.persons[psid] = person
        return person

    def add_template(self, page: Page, name: str, language: str = "en_US", **more: Any) -> dict[str, Any]:
        """Add an approved utility template."""
        entry = {
            "id": self.ids.number("template"),
            "name": name,
            "language": language,
            "status": "APPROVED",
            "category": "UTILITY",
            **more,
        }
        page.templates[entry["id"]] = entry
        return entry

    def add_comment(self, person: Person, *, is_post: bool = False) -> Comment:
        """Add a comment of a person on a post of the Page, or a post; it can be answered once in private."""
        comment = Comment(
            f"{self.ids.number('c', 15)}_{self.ids.number('c')}", person.id, self.clock(), is_post
        )
        person.page.comments[comment.id] = comment
        return comment

    # Methods for persons and endpoints

    def number(self, kind: str) -> str:
        return self.ids.number(kind)

    def mid_for(self, page: Page) -> str:
        return self.ids.mid(self.clock(), old="old_mids" in self.faults, instagram=page.is_instagram)

    def emit(
        self,
        page: Page,
        subscription: str,
        item: dict[str, Any],
        *,
        authored: bool = True,
        delay: float = 0.0,
    ) -> None:
        """Queue an item for the webhook, in ``standby`` if another app controls the thread.

        An ``authored`` item of a person whom the Page has blocked is dropped.
        """
        with self.lock:
            person = self.person_of(page, item)
            if person is not None and person.blocked_by_page and authored:
                return
            standby = self.faults.strike("standby") is not None
            if person is not None and self.owner(person) not in {"", page.app_id}:
                standby = subscription not in {"messaging_handovers", "messaging_handover"}
            container = "standby" if standby else "messaging"
            field = "standby" if standby else subscription
            if page.receives(field):
                self.waiting.append(Pending(page, container, item, self.clock() + delay, subscription))

    def emit_change(self, page: Page, subscription: str, value: Any, *, container: str = "changes") -> None:
        """Queue an entry of the other kinds: ``changes``, or ``calls``."""
        item = {"field": subscription, "value": value} if container == "changes" else dict(value)
        with self.lock:
            if page.receives(subscription):
                self.waiting.append(Pending(page, container, item, self.clock(), subscription))

    def emit_raw(self, page: Page, body: bytes) -> None:
        """Queue a whole body, which is signed and posted unchanged."""
        with self.lock:
            self.waiting.append(Pending(page, "", {}, self.clock(), "", raw=body))

    def person_of(self, page: Page, item: Mapping[str, Any]) -> Person | None:
        for side in ("sender", "recipient"):
            person = self.persons.get(str((item.get(side) or {}).get("id", "")))
            if person is not None and person.page is page:
                return person
        return None

    def owner(self, person: Person) -> str:
        """Return the id of the app that controls the thread now; empty if none does."""
        if person.owner and self.clock() >= person.owner_until:
            person.owner = ""
        return person.owner

    def give_control(self, person: Person, app_id: str, *, seconds: float = DAY) -> None:
        """Set the app that controls the thread; an empty id means no app."""
        person.owner = app_id
        person.owner_until = self.clock() + seconds

    def hand_over(
        self, person: Person, app_id: str, metadata: str = "", *, kind: str = "pass_thread_control"
    ) -> None:
        """Pass control to an app, or take it (``kind="take_thread_control"``), and queue the event for the bot."""
        page = person.page
        before = self.owner(person)
        self.give_control(person, app_id)
        body = {"previous_owner_app_id": before or None, "new_owner_app_id": app_id, "metadata": metadata}
        item = {
            "sender": {"id": person.id},
            "recipient": {"id": page.account_id},
            "timestamp": int(self.clock() * 1000),
            kind: body,
        }
        self.emit(
            page, "messaging_handover" if page.is_instagram else "messaging_handovers", item, authored=False
        )

    def agent_says(self, person: Person, text: str, *, takes_control: bool = False) -> Bubble:
        """Add a message of a human from the Page's inbox; the bot receives its echo."""
        page = person.page
        inbox = INSTAGRAM_INBOX if page.is_instagram else PAGE_INBOX
        mid = self.mid_for(page)
        bubble = Bubble(mid, True, self.clock(), "text", text, {"text": text}, app_id=inbox)
        person.thread.append(bubble)
        if takes_control:
            self.give_control(person, inbox)
        message: dict[str, Any] = {"is_echo": True, "app_id": int(inbox), "mid": mid, "text": text}
        item = {
            "sender": {"id": page.account_id},
            "recipient": {"id": person.id},
            "timestamp": int(self.clock() * 1000),
            "message": message,
        }
        self.emit(page, "messages" if page.is_instagram else "message_echoes", item, authored=False)
        return bubble

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def age(self, seconds: float) -> None:
        """Move all stored times back by ``seconds``; the clock does not move.

        For a bot whose own clock cannot be moved. An item that was posted already keeps its timestamp.
        """
        with self.lock:
            for pending in self.waiting:
                pending.due -= seconds
                if not pending.attempt and "timestamp" in pending.item:
                    pending.item["timestamp"] -= int(seconds * 1000)
            for person in self.persons.values():
                person.owner_until -= seconds
                if person.last_seen is not None:
                    person.last_seen -= seconds
                if person.came_by_ad is not None:
                    person.came_by_ad -= seconds
                for bubble in person.thread:
                    bubble.time -= seconds
            for page in self.pages.values():
                page.age(seconds)
            for times in self._calls_at.values():
                times.extend([times.popleft() - seconds for _ in range(len(times))])

    def spend(self, key: str, most: int, span: float) -> None:
        """Count a call against a budget of ``most`` calls in ``span`` seconds; raise the refusal 613 beyond it."""
        if self.enforce_rates and not self.has_left(key, most, span):
            raise throttled()

    def has_left(self, key: str, most: int, span: float) -> bool:
        """Count a call against a budget; return False if the budget is used up."""
        with self.lock:
            now = self.clock()
            times = self._calls_at.setdefault(key, deque())
            while times and times[0] <= now - span:
                times.popleft()
            if len(times) >= most:
                return False
            times.append(now)
            return True

    def engaged(self, page: Page) -> int:
        """Return the number of persons who have written to the Page."""
        return sum(
            1 for person in self.persons.values() if person.page is page and person.last_seen is not None
        )
