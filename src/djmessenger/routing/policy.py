"""The policy: the ordered list of rules, and the choice of those that apply to an event."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, ClassVar, NamedTuple, Self

from django.conf import settings

from djmessenger.filtering.base import literal_keys
from djmessenger.filtering.patterns import shared_time
from djmessenger.receiving import Messaging, ReceivingType
from djmessenger.routing.decision import Applied, Decision
from djmessenger.routing.examination import examine, examine_rules, numbered
from djmessenger.routing.outcome import Outcome, RuleTrace, suggest
from djmessenger.routing.problems import InvalidPolicy, Problem, read_policy
from djmessenger.routing.rule import Rule
from djmessenger.utils.serializable import Serializable


class RuleIndex:
    """The rules of one receiving type in the order of the policy, indexed by the literal texts and payloads they need.

    The index spares the filters of most rules of a long policy.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._by_literal: dict[str, list[int]] = {}
        always: list[int] = []
        for position, rule in enumerate(self.rules):
            literals = rule.build().literals
            if literals is None:
                always.append(position)
            else:
                for literal in literals:
                    self._by_literal.setdefault(literal, []).append(position)
        self._always = tuple(self.rules[position] for position in always)
        self._always_positions = frozenset(always)

    def candidates(self, messaging: Messaging) -> tuple[Rule, ...]:
        """Return the rules that may apply, in order. The other rules need another text or payload."""
        if not self._by_literal:
            return self._always
        hits = {position for key in literal_keys(messaging) for position in self._by_literal.get(key, ())}
        if not hits:
            return self._always
        return tuple(self.rules[position] for position in sorted(hits | self._always_positions))


class _Built(NamedTuple):
    default: Rule | None
    by_type: dict[tuple[ReceivingType, bool], RuleIndex]
    places: dict[int, int]
    """Position in the policy, by ``id`` of the rule."""


class Policy(Serializable):
    """The ordered list of rules for incoming events.

    1. All filters are checked before the first handler runs, so no filter sees an effect of this event.
    2. The DEFAULT rule surrounds all others, except for echoes and standby events. If one of its filters refuses the
       event, no rule applies. Its handlers run first. Its repliers run last, and only for authored events.
    3. Every rule of the event's type applies if all its filters pass, up to the first such rule with ``stop``.
    4. If no rule applied and a person authored the event, the rules of type FALLBACK are checked in the same manner.

    A policy is built once and shared by all threads.
    """

    custom_obj_map: ClassVar[Mapping[str, Any]] = {"rules": [Rule, list]}

    def __init__(self, rules: Sequence[Rule] | None = None) -> None:
        self.rules = [] if rules is None else list(rules)
        self._built: _Built | None = None
        self._is_examined = False

    @classmethod
    def get_instance(cls, json_data: Any) -> Self:
        """Build a policy from a dict or JSON text. Raises ``InvalidPolicy`` with every mistake."""
        return cls.from_dict(read_policy(json_data))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build a policy from a dict. Raises ``InvalidPolicy`` with every mistake."""
        problems = [problem for problem in examine(data) if problem.is_error]
        if problems:
            raise InvalidPolicy(problems)
        policy = cls.deserialize(data)
        policy.build(is_examined=True)
        return policy

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Build a policy from a JSON file. Raises ``InvalidPolicy`` with every mistake."""
        return cls.load(os.fspath(path))

    @classmethod
    def load(cls, source: Mapping[str, Any] | str | os.PathLike[str]) -> Self:
        """Build a policy from a value of ``DJM_ROUTING_POLICY``: a dict, or the path of a JSON file."""
        return cls.from_dict(read_policy(source, path=True))

    @classmethod
    def problems_of(cls, source: Any) -> list[Problem]:
        """Return every mistake in a dict or a JSON file. Never raises."""
        try:
            return examine(read_policy(source, path=True))
        except InvalidPolicy as error:
            return error.problems

    def problems(self) -> list[Problem]:
        """Return every mistake in this policy. Never raises."""
        return list(examine_rules(numbered(self.rules)))

    def build(self, *, is_examined: bool = False) -> None:
        """Make all filters, handlers and repliers now. Raises ``InvalidPolicy`` with every mistake.

        With ``is_examined`` the search for mistakes is left out, because the caller did it.
        """
        self._is_examined = self._is_examined or is_examined
        self._table()

    def _table(self) -> _Built:
        if self._built is None:
            problems = [] if self._is_examined else [item for item in self.problems() if item.is_error]
            if problems:
                raise InvalidPolicy(problems)
            for rule in self.rules:
                rule.build()
            self._built = _Built(
                next((rule for rule in self.rules if _is_for(rule, ReceivingType.DEFAULT)), None),
                {},
                {id(rule): place for place, rule in enumerate(self.rules)},
            )
        return self._built

    def get_default_rule(self) -> Any:
        """Return the first rule of type DEFAULT, or an empty list if there is no such rule."""
        return next((rule for rule in self.rules if _is_for(rule, ReceivingType.DEFAULT)), [])

    def get_rules(self, rtype: ReceivingType | str) -> list[Rule]:
        """Return the rules for a receiving type, in order."""
        kind = ReceivingType.value_of(rtype) if isinstance(rtype, str) else rtype
        return [rule for rule in self.rules if _is_for(rule, kind)]

    def apply(self, messaging: Messaging) -> None:
        """Run the policy on one event."""
        self.route(messaging)

    def route(self, messaging: Messaging) -> Outcome:
        """Decide, run the slow handlers, act, log, and return the outcome."""
        decision = self.decide(messaging)
        decision.run_slow(messaging)
        decision.act(messaging)
        decision.outcome.log()
        return decision.outcome

    def decide(self, messaging: Messaging) -> Decision:
        """Check the filters and return the decision. Has no effect, and leaves the event's context as it was.

        All patterns of the event share their time.
        """
        with shared_time():
            return self._decide(messaging)

    def _decide(self, messaging: Messaging) -> Decision:
        started = perf_counter()
        built = self._table()
        kind = messaging.type
        is_quiet = messaging.is_standby or kind is ReceivingType.ECHO or kind is ReceivingType.STANDBY
        outcome = Outcome(type=kind.name, authored=messaging.authored)
        default: Applied | None = None
        applied: list[Applied] = []
        if built.default is not None and not is_quiet:
            default = self._ask(built.default, messaging)
            outcome.default = default.trace
            outcome.refused = not default.trace.applied
        if not outcome.refused:
            is_answerable = messaging.authored and not is_quiet
            self._ask_rules(self._index(kind, with_any=is_answerable), messaging, outcome, applied)
            if not applied and is_answerable:
                fallbacks = self._index(ReceivingType.FALLBACK, with_any=False)
                outcome.fell_back = bool(fallbacks.rules)
                self._ask_rules(fallbacks, messaging, outcome, applied)
                answers = default is not None and default.rule.build().repliers
                if not applied and not answers:
                    outcome.unhandled = True
                    outcome.suggestion = suggest(messaging, with_text=settings.DEBUG)
        outcome.seconds = perf_counter() - started
        return Decision(outcome, None if outcome.refused else default, applied)

    def _index(self, kind: ReceivingType, *, with_any: bool) -> RuleIndex:
        """Return the index of the rules of a type; ``with_any`` includes the rules of type ANY."""
        by_type = self._table().by_type
        index = by_type.get((kind, with_any))
        if index is None:
            rules = [
                rule
                for rule in self.rules
                if _is_for(rule, kind) or (with_any and _is_for(rule, ReceivingType.ANY))
            ]
            index = by_type.setdefault((kind, with_any), RuleIndex(rules))
        return index

    def _ask_rules(
        self, index: RuleIndex, messaging: Messaging, outcome: Outcome, applied: list[Applied]
    ) -> None:
        candidates = index.candidates(messaging)
        outcome.skipped += len(index.rules) - len(candidates)
        for rule in candidates:
            entry = self._ask(rule, messaging)
            outcome.rules.append(entry.trace)
            if entry.trace.applied:
                applied.append(entry)
                if rule.stop:
                    outcome.stopped_by = rule.label
                    break

    def _ask(self, rule: Rule, messaging: Messaging) -> Applied:
        """Check the filters of a rule in order, up to the first that refuses the event."""
        trace = RuleTrace(rule.label, self._table().places[id(rule)])
        filters = rule.build().filters
        if not filters:
            trace.applied = True
            return Applied(rule, trace, {})
        started = perf_counter()
        before = dict(messaging.context)
        for item in filters:
            verdict = item.check(messaging)
            trace.verdicts.append(verdict)
            if not verdict.passed:
                break
        else:
            trace.applied = True
        captured = {
            key: value
            for key, value in messaging.context.items()
            if key not in before or before[key] is not value
        }
        if captured:
            # Captured values belong to one rule, because patterns of two rules may use the same name for a group.
            messaging.context.clear()
            messaging.context.update(before)
        trace.seconds = perf_counter() - started
        return Applied(rule, trace, captured if trace.applied else {})


def _is_for(rule: Rule, kind: ReceivingType) -> bool:
    return rule.type is kind or (isinstance(rule.type, list) and kind in rule.type)
