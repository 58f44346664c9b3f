"""Meta's webhook sender: bodies, signatures, retries, and the end of a subscription.

Messenger Platform, "Webhooks" (May 2026): the bot has to answer 200 within five seconds, otherwise Meta makes "a few
more" immediate tries. After 15 minutes of failures Meta sends an alert; after an hour it unsubscribes the app from the
Page. Meta does not publish the gaps between later tries.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from messenger_emulator.encoding import encode_like_meta
from messenger_emulator.state import Page
from messenger_emulator.world import Pending, World

TIME_LIMIT = 5.0
"""Seconds in which the bot has to answer."""
IMMEDIATE = 3
"""Number of immediate tries."""
GAPS = (10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds before each later try; the last gap repeats."""
ALERT_AFTER = 15 * 60.0
UNSUBSCRIBE_AFTER = 3600.0
OK = 200
KEPT_DELIVERIES = 50_000
"""Minimum number of deliveries in the log."""

Post = Callable[[bytes, dict[str, str]], int]
"""Function that posts a body with headers to the bot and returns the status. An exception is a failure."""
Get = Callable[[dict[str, str]], tuple[int, bytes]]
"""Function that sends a GET with a query to the bot and returns status and body."""


@dataclass
class Delivery:
    """One POST to the bot, with its result."""

    time: float
    page_id: str
    body: bytes
    headers: dict[str, str]
    attempt: int
    status: int | None = None
    """HTTP status; None if there was no answer."""
    error: str = ""
    accepted: bool = False
    items: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Verification:
    """Result of the challenge to an endpoint."""

    accepted: bool
    reason: str = ""


def sign(secret: str, body: bytes) -> str:
    """Return the value of the header ``X-Hub-Signature-256``."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def sign_sha1(secret: str, body: bytes) -> str:
    """Return the value of the older header ``X-Hub-Signature``."""
    return f"sha1={hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()}"


class Webhook(World):
    """Sender of callbacks: the part of the emulator that posts to the bot."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.deliveries: list[Delivery] = []
        self.api_version = "v26.0"
        self._together = False

    def verify(self, get: Get, verify_token: str) -> Verification:
        """Send a challenge to the endpoint, as Meta does before it accepts a callback address."""
        challenge = str(secrets.randbelow(9 * 10**9) + 10**9)
        query = {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": verify_token}
        before = self.clock()
        try:
            status, body = get(query)
        except Exception as error:  # noqa: BLE001 - any exception of the endpoint means no answer
            return Verification(False, f"no answer: {error}")
        if self.clock() - before > TIME_LIMIT:
            return Verification(False, f"no answer within {TIME_LIMIT:.0f} seconds")
        if status != OK:
            return Verification(False, f"status {status} instead of {OK}")
        if body != challenge.encode():
            return Verification(False, "the body is not the challenge")
        return Verification(True)

    def next_due(self) -> float | None:
        """Return the earliest time at which an item is due; None if no item waits."""
        with self.lock:
            return min((pending.due for pending in self.waiting), default=None)

    def deliver(self, post: Post, *, most: int = 10_000) -> list[Delivery]:
        """Post all due items, including those that the bot causes meanwhile, until none is due.

        Raise ``RuntimeError`` after ``most`` posts, because a bot that answers its echoes would never end.
        """
        deliveries: list[Delivery] = []
        while batch := self._take():
            for group in batch:
                if len(deliveries) >= most:
                    raise RuntimeError(f"the bot was still busy after {most} posts")
                deliveries.append(self._post(post, group))
        return deliveries

    def _take(self) -> list[list[Pending]]:
        """Remove the due items from the queue; return them in groups, each posted as one body."""
        with self.lock:
            now = self.clock()
            self._shape_queue(now)
            due = [pending for pending in self.waiting if pending.due <= now]
            self.waiting = [pending for pending in self.waiting if pending.due > now]
            if len(due) > 1 and self.faults.strike("reorder"):
                due.reverse()
            batch = self.faults.strike("batch") if len(due) > 1 else None
            if batch is not None:
                self._together = batch.options.get("shape") == "messaging"
                groups: dict[str, list[Pending]] = {}
                alone = []
                for pending in due:
                    if pending.raw is None:
                        groups.setdefault(pending.page.app_secret, []).append(pending)
                    else:
                        alone.append([pending])
                return [*groups.values(), *alone]
            return [[pending] for pending in due]

    def _shape_queue(self, now: float) -> None:
        """Apply the faults ``delay`` and ``duplicate`` to each waiting item once."""
        for pending in list(self.waiting):
            if pending.attempt or pending.shaped:
                continue
            pending.shaped = True
            delay = self.faults.strike("delay")
            if delay is not None:
                pending.due = max(pending.due, now + float(delay.options.get("seconds", 10.0)))
            duplicate = self.faults.strike("duplicate")
            if duplicate is not None:
                for _ in range(int(duplicate.options.get("copies", 2)) - 1):
                    self.waiting.append(copy.copy(pending))

    def _post(self, post: Post, group: list[Pending]) -> Delivery:
        page = group[0].page
        body = self.body_of(group)
        headers = self.headers_of(page, body)
        attempt = max(pending.attempt for pending in group) + 1
        items = [copy.deepcopy(pending.item) for pending in group]
        delivery = Delivery(self.clock(), page.id, body, headers, attempt, items=items)
        if len(self.deliveries) >= 2 * KEPT_DELIVERIES:
            del self.deliveries[:KEPT_DELIVERIES]
        self.deliveries.append(delivery)
        before = self.clock()
        try:
            delivery.status = post(body, dict(headers))
        except Exception as error:  # noqa: BLE001 - a receiver that raises has not accepted the body
            delivery.error = f"{type(error).__name__}: {error}"
        if self.clock() - before > TIME_LIMIT:
            delivery.error = f"no answer within {TIME_LIMIT:.0f} seconds"
        delivery.accepted = delivery.status == OK and not delivery.error
        with self.lock:
            if delivery.accepted:
                for pending in group:
                    pending.page.failing_since = None
            else:
                self._failed(group)
        return delivery

    def _failed(self, group: list[Pending]) -> None:
        now = self.clock()
        for page in {id(pending.page): pending.page for pending in group}.values():
            if page.failing_since is None:
                page.failing_since = now
            failing = now - page.failing_since
            if failing >= ALERT_AFTER and not page.alerts:
                page.alerts.append("The webhook has been failing for 15 minutes")
            if failing >= UNSUBSCRIBE_AFTER:
                page.subscribed_fields = set()
                page.alerts.append("Webhooks disabled: the app was unsubscribed from the Page")
                self.waiting = [pending for pending in self.waiting if pending.page is not page]
        for pending in group:
            if not pending.page.subscribed_fields:
                continue
            pending.attempt += 1
            later = pending.attempt - IMMEDIATE
            gap = GAPS[min(later, len(GAPS) - 1)] if later >= 0 else 0.0
            pending.due = now + gap
            self.waiting.append(pending)

    # Bodies

    def body_of(self, group: list[Pending]) -> bytes:
        """Return the body for one or several items. A later try has a later ``entry.time``."""
        if group[0].raw is not None:
            return group[0].raw
        together = self._together
        entries: list[dict[str, Any]] = []
        for pending in group:
            items = self._reshape_item(pending)
            last = entries[-1] if entries else None
            same = last is not None and last["id"] == pending.page.account_id and pending.container in last
            if last is not None and same and together:
                last[pending.container].extend(items)
                continue
            moment = (
                int(self.clock()) if pending.container in {"changes", "calls"} else int(self.clock() * 1000)
            )
            entry: dict[str, Any] = {"id": pending.page.account_id, "time": moment, pending.container: items}
            context = self.faults.strike("hop_context")
            if context is not None:
                default = {"app_id": int(pending.page.app_id), "metadata": ""}
                entry["hop_context"] = context.options.get("value", default)
            entries.append(entry)
        kind = "instagram" if group[0].page.is_instagram else "page"
        return encode_like_meta({"object": kind, "entry": entries})

    def _reshape_item(self, pending: Pending) -> list[dict[str, Any]]:
        """Return the item in the form that the faults require, after an unknown item if a fault adds one."""
        item: dict[str, Any] = copy.deepcopy(pending.item)
        faults = self.faults
        if pending.container in {"changes", "calls"}:
            return [item]
        message = item.get("message")
        if isinstance(message, dict):
            self._reshape_message(message)
        if "timestamp" in item and faults.strike("seconds"):
            item["timestamp"] //= 1000
        if faults.strike("no_timestamp"):
            item.pop("timestamp", None)
        if faults.strike("numeric_ids"):
            for side in ("sender", "recipient"):
                if str((item.get(side) or {}).get("id", "")).isdigit():
                    item[side]["id"] = int(item[side]["id"])
        if pending.container == "standby" and isinstance(item.get("postback"), dict):
            item["postback"].pop("payload", None)
        if faults.strike("unknown_event"):
            unknown: dict[str, Any] = {
                key: item[key] for key in ("sender", "recipient", "timestamp") if key in item
            }
            return [{**unknown, "hologram": {"shape": "cube", "mid": self.ids.number("h")}}, item]
        return [item]

    def _reshape_message(self, message: dict[str, Any]) -> None:
        faults = self.faults
        if faults.strike("seq"):
            message["seq"] = self.next_seq()
        if "app_id" in message and faults.strike("text_app_id"):
            message["app_id"] = str(message["app_id"])
        parts = message.get("attachments") or []
        stickers = [part for part in parts if part.get("type") == "sticker"]
        if not stickers:
            return
        payload = stickers[0]["payload"]
        picture = {"type": "image", "payload": payload}
        if faults.strike("stickers_2016"):
            message["attachments"] = [picture]
            message["sticker_id"] = payload["sticker_id"]
            message["seq"] = message.get("seq") or self.next_seq()
        elif faults.strike("stickers_v6"):
            message["attachments"] = [picture]
        elif faults.strike("stickers_transition"):
            message["attachments"] = [picture, *stickers]

    def headers_of(self, page: Page, body: bytes) -> dict[str, str]:
        """Return the headers of a POST, with the signature over exactly these bytes."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "facebookexternalua",
            "Facebook-API-Version": self.api_version,
        }
        secret = page.app_secret
        if self.faults.strike("wrong_signature"):
            secret += "x"
        if not self.faults.strike("no_signature"):
            headers["X-Hub-Signature-256"] = sign(secret, body)
        if self.faults.strike("sha1_signature"):
            headers["X-Hub-Signature"] = sign_sha1(secret, body)
        return headers


def items_in(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the items of all entries of a callback's body, for tests."""
    containers = ("messaging", "standby", "changes", "calls")
    return [item for entry in body["entry"] for key in containers for item in entry.get(key) or ()]
