"""Person with a screen and acts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode

from messenger_emulator.state import DAY, HOUR, LIKE_STICKER, Bubble, Page

REACTIONS = {
    "\u2764\ufe0f": "love",
    "\U0001f606": "smile",
    "\U0001f62e": "wow",
    "\U0001f622": "sad",
    "\U0001f620": "angry",
    "\U0001f44d": "like",
    "\U0001f44e": "dislike",
}
"""Name in the callback by emoji (Messenger Platform, "message_reactions")."""

MAX_EDITS = 5
"""Maximum number of edits of one message (Messenger Platform, "message_edits", April 2024)."""


class NotOnScreen(LookupError):
    """An act on an item that is not on the person's screen; the text lists the items that are."""


@dataclass(frozen=True)
class Act:
    """Act of a person: the webhook field and the item of its callback."""

    field: str
    item: dict[str, Any]
    mid: str = ""


class Sink(Protocol):
    """Part of ``World`` that a person uses."""

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
    """True if the Page may read the profile: after a message or Get Started."""
    profile_error: int | None = None
    """Subcode with which Graph refuses the profile, such as 2018218; None if Graph returns it."""
    blocked: bool = False
    """True if the person has blocked the Page."""
    blocked_by_page: bool = False
    online: bool = True
    """True if the person reads messages at once, which causes read receipts."""
    last_seen: float | None = None
    """Time of the last act that opens the standard window."""
    came_by_ad: float | None = None
    """Time of the last message that was the first one after a click on an ad; it opens a longer window."""
    ad: Mapping[str, Any] | None = None
    """Referral of a click on an ad after which the person has not written yet."""
    owner: str = ""
    """Id of the app that controls the thread; empty if none does."""
    owner_until: float = 0.0
    typing: bool = False
    seen_by_page: bool = False
    thread: list[Bubble] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    """Addresses and numbers that the person opened with buttons."""
    linked: str = ""
    username: str = ""
    """Unique name on Instagram."""
    followers: int = 0
    follows_page: bool = False
    followed_by_page: bool = False

    @property
    def first_name(self) -> str:
        return self.name.partition(" ")[0]

    @property
    def last_name(self) -> str:
        return self.name.partition(" ")[2]

    @property
    def received(self) -> list[Bubble]:
        """Messages of the Page, oldest first."""
        return [bubble for bubble in self.thread if bubble.by_page]

    @property
    def texts(self) -> list[str]:
        """Texts of the Page's messages, oldest first."""
        return [bubble.text for bubble in self.received]

    @property
    def quick_replies(self) -> list[dict[str, Any]]:
        """Quick replies of the newest message; no others can be tapped."""
        return self.thread[-1].quick_replies if self.thread and self.thread[-1].by_page else []

    @property
    def menu(self) -> list[dict[str, Any]]:
        """Items of the persistent menu that this person sees."""
        entries = self.page.user_menus.get(self.id) or self.page.platform().get("persistent_menu") or []
        entry = self._localised(entries)
        return list(entry.get("call_to_actions") or ()) if entry else []

    @property
    def ice_breakers(self) -> list[dict[str, Any]]:
        """Questions (ice breakers) on the screen before the first message."""
        entries = self.page.platform().get("ice_breakers") or []
        if self.thread or not entries:
            return []
        if "call_to_actions" not in entries[0]:
            return list(entries)
        entry = self._localised(entries)
        return list(entry["call_to_actions"]) if entry else []

    @property
    def greeting(self) -> str:
        """Greeting before the first message, with the names filled in."""
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
        """Time at which the window closes, the later end if two are open; None if none ever opened."""
        ends = [end for end in (self._standard_end, self._end_after_ad) if end is not None]
        return max(ends, default=None)

    @property
    def is_window_by_ad(self) -> bool:
        """True if the window closes at the time that a message after a click on an ad set."""
        return self.window_ends is not None and self.window_ends == self._end_after_ad

    @property
    def _standard_end(self) -> float | None:
        return None if self.last_seen is None else self.last_seen + self.page.limits["window.standard"] * HOUR

    @property
    def _end_after_ad(self) -> float | None:
        return None if self.came_by_ad is None else self.came_by_ad + self.page.limits["window.ad"] * DAY


@dataclass(eq=False)
class Person(Screen):
    """Person in one thread with one Page. The base class is the screen; the methods are acts."""

    def says(self, text: str, *, reply_to: str = "", **extra: Any) -> Act:
        """Write a text; ``extra`` are further keys of the message, such as ``referral`` or ``nlp``."""
        return self._message({"text": text, **extra}, "text", text, reply_to=reply_to)

    def taps_quick_reply(self, title: str) -> Act:
        """Tap a quick reply, named by title or payload; raise ``NotOnScreen`` if there is none."""
        for reply in self.quick_replies:
            kind = reply.get("content_type", "text")
            if kind == "text" and title in {reply.get("title"), str(reply.get("payload"))}:
                payload = str(reply.get("payload", ""))
                text = str(reply.get("title", ""))
                return self._message({"text": text, "quick_reply": {"payload": payload}}, "text", text)
        shown = [reply.get("title") or reply.get("content_type") for reply in self.quick_replies]
        raise NotOnScreen(f"{self.name} sees no quick reply {title!r}; there are {shown}")

    def gives_phone(self, number: str) -> Act:
        """Tap the quick reply that sends a phone number."""
        return self._gives("user_phone_number", number)

    def gives_email(self, address: str) -> Act:
        """Tap the quick reply that sends an e-mail address."""
        return self._gives("user_email", address)

    def _gives(self, kind: str, value: str) -> Act:
        if not any(reply.get("content_type") == kind for reply in self.quick_replies):
            raise NotOnScreen(f"{self.name} sees no quick reply of the kind {kind}")
        return self._message({"text": value, "quick_reply": {"payload": value}}, "text", value)

    def taps_button(self, title: str) -> Act | None:
        """Tap a button of a template, the newest first, named by title, payload or address.

        Return None for a button that causes no event: its address or number is added to ``opened``.
        """
        for bubble in reversed(self.received):
            for button in bubble.all_buttons():
                names = {button.get("title"), button.get("payload"), button.get("url"), button.get("type")}
                if title in names:
                    return self.presses(button)
            for action in _grid_actions(bubble):
                if title in {action.get("text"), action.get("payload"), action.get("url")}:
                    return self.presses({**action, "title": action.get("text", "")})
        shown = [button.get("title") for bubble in self.received for button in bubble.all_buttons()]
        raise NotOnScreen(f"{self.name} sees no button {title!r}; there are {shown}")

    def taps_card(self, card: str, title: str) -> Act | None:
        """Tap a button of the card (an element of a template) with this title, the newest first."""
        cards = [element for bubble in reversed(self.received) for element in bubble.elements]
        named = [element for element in cards if element.get("title") == card]
        for element in named:
            for button in element.get("buttons") or ():
                if title in {
                    button.get("title"),
                    button.get("payload"),
                    button.get("url"),
                    button.get("type"),
                }:
                    return self.presses(button)
        shown = [button.get("title") for element in named for button in element.get("buttons") or ()]
        there = f"on it are {shown}" if named else f"there are {[element.get('title') for element in cards]}"
        raise NotOnScreen(f"{self.name} sees no button {title!r} on a card {card!r}; {there}")

    def taps_menu(self, title: str) -> Act | None:
        """Tap an item of the persistent menu, named by title or payload."""
        for item in self.menu:
            if title in {item.get("title"), item.get("payload"), item.get("url")}:
                return self.presses(item)
        shown = [item.get("title") for item in self.menu]
        raise NotOnScreen(f"{self.name} sees no menu item {title!r}; there are {shown}")

    def taps_ice_breaker(self, question: str) -> Act:
        """Tap a question offered before the first message."""
        for item in self.ice_breakers:
            if question in {item["question"], item["payload"]}:
                return self.postback(item["question"], item["payload"])
        shown = [item["question"] for item in self.ice_breakers]
        raise NotOnScreen(f"{self.name} sees no question {question!r}; there are {shown}")

    def taps(self, title: str) -> Act | None:
        """Tap the first item with this title: quick reply, button, menu item or question."""
        ways: tuple[Callable[[str], Act | None], ...] = (
            self.taps_quick_reply,
            self.taps_button,
            self.taps_menu,
            self.taps_ice_breaker,
        )
        problems = []
        for way in ways:
            try:
                return way(title)
            except NotOnScreen as error:
                problems.append(str(error))
        raise NotOnScreen("; ".join(problems))

    def presses(self, button: Mapping[str, Any]) -> Act | None:
        """Press exactly this button; return None if it causes no event, as ``taps_button`` does."""
        kind = button.get("type")
        if kind in {"postback", "game_play"}:
            return self.postback(str(button.get("title", "")), str(button.get("payload", "")))
        if kind == "account_unlink":
            return self.unlinks_account()
        address = str(button.get("url") or button.get("payload") or "")
        if kind == "account_link":
            token = self.world.number("linking")
            self.page.linking_tokens[token] = (self.id, self.world.clock())
            way_back = f"{self.world.linking_page}?account_linking_token={token}"
            query = urlencode({"account_linking_token": token, "redirect_uri": way_back})
            address = f"{address}{'&' if '?' in address else '?'}{query}"
        self.opened.append(address)
        return None

    def gets_started(self, *, referral: Mapping[str, Any] | None = None) -> Act:
        """Tap Get Started; raise ``NotOnScreen`` if the Page has none."""
        setting = self.page.platform().get("get_started")
        if not setting:
            raise NotOnScreen(f"{self.name} sees no Get Started: the Page has no get_started property")
        return self.postback("Get Started", str(setting["payload"]), referral=referral)

    def postback(self, title: str, payload: str, *, referral: Mapping[str, Any] | None = None) -> Act:
        """Send a postback, even if no such button is on the screen."""
        mid = self.world.mid_for(self.page)
        body: dict[str, Any] = {"title": title, "payload": payload, "mid": mid}
        if referral:
            body["referral"] = dict(referral)
        self._opens_window(referral)
        self.consented = True
        self.thread.append(Bubble(mid, False, self.world.clock(), "postback", title))
        return self._emit("messaging_postbacks", {"postback": body}, mid)

    def sends_attachment(
        self,
        kind: str,
        url: str = "",
        *,
        text: str = "",
        payload: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> Act:
        """Send an image, audio, video, file, fallback, reel, post, ...; ``extra`` are keys beside ``payload``."""
        content = dict(payload) if payload is not None else {"url": url or f"https://cdn.example.com/{kind}"}
        return self._attachments([{"type": kind, "payload": content, **extra}], kind, text)

    def sends_images(self, *urls: str) -> Act:
        """Send several pictures in one message."""
        return self._attachments([{"type": "image", "payload": {"url": url}} for url in urls], "images", "")

    def sends_sticker(self, sticker_id: int = LIKE_STICKER, url: str = "") -> Act:
        """Send a sticker, by default the thumb. Faults such as ``stickers_2016`` change its form in the callback."""
        payload = {
            "url": url or f"https://cdn.example.com/stickers/{sticker_id}.png",
            "sticker_id": sticker_id,
        }
        return self._attachments([{"type": "sticker", "payload": payload}], "sticker", "")

    def sends_location(self, lat: float, long: float, title: str = "") -> Act:
        """Send a location as Messenger once did; Meta's pages of 2026 no longer list it."""
        place = {
            "title": title or f"{self.first_name}'s Location",
            "url": f"https://www.bing.com/maps?q={lat},{long}",
            "type": "location",
            "payload": {"coordinates": {"lat": lat, "long": long}},
        }
        return self._attachments([place], "location", "")

    def sends_link(self, url: str, title: str = "") -> Act:
        """Share a link: as text, and as an attachment of the type ``fallback``."""
        payload = {"url": url, "title": title or url}
        return self._attachments([{"type": "fallback", "payload": payload}], "text", url)

    def _attachments(self, attachments: list[dict[str, Any]], kind: str, text: str) -> Act:
        message: dict[str, Any] = {"text": text} if text else {}
        message["attachments"] = attachments
        return self._message(message, kind, text)

    def _message(self, message: dict[str, Any], kind: str, text: str, *, reply_to: str = "") -> Act:
        mid = self.world.mid_for(self.page)
        message = {"mid": mid, **message}
        if reply_to:
            mine = any(bubble.mid == reply_to and not bubble.by_page for bubble in self.thread)
            message["reply_to"] = {"mid": reply_to, "is_self_reply": mine}
        if self.ad is not None:
            message.setdefault("referral", dict(self.ad))
            self.ad = None
        self._opens_window(message.get("referral"))
        self.consented = True
        bubble = Bubble(mid, False, self.world.clock(), kind, text, message, reply_to=reply_to)
        self.thread.append(bubble)
        return self._emit("messages", {"message": message}, mid)

    def reacts(self, emoji: str = "\u2764\ufe0f", mid: str = "") -> Act:
        """React to a message, by default to the newest message of the Page."""
        bubble = self._bubble(mid)
        bubble.reactions["person"] = emoji
        self._opens_window()
        reaction = REACTIONS.get(emoji, "other")
        if reaction == "smile" and self.page.is_instagram:
            reaction = "laugh"  # Instagram's name for it (Instagram Messaging, "Webhooks")
        body = {"reaction": reaction, "emoji": emoji, "action": "react", "mid": bubble.mid}
        return self._emit("message_reactions", {"reaction": body}, bubble.mid)

    def unreacts(self, mid: str = "") -> Act:
        """Take a reaction back."""
        bubble = self._bubble(mid)
        bubble.reactions.pop("person", None)
        return self._emit(
            "message_reactions", {"reaction": {"action": "unreact", "mid": bubble.mid}}, bubble.mid
        )

    def edits(self, text: str, mid: str = "") -> Act:
        """Edit a message of the person, by default the newest; at most five times."""
        own = [bubble for bubble in self.thread if not bubble.by_page and (not mid or bubble.mid == mid)]
        if not own:
            raise NotOnScreen(f"{self.name} has written no such message")
        bubble = own[-1]
        if bubble.edits >= MAX_EDITS:
            raise NotOnScreen(f"{self.name} has edited this message {MAX_EDITS} times already")
        bubble.edits += 1
        bubble.text = text
        body = {"mid": bubble.mid, "text": text, "num_edit": bubble.edits}
        instagram = self.page.is_instagram
        return self._emit(
            "message_edit" if instagram else "message_edits", {"message_edit": body}, bubble.mid
        )

    def reads(self) -> Act:
        """Read all messages of the Page."""
        for bubble in self.received:
            bubble.delivered = bubble.read = True
        if self.page.is_instagram:
            last = self.received[-1].mid if self.received else ""
            return self._emit("messaging_seen", {"read": {"mid": last}}, "", authored=False)
        watermark = int(self.world.clock() * 1000)
        return self._emit("message_reads", {"read": {"watermark": watermark}}, "", authored=False)

    def gets_delivery(self, *mids: str) -> Act:
        """Confirm the delivery of messages, as the telephone does."""
        for bubble in self.received:
            bubble.delivered = True
        watermark = int(self.world.clock() * 1000)
        body = {"delivery": {"mids": list(mids), "watermark": watermark}}
        return self._emit("message_deliveries", body, "", authored=False)

    def opens_link(self, ref: str, *, source: str = "SHORTLINK", **extra: Any) -> Act:
        """Open the thread by an m.me link or an ad: a referral in an existing thread, otherwise Get Started.

        A click on an ad (``source="ADS"``) opens no window. The next message has its referral, and opens the longer
        window.
        """
        referral = {"ref": ref, "source": source, "type": "OPEN_THREAD", **extra}
        if not self.thread and self.page.platform().get("get_started"):
            return self.gets_started(referral=referral)
        if _is_of_ad(referral):
            self.ad = referral
        else:
            self._opens_window()
        subscription = "messaging_referral" if self.page.is_instagram else "messaging_referrals"
        return self._emit(subscription, {"referral": referral}, "")

    def opts_in(self, ref: str) -> Act:
        """Use the Send-to-Messenger plugin."""
        self._opens_window()
        self.consented = True
        return self._emit("messaging_optins", {"optin": {"ref": ref}}, "")

    def ticks_checkbox(self, user_ref: str, ref: str = "") -> Act:
        """Tick the checkbox plugin: an event without a sender."""
        self.page.user_refs[user_ref] = self.id
        body = {"user_ref": user_ref, **({"ref": ref} if ref else {})}
        item = {"recipient": {"id": self.page.account_id}, "timestamp": self._now(), "optin": body}
        self.world.emit(self.page, "messaging_optins", item)
        return Act("messaging_optins", item)

    def allows_one_time(self, payload: str) -> Act:
        """Accept a one-time notification; its token lets the Page send one message within a year."""
        token = self.world.number("one_time")
        self.page.one_time_tokens[token] = (self.id, self.world.clock())
        body = {"type": "one_time_notif_req", "payload": payload, "one_time_notif_token": token}
        return self._emit("messaging_optins", {"optin": body}, "")

    def links_account(self, authorization_code: str) -> Act:
        """Finish linking an account."""
        self.linked = authorization_code
        body = {"status": "linked", "authorization_code": authorization_code}
        return self._emit("messaging_account_linking", {"account_linking": body}, "")

    def unlinks_account(self) -> Act:
        """Undo the linking of an account."""
        self.linked = ""
        return self._emit("messaging_account_linking", {"account_linking": {"status": "unlinked"}}, "")

    def answers_feedback(self, questions: Mapping[str, Any]) -> Act:
        """Answer the feedback template; ``questions`` maps a question id to its answer in the callback."""
        screens = [{"screen_id": 0, "questions": dict(questions)}]
        return self._emit("messaging_feedback", {"messaging_feedback": {"feedback_screens": screens}}, "")

    def gives_information(self, responses: Mapping[str, str]) -> Act:
        """Fill in the form of a customer information template; ``responses`` has keys such as ``postal_code``."""
        self._sees_template("customer_information")
        entries = [{"key": key, "value": value} for key, value in responses.items()]
        screens = [{"screen_id": "Add address", "responses": entries}]
        body = {"messaging_customer_information": {"screens": screens}}
        return self._emit("messaging_customer_information", body, "")

    def submits_form(self) -> Act:
        """Submit the newest instant form. Meta documents one key of its event: the id of the form."""
        form = self._sees_template("instant_form")
        body = {"form_id": str(form["form_id"])}
        field = "messaging_in_thread_lead_form_submit"
        return self._emit(field, {field: body}, "")

    def reveals_coupon(self) -> Act:
        """Tap "Reveal code" on the newest coupon."""
        coupon = self._sees_template("coupon")
        values = {key: coupon[key] for key in ("payload", "coupon_code") if coupon.get(key)}
        return self._message({"template": {"type": "coupon", **values}}, "postback", "Reveal code")

    def _sees_template(self, kind: str) -> Mapping[str, Any]:
        """Return the payload of the newest template of a kind."""
        for bubble in reversed(self.received):
            if bubble.template == kind:
                payload: Mapping[str, Any] = bubble.message["attachment"]["payload"]
                return payload
        raise NotOnScreen(f"{self.name} sees no template {kind}")

    def deletes(self, mid: str = "") -> Act:
        """Unsend a message of the person (Instagram)."""
        own = [bubble for bubble in self.thread if not bubble.by_page and (not mid or bubble.mid == mid)]
        if not own:
            raise NotOnScreen(f"{self.name} has written no such message")
        self.thread.remove(own[-1])
        return self._emit("messages", {"message": {"mid": own[-1].mid, "is_deleted": True}}, own[-1].mid)

    def does(self, subscription: str, body: Mapping[str, Any]) -> Act:
        """Cause any other event; ``body`` contains its key, such as ``{"order": {...}}``."""
        return self._emit(subscription, dict(body), "")

    def _bubble(self, mid: str) -> Bubble:
        for bubble in reversed(self.thread):
            if bubble.mid == mid or (not mid and bubble.by_page):
                return bubble
        raise NotOnScreen(f"{self.name} sees no message {mid!r}")

    def _opens_window(self, referral: Any = None) -> None:
        self.last_seen = self.world.clock()
        if _is_of_ad(referral):
            self.came_by_ad = self.last_seen
        self.typing = False

    def _now(self) -> int:
        return int(self.world.clock() * 1000)

    def _emit(self, subscription: str, body: dict[str, Any], mid: str, *, authored: bool = True) -> Act:
        item = {
            "sender": {"id": self.id},
            "recipient": {"id": self.page.account_id},
            "timestamp": self._now(),
            **body,
        }
        self.world.emit(self.page, subscription, item, authored=authored)
        return Act(subscription, item, mid)


def _is_of_ad(referral: Any) -> bool:
    return isinstance(referral, Mapping) and referral.get("source") == "ADS"


def _grid_actions(bubble: Bubble) -> list[dict[str, Any]]:
    images = [image for element in bubble.elements for image in element.get("images") or ()]
    return [image["action"] for image in images if image.get("action")]
