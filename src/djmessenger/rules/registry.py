"""Registry of the rules that the decorators make, by module, and the policy made of it."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

from djmessenger.filtering import BaseFilter, FunctionFilter
from djmessenger.filtering.events import EventFunction
from djmessenger.receiving import ReceivingType
from djmessenger.routing import InvalidPolicy, Policy, Rule, TargetFilterClass, TargetHandlerClass
from djmessenger.routing.examination import examine_rules
from djmessenger.routing.functions import FACTORY_MARK, FunctionHandler
from djmessenger.routing.problems import Problem, read_policy

Condition = BaseFilter | EventFunction
"""A filter, or a function that takes the event and returns whether it passes."""
Types = ReceivingType | str | Iterable[ReceivingType | str]
F = TypeVar("F", bound=Callable[..., object])

STANDARD_HANDLERS = ("djmessenger.handling.UserProfileHandler", "djmessenger.handling.SaveMessagingHandler")


class Named(Protocol):
    """The part of an app config that is used here."""

    name: str


@dataclasses.dataclass
class _Entry:
    """One registration of a module: a rule (an object or data), the name of an included module, or a mistake."""

    module: str
    position: str
    rule: Any = None
    included: str = ""
    misuse: Problem | None = None


@dataclasses.dataclass
class _Decorator:
    """One call of ``rule``, ``fallback`` or ``default``. A call whose result decorates no function is a mistake."""

    module: str
    line: int
    kind: str
    first: Any
    is_used: bool = False


_entries: list[_Entry] = []
_decorators: list[_Decorator] = []


def rule(
    filter: Condition,  # noqa: A002 - the word of the docs
    *,
    name: str = "",
    types: Types | None = None,
    slow: bool = False,
    typing: bool = False,
    stop: bool = False,
    gather: bool = False,
    timeout: float | None = None,
    tries: int | None = None,
) -> Callable[[F], F]:
    """Register the decorated function as a rule: it runs for each event that the filter passes.

    The function takes the event and, as named parameters, the values that the filter captured. It returns or yields
    texts or messages, or returns None. ``manage.py check`` reports mistakes.

    * ``types``: receiving types of the rule; by default those that the filter can pass.
    * ``slow``: the function runs outside the transaction and may run again after a crash.
    * ``typing``: the person sees that the bot types until a slow function is done.
    * ``stop``: if the rule applies, no rule after it does.
    * ``gather``: a slow rule gets the messages that wait behind the event too, in ``event.context["gathered"]``.
    * ``timeout``: seconds that one try of a slow rule may take.
    * ``tries``: number of tries of a slow rule, instead of ``DJM_TRIES``.
    """
    slow_options = {"gather": gather, "timeout": timeout, "tries": tries}
    return _decorate(
        "rule", filter, name=name, types=types, slow=slow, typing=typing, stop=stop, **slow_options
    )


def fallback(
    filter: Condition | None = None,  # noqa: A002
    *,
    name: str = "",
    slow: bool = False,
    typing: bool = False,
    stop: bool = False,
    gather: bool = False,
    timeout: float | None = None,
    tries: int | None = None,
) -> Callable[[F], F]:
    """Register the decorated function as a rule for authored events to which no other rule applied."""
    slow_options = {"gather": gather, "timeout": timeout, "tries": tries}
    kind = ReceivingType.FALLBACK
    return _decorate(
        "fallback", filter, name=name, types=kind, slow=slow, typing=typing, stop=stop, **slow_options
    )


def default(
    filter: Condition | None = None,  # noqa: A002
    *,
    name: str = "",
    slow: bool = False,
    typing: bool = False,
) -> Callable[[F], F]:
    """Register the decorated function as the DEFAULT rule, which surrounds all others. A policy has at most one.

    The function runs before all rules, after the handlers that fetch the profile and keep the event. If the filter
    refuses the event, no rule applies.
    """
    return _decorate(
        "default", filter, name=name, types=ReceivingType.DEFAULT, slow=slow, typing=typing, stop=False
    )


def include(source: Mapping[str, Any] | str | os.PathLike[str] | ModuleType | Rule) -> None:
    """Add the rules of a policy dict, of a JSON file or of a module to the calling module, in this position.

    A relative path is searched in the folder of the calling module first, then in the working directory.
    """
    frame = sys._getframe(1)
    module, line = frame.f_globals.get("__name__", ""), frame.f_lineno
    position = f"{module}:{line}"
    if isinstance(source, ModuleType):
        _entries.append(_Entry(module, position, included=source.__name__))
        return
    if isinstance(source, Rule):
        _entries.append(_Entry(module, position, rule=source))
        return
    if isinstance(source, (str, os.PathLike)):
        # The folder of the module comes first, because under a web server the working directory is another one.
        beside = Path(frame.f_globals.get("__file__", "")).parent / source
        source = beside if beside.is_file() else source
    try:
        data = read_policy(source, path=True)
    except InvalidPolicy as error:
        for problem in error.problems:
            placed = dataclasses.replace(problem, position=f"{position} {problem.position}")
            _entries.append(_Entry(module, position, misuse=placed))
        return
    rules = data.get("rules") if isinstance(data, Mapping) else None
    if not isinstance(rules, (list, tuple)) or len(data) > 1:
        problem = Problem(
            "",
            position,
            'include() takes a policy: a dict with the key "rules" and a list, and no other key.',
            "E030",
            'Write include({"rules": [...]}).',
        )
        _entries.append(_Entry(module, position, misuse=problem))
        return
    for number, item in enumerate(rules):
        _entries.append(_Entry(module, f"{position} rules[{number}]", rule=item))


def _decorate(
    kind: str,
    condition: Any,
    *,
    name: str,
    types: Types | None,
    slow: bool,
    typing: bool,
    stop: bool,
    **slow_options: Any,
) -> Callable[[F], F]:
    frame = sys._getframe(2)
    decorator = _Decorator(frame.f_globals.get("__name__", ""), frame.f_lineno, kind, condition)
    _decorators.append(decorator)

    def register(function: F) -> F:
        decorator.is_used = True
        module = decorator.module or getattr(function, "__module__", "")
        position = f"{module}.{getattr(function, '__qualname__', repr(function))}"
        label = name or getattr(function, "__name__", "") or position
        entry = _Entry(module, position)
        _entries.append(entry)
        target: Any = function
        if not callable(target) or isinstance(target, type):
            message = f"@{kind}(...) belongs on a function, not on {target!r}."
            entry.misuse = Problem(label, position, message, "E040")
            return function
        try:
            item = as_filter(condition)
        except NotAFilter as error:
            entry.misuse = Problem(label, position, f"{error}", "E042", error.hint)
            return function
        kinds = types
        if kinds is None:
            passes = item.types() if item is not None else None
            kinds = ReceivingType.ANY if passes is None else sorted(passes, key=str)
        handlers = [TargetHandlerClass.wrap(FunctionHandler(function, slow=slow))]
        if kind == "default":
            handlers = [*map(TargetHandlerClass, STANDARD_HANDLERS), *handlers]
        entry.rule = Rule(
            [kinds] if isinstance(kinds, str) else kinds,
            label,
            filters=[] if item is None else [TargetFilterClass.wrap(item)],
            handlers=handlers,
            slow=slow and kind != "default",
            stop=stop,
            typing=typing,
            **slow_options,
        )
        return function

    return register


class NotAFilter(Exception):
    """A condition is not a filter. ``hint`` shows how to write the filter."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def as_filter(condition: Any) -> BaseFilter | None:
    """Return the filter of a condition, None for None. Raises ``NotAFilter`` for other values."""
    if condition is None or isinstance(condition, BaseFilter):
        return condition
    if isinstance(condition, type) and issubclass(condition, BaseFilter):
        raise NotAFilter(f"{condition.__name__} is a class of filters.", f"Write {condition.__name__}().")
    if isinstance(condition, str):
        raise NotAFilter(f"{condition!r} is a text, not a filter.", f"Write text({condition!r}).")
    if isinstance(condition, ReceivingType):
        raise NotAFilter(f"{condition} is a type, not a filter.", f'Write on("{condition}").')
    if getattr(condition, FACTORY_MARK, False):
        raise NotAFilter(
            f"{condition.__name__} is a function that returns a filter, not a filter.",
            f"Write {condition.__name__}().",
        )
    if callable(condition) and not isinstance(condition, type):
        return FunctionFilter(condition)
    raise NotAFilter(
        f"{condition!r} is not a filter.",
        "Write a filter such as text(...), or a function that takes the event.",
    )


def policy_from_modules(modules: Iterable[ModuleType | str]) -> Policy:
    """Build the policy of the rules in these modules, in this order.

    If they declare no DEFAULT rule, one is added that fetches the profile and keeps the event. Raises ``InvalidPolicy``
    with every mistake.
    """
    modules = list(modules)
    return _policy(_of_modules(modules), _unused(map(_module_name, modules)))


def collect(apps: Iterable[Named | str]) -> Policy | None:
    """Build the policy of the ``messenger.py`` of these apps, in this order, or return None if they have no rule.

    Call it after the import of the modules. Raises ``InvalidPolicy`` with every mistake.
    """
    apps = list(apps)
    entries = _of_apps(apps)
    unused = _unused(_messengers(apps))
    return _policy(entries, unused) if entries or unused else None


def problems(apps: Iterable[Named | str]) -> list[Problem] | None:
    """Return every mistake in the ``messenger.py`` of these apps, or None if they have no rule."""
    apps = list(apps)
    entries = _of_apps(apps)
    unused = _unused(_messengers(apps))
    if not entries and not unused:
        return None
    return [*_problems(entries), *unused, *_left_out(apps, entries)]


def overruled(apps: Iterable[Named | str]) -> list[Problem]:
    """Return a warning for each ``messenger.py`` that has no effect because ``DJM_ROUTING_POLICY`` is set."""
    modules = dict.fromkeys(entry.module for entry in _of_apps(apps))
    return [
        Problem(
            "",
            module,
            "DJM_ROUTING_POLICY is set, so these rules are not used.",
            "W032",
            "Remove the setting and include its policy in messenger.py, or remove the rules.",
        )
        for module in modules
    ]


def forget(module: ModuleType | str) -> None:
    """Remove the registrations of a module, before the module is imported again."""
    name = _module_name(module)
    _entries[:] = [entry for entry in _entries if entry.module != name]
    _decorators[:] = [decorator for decorator in _decorators if decorator.module != name]


def _module_name(module: ModuleType | str) -> str:
    return module.__name__ if isinstance(module, ModuleType) else module


def _messengers(apps: Iterable[Named | str]) -> list[str]:
    return [f"{app if isinstance(app, str) else app.name}.messenger" for app in apps]


def _of_apps(apps: Iterable[Named | str]) -> list[_Entry]:
    entries: list[_Entry] = []
    for messenger in _messengers(apps):
        entries += _expand(
            entry
            for entry in _entries
            if entry.module == messenger or entry.module.startswith(f"{messenger}.")
        )
    return entries


def _of_modules(modules: Iterable[ModuleType | str]) -> list[_Entry]:
    names = [_module_name(module) for module in modules]
    return [entry for name in names for entry in _expand(item for item in _entries if item.module == name)]


def _expand(entries: Iterable[_Entry], seen: frozenset[str] = frozenset()) -> Iterator[_Entry]:
    """Yield the entries, with those of an included module in the position of the inclusion."""
    for entry in entries:
        if not entry.included:
            yield entry
        elif entry.included not in seen:
            inner = [item for item in _entries if item.module == entry.included]
            yield from _expand(inner, seen | {entry.included, entry.module})


def _rules(entries: Iterable[_Entry]) -> list[tuple[str, Any]]:
    """Return position and rule of each entry, with a DEFAULT rule in front if none is declared."""
    placed = [(entry.position, entry.rule) for entry in entries if entry.rule is not None]
    if any(_is_default(item) for _, item in placed):
        return placed
    handlers = [TargetHandlerClass(name) for name in STANDARD_HANDLERS]
    return [("rules", Rule(ReceivingType.DEFAULT, "default", handlers=handlers)), *placed]


def _is_default(item: Any) -> bool:
    types = item.get("type") if isinstance(item, Mapping) else getattr(item, "type", None)
    return any(str(kind) == "DEFAULT" for kind in (types if isinstance(types, (list, tuple)) else [types]))


def _problems(entries: Iterable[_Entry]) -> list[Problem]:
    entries = list(entries)
    misuses = [entry.misuse for entry in entries if entry.misuse is not None]
    return [*misuses, *examine_rules(_rules(entries))]


def _policy(entries: Iterable[_Entry], unused: Iterable[Problem]) -> Policy:
    entries = list(entries)
    if errors := [problem for problem in [*_problems(entries), *unused] if problem.is_error]:
        raise InvalidPolicy(errors)
    policy = Policy(
        [item if isinstance(item, Rule) else Rule.deserialize(item) for _, item in _rules(entries)]
    )
    policy.build(is_examined=True)
    return policy


def _unused(modules: Iterable[str]) -> list[Problem]:
    """Return a mistake for each decorator that decorates no function, mostly because its parentheses are missing."""
    names = frozenset(modules)
    mistakes = []
    for decorator in _decorators:
        inside = decorator.module in names or any(decorator.module.startswith(f"{name}.") for name in names)
        if decorator.is_used or not inside:
            continue
        first = decorator.first
        name = getattr(first, "__name__", "") if inspect.isfunction(first) else ""
        message = (
            f"@{decorator.kind} is written without parentheses above {name}."
            if name
            else (f"{decorator.kind}(...) decorates no function.")
        )
        hint = (
            f"Write @{decorator.kind}()."
            if decorator.kind != "rule"
            else "Write @rule(text(...)), for example."
        )
        mistakes.append(Problem(name, f"{decorator.module}:{decorator.line}", message, "E043", hint))
    return mistakes


def _left_out(apps: Iterable[Named | str], entries: Iterable[_Entry]) -> list[Problem]:
    """Return a warning for each module of an app whose rules are in no policy, because nothing includes them."""
    names = {app if isinstance(app, str) else app.name for app in apps}
    included = {id(entry) for entry in entries}
    modules: dict[str, int] = {}
    for entry in _entries:
        if id(entry) in included or entry.included or entry.module.endswith(".messenger"):
            # The messenger.py of an app that is not installed is left out on purpose.
            continue
        if any(entry.module.startswith(f"{name}.") for name in names):
            modules[entry.module] = modules.get(entry.module, 0) + 1
    return [
        Problem(
            "",
            module,
            f"{count} rules of {module} are in no policy.",
            "W032",
            f"Write include({module.rpartition('.')[2]}) in messenger.py.",
        )
        for module, count in modules.items()
    ]
