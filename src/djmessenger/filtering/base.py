"""The parent of filters, the combined filters, and the verdict of a filter about an event."""

from __future__ import annotations

import abc
import functools
import logging
import operator
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from djmessenger.filtering.events import EventFunction
from djmessenger.filtering.patterns import MAX_LENGTH
from djmessenger.project_code import as_exception
from djmessenger.receiving import Messaging, ReceivingType
from djmessenger.utils.serializable import Serializable

logger = logging.getLogger("djmessenger.filtering")

GET_STARTED: Final = "GET_STARTED"
"""Payload by which rules name the get-started button, whatever payload the button really has."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a filter for one event, with those of its operands. Operands that were not checked are absent."""

    passed: bool
    name: str
    children: tuple[Verdict, ...] = ()
    error: str = ""

    @property
    def culprit(self) -> Verdict:
        """The innermost verdict that alone decided: of ``A & B`` the operand that refused, of ``A | B`` the whole."""
        same = [child for child in self.children if child.passed == self.passed]
        return same[0].culprit if len(same) == 1 else self

    def json(self) -> dict[str, Any]:
        """Return the JSON-ready dict, without empty values."""
        result: dict[str, Any] = {"name": self.name, "passed": self.passed}
        if self.children:
            result["children"] = [child.json() for child in self.children]
        if self.error:
            result["error"] = self.error
        return result


class BaseFilter(Serializable, abc.ABC):
    """Parent of filters. A subclass implements ``should_pass``.

    Filters combine with ``&``, ``|`` and ``~``, also with plain functions. All threads share an instance, so it must
    not keep anything about one event.
    """

    strict: ClassVar[bool] = True

    @abc.abstractmethod
    def should_pass(self, messaging: Messaging) -> bool:
        """Return whether the event passes."""

    def check(self, messaging: Messaging) -> Verdict:
        """Return the verdict of ``should_pass``. Never raises: an exception is logged and counts as a refusal."""
        try:
            return Verdict(bool(self.should_pass(messaging)), self._name())
        except BaseException as error:  # noqa: BLE001 - an exception of an author's filter is logged and refuses the event
            return self._failed(as_exception(error))

    def _failed(self, error: Exception) -> Verdict:
        name = self._name()
        logger.error(
            "Filter %s failed; the event does not pass",
            name,
            exc_info=error,
            extra={"action": "filter_failed", "filter": name},
        )
        return Verdict(False, name, error=f"{type(error).__name__}: {error}")

    def _name(self) -> str:
        """Return the readable name. It is computed once, because every verdict contains it."""
        name: str | None = self.__dict__.get("_described")
        if name is None:
            name = self.__dict__["_described"] = self.describe()
        return name

    def describe(self) -> str:
        """Return a readable name: the filter as an author types it."""
        try:
            arguments = ", ".join(f"{key}={value!r}" for key, value in self.json().items())
        except TypeError:
            arguments = "..."
        return f"{type(self).__name__}({arguments})"

    def types(self) -> frozenset[ReceivingType] | None:
        """Return the types that the filter can pass, or None for any. An event of another type never passes."""
        return None

    def literals(self) -> frozenset[str] | None:
        """Return the texts and payloads, folded by ``literal_key``, of which the filter needs one; None if unknown.

        An event without any of them never passes. An event with one of them may still be refused.
        """
        return None

    def __and__(self, other: BaseFilter | EventFunction) -> BaseFilter:
        return AllFilter(self, other) if _is_operand(other) else NotImplemented

    def __rand__(self, other: EventFunction) -> BaseFilter:
        return AllFilter(other, self) if _is_operand(other) else NotImplemented

    def __or__(self, other: BaseFilter | EventFunction) -> BaseFilter:
        return AnyFilter(self, other) if _is_operand(other) else NotImplemented

    def __ror__(self, other: EventFunction) -> BaseFilter:
        return AnyFilter(other, self) if _is_operand(other) else NotImplemented

    def __invert__(self) -> BaseFilter:
        return NotFilter(self)

    def __str__(self) -> str:
        return self.describe()


class FunctionFilter(BaseFilter):
    """A plain function as a filter. The event passes if the function, called with the event, returns a true value.

    If the function returns a dict, its items are added to the event's ``context``.
    """

    def __init__(self, function: EventFunction) -> None:
        if not callable(function):
            raise TypeError(f"a filter is made of a function, not of {type(function).__name__}")
        self.function: Callable[..., object] = function

    def should_pass(self, messaging: Messaging) -> bool:
        result = self.function(messaging)
        if isinstance(result, Mapping):
            messaging.context.update(result)
        return bool(result)

    def describe(self) -> str:
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def json_unordered(self) -> dict[str, Any]:
        module = getattr(self.function, "__module__", "")
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return {"function": f"{module}.{name}" if module else name}


class _Combined(BaseFilter):
    """Parent of combined filters."""

    KEY: ClassVar[str]
    """Key of the combination in a policy."""
    SIGN: ClassVar[str]
    operands: tuple[BaseFilter, ...]

    def __init__(self, *filters: BaseFilter | EventFunction) -> None:
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
    """A filter that passes if all its operands pass. It checks them in order, up to the first that refuses."""

    KEY = "all"
    SIGN = "&"

    def check(self, messaging: Messaging) -> Verdict:
        before = dict(messaging.context)
        verdicts: list[Verdict] = []
        for item in self.operands:
            verdicts.append(item.check(messaging))
            if not verdicts[-1].passed:
                _restore(messaging, before)
                return Verdict(False, self._name(), tuple(verdicts), verdicts[-1].error)
        return Verdict(True, self._name(), tuple(verdicts))

    def types(self) -> frozenset[ReceivingType] | None:
        sets = [kinds for kinds in (item.types() for item in self.operands) if kinds is not None]
        return functools.reduce(operator.and_, sets) if sets else None

    def literals(self) -> frozenset[str] | None:
        sets = [texts for texts in (item.literals() for item in self.operands) if texts is not None]
        return min(sets, key=len, default=None)


class AnyFilter(_Combined):
    """A filter that passes if one of its operands passes. It checks them in order, up to the first that passes."""

    KEY = "any"
    SIGN = "|"

    def check(self, messaging: Messaging) -> Verdict:
        verdicts: list[Verdict] = []
        for item in self.operands:
            verdicts.append(item.check(messaging))
            if verdicts[-1].passed:
                return Verdict(True, self._name(), tuple(verdicts))
        error = next((verdict.error for verdict in verdicts if verdict.error), "")
        return Verdict(False, self._name(), tuple(verdicts), error)

    def types(self) -> frozenset[ReceivingType] | None:
        return _union(item.types() for item in self.operands)

    def literals(self) -> frozenset[str] | None:
        return _union(item.literals() for item in self.operands)


class NotFilter(BaseFilter):
    """A filter that passes if its operand refuses. If the operand fails with an exception, it does not pass either."""

    def __init__(self, negated: BaseFilter | EventFunction) -> None:
        self.negated = as_filter(negated)

    def should_pass(self, messaging: Messaging) -> bool:
        return self.check(messaging).passed

    def check(self, messaging: Messaging) -> Verdict:
        before = dict(messaging.context)
        verdict = self.negated.check(messaging)
        # If the pattern matches, the negation refuses, so its captured values must not stay in the context.
        _restore(messaging, before)
        return Verdict(not verdict.passed and not verdict.error, self._name(), (verdict,), verdict.error)

    def describe(self) -> str:
        name = self.negated.describe()
        combined = isinstance(self.negated, _Combined) and len(self.negated.operands) > 1
        return f"~({name})" if combined else f"~{name}"

    def __invert__(self) -> BaseFilter:
        return NotFilter(self)

    def json_unordered(self) -> dict[str, Any]:
        return {"not": _entry(self.negated)}


def as_filter(value: BaseFilter | EventFunction) -> BaseFilter:
    """Return the filter itself, or a filter that calls the function. Raises ``TypeError`` for other values."""
    if isinstance(value, BaseFilter):
        return value
    if _is_filter(value):
        return FunctionFilter(value)
    if isinstance(value, str):
        raise TypeError(f"{value!r} is a text, not a filter; write text({value!r})")
    raise TypeError(f"{value!r} is neither a filter nor a function that takes the event")


_LOOKS_ALIKE = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u02bc\u2032\u00b4"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u2033"), '"'),
    **dict.fromkeys(map(ord, "\ufe0e\ufe0f\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad"), None),
}


def literal_key(text: str) -> str:
    """Return a text folded for a comparison as a person makes it.

    Case, width, outer and repeated spaces, the shape of quotation marks, and characters without a width are folded.
    The keyboard of an iPhone types curly quotation marks, and keyboards of emoji add U+FE0F.

    A text of more than ``MAX_LENGTH`` characters is returned unchanged, so that it equals only the same text. Meta
    sends no such text or payload.
    """
    if len(text) > MAX_LENGTH:
        return text
    if text.isascii():
        return " ".join(text.casefold().split())
    return _folded(text)


# Rules that the index does not spare fold the same text one after another.
@functools.lru_cache(maxsize=16)
def _folded(text: str) -> str:
    text = text.translate(_LOOKS_ALIKE)
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    # A pattern that ignores case treats all four spellings of i (i, I, dotted I, dotless i) as one letter.
    return " ".join(folded.replace("i\u0307", "i").replace("\u0131", "i").split())


def literal_keys(messaging: Messaging) -> frozenset[str]:
    """Return the folded text and payload of an event. A filter whose ``literals()`` has none of them does not pass."""
    keys = {literal_key(text) for text in (messaging.text, messaging.payload) if text}
    if messaging.type is ReceivingType.GET_STARTED_BUTTON:
        keys.add(literal_key(GET_STARTED))
    return frozenset(keys)


def _is_filter(value: object) -> bool:
    return isinstance(value, BaseFilter) or (callable(value) and not isinstance(value, type))


def _is_operand(value: object) -> bool:
    # A text counts as an operand, because as_filter refuses it with a better message than Python's.
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


def _union(sets_or_none: Iterable[frozenset[Any] | None]) -> frozenset[Any] | None:
    sets = list(sets_or_none)
    if any(item is None for item in sets):
        return None
    return frozenset().union(*(item for item in sets if item is not None))
