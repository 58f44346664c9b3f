"""Plain functions as handlers and repliers: called with the event and what its filters captured."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from djmessenger.handling import BaseHandler
from djmessenger.receiving import Messaging

Function = Callable[..., Any]


def function_name(function: Function) -> str:
    """Give the dotted name by which a policy can name the function."""
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{module}.{name}" if module else name


class Call:
    """How a function wants to be called; worked out once.

    The first parameter takes the event. Each further one takes the value of its name in the event's context,
    where the named groups of patterns are; one without a value there keeps its default.
    """

    def __init__(self, function: Function) -> None:
        self.function = function
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            parameters = []
        taken = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        self.takes_event = bool(parameters) and parameters[0].kind in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        )
        self.unfillable = [
            parameter.name
            for parameter in parameters[1:]
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and parameter.default is parameter.empty
        ]
        named = [parameter for parameter in parameters[1:] if parameter.kind in taken]
        self.names = tuple(parameter.name for parameter in named)
        self.required = frozenset(
            parameter.name for parameter in named if parameter.default is parameter.empty
        )

    def __call__(self, messaging: Messaging) -> Any:
        context: Mapping[str, Any] = messaging.context
        return self.function(messaging, **{name: context[name] for name in self.names if name in context})


class FunctionHandler(BaseHandler):
    """A handler made of a function; what the function gives is queued as the answer."""

    def __init__(self, function: Function, *, slow: bool = False) -> None:
        self.call = Call(function)
        self.slow = slow  # type: ignore[misc]

    @property
    def function(self) -> Function:
        return self.call.function

    def handle(self, messaging: Messaging) -> Any:
        return self.call(messaging)

    def __repr__(self) -> str:
        return f"<FunctionHandler {function_name(self.function)}>"


class FunctionReplier(FunctionHandler):
    """The same among the repliers of a rule: it runs after the handlers."""


FACTORY_MARK = "_djm_makes_a_filter"
"""Attribute of functions that make a filter, and are easily mistaken for one."""


def signature_problems(
    function: Function, captured: frozenset[str], *, is_open: bool = False
) -> Iterator[tuple[str, str, str]]:
    """Give id, message and hint for each way in which a rule function cannot be called.

    ``is_open``: names beyond the captured ones may be in the context.
    """
    name = function_name(function)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        yield (
            "E041",
            f"{name} is an async function; rules are plain functions.",
            "Leave out async; for work that waits for others use slow=True.",
        )
        return
    call = Call(function)
    if not call.takes_event:
        yield (
            "E040",
            f"{name} takes no event.",
            f"Write def {getattr(function, '__name__', 'answer')}(event):",
        )
        return
    missing = sorted(call.required - captured)
    if call.unfillable or (missing and not is_open):
        wanted = ", ".join([*call.unfillable, *missing])
        yield (
            "E040",
            f"{name} asks for {wanted}, which no filter of its rule captures.",
            'Name a group of the pattern so, as in pattern(r"(?P<size>\\d+)"), or give the parameter a default.',
        )


def filter_problems(function: Function) -> Iterator[tuple[str, str, str]]:
    """Give id, message and hint for each way in which a function is no filter."""
    name = function_name(function)
    if getattr(function, FACTORY_MARK, False):
        short = getattr(function, "__name__", name)
        yield "E042", f"{short} makes a filter, but is none itself.", f"Write {short}()."
    elif inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        yield "E041", f"{name} is an async function; filters are plain functions.", "Leave out async."
    else:
        with contextlib.suppress(TypeError, ValueError):
            signature = inspect.signature(function)
            try:
                signature.bind(None)
            except TypeError:
                yield (
                    "E040",
                    f"{name}{signature} cannot be called with the event alone.",
                    "A filter is a function of one parameter, the event.",
                )
