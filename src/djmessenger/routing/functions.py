"""Plain functions as handlers and repliers, called with the event and the values that its filters captured."""

from __future__ import annotations

import ast
import contextlib
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from djmessenger.handling import BaseHandler
from djmessenger.receiving import Messaging

Function = Callable[..., Any]


def function_name(function: Function) -> str:
    """Return the dotted name by which a policy can name the function."""
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{module}.{name}" if module else name


class Call:
    """The signature of a function, read once, and the call that fits it.

    The first parameter takes the event. Each further parameter takes the value of its name in the event's context, for
    example a named group of a pattern. A parameter whose name is not in the context keeps its default.
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
    """A handler made of a function. The value that the function returns is queued as the reply."""

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


def returns_something(function: Function) -> bool:
    """Return whether a function has a ``return`` with a value, or a ``yield``. False if its source cannot be read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, ValueError, SyntaxError, RecursionError):
        return False
    # The first node is the function itself. Functions inside of it return to themselves.
    waiting: list[ast.AST] = list(ast.iter_child_nodes(tree.body[0]))
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return True
        if isinstance(node, ast.Return) and not (
            node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None)
        ):
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            waiting += ast.iter_child_nodes(node)
    return False


class FunctionReplier(FunctionHandler):
    """A replier made of a function. It runs after the handlers of its rule."""


FACTORY_MARK = "_djm_makes_a_filter"
"""Attribute of the functions that return a filter. It detects a function that was named without its parentheses."""


def signature_problems(
    function: Function, captured: frozenset[str], *, is_open: bool = False
) -> Iterator[tuple[str, str, str]]:
    """Yield id, message and hint of each reason why a rule function cannot be called.

    ``captured`` are the names that the filters put into the context. With ``is_open`` the context may hold more names.
    """
    name = function_name(function)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        yield (
            "E041",
            f"{name} is an async function; rules are plain functions.",
            "Remove async. If the function waits for another service, use slow=True.",
        )
        return
    call = Call(function)
    if not call.takes_event:
        yield (
            "E040",
            f"{name} has no parameter for the event.",
            f"Write def {getattr(function, '__name__', 'answer')}(event):",
        )
        return
    uncaptured = sorted(call.required - captured)
    if call.unfillable or (uncaptured and not is_open):
        parameters = ", ".join([*call.unfillable, *uncaptured])
        yield (
            "E040",
            f"{name} has the parameters {parameters}, which no filter of its rule captures.",
            'Give a group of the pattern that name, as in pattern(r"(?P<size>\\d+)"), or give the parameter a default.',
        )


def filter_problems(function: Function) -> Iterator[tuple[str, str, str]]:
    """Yield id, message and hint of each reason why a function cannot be used as a filter."""
    name = function_name(function)
    if getattr(function, FACTORY_MARK, False):
        short = getattr(function, "__name__", name)
        yield "E042", f"{short} is a function that returns a filter, not a filter.", f"Write {short}()."
    elif inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        yield "E041", f"{name} is an async function; filters are plain functions.", "Remove async."
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
