"""What a filter is, how filters combine, and the verdict that says why one said no."""

from __future__ import annotations

import abc
import functools
import logging
import operator
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from djmessenger.receiving import Messaging, ReceivingType
from djmessenger.utils.serializable import Serializable

logger = logging.getLogger("djmessenger.filtering")

GET_STARTED: Final = "GET_STARTED"
"""What a rule calls the get-started button, whatever payload it carries."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a filter said about one messaging, operand by operand; operands that were not asked are absent."""

    passed: bool
    name: str
    children: tuple[Verdict, ...] = ()
    error: str = ""

    @property
    def culprit(self) -> Verdict:
        """The operand that decided, as deep as one can be named: of ``A & (B | ~C)`` the one that said no."""
        same = [child for child in self.children if child.passed == self.passed]
        return same[0].culprit if len(same) == 1 else self

    def json(self) -> dict[str, Any]:
        """Give the JSON-ready dict; what is empty is left out."""
        result: dict[str, Any] = {"name": self.name, "passed": self.passed}
        if self.children:
            result["children"] = [child.json() for child in self.children]
        if self.error:
            result["error"] = self.error
        return result


class BaseFilter(Serializable, abc.ABC):
    """Parent of filters; a subclass says in ``should_pass`` whether a messaging goes on.

    Filters combine with ``&``, ``|`` and ``~``, among themselves and with plain functions. They are shared by
    all threads and hold nothing of one messaging.
    """

    strict: ClassVar[bool] = True

    @abc.abstractmethod
    def should_pass(self, messaging: Messaging) -> bool:
        """Tell whether the messaging goes on."""

    def check(self, messaging: Messaging) -> Verdict:
        """Ask the filter and give its verdict; never raises, an exception is a logged no."""
        try:
            return Verdict(bool(self.should_pass(messaging)), self._name())
        except Exception as error:  # noqa: BLE001 - whatever an author's filter raises is a no, and logged
            return self._failed(error)

    def _failed(self, error: Exception) -> Verdict:
        name = self._name()
        logger.error(
            "Filter %s failed", name, exc_info=error, extra={"action": "filter_failed", "filter": name}
        )
        return Verdict(False, name, error=f"{type(error).__name__}: {error}")

    def _name(self) -> str:
        """Give the readable name, worked out once: every verdict bears it."""
        found: str | None = self.__dict__.get("_described")
        if found is None:
            found = self.__dict__["_described"] = self.describe()
        return found

    def describe(self) -> str:
        """Give a readable name, as an author would type the filter."""
        try:
            arguments = ", ".join(f"{key}={value!r}" for key, value in self.json().items())
        except TypeError:
            arguments = "..."
        return f"{type(self).__name__}({arguments})"

    def types(self) -> frozenset[ReceivingType] | None:
        """Give the types that it can pass, None for any: what it passes is always among them."""
        return None

    def literals(self) -> frozenset[str] | None:
        """Give texts and payloads (as ``literal_key`` folds them) one of which it needs, None where that is not known.

        A messaging without any of them never passes; one with them may still be refused.
        """
        return None

    def __and__(self, other: BaseFilter | Callable[[Messaging], Any]) -> BaseFilter:
        return AllFilter(self, other) if _is_operand(other) else NotImplemented

    def __rand__(self, other: Callable[[Messaging], Any]) -> BaseFilter:
        return AllFilter(other, self) if _is_operand(other) else NotImplemented

    def __or__(self, other: BaseFilter | Callable[[Messaging], Any]) -> BaseFilter:
        return AnyFilter(self, other) if _is_operand(other) else NotImplemented

    def __ror__(self, other: Callable[[Messaging], Any]) -> BaseFilter:
        return AnyFilter(other, self) if _is_operand(other) else NotImplemented

    def __invert__(self) -> BaseFilter:
        return NotFilter(self)

    def __str__(self) -> str:
        return self.describe()


class FunctionFilter(BaseFilter):
    """A plain function as a filter: called with the messaging, passes when the answer is true.

    A dict as the answer joins the messaging's ``context``.
    """

    def __init__(self, function: Callable[[Messaging], Any]) -> None:
        if not callable(function):
            raise TypeError(f"a filter is made of a function, not of {type(function).__name__}")
        self.function = function

    def should_pass(self, messaging: Messaging) -> bool:
        found = self.function(messaging)
        if isinstance(found, Mapping):
            messaging.context.update(found)
        return bool(found)

    def describe(self) -> str:
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def json_unordered(self) -> dict[str, Any]:
        module = getattr(self.function, "__module__", "")
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return {"function": f"{module}.{name}" if module else name}


class _Combined(BaseFilter):
    """Parent of what filters combine to."""

    KEY: ClassVar[str]
    """As a policy spells it."""
    SIGN: ClassVar[str]
    operands: tuple[BaseFilter, ...]

    def __init__(self, *filters: BaseFilter | Callable[[Messaging], Any]) -> None:
        if not filters:
            raise ValueError(f"{type(self).__name__} needs at least one filter")
        operands: list[BaseFilter] = []
        for item in map(as_filter, filters):
            operands.extend(
                item.operands if isinstance(item, _Combined) and type(item) is type(self) else [item]
            )
        self.operands = tuple(operands)

    def should_pass(self, messaging: Messaging) -> bool:
        return self.check(messaging).passed

    def describe(self) -> str:
        return f" {self.SIGN} ".join(
            f"({item})" if isinstance(item, _Combined) and len(item.operands) > 1 else str(item)
            for item in self.operands
        )

    def json_unordered(self) -> dict[str, Any]:
        return {self.KEY: [_entry(item) for item in self.operands]}


class AllFilter(_Combined):
    """Passes what all its filters pass; asks them in order up to the first no."""

    KEY = "all"
    SIGN = "&"

    def check(self, messaging: Messaging) -> Verdict:
        before = dict(messaging.context)
        asked: list[Verdict] = []
        for item in self.operands:
            asked.append(item.check(messaging))
            if not asked[-1].passed:
                _restore(messaging, before)
                return Verdict(False, self._name(), tuple(asked), asked[-1].error)
        return Verdict(True, self._name(), tuple(asked))

    def types(self) -> frozenset[ReceivingType] | None:
        known = [found for found in (item.types() for item in self.operands) if found is not None]
        return functools.reduce(operator.and_, known) if known else None

    def literals(self) -> frozenset[str] | None:
        known = [found for found in (item.literals() for item in self.operands) if found is not None]
        return min(known, key=len, default=None)


class AnyFilter(_Combined):
    """Passes what one of its filters passes; asks them in order up to the first yes."""

    KEY = "any"
    SIGN = "|"

    def check(self, messaging: Messaging) -> Verdict:
        asked: list[Verdict] = []
        for item in self.operands:
            asked.append(item.check(messaging))
            if asked[-1].passed:
                return Verdict(True, self._name(), tuple(asked))
        error = next((verdict.error for verdict in asked if verdict.error), "")
        return Verdict(False, self._name(), tuple(asked), error)

    def types(self) -> frozenset[ReceivingType] | None:
        return _union(item.types() for item in self.operands)

    def literals(self) -> frozenset[str] | None:
        return _union(item.literals() for item in self.operands)


class NotFilter(BaseFilter):
    """Passes what its filter refuses; a filter that fails passes neither way."""

    def __init__(self, negated: BaseFilter | Callable[[Messaging], Any]) -> None:
        self.negated = as_filter(negated)

    def should_pass(self, messaging: Messaging) -> bool:
        return self.check(messaging).passed

    def check(self, messaging: Messaging) -> Verdict:
        before = dict(messaging.context)
        asked = self.negated.check(messaging)
        # What a refused pattern captured is of no use to anybody.
        _restore(messaging, before)
        return Verdict(not asked.passed and not asked.error, self._name(), (asked,), asked.error)

    def describe(self) -> str:
        name = self.negated.describe()
        combined = isinstance(self.negated, _Combined) and len(self.negated.operands) > 1
        return f"~({name})" if combined else f"~{name}"

    def __invert__(self) -> BaseFilter:
        return NotFilter(self)

    def json_unordered(self) -> dict[str, Any]:
        return {"not": _entry(self.negated)}


def as_filter(value: BaseFilter | Callable[[Messaging], Any]) -> BaseFilter:
    """Give the filter itself, or the filter that a plain function makes; ``TypeError`` for anything else."""
    if isinstance(value, BaseFilter):
        return value
    if _is_filter(value):
        return FunctionFilter(value)
    if isinstance(value, str):
        raise TypeError(f"{value!r} is a text, not a filter; write text({value!r})")
    raise TypeError(f"{value!r} is neither a filter nor a function that takes the event")


def literal_key(text: str) -> str:
    """Fold a text so that what a person would call the same text is the same: case, width, outer and double spaces."""
    if text.isascii():
        return " ".join(text.casefold().split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    # All four spellings of i are one letter to a pattern that ignores case.
    return " ".join(folded.replace("i\u0307", "i").replace("\u0131", "i").split())


def literal_keys(messaging: Messaging) -> frozenset[str]:
    """Give what ``literals()`` of a filter is compared with: a filter that needs none of these does not pass."""
    keys = {literal_key(found) for found in (messaging.text, messaging.payload) if found}
    if messaging.type is ReceivingType.GET_STARTED_BUTTON:
        keys.add(literal_key(GET_STARTED))
    return frozenset(keys)


def _is_filter(value: object) -> bool:
    return isinstance(value, BaseFilter) or (callable(value) and not isinstance(value, type))


def _is_operand(value: object) -> bool:
    # A text is taken for one, so that it is refused with a better sentence than Python's.
    return _is_filter(value) or isinstance(value, str)


def _entry(item: BaseFilter) -> dict[str, Any]:
    if isinstance(item, (_Combined, NotFilter)):
        return item.json()
    if isinstance(item, FunctionFilter):
        return {"name": item.json()["function"]}
    cls = type(item)
    arguments = item.json()
    return {"name": f"{cls.__module__}.{cls.__qualname__}", **({"args": arguments} if arguments else {})}


def _restore(messaging: Messaging, before: dict[str, Any]) -> None:
    if messaging.context != before:
        messaging.context.clear()
        messaging.context.update(before)


def _union(found: Iterable[frozenset[Any] | None]) -> frozenset[Any] | None:
    sets = list(found)
    if any(item is None for item in sets):
        return None
    return frozenset().union(*(item for item in sets if item is not None))
