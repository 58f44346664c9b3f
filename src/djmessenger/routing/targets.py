"""Entries of a policy: the dotted name of a class (or a function) and its arguments."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.filtering import AllFilter, AnyFilter, BaseFilter, FunctionFilter, NotFilter
from djmessenger.handling import BaseHandler
from djmessenger.replying import CommonReplier
from djmessenger.routing.functions import FunctionHandler, FunctionReplier, function_name
from djmessenger.utils.serializable import Serializable, to_json
from djmessenger.utils.utils import load_class


class TargetClass(Serializable):
    """One entry of a policy: a dotted name and the arguments of its instance.

    The name is configuration of the project, so any name is imported. It may be the name of a function. As
    a filter the function returns whether the event passes; as a handler or replier it returns messages to queue.
    """

    BASE_CLASS: ClassVar[Any] = None
    """Required parent of the named class; set by subclasses."""
    FUNCTION_CLASS: ClassVar[Any] = None
    """Class that wraps a plain function; set by subclasses."""

    name: str
    args: dict[str, Any]

    def __init__(self, name: str, args: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.args = {} if args is None else dict(args)
        self._wrapped: Any = None

    @classmethod
    def wrap(cls, instance: Any, name: str = "") -> Self:
        """Return an entry for an instance that exists already."""
        target = cls(name or _name_of(instance))
        target._wrapped = instance
        return target

    @property
    def wrapped(self) -> Any:
        """The instance that ``wrap`` got, otherwise None."""
        return self._wrapped

    def get_args(self) -> dict[str, Any]:
        """Return the arguments, read from the instance at each call if the entry wraps one."""
        # A wrapped instance is not read earlier, because a translatable text gets its language later.
        return self.args if self._wrapped is None else _arguments_of(self._wrapped)

    def load(self) -> Any:
        """Import and return the named subclass of ``BASE_CLASS``, or the named function.

        Raises ``ImportError``, ``AttributeError`` or ``ValueError`` if the name does not exist, and
        ``DJMInvalidConfigException`` if it is neither.
        """
        named: Any = load_class(self.name)
        if isinstance(named, type):
            if self.BASE_CLASS is not None and not issubclass(named, self.BASE_CLASS):
                raise DJMInvalidConfigException(
                    f"{self.name} is no subclass of {_dotted(self.BASE_CLASS)}{_family(named)}"
                )
            return named
        if callable(named) and self.FUNCTION_CLASS is not None:
            return named
        raise DJMInvalidConfigException(
            f"{self.name} is {type(named).__name__}, neither a class nor a function"
        )

    def get_class(self) -> Any:
        """Return the class of the instance; for a function, the class that wraps it."""
        if self._wrapped is not None:
            return type(self._wrapped)
        named = self.load()
        return named if isinstance(named, type) else self.FUNCTION_CLASS

    def get_instance(self) -> Any:
        """Return the wrapped instance, otherwise a new instance of the named class."""
        if self._wrapped is not None:
            return self._wrapped
        named = self.load()
        if not isinstance(named, type):
            if self.args:
                raise DJMInvalidConfigException(f"{self.name} is a function, which takes no args")
            return self.FUNCTION_CLASS(named)
        if issubclass(named, Serializable):
            return named.deserialize(self.args)
        return named(**self.args)

    def json_unordered(self) -> dict[str, Any]:
        """Return the JSON-ready dict, without ``args`` if there are no arguments."""
        result = {**super().json_unordered(), "args": to_json(self.get_args())}
        return {key: value for key, value in result.items() if value or key != "args"}


class TargetFilterClass(TargetClass):
    """Wrapper for a filter named in a policy."""

    BASE_CLASS: ClassVar[Any] = BaseFilter
    FUNCTION_CLASS: ClassVar[Any] = FunctionFilter

    @classmethod
    def wrap(cls, instance: Any, name: str = "") -> Any:
        """Return an entry for a filter; for a combined filter, a group of entries."""
        if isinstance(instance, (AllFilter, AnyFilter)):
            group = TargetFilterGroup(instance.KEY, [cls.wrap(operand) for operand in instance.operands])
        elif isinstance(instance, NotFilter):
            group = TargetFilterGroup("not", [cls.wrap(instance.negated)])
        else:
            return super().wrap(instance, name)
        group._wrapped = instance
        return group

    @classmethod
    def deserialize(cls, json_data: Any) -> Any:
        """Return the entry, or a group of entries if the data has the key ``all``, ``any`` or ``not``."""
        if isinstance(json_data, Mapping) and "name" not in json_data:
            for key in OPERATORS:
                if key in json_data:
                    return TargetFilterGroup.of(key, json_data[key])
        return super().deserialize(json_data)


OPERATORS: Mapping[str, Callable[[Sequence[BaseFilter]], BaseFilter]] = {
    "all": lambda filters: functools.reduce(operator.and_, filters),
    "any": lambda filters: functools.reduce(operator.or_, filters),
    "not": lambda filters: ~functools.reduce(operator.and_, filters),
}


class TargetFilterGroup(TargetFilterClass):
    """``{"all": [...]}``, ``{"any": [...]}`` or ``{"not": {...}}`` in place of a filter."""

    def __init__(self, name: str, operands: Sequence[TargetFilterClass]) -> None:
        super().__init__(name)
        self.operands = list(operands)

    @classmethod
    def of(cls, name: str, operands: Any) -> TargetFilterGroup:
        listed = operands if isinstance(operands, (list, tuple)) else [operands]
        return cls(name, [TargetFilterClass.deserialize(operand) for operand in listed])

    def get_class(self) -> Any:
        return type(self.get_instance())

    def get_instance(self) -> Any:
        if self._wrapped is not None:
            return self._wrapped
        if not self.operands:
            raise DJMInvalidConfigException(f'"{self.name}" contains no filter')
        return OPERATORS[self.name]([operand.get_instance() for operand in self.operands])

    def json_unordered(self) -> dict[str, Any]:
        operands = [operand.json() for operand in self.operands]
        return {self.name: operands[0] if self.name == "not" and len(operands) == 1 else operands}


class TargetHandlerClass(TargetClass):
    """Wrapper for a handler named in a policy."""

    BASE_CLASS: ClassVar[Any] = BaseHandler
    FUNCTION_CLASS: ClassVar[Any] = FunctionHandler


class TargetReplierClass(TargetClass):
    """Wrapper for a replier named in a policy."""

    BASE_CLASS: ClassVar[Any] = CommonReplier
    FUNCTION_CLASS: ClassVar[Any] = FunctionReplier


def _dotted(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _family(cls: type) -> str:
    """Return the part of a message that names the right stage for a class, or an empty text."""
    for base, stage in ((BaseFilter, "filters"), (BaseHandler, "handlers"), (CommonReplier, "repliers")):
        if issubclass(cls, base):
            return f'; it belongs under "{stage}"'
    return ""


def _name_of(instance: Any) -> str:
    if isinstance(instance, (FunctionHandler, FunctionFilter)):
        return function_name(instance.function)
    if inspect.isroutine(instance):
        return function_name(instance)
    return _dotted(type(instance))


def _arguments_of(instance: Any) -> dict[str, Any]:
    if isinstance(instance, Serializable) and not isinstance(instance, FunctionFilter):
        try:
            return instance.json()
        except TypeError:
            return {}
    return {}
