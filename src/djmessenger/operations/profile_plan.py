"""The plan of changes from the present Messenger Profile of a Page to the declared one, and its execution.

Each run reads the Page first, so the next run finishes a run that was interrupted. Meta allows 10 calls in 10 minutes
for each Page (Messenger Platform, "Rate limits", 2026).
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import QuerySet

from djmessenger import models
from djmessenger.exceptions import DJMException, InvalidField
from djmessenger.graph.client import Client
from djmessenger.graph.errors import Throttled
from djmessenger.graph.results import Done
from djmessenger.operations.profile_properties import NEEDS, ORDER, deletion_order, in_order, with_locales
from djmessenger.rulebook import limit

TEN_MINUTES = 600.0
ON_INSTAGRAM = ("get_started", "ice_breakers", "persistent_menu")
"""Properties of the common declaration that an Instagram account accepts (Instagram Platform, 2026)."""

_USUAL: Mapping[str, Any] = {
    "composer_input_disabled": False,
    "messenger_extensions": False,
    "webview_height_ratio": "full",
}
"""Default values, which Graph may return although they were not set."""

T = TypeVar("T")


class OverBudget(DJMException):
    """The calls that Meta allows are used up, and the caller must not wait."""


class Budget:
    """Counter of the calls about the profile of one Page, which waits before a call that is over the limit.

    ``clock`` and ``wait`` are in seconds; without ``wait`` it raises ``OverBudget``. Calls of other processes are not
    counted. If Graph refuses a call because of them, the call is repeated after the wait.
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
        """Make one call within the budget and return its result. Raises ``OverBudget`` if it may not wait."""
        for _repeat in range(self.REPEATS):
            self._spend()
            try:
                return work()
            except Throttled as error:
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
        self._say(f"{used_up}; the next call follows in {seconds:.0f} seconds.")
        self._wait(seconds)


@dataclass(frozen=True)
class Change:
    """The change of one property. ``None`` stands for not set."""

    name: str
    before: Any
    after: Any

    @property
    def sign(self) -> str:
        """Mark in a plan: ``+`` is set, ``~`` is changed, ``-`` is removed."""
        if self.after is None:
            return "-"
        return "+" if self.before is None else "~"

    def lines(self) -> Iterator[str]:
        """Yield the difference, one line for each entry that is removed or added."""
        before, after = _lines(self.name, self.before), _lines(self.name, self.after)
        yield f"  {self.sign} {self.name}"
        yield from (f"      - {line}" for line in before if line not in after)
        yield from (f"      + {line}" for line in after if line not in before)
        if self.sign == "~" and sorted(before) == sorted(after):
            yield "      the order changes"


@dataclass(frozen=True)
class Plan:
    """The changes of one Page, in the order in which Meta accepts them."""

    changes: tuple[Change, ...]
    unmanaged: tuple[str, ...] = ()
    """Properties that the Page has and that are not declared. They are not changed."""

    def __bool__(self) -> bool:
        return bool(self.changes)


def make_plan(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> Plan:
    """Return the changes from the present properties to the wanted ones.

    Raises ``InvalidField`` if Meta would refuse the result.
    """
    set_now = {name for name, value in present.items() if value}
    changed = {name: value for name, value in wanted.items() if not same(name, present.get(name), value)}
    to_set = {name: value for name, value in changed.items() if value is not None}
    to_remove = [name for name, value in changed.items() if value is None and name in set_now]
    remaining = (set_now - set(to_remove)) | set(to_set)
    for name, needed in NEEDS.items():
        if name in remaining and needed not in remaining:
            raise InvalidField(name, f"needs {needed}, which the Page does not have then")
    # Unchanged properties count too, because a new menu may refer to domains that are whitelisted already.
    declared = {name: value for name, value in wanted.items() if value is not None}
    in_order(declared, present=set_now)
    ordered = [next(iter(body)) for body in in_order(to_set, present=remaining)]
    removals = deletion_order(to_remove, present=set_now - set(to_set))
    return Plan(
        tuple(Change(name, present.get(name) or None, wanted[name]) for name in (*ordered, *removals)),
        tuple(name for name in ORDER if name in set_now and name not in wanted),
    )


def same(name: str, one: Any, other: Any) -> bool:
    """Return whether two values of a property look the same on the Page."""
    return bool(_canonical(name, one) == _canonical(name, other))


class PageProfile:
    """The Messenger Profile of one Page, read and changed with its client within its budget."""

    def __init__(self, client: Client, budget: Budget, *, page_id: str, platform: str = "messenger") -> None:
        self.client = client
        self.budget = budget
        self.page_id = page_id
        self.platform = platform
        self._platform = None if platform == "messenger" else platform.upper()

    def read(self) -> dict[str, Any]:
        """Return the properties that are set; one GET."""
        profile = self.budget.call(lambda: self.client.get_messenger_profile(platform=self._platform)).json()
        return {name: profile[name] for name in ORDER if profile.get(name)}

    def plan(self, wanted: Mapping[str, Any]) -> Plan:
        """Read the Page and return the changes to the wanted properties."""
        return make_plan(wanted, self.read())

    def apply(self, plan: Plan, *, say: Callable[[str], object] = str) -> None:
        """Execute a plan, one property a call. The values before it are stored for ``plan_rollback``."""
        if not plan:
            # Guard: a crash after the last call of a run leaves its snapshot incomplete, and the next change would
            # count as a part of it. An empty plan proves that the run was complete.
            self._snapshots().update(is_complete=True)
            return
        snapshot = self._remember(plan)
        self._carry_out(plan, say)
        snapshot.is_complete = True
        snapshot.save(update_fields=["is_complete"])
        kept_ids = self._snapshots().values_list("pk", flat=True)[: models.ProfileSnapshot.KEPT]
        self._snapshots().exclude(pk__in=list(kept_ids)).delete()

    def plan_rollback(self) -> Plan | None:
        """Return the plan that reverts the last change, or None if there is no stored change."""
        snapshot = self._snapshots().first()
        return None if snapshot is None else self.plan(snapshot.before)

    def roll_back(self, plan: Plan, *, say: Callable[[str], object] = str) -> None:
        """Execute the plan of ``plan_rollback`` and delete its snapshot. The next rollback reverts the one before."""
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
        removed = [change.name for change in plan.changes if change.after is None]
        if removed:
            self.budget.call(lambda: self.client.delete_messenger_profile(removed, platform=self._platform))
            for name in removed:
                say(f"  - {name}")

    def _post(self, body: Mapping[str, Any]) -> Done:
        return self.client.set_messenger_profile(body, platform=self._platform)

    def _remember(self, plan: Plan) -> models.ProfileSnapshot:
        before = {change.name: change.before for change in plan.changes}
        last = self._snapshots().first()
        if last is None or last.is_complete:
            return models.ProfileSnapshot.objects.create(
                page_id=self.page_id, platform=self.platform, before=before
            )
        # Guard: a crash between two calls leaves a snapshot incomplete, and this run finishes that change. Both count
        # as one change, so a rollback restores the values before the first run.
        # test_an_interrupted_change_is_taken_back_whole
        last.before = {**before, **last.before}
        last.save(update_fields=["before"])
        return last

    def _snapshots(self) -> QuerySet[models.ProfileSnapshot]:
        return models.ProfileSnapshot.objects.filter(page_id=self.page_id, platform=self.platform).order_by(
            "-pk"
        )


def for_platform(
    wanted: Mapping[str, Any], platform: str, page_declaration: Collection[str]
) -> dict[str, Any]:
    """Return the properties that the platform accepts, and those in the Page's own ``page_declaration``."""
    if platform == "messenger":
        return dict(wanted)
    return {name: value for name, value in wanted.items() if name in ON_INSTAGRAM or name in page_declaration}


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
    """Return a value as lines for a difference: one for each text, item, question or command."""
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
    """Return a value as one line of JSON. Control characters are escaped, because a terminal would execute them."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
