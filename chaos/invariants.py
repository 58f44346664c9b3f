"""Invariants after a pass, checked against the database and the log of the emulator."""

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
    "RuntimeError: one failure on purpose",
    "RuntimeError: failure on purpose",
    "django.db.utils.OperationalError",
    "sqlite3.OperationalError",
    "psycopg.OperationalError",
    "psycopg.errors.AdminShutdown",
    "django.db.utils.InternalError: terminating connection due to idle-in-transaction",
    "psycopg.errors.IdleInTransactionSessionTimeout",
}
"""Last lines of tracebacks that the faults cause."""


class Check:
    """Check of all invariants after one pass. Each invariant is a method that yields its breaches."""

    def __init__(
        self,
        storm: Storm,
        courier: Courier,
        stored: set[bytes],
        logs: Iterable[tuple[str, str]],
        plan: Plan,
        *,
        backlog: Sequence[float],
        slowest: float,
    ) -> None:
        self.storm = storm
        self.courier = courier
        self.stored = stored
        """All stored bodies."""
        self.logs = list(logs)
        self.plan = plan
        self.backlog = backlog
        """Seconds until the acknowledgement of each callback of the backlog, sorted."""
        self.slowest = slowest
        """Seconds until the slowest answer beside a stuck conversation."""
        self.accepted: dict[str, list[tuple[str, str]]] = defaultdict(list)
        """Accepted messages by person, in order: reply and message id."""
        self.late: Counter[str] = Counter()
        """Number of acceptances without an echo within the wait, by reply."""
        # The shortest wait, less the time between the timeout of the client and the last possible acceptance.
        patience = plan.echo_wait * 2 / 3 - plan.time_out - SILENCE
        for person in storm.persons.values():
            for bubble in person.received:
                row = (bubble.metadata or "").partition(" ")[0].split(".")[1]
                self.accepted[person.id].append((row, bubble.mid))
                if courier.echoed.get(bubble.mid, float("inf")) - bubble.time > patience:
                    self.late[row] += 1
        self.acceptances = Counter(row for messages in self.accepted.values() for row, _ in messages)
        self.doubled = sum(times - 1 for times in self.acceptances.values())
        self.errors = Counter(self._errors())

    def breaches(self) -> list[str]:
        breaches = []
        for name in (
            "durable", "nothing_open", "handled_once", "handling_order", "send_order", "no_duplicate",
            "duplicates_seen", "fates_true", "attempts_add_up", "taken_for_what_it_was", "one_holder",
            "refused_leaves_nothing", "no_secret", "no_surprise", "in_time",
        ):  # fmt: skip
            breaches += [f"{name}: {breach}" for breach in getattr(self, name)()]
        return breaches

    def durable(self) -> Iterator[str]:
        """I1: each item of each acknowledged body is stored."""
        keys = set(models.Messaging.objects.values_list("key", flat=True))
        for content in self.courier.acknowledged:
            for item in split(decode(content)):
                if item.messaging is None or item.messaging.key() not in keys:
                    yield f"an acknowledged item is not stored: {item.raw}"

    def nothing_open(self) -> Iterator[str]:
        """I2: no row waits."""
        for rows in (
            models.Callback.objects.exclude(state="split"),
            models.Messaging.objects.exclude(state__in=["done", "ignored"]),
            models.Reply.objects.filter(state__in=models.Reply.OPEN),
            models.ConversationQueue.objects.exclude(leased_until=None),
        ):
            for row in rows[:3]:
                yield f"{type(row).__name__} {row.pk} is open: {row} {getattr(row, 'error', '')[-300:]}"

    def handled_once(self) -> Iterator[str]:
        """I3: each text of a person had its effect once and has exactly its replies."""
        effects = Counter(models.UserLocation.objects.values_list("mid", flat=True))
        replies = Counter(models.Reply.objects.values_list("messaging__mid", flat=True))
        states = dict(models.Conversation.objects.values_list("person_id", "state"))
        wrote = 0
        for person in self.storm.persons.values():
            written = [bubble for bubble in person.thread if not bubble.by_page]
            counted = 0
            for bubble in written:
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
        """I4: texts are handled in the order in which their callbacks were answered, and in one callback by timestamp.

        The POSTs of one wave overlap, so their callbacks may be handled in any order.
        """
        wave_of: dict[str, int] = {}
        place: dict[str, tuple[int, int]] = {}
        answered = zip(self.courier.acknowledged, self.courier.waves, strict=True)
        for number, (content, wave) in enumerate(answered):
            for item in self.courier.signed[content]:
                mid = (item.get("message") or {}).get("mid")
                if mid is not None:
                    wave_of.setdefault(mid, wave)
                    place.setdefault(mid, (number, item["timestamp"]))
        by_person: dict[str, list[str]] = defaultdict(list)
        for person, mid in models.UserLocation.objects.order_by("pk").values_list("user_id", "mid"):
            by_person[person].append(mid)
        for person, mids in by_person.items():
            waves = [wave_of[mid] for mid in mids]
            if waves != sorted(waves):
                yield f"events of {person} were handled in the order of waves {waves}"
            # By callback; the sort is stable, so the texts of one callback stay in the order of handling.
            places = sorted((place[mid] for mid in mids), key=lambda one: one[0])
            if places != sorted(places):
                yield f"events of {person} in one callback were handled in the order {places}"

    def send_order(self) -> Iterator[str]:
        """I5: first acceptances follow the order of queueing."""
        order = {
            row.hex: pk
            for row, pk in models.Reply.objects.values_list("uuid", "pk")
            if isinstance(row, uuid.UUID)
        }
        for person, messages in self.accepted.items():
            firsts = list(dict.fromkeys(order[row] for row, _ in messages))
            if firsts != sorted(firsts):
                yield f"replies to {person} were accepted in the order {firsts}"

    def no_duplicate(self) -> Iterator[str]:
        """I6: no reply was accepted twice, except one copy for each echo that came after the wait."""
        for row, times in self.acceptances.items():
            if times - 1 > self.late[row]:
                reply = models.Reply.objects.get(uuid=uuid.UUID(row))
                tries = list(
                    reply.attempts.order_by("number").values_list("number", "outcome", "date_started")
                )
                yield f"reply {reply.pk} was accepted {times} times: {tries}"

    def duplicates_seen(self) -> Iterator[str]:
        """I7: the number of duplicates in the status equals that of the received echoes."""
        mids: dict[str, set[str]] = defaultdict(set)
        for token, mid in self.courier.proofs:
            mids[token.split(".")[1]].add(mid)
        echoed = sum(len(copies) - 1 for copies in mids.values())
        reported = read_status().duplicates
        if reported != echoed:
            yield f"{reported} duplicates were counted, the echoes of {echoed} came"

    def fates_true(self) -> Iterator[str]:
        """I8: a sent reply was accepted; a failed or expired one was refused and never accepted.

        Neither an answer nor an echo proves that Meta has a parked reply.
        """
        refused = {
            sent.reply for sent in self.storm.sent if sent.fault and FAULTS[sent.fault].fate == "refused"
        }
        answered = set(models.Attempt.objects.exclude(mid="").values_list("reply__uuid", flat=True))
        echoed = {
            row for messages in self.accepted.values() for row, mid in messages if mid in self.courier.echoed
        }
        for row, state in models.Reply.objects.values_list("uuid", "state"):
            times = self.acceptances[row.hex]
            if state == State.SENT and not times:
                yield f"reply {row} is sent and was not accepted"
            if state in {State.FAILED, State.EXPIRED} and times:
                yield f"reply {row} is {state} and was accepted"
            if state in {State.FAILED, State.EXPIRED} and row.hex not in refused:
                yield f"reply {row} is {state} and was never refused"
            if state == State.PARKED and (row.hex in echoed or row in answered):
                yield f"reply {row} is parked and Meta is proved to have it"

    def attempts_add_up(self) -> Iterator[str]:
        """I9: each send has one attempt, committed before the call; attempts of unknown fate are limited."""
        written = set(models.Attempt.objects.values_list("token", flat=True))
        for token, times in Counter(sent.token for sent in self.storm.sent).items():
            if token not in written:
                yield f"Graph received {token}, which has no attempt"
            if times > 1:
                yield f"Graph received {token} {times} times"
        unsure = Counter(
            models.Attempt.objects.filter(outcome__in=["", "unknown"]).values_list("reply_id", flat=True)
        )
        for reply, times in unsure.items():
            if times > 3:
                yield f"reply {reply} has {times} attempts of unknown fate"

    def taken_for_what_it_was(self) -> Iterator[str]:
        """I9 by kind of answer: the outcome of each attempt is that of the table, or unknown."""
        faults = {sent.token: sent.fault for sent in self.storm.sent}
        for token, outcome in models.Attempt.objects.exclude(outcome__in=["", "unknown"]).values_list(
            "token", "outcome"
        ):
            fault = faults.get(token)
            expected = "unsent" if fault is None else FAULTS[fault].fate if fault else "accepted"
            if outcome == "accepted" and fault in TAKEN and FAULTS[fault].silent:
                # The client was frozen during the call and found the answer when it continued.
                continue
            if outcome != expected:
                yield f"{fault!r} has the outcome {outcome}, not {expected}"

    def one_holder(self) -> Iterator[str]:
        """I10: the fencing tokens of a queue never decrease, and only the process with the lease commits or sends."""
        for first, second in self.storm.overlapping:
            yield f"{second} was sent while the caller of {first} waited for its answer"
        last: dict[int | None, int] = {}
        attempts = models.Attempt.objects.order_by("pk").values_list(
            "reply__conversation_id", "fencing_token"
        )
        for conversation, fencing_token in attempts:
            if fencing_token < last.get(conversation, 0):
                yield f"conversation {conversation} had a send with token {fencing_token} after {last[conversation]}"
            last[conversation] = fencing_token
        claims: dict[str, int] = {}
        holders: dict[tuple[str, int], str] = {}
        effects = models.UserLocation.objects.order_by("pk").values_list("user_id", "title", "url")
        for person, title, processes in effects:
            fencing_token = int(title)
            process, _, owner = processes.partition(" ")
            if owner not in {"", process}:
                yield f"process {process} handled an event of {person} while {owner} had the lease {title}"
            if fencing_token < claims.get(person, 0):
                yield f"{person} had an event handled with token {fencing_token} after {claims[person]}"
            claims[person] = fencing_token
            if holders.setdefault((person, fencing_token), process) != process:
                yield f"two processes handled events of {person} with token {fencing_token}"

    def refused_leaves_nothing(self) -> Iterator[str]:
        """I12: each forged post was refused, and none left a row."""
        unsigned = self.stored - self.courier.signed.keys()
        if unsigned:
            yield f"{len(unsigned)} bodies without a valid signature are stored"
        if models.FBUserProfile.objects.filter(psid=STRANGER).exists():
            yield "a stranger has a profile"
        for answer in self.courier.turned_away:
            if not answer.endswith((": 403", ": 405", ": 413", "Error", "Refused", "Disconnected", "Reset")):
                yield f"a stranger was answered: {answer}"

    def no_secret(self) -> Iterator[str]:
        """I13: no log contains a secret or the text of a person."""
        for name, log in self.logs:
            for canary in (TOKEN, SECRET, "canary"):
                if canary in log:
                    yield f"the log of {name} contains {canary[:4]}…"

    def _errors(self) -> Iterator[str]:
        """Yield the last line of each traceback with a frame of the bot; Celery logs its own about the broker."""
        for _, log in self.logs:
            for frames, error in re.findall(_TRACEBACK, log):
                if "/djmessenger/" in frames:
                    yield error

    def no_surprise(self) -> Iterator[str]:
        """Yield each exception in the logs that no fault explains."""
        for error, times in self.errors.items():
            if not error.startswith(tuple(EXPECTED)):
                yield f"{times} times in the logs: {error[:200]}"

    def in_time(self) -> Iterator[str]:
        """I14: acknowledgements are quick with any backlog; I11: stuck conversations delay no other conversation."""
        seconds = sorted(self.courier.seconds)
        embedded = self.plan.dispatcher == "embedded"
        # Embedded threads share the CPU with the requests.
        bound = 0.25 if self.plan.database == "postgresql" and not embedded else 2.0
        if self.plan.timed and self.percentile(self.backlog, 0.99) > bound:
            yield f"with a backlog one of a hundred took over {self.percentile(self.backlog, 0.99):.2f} s"
        if self.plan.timed and self.slowest > self.plan.lease:
            yield f"beside a stuck conversation an answer took {self.slowest:.2f} s"
        # An act may freeze a web process with embedded threads during a request.
        if self.percentile(seconds, 1) > 5 and not embedded:
            yield f"one took {self.percentile(seconds, 1):.2f} s"

    @staticmethod
    def percentile(values: Sequence[float], share: float) -> float:
        """Return a percentile of sorted values."""
        return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0
