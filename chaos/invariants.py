"""What must hold after a pass, from the database and from the stand-in's own log."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from chaos.messenger import KINDS
from chaos.storm import Storm
from djmessenger import models, settings
from djmessenger.pipeline.status import read_status
from djmessenger.receiving import decode, split

State = models.Reply.State


class Check:
    """All invariants over one finished pass; each gives the breaches that it finds."""

    def __init__(
        self, storm: Storm, acknowledged: Iterable[bytes], before: set[str], logs: Iterable[tuple[str, str]]
    ) -> None:
        self.storm = storm
        self.acknowledged = list(acknowledged)
        self.before = before
        """Message ids that were stored before the first worker started."""
        self.logs = list(logs)
        self.accepted: dict[str, list[tuple[str, int, str]]] = defaultdict(list)
        """Person to what Graph took: reply, attempt and message id, in order."""
        for person in storm.persons.values():
            for bubble in person.received:
                token = (bubble.metadata or "").partition(" ")[0]
                _, row, number = token.split(".")
                self.accepted[person.id].append((row, int(number), bubble.mid))
        self.acceptances = Counter(row for found in self.accepted.values() for row, _, _ in found)

    def breaches(self) -> list[str]:
        found = []
        for name in (
            "durable", "nothing_open", "handled_once", "handling_order", "send_order", "no_duplicate",
            "duplicates_seen", "fates_true", "attempts_add_up", "one_holder", "no_secret",
        ):  # fmt: skip
            found += [f"{name}: {breach}" for breach in getattr(self, name)()]
        return found

    def durable(self) -> Iterator[str]:
        """I1: each item of each acknowledged body is there."""
        keys = set(models.Messaging.objects.values_list("key", flat=True))
        for content in self.acknowledged:
            for item in split(decode(content)):
                if item.messaging is None or item.messaging.key() not in keys:
                    yield f"an acknowledged item is not there: {item.raw}"

    def nothing_open(self) -> Iterator[str]:
        """I2: nothing waits any more."""
        for rows in (
            models.Callback.objects.exclude(state="split"),
            models.Messaging.objects.exclude(state__in=["done", "ignored"]),
            models.Reply.objects.filter(state__in=models.Reply.OPEN),
            models.Lane.objects.exclude(leased_until=None),
        ):
            for row in rows[:3]:
                yield f"{type(row).__name__} {row.pk} is open: {row} {getattr(row, 'error', '')[-300:]}"

    def handled_once(self) -> Iterator[str]:
        """I3: effects and replies are just those of each text that a person wrote."""
        effects = Counter(models.UserLocation.objects.values_list("mid", flat=True))
        replies = Counter(models.Reply.objects.values_list("messaging__mid", flat=True))
        wrote = 0
        for person in self.storm.persons.values():
            mine = [bubble for bubble in person.thread if not bubble.by_page]
            wrote += len(mine)
            for bubble in mine:
                if effects[bubble.mid] != 1:
                    yield f"{bubble.text!r} had its effect {effects[bubble.mid]} times"
                wanted = KINDS[bubble.text.partition(" ")[0]]
                if replies[bubble.mid] != wanted:
                    yield f"{bubble.text!r} has {replies[bubble.mid]} replies"
            state = models.Conversation.objects.get(person=person.id).state if mine else {}
            if state.get("count", 0) != len(mine):
                yield f"the state of {person.id} counts {state} of {len(mine)}"
        if sum(effects.values()) != wrote:
            yield f"{sum(effects.values())} effects of {wrote} texts"

    def handling_order(self) -> Iterator[str]:
        """I4: what was there at the start was handled by (timestamp, arrival)."""
        rows = models.Messaging.objects.filter(mid__in=self.before, type="SIMPLE_TEXT")
        place = {mid: (timestamp, pk) for mid, timestamp, pk in rows.values_list("mid", "timestamp", "pk")}
        by_person: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for person, mid in models.UserLocation.objects.order_by("pk").values_list("user_id", "mid"):
            if mid in place:
                by_person[person].append(place[mid])
        for person, places in by_person.items():
            if places != sorted(places):
                yield f"events of {person} were handled in the order {places}"

    def send_order(self) -> Iterator[str]:
        """I5: first acceptances follow the order of queueing."""
        order = {
            row.hex: pk
            for row, pk in models.Reply.objects.values_list("uuid", "pk")
            if isinstance(row, uuid.UUID)
        }
        for person, found in self.accepted.items():
            firsts = list(dict.fromkeys(order[row] for row, _, _ in found))
            if firsts != sorted(firsts):
                yield f"replies to {person} were accepted in the order {firsts}"

    def no_duplicate(self) -> Iterator[str]:
        """I6: no reply was accepted twice."""
        for row, times in self.acceptances.items():
            if times > 1:
                reply = models.Reply.objects.get(uuid=uuid.UUID(row))
                tries = list(
                    reply.attempts.order_by("number").values_list("number", "outcome", "date_started")
                )
                yield f"reply {reply.pk} was accepted {times} times: {tries}"

    def duplicates_seen(self) -> Iterator[str]:
        """I7: the number in the report is the true one."""
        true = sum(times - 1 for times in self.acceptances.values())
        told = read_status().duplicates
        if told != true:
            yield f"{told} duplicates were counted, there were {true}"

    def fates_true(self) -> Iterator[str]:
        """I8: what is sent was accepted, what failed was not."""
        for row, state in models.Reply.objects.values_list("uuid", "state"):
            times = self.acceptances[row.hex]
            if state == State.SENT and not times:
                yield f"reply {row} is sent and was not accepted"
            if state in {State.FAILED, State.EXPIRED} and times:
                yield f"reply {row} is {state} and was accepted"

    def attempts_add_up(self) -> Iterator[str]:
        """I9: whatever Graph saw was written down before; attempts of unknown fate are limited."""
        written = set(models.Attempt.objects.values_list("token", flat=True))
        for call in self.storm.calls:
            message = call.body.get("message")
            if isinstance(message, dict):
                token = str(message.get("metadata", "")).partition(" ")[0]
                if token not in written:
                    yield f"Graph saw {token}, which was never written down"
        unsure = Counter(
            models.Attempt.objects.filter(outcome__in=["", "unknown"]).values_list("reply_id", flat=True)
        )
        for reply, times in unsure.items():
            if times > 3:
                yield f"reply {reply} has {times} attempts of unknown fate"

    def one_holder(self) -> Iterator[str]:
        """I10: the claims under which a lane's attempts were made never go back."""
        last: dict[int | None, int] = {}
        attempts = models.Attempt.objects.order_by("pk").values_list("reply__conversation_id", "epoch")
        for conversation, epoch in attempts:
            if epoch < last.get(conversation, 0):
                yield f"conversation {conversation} was worked on under claim {epoch} after {last[conversation]}"
            last[conversation] = epoch

    def no_secret(self) -> Iterator[str]:
        """I13: neither secrets nor what persons wrote stand in a log."""
        for name, log in self.logs:
            for canary in (settings.DJM_PAGE_ACCESS_TOKEN, str(settings.DJM_APP_SECRET), "canary"):
                if canary in log:
                    yield f"the log of {name} holds {canary[:4]}…"
