"""What one person sees of a thread with a Page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from messenger_emulator.state import DAY, Bubble, Page


class Sink(Protocol):
    """What a person needs of the world."""

    linking_page: str

    @property
    def clock(self) -> Callable[[], float]: ...
    def mid_for(self, page: Page) -> str: ...
    def emit(self, page: Page, subscription: str, item: dict[str, Any], *, authored: bool = True) -> None: ...
    def number(self, kind: str) -> str: ...


@dataclass(eq=False)
class Screen:
    """The state of one person in one thread with one Page; ``id`` is the page-scoped id."""

    world: Sink = field(repr=False)
    page: Page = field(repr=False)
    id: str
    name: str = "Ana Torres"
    locale: str = "en_US"
    timezone: float = 0
    gender: str = ""
    picture: str = ""
    consented: bool = False
    """Whether the Page may read the profile: after a message or Get Started."""
    profile_error: int | None = None
    """Subcode with which the profile is refused, such as 2018218; None while it works."""
    blocked: bool = False
    """Whether the person has blocked the Page."""
    blocked_by_page: bool = False
    online: bool = True
    """Whether messages are seen at once: decides on read receipts."""
    last_seen: float | None = None
    """Time of the last act that opens the 24-hour window."""
    owner: str = ""
    """App id that controls the thread; empty while idle."""
    owner_until: float = 0.0
    typing: bool = False
    seen_by_page: bool = False
    thread: list[Bubble] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    """Addresses and numbers that the person opened by buttons."""
    linked: str = ""

    @property
    def first_name(self) -> str:
        return self.name.partition(" ")[0]

    @property
    def last_name(self) -> str:
        return self.name.partition(" ")[2]

    @property
    def received(self) -> list[Bubble]:
        """The messages of the Page, oldest first."""
        return [bubble for bubble in self.thread if bubble.by_page]

    @property
    def texts(self) -> list[str]:
        """The texts of the Page's messages, oldest first."""
        return [bubble.text for bubble in self.received]

    @property
    def quick_replies(self) -> list[dict[str, Any]]:
        """The quick replies that can be tapped: those of the newest message."""
        return self.thread[-1].quick_replies if self.thread and self.thread[-1].by_page else []

    @property
    def menu(self) -> list[dict[str, Any]]:
        """The items of the persistent menu that this person sees."""
        entries = self.page.user_menus.get(self.id) or self.page.platform().get("persistent_menu") or []
        entry = self._localised(entries)
        return list(entry.get("call_to_actions") or ()) if entry else []

    @property
    def ice_breakers(self) -> list[dict[str, Any]]:
        """The questions offered before the first message."""
        entries = self.page.platform().get("ice_breakers") or []
        if self.thread or not entries:
            return []
        if "call_to_actions" not in entries[0]:
            return list(entries)
        entry = self._localised(entries)
        return list(entry["call_to_actions"]) if entry else []

    @property
    def greeting(self) -> str:
        """The greeting shown before the first message, with the names filled in."""
        entry = self._localised(self.page.platform().get("greeting") or [])
        text = str(entry.get("text", "")) if entry and not self.thread else ""
        for key, value in (("first", self.first_name), ("last", self.last_name), ("full", self.name)):
            text = text.replace(f"{{{{user_{key}_name}}}}", value)
        return text

    def _localised(self, entries: list[dict[str, Any]]) -> dict[str, Any] | None:
        by_locale = {entry.get("locale"): entry for entry in entries}
        return by_locale.get(self.locale) or by_locale.get("default")

    @property
    def window_ends(self) -> float | None:
        """Time at which the 24-hour window closes; None when it never opened."""
        return None if self.last_seen is None else self.last_seen + DAY
