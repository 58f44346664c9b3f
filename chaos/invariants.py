"""What must hold after a pass, from the database and from the stand-in's own log."""

from __future__ import annotations

import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from chaos.courier import STRANGER, Courier
from chaos.faults import FAULTS, SILENCE, TAKEN
from chaos.messenger import REPLIES, STUCK
from chaos.plan import SECRET, TOKEN, Plan
from chaos.storm import Storm
from djmessenger import models
from djmessenger.operations.status import read_status
from djmessenger.receiving.decoding import decode
from djmessenger.receiving.parsing import split

State = models.Reply.State
Fate = models.Attempt.Outcome

_TRACEBACK = re.compile(
    r"^Traceback .*\n((?:  .*\n)+)(\S.*)$(?!\n\n(?:During handling|The above exception))", re.MULTILINE
)
EXPECTED = {
    "RuntimeError: told to fail once",
    "RuntimeError: told to fail",
    "django.db.utils.OperationalError",
    "sqlite3.OperationalError",
    "psycopg.OperationalError",
    "psycopg.errors.AdminShutdown",
    "django.db.utils.InternalError: terminating connection due to idle-in-transaction",
    "psycopg.errors.IdleInTransactionSessionTimeout",
}
"""Ends of tracebacks that belong to the weather."""


class Check:
    """All invariants over one finished pass; each gives the breaches that it finds."""

    def __init__(
        self,
        storm: Storm,
        courier: Courier,
        before: set[str],
        stored: set[bytes],
        logs: Iterable[tuple[str, str]],
        plan: Plan,
        *,
        backlog: Sequence[float],
        slowest: float,
    ) -> None:
        self.storm = storm
        self.courier = courier
        self.before = before
        """Message ids that were stored before the first worker started."""
        self.stored = stored
        """All bodies that were stored."""
        self.logs = list(logs)
        self.plan = plan
        self.backlog = backlog
        """Seconds that each callback of the backlog took to be acknowledged, in order."""
        self.slowest = slowest
        """Seconds that the slowest answer beside a stuck conversation took."""
        self.accepted: dict[str, list[tuple[str, str]]] = defaultdict(list)
        """Person to what Graph took: reply and message id, in order."""
        self.late: Counter[str] = Counter()
        """How many acceptances of a reply had no echo within the wait."""
        # The shortest wait there is, less what the last acceptance may lag behind the client's patience.
        patience = plan.echo_wait * 2 / 3 - plan.time_out - SILENCE
        for person in storm.persons.values():
            for bubble in person.received:
                row = (bubble.metadata or "").partition(" ")[0].split(".")[1]
                self.accepted[person.id].append((row, bubble.mid))
                if courier.echoed.get(bubble.mid, float("inf")) - bubble.time > patience:
                    self.late[row] += 1
        self.acceptances = Counter(row for found in self.accepted.values() for row, _ in found)
        self.doubled = sum(times - 1 for times in self.acceptances.values())
        self.errors = Counter(self._errors())

    def breaches(self) -> list[str]:
        found = []
        for name in (
            "durable", "nothing_open", "handled_once", "handling_order", "send_order", "no_duplicate",
            "duplicates_seen", "fates_true", "attempts_add_up", "taken_for_what_it_was", "one_holder",
            "refused_leaves_nothing", "no_secret", "no_surprise", "in_time",
        ):  # fmt: skip
            found += [f"{name}: {breach}" for breach in getattr(self, name)()]
        return found

    def durable(self) -> Iterator[str]:
        """I1: each item of each acknowledged body is there."""
        keys = set(models.Messaging.objects.values_list("key", flat=True))
        for content in self.courier.acknowledged:
            for item in split(decode(content)):
                if item.messaging is None or item.messaging.key() not in keys:
                    yield f"an acknowledged item is not there: {item.raw}"

    def nothing_open(self) -> Iterator[str]:
        """I2: nothing waits any more."""
        for rows in (
            models.Callback.objects.exclude(state="split"),
            models.Messaging.objects.exclude(state__in=["done", "ignored"]),
            models.Reply.objects.filter(state__in=models.Reply.OPEN),
            models.ConversationQueue.objects.exclude(leased_until=None),
        ):
            for row in rows[:3]:
                yield f"{type(row).__name__} {row.pk} is open: {row} {getattr(row, 'error', '')[-300:]}"

    def handled_once(self) -> Iterator[str]:
        """I3: effects and replies are just those of each text that a person wrote."""
        effects = Counter(models.UserLocation.objects.values_list("mid", flat=True))
        replies = Counter(models.Reply.objects.values_list("messaging__mid", flat=True))
        states = dict(models.Conversation.objects.values_list("person_id", "state"))
        wrote = 0
        for person in self.storm.persons.values():
            mine = [bubble for bubble in person.thread if not bubble.by_page]
            counted = 0
            for bubble in mine:
                kind = bubble.text.partition(" ")[0]
                counted += kind != STUCK
                if effects[bubble.mid] != (kind != STUCK):
                    yield f"{bubble.text!r} had its effect {effects[bubble.mid]} times"
                if replies[bubble.mid] != REPLIES[kind]:
                    yield f"{bubble.text!r} has {replies[bubble.mid]} replies"
            wrote += counted
            if (states.get(person.id) or {}).get("count", 0) != counted:
                yield f"the state of {person.id} counts {states.get(person.id)} of {counted}"
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
            firsts = list(dict.fromkeys(order[row] for row, _ in found))
            if firsts != sorted(firsts):
                yield f"replies to {person} were accepted in the order {firsts}"

    def no_duplicate(self) -> Iterator[str]:
        """I6: no reply was accepted twice, but for one copy for each echo that did not come within the wait."""
        for row, times in self.acceptances.items():
            if times - 1 > self.late[row]:
                reply = models.Reply.objects.get(uuid=uuid.UUID(row))
                tries = list(
                    reply.attempts.order_by("number").values_list("number", "outcome", "date_started")
                )
                yield f"reply {reply.pk} was accepted {times} times: {tries}"

    def duplicates_seen(self) -> Iterator[str]:
        """I7: the number in the report is that of the echoes that came."""
        mids: dict[str, set[str]] = defaultdict(set)
        for token, mid in self.courier.proofs:
            mids[token.split(".")[1]].add(mid)
        seen = sum(len(found) - 1 for found in mids.values())
        told = read_status().duplicates
        if told != seen:
            yield f"{told} duplicates were counted, the echoes of {seen} came"

    def fates_true(self) -> Iterator[str]:
        """I8: what is sent was accepted; what failed was refused, and not accepted."""
        refused = {
            sent.reply for sent in self.storm.sent if sent.fault and FAULTS[sent.fault].fate == "refused"
        }
        for row, state in models.Reply.objects.values_list("uuid", "state"):
            times = self.acceptances[row.hex]
            if state == State.SENT and not times:
                yield f"reply {row} is sent and was not accepted"
            if state in {State.FAILED, State.EXPIRED} and times:
                yield f"reply {row} is {state} and was accepted"
            if state in {State.FAILED, State.EXPIRED} and row.hex not in refused:
                yield f"reply {row} is {state} and was never refused"

    def attempts_add_up(self) -> Iterator[str]:
        """I9: whatever Graph saw was written down before, and once; attempts of unknown fate are limited."""
        written = set(models.Attempt.objects.values_list("token", flat=True))
        for token, times in Counter(sent.token for sent in self.storm.sent).items():
            if token not in written:
                yield f"Graph saw {token}, which was never written down"
            if times > 1:
                yield f"Graph saw {token} {times} times"
        unsure = Counter(
            models.Attempt.objects.filter(outcome__in=["", "unknown"]).values_list("reply_id", flat=True)
        )
        for reply, times in unsure.items():
            if times > 3:
                yield f"reply {reply} has {times} attempts of unknown fate"

    def taken_for_what_it_was(self) -> Iterator[str]:
        """I9, of each kind of answer: the attempt is what the table says, or unknown where nobody could tell."""
        faults = {sent.token: sent.fault for sent in self.storm.sent}
        for token, outcome in models.Attempt.objects.exclude(outcome__in=["", "unknown"]).values_list(
            "token", "outcome"
        ):
            fault = faults.get(token)
            wanted = "unsent" if fault is None else FAULTS[fault].fate if fault else "accepted"
            if outcome == "accepted" and fault in TAKEN and FAULTS[fault].silent:
                # Frozen meanwhile, it found the answer when it woke up.
                continue
            if outcome != wanted:
                yield f"{fault!r} was taken for {outcome}, not {wanted}"

    def one_holder(self) -> Iterator[str]:
        """I10: the claims of a queue under which something was done never go back, and each is one process's."""
        last: dict[int | None, int] = {}
        attempts = models.Attempt.objects.order_by("pk").values_list(
            "reply__conversation_id", "fencing_token"
        )
        for conversation, fencing_token in attempts:
            if fencing_token < last.get(conversation, 0):
                yield f"conversation {conversation} was sent to under claim {fencing_token} after {last[conversation]}"
            last[conversation] = fencing_token
        claims: dict[str, int] = {}
        holders: dict[tuple[str, int], str] = {}
        effects = models.UserLocation.objects.order_by("pk").values_list("user_id", "title", "url")
        for person, title, process in effects:
            fencing_token = int(title)
            if fencing_token < claims.get(person, 0):
                yield f"{person} was heard under claim {fencing_token} after {claims[person]}"
            claims[person] = fencing_token
            if holders.setdefault((person, fencing_token), process) != process:
                yield f"{person} was heard by two processes under claim {fencing_token}"

    def refused_leaves_nothing(self) -> Iterator[str]:
        """I12: what was turned away left no row, and everything that was to be was."""
        strange = self.stored - self.courier.signed.keys()
        if strange:
            yield f"{len(strange)} bodies are stored that nobody signed"
        if models.FBUserProfile.objects.filter(psid=STRANGER).exists():
            yield "a stranger has a profile"
        for said in self.courier.turned_away:
            if not said.endswith((": 403", ": 405", ": 413", "Error", "Refused", "Disconnected", "Reset")):
                yield f"a stranger was answered: {said}"

    def no_secret(self) -> Iterator[str]:
        """I13: neither secrets nor what persons wrote stand in a log."""
        for name, log in self.logs:
            for canary in (TOKEN, SECRET, "canary"):
                if canary in log:
                    yield f"the log of {name} holds {canary[:4]}…"

    def _errors(self) -> Iterator[str]:
        """Give the last lines of tracebacks that lead through the bot; Celery has its own about its broker."""
        for _, log in self.logs:
            for frames, error in re.findall(_TRACEBACK, log):
                if "/djmessenger/" in frames:
                    yield error

    def no_surprise(self) -> Iterator[str]:
        """No exception but those that the weather makes."""
        for error, times in self.errors.items():
            if not error.startswith(tuple(EXPECTED)):
                yield f"{times} times in the logs: {error[:200]}"

    def in_time(self) -> Iterator[str]:
        """I14: a callback is acknowledged soon, whatever waits; I11: those who are stuck delay nobody."""
        seconds = sorted(self.courier.seconds)
        bound = 0.25 if self.plan.database == "postgresql" else 2.0
        if self.plan.timed and self.percentile(self.backlog, 0.99) > bound:
            yield f"with a backlog one of a hundred took over {self.percentile(self.backlog, 0.99):.2f} s"
        if self.plan.timed and self.slowest > self.plan.lease:
            yield f"beside a stuck conversation an answer took {self.slowest:.2f} s"
        if self.percentile(seconds, 1) > 5:
            yield f"one took {self.percentile(seconds, 1):.2f} s"

    @staticmethod
    def percentile(values: Sequence[float], share: float) -> float:
        """Of values in order."""
        return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0
