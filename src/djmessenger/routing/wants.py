"""Types of event for which the rules of a policy wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from djmessenger.filtering import AllFilter, AnyFilter, BaseFilter, NotFilter, ReferralFilter
from djmessenger.receiving import ReceivingType
from djmessenger.routing.policy import Policy
from djmessenger.routing.rule import Rule

_RULES_ONLY = frozenset({ReceivingType.DEFAULT, ReceivingType.FALLBACK, ReceivingType.ANY})


def wanted_types(policy: Policy) -> frozenset[ReceivingType]:
    """Return the types for which at least one rule waits, as far as types and filters of the rules limit them.

    A rule of type ANY or FALLBACK counts only for the types that its filters name.
    """
    return frozenset(kind for rule in policy.rules for kind in _types_of(rule))


def _types_of(rule: Rule) -> Iterator[ReceivingType]:
    types = frozenset(rule.get_receiving_types())
    filters = rule.build().filters
    passing = [kinds for kinds in (item.types() for item in filters) if kinds is not None]
    for kind in types - _RULES_ONLY:
        if all(kind in kinds for kinds in passing):
            yield kind
    if types & {ReceivingType.FALLBACK, ReceivingType.ANY} and passing:
        yield from (kind for kind in frozenset.intersection(*passing) if kind.authored)
    if not passing and any(isinstance(item, ReferralFilter) for item in _flat(filters)):
        # A referral may come inside a message or a postback too, so the filter names no type.
        yield ReceivingType.REFERRAL


def _flat(filters: Iterable[BaseFilter]) -> Iterator[BaseFilter]:
    for item in filters:
        if isinstance(item, (AllFilter, AnyFilter)):
            yield from _flat(item.operands)
        elif isinstance(item, NotFilter):
            continue
        else:
            yield item
