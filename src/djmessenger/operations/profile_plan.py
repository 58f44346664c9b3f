"""What a Page's Messenger Profile is, what it should be, and the calls between the two.

Every run begins by reading the Page, so a run that was interrupted is finished by the next one. Meta allows 10 calls
in 10 minutes for each Page (Messenger Platform, "Rate limits", 2026).
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import QuerySet

from djmessenger import graph, models
from djmessenger.exceptions import DJMException, InvalidField
from djmessenger.operations.profile_properties import NEEDS, ORDER, deletion_order, in_order, with_locales
from djmessenger.rulebook import limit

TEN_MINUTES = 600.0
ON_INSTAGRAM = ("get_started", "ice_breakers", "persistent_menu")
"""What of the common declaration an Instagram account takes (Instagram Platform, 2026)."""

_USUAL: Mapping[str, Any] = {
    "composer_input_disabled": False,
    "messenger_extensions": False,
    "webview_height_ratio": "full",
}
"""Values that Graph may spell out where they were left out."""

T = TypeVar("T")


class OverBudget(DJMException):
    """The calls that Meta allows are used up, and nobody wants to wait."""


class Budget:
    """Counts the calls about the profile of one Page, and waits where there are too many.

    ``clock`` and ``wait`` are in seconds; without ``wait`` it raises ``OverBudget``. Calls of other processes are not
    seen here; Graph tells of those by refusing one, which is repeated after the wait.
    """

    REPEATS = 3

    def __init__(
        self,
        *,
        say: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = time.sleep,
    ) -> None:
        self._say = say
        self._clock = clock
        self._wait = wait
        self._calls: deque[float] = deque()

    def call(self, work: Callable[[], T]) -> T:
        """Make one call within the budget."""
        for _repeat in range(self.REPEATS):
            self._spend()
            try:
                return work()
            except graph.Throttled as error:
                self._rest(error.after or TEN_MINUTES)
        self._spend()
        return work()

    def _spend(self) -> None:
        most = limit("rate.profile")
        while self._calls and self._calls[0] <= self._clock() - TEN_MINUTES:
            self._calls.popleft()
        if len(self._calls) >= most:
            self._rest(self._calls[0] + TEN_MINUTES - self._clock())
            self._calls.popleft()
        self._calls.append(self._clock())

    def _rest(self, seconds: float) -> None:
        used_up = f"Meta allows {limit('rate.profile')} calls in 10 minutes about the profile of a Page"
        if self._wait is None:
            raise OverBudget(f"{used_up}; run the command again in {seconds:.0f} seconds")
        self._say(f"{used_up}; going on in {seconds:.0f} seconds.")
        self._wait(seconds)


@dataclass(frozen=True)
class Change:
    """One property that is to be another; ``None`` stands for not set."""

    name: str
    before: Any
    after: Any

    @property
    def sign(self) -> str:
        """How a plan shows it: ``+`` set, ``~`` changed, ``-`` removed."""
        if self.after is None:
            return "-"
        return "+" if self.before is None else "~"

    def lines(self) -> Iterator[str]:
        """Give the difference, a line for each entry that goes or comes."""
        before, after = _lines(self.name, self.before), _lines(self.name, self.after)
        yield f"  {self.sign} {self.name}"
        yield from (f"      - {line}" for line in before if line not in after)
        yield from (f"      + {line}" for line in after if line not in before)
        if self.sign == "~" and sorted(before) == sorted(after):
            yield "      the order changes"


@dataclass(frozen=True)
class Plan:
    """What has to happen to one Page, in the order in which Meta takes it."""

    changes: tuple[Change, ...]
    unmanaged: tuple[str, ...] = ()
    """What the Page has and nobody declares; it is left alone."""

    def __bool__(self) -> bool:
        return bool(self.changes)


def make_plan(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> Plan:
    """Compare; ``InvalidField`` where Meta would refuse the result."""
    set_now = {name for name, value in present.items() if value}
    changed = {name: value for name, value in wanted.items() if not same(name, present.get(name), value)}
    to_set = {name: value for name, value in changed.items() if value is not None}
    to_remove = [name for name, value in changed.items() if value is None and name in set_now]
    left = (set_now - set(to_remove)) | set(to_set)
    for name, needed in NEEDS.items():
        if name in left and needed not in left:
            raise InvalidField(name, f"needs {needed}, which the Page does not have then")
    # What is kept counts for what comes: a menu may lead to domains that are there.
    kept = {name: value for name, value in wanted.items() if value is not None}
    in_order(kept, present=set_now)
    ordered = [next(iter(body)) for body in in_order(to_set, present=left)]
    gone = deletion_order(to_remove, present=set_now - set(to_set))
    return Plan(
        tuple(Change(name, present.get(name) or None, wanted[name]) for name in (*ordered, *gone)),
        tuple(name for name in ORDER if name in set_now and name not in wanted),
    )


def same(name: str, one: Any, other: Any) -> bool:
    """Tell whether two values of a property mean the same to a person who looks at the Page."""
    return bool(_canonical(name, one) == _canonical(name, other))


class PageProfile:
    """The Messenger Profile of one Page, through its client and its budget."""

    def __init__(
        self, client: graph.Client, budget: Budget, *, page_id: str, platform: str = "messenger"
    ) -> None:
        self.client = client
        self.budget = budget
        self.page_id = page_id
        self.platform = platform
        self._platform = None if platform == "messenger" else platform.upper()

    def read(self) -> dict[str, Any]:
        """Read what is set; one GET."""
        found = self.budget.call(lambda: self.client.get_messenger_profile(platform=self._platform)).json()
        return {name: found[name] for name in ORDER if found.get(name)}

    def plan(self, wanted: Mapping[str, Any]) -> Plan:
        """Read the Page and compare."""
        return make_plan(wanted, self.read())

    def apply(self, plan: Plan, *, say: Callable[[str], object] = str) -> None:
        """Carry a plan out, one property at a time; what was there is kept for ``rollback``."""
        if not plan:
            # One that was interrupted between its last call and this is done.
            self._snapshots().update(is_complete=True)
            return
        snapshot = self._remember(plan)
        self._carry_out(plan, say)
        snapshot.is_complete = True
        snapshot.save(update_fields=["is_complete"])
        kept = self._snapshots().values_list("pk", flat=True)[: models.ProfileSnapshot.KEPT]
        self._snapshots().exclude(pk__in=list(kept)).delete()

    def plan_rollback(self) -> Plan | None:
        """Give the plan that takes the last change back; None where there is none."""
        snapshot = self._snapshots().first()
        return None if snapshot is None else self.plan(snapshot.before)

    def roll_back(self, plan: Plan, *, say: Callable[[str], object] = str) -> None:
        """Carry out what ``plan_rollback`` gave; the change before the last one is the last one then."""
        self._carry_out(plan, say)
        snapshot = self._snapshots().first()
        if snapshot is not None:
            snapshot.delete()

    def _carry_out(self, plan: Plan, say: Callable[[str], object]) -> None:
        for change in plan.changes:
            if change.after is not None:
                body = {change.name: change.after}
                self.budget.call(lambda body=body: self._post(body))  # type: ignore[misc]
                say(f"  {change.sign} {change.name}")
        gone = [change.name for change in plan.changes if change.after is None]
        if gone:
            self.budget.call(lambda: self.client.delete_messenger_profile(gone, platform=self._platform))
            for name in gone:
                say(f"  - {name}")

    def _post(self, body: Mapping[str, Any]) -> graph.Done:
        return self.client.set_messenger_profile(body, platform=self._platform)

    def _remember(self, plan: Plan) -> models.ProfileSnapshot:
        before = {change.name: change.before for change in plan.changes}
        last = self._snapshots().first()
        if last is None or last.is_complete:
            return models.ProfileSnapshot.objects.create(
                page_id=self.page_id, platform=self.platform, before=before
            )
        # An interrupted change and the one that finishes it are one: what was there before the first counts.
        last.before = {**before, **last.before}
        last.save(update_fields=["before"])
        return last

    def _snapshots(self) -> QuerySet[models.ProfileSnapshot]:
        return models.ProfileSnapshot.objects.filter(page_id=self.page_id, platform=self.platform).order_by(
            "-pk"
        )


def for_platform(wanted: Mapping[str, Any], platform: str, own: Collection[str]) -> dict[str, Any]:
    """Leave out what the platform does not know, unless the Page's ``own`` declaration asks for it."""
    if platform == "messenger":
        return dict(wanted)
    return {name: value for name, value in wanted.items() if name in ON_INSTAGRAM or name in own}


def _canonical(name: str, value: Any) -> Any:
    if not value:
        return None
    if name == "whitelisted_domains":
        return sorted({domain.rstrip("/").lower() for domain in value})
    if name == "ice_breakers":
        value = with_locales(value)
    if isinstance(value, list):
        value = sorted(value, key=lambda entry: str(entry.get("locale")))
    return _usual_left_out(value)


def _usual_left_out(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _usual_left_out(inner)
            for key, inner in value.items()
            if inner is not None and (key not in _USUAL or inner != _USUAL[key])
        }
    if isinstance(value, list):
        return [_usual_left_out(inner) for inner in value]
    return value


def _lines(name: str, value: Any) -> list[str]:
    """Give a value as lines that can be told apart: one for each text, item, question or command."""
    if not value:
        return []
    if name == "ice_breakers":
        value = with_locales(value)
    if not isinstance(value, list):
        return [_json(value)]
    lines = []
    for entry in _usual_left_out(value):
        if not isinstance(entry, Mapping):
            lines.append(_json(entry))
            continue
        locale = entry.get("locale", "")
        inner = next((entry[key] for key in ("call_to_actions", "commands") if key in entry), None)
        if inner is None:
            lines.append(f"{locale}: {_json(entry.get('text', ''))}")
            continue
        lines += [f"{locale}: {_json(item)}" for item in inner]
        lines += [f"{locale}: the composer is disabled"] if entry.get("composer_input_disabled") else []
    return lines


def _json(value: Any) -> str:
    """Write a value on one line; what a terminal would obey is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
