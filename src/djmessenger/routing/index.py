"""Rules by the literal texts and payloads they need, so that most of a long policy is never asked."""

from __future__ import annotations

from collections.abc import Sequence

from djmessenger.filtering import literal_keys
from djmessenger.receiving import Messaging
from djmessenger.routing.rule import Rule


class RuleIndex:
    """The rules of one receiving type, in the order written."""

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
        """Give the rules that may apply, in order; the others need another text or payload."""
        if not self._by_literal:
            return self._always
        hits = {position for key in literal_keys(messaging) for position in self._by_literal.get(key, ())}
        if not hits:
            return self._always
        return tuple(self.rules[position] for position in sorted(hits | self._always_positions))
