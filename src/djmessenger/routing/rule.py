"""The rule: filters, handlers and repliers for one or more receiving types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.receiving import ReceivingType
from djmessenger.routing.targets import TargetFilterClass, TargetHandlerClass, TargetReplierClass
from djmessenger.utils.serializable import Serializable


class Built(NamedTuple):
    """The filters, handlers and repliers of a rule, made once and shared by all threads."""

    filters: tuple[Any, ...]
    handlers: tuple[Any, ...]
    repliers: tuple[Any, ...]
    literals: frozenset[str] | None


class Rule(Serializable):
    """Filters, handlers and repliers for the events of one or more types.

    * ``stop``: if this rule applies, no rule after it does.
    * ``slow``: its handlers run before the transaction of the event opens, and may run again after a crash.
    * ``typing``: the typing indicator is sent before the slow handlers run.
    * ``gather``: a slow rule gets the messages that wait behind the event too, in ``context["gathered"]``.
    * ``timeout``: seconds that one try of a slow rule may take; no limit if None.
    * ``tries``: number of tries of a slow rule; ``DJM_TRIES`` if None.
    """

    custom_obj_map: ClassVar[Mapping[str, Any]] = {
        "repliers": [TargetReplierClass, list],
        "handlers": [TargetHandlerClass, list],
        "filters": [TargetFilterClass, list],
    }
    ordering: ClassVar[Iterable[str]] = ("type", "name", "filters", "handlers", "repliers")
    FLAGS: ClassVar[tuple[str, ...]] = ("stop", "slow", "typing", "gather")
    NUMBERS: ClassVar[tuple[str, ...]] = ("timeout", "tries")

    def __init__(
        self,
        ttype: Any,
        name: str = "",
        filters: Sequence[Any] | None = None,
        handlers: Sequence[Any] | None = None,
        repliers: Sequence[Any] | None = None,
        *,
        stop: bool = False,
        slow: bool = False,
        typing: bool = False,
        gather: bool = False,
        timeout: float | None = None,
        tries: int | None = None,
    ) -> None:
        self.type = _as_types(ttype)
        self.name = name
        self.filters = [] if filters is None else filters
        self.handlers = [] if handlers is None else handlers
        self.repliers = [] if repliers is None else repliers
        self.stop = stop
        self.slow = slow
        self.typing = typing
        self.gather = gather
        self.timeout = timeout
        self.tries = tries
        self._built: Built | None = None

    def get_receiving_type(self) -> ReceivingType:
        """Return the receiving type of the rule, the first if it has several.

        Raises ``DJMInvalidConfigException`` if there is no such type.
        """
        return self.get_receiving_types()[0]

    def get_receiving_types(self) -> tuple[ReceivingType, ...]:
        """Return all receiving types of the rule. Raises ``DJMInvalidConfigException`` if one does not exist."""
        types = self.type if isinstance(self.type, list) else [self.type]
        for item in types:
            if not isinstance(item, ReceivingType):
                raise DJMInvalidConfigException(f"rule {self.name!r}: there is no receiving type {item!r}")
        if not types:
            raise DJMInvalidConfigException(f"rule {self.name!r} has no receiving type")
        return tuple(types)

    def get_filter_wrappers(self) -> list[TargetFilterClass]:
        """Return the wrappers of the filters."""
        return [_wrapped(TargetFilterClass, item) for item in self.filters]

    def get_handler_wrappers(self) -> list[TargetHandlerClass]:
        """Return the wrappers of the handlers."""
        return [_wrapped(TargetHandlerClass, item) for item in self.handlers]

    def get_replier_wrappers(self) -> list[TargetReplierClass]:
        """Return the wrappers of the repliers."""
        return [_wrapped(TargetReplierClass, item) for item in self.repliers]

    def get_filter_instances(self) -> list[Any]:
        """Return the filters, the same instances at each call."""
        return list(self.build().filters)

    def get_handler_instances(self) -> list[Any]:
        """Return the handlers, the same instances at each call."""
        return list(self.build().handlers)

    def get_replier_instances(self) -> list[Any]:
        """Return the repliers, the same instances at each call."""
        return list(self.build().repliers)

    def build(self) -> Built:
        """Return the filters, handlers and repliers. The first call makes them."""
        if self._built is None:
            filters = tuple(wrapper.get_instance() for wrapper in self.get_filter_wrappers())
            self._built = Built(
                filters,
                tuple(wrapper.get_instance() for wrapper in self.get_handler_wrappers()),
                tuple(wrapper.get_instance() for wrapper in self.get_replier_wrappers()),
                _literals(filters),
            )
        return self._built

    def json_unordered(self) -> dict[str, Any]:
        """Return the JSON-ready dict, without flags and numbers that are not set."""
        result = super().json_unordered()
        for flag in (*self.FLAGS, *self.NUMBERS):
            if not result.get(flag):
                result.pop(flag, None)
        return result

    @property
    def label(self) -> str:
        """The name of the rule; if it has no name, its types followed by "rule"."""
        return self.name or f"{self.type_text} rule"

    @property
    def type_text(self) -> str:
        types = self.type if isinstance(self.type, list) else [self.type]
        return "/".join(str(item) for item in types)


def _as_types(names: Any) -> Any:
    """Return the receiving types of their names. An unknown name stays a text, so that ``examine`` reports it."""
    if isinstance(names, (list, tuple, set, frozenset)):
        types = [_as_type(item) for item in names]
        return types[0] if len(types) == 1 else types
    return _as_type(names)


def _as_type(name: Any) -> Any:
    if isinstance(name, str):
        try:
            return ReceivingType.value_of(name)
        except KeyError:
            return name
    return name


def _wrapped(wrapper: Any, item: Any) -> Any:
    if isinstance(item, wrapper):
        return item
    if isinstance(item, Mapping):
        return wrapper.deserialize(item)
    return wrapper.wrap(item)


def _literals(filters: Iterable[Any]) -> frozenset[str] | None:
    """Return the smallest set of texts and payloads of which the rule needs one, None if no filter has one."""
    sets = [literals for literals in (item.literals() for item in filters) if literals is not None]
    return min(sets, key=len, default=None)
