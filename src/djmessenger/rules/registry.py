"""What the decorators leave behind, by module, and the policy made of it."""

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
from djmessenger.receiving import Messaging, ReceivingType
from djmessenger.routing import (
    FunctionHandler,
    InvalidPolicy,
    Policy,
    Problem,
    Rule,
    TargetFilterClass,
    TargetHandlerClass,
)
from djmessenger.routing.examination import examine_rules
from djmessenger.routing.functions import FACTORY_MARK
from djmessenger.routing.problems import read_policy

Condition = BaseFilter | Callable[[Messaging], object]
"""A filter, or a function that takes the event and says whether it passes."""
Types = ReceivingType | str | Iterable[ReceivingType | str]
F = TypeVar("F", bound=Callable[..., object])

STANDARD_HANDLERS = ("djmessenger.handling.UserProfileHandler", "djmessenger.handling.SaveMessagingHandler")


class Named(Protocol):
    """An app config, as far as it is needed here."""

    name: str


@dataclasses.dataclass
class _Entry:
    """What one line of a module added: a rule (an object or data), other modules' rules, or a mistake."""

    module: str
    position: str
    rule: Any = None
    included: str = ""
    misuse: Problem | None = None


@dataclasses.dataclass
class _Decorator:
    """A call of ``rule`` and its like; a mistake when no function ever came to it."""

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
    """Make the function below a rule: it runs for each event that the filter passes.

    The function takes the event and, by name, what the filter captured. It gives nothing, a text, a message, or
    several of them, also by ``yield``. ``types`` are worked out from the filter where left out. ``slow``: it
    runs outside the transaction and may be repeated after a crash. ``typing``: the person sees the bot typing.
    ``stop``: no rule after it applies. ``gather``: a slow rule gets what the person wrote meanwhile with the next call,
    all of it in ``event.context["gathered"]``. ``timeout`` (seconds of one try) and ``tries`` are a slow rule's own.
    Mistakes are reported by ``manage.py check``.
    """
    own = {"gather": gather, "timeout": timeout, "tries": tries}
    return _decorate("rule", filter, name=name, types=types, slow=slow, typing=typing, stop=stop, **own)


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
    """Make the function below a rule for what a person authored and no other rule applied to."""
    own = {"gather": gather, "timeout": timeout, "tries": tries}
    kind = ReceivingType.FALLBACK
    return _decorate("fallback", filter, name=name, types=kind, slow=slow, typing=typing, stop=stop, **own)


def default(
    filter: Condition | None = None,  # noqa: A002
    *,
    name: str = "",
    slow: bool = False,
    typing: bool = False,
) -> Callable[[F], F]:
    """Make the function below part of the DEFAULT rule, which surrounds all others; there is one.

    It runs before every rule, after the person's profile is known and the event is kept; where the filter says
    no, no rule applies.
    """
    return _decorate(
        "default", filter, name=name, types=ReceivingType.DEFAULT, slow=slow, typing=typing, stop=False
    )


def include(source: Mapping[str, Any] | str | os.PathLike[str] | ModuleType | Rule) -> None:
    """Add rules at this place: a policy as data, or those of a module.

    Data is a dict, or the path of a JSON file; a relative one is looked for beside the module that includes it.
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
        # Beside the module first: the working directory is another one under a server.
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
            "include() takes a policy: a dict with nothing but a list of rules.",
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
    **own: Any,
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
            what = f"@{kind}(...) belongs on a function, not on {target!r}."
            entry.misuse = Problem(label, position, what, "E040")
            return function
        try:
            item = as_filter(condition)
        except NotAFilter as error:
            entry.misuse = Problem(label, position, f"{error}", "E042", error.hint)
            return function
        chosen = types
        if chosen is None:
            passes = item.types() if item is not None else None
            chosen = ReceivingType.ANY if passes is None else sorted(passes, key=str)
        handlers = [TargetHandlerClass.wrap(FunctionHandler(function, slow=slow))]
        if kind == "default":
            handlers = [*map(TargetHandlerClass, STANDARD_HANDLERS), *handlers]
        entry.rule = Rule(
            [chosen] if isinstance(chosen, str) else chosen,
            label,
            filters=[] if item is None else [TargetFilterClass.wrap(item)],
            handlers=handlers,
            slow=slow and kind != "default",
            stop=stop,
            typing=typing,
            **own,
        )
        return function

    return register


class NotAFilter(Exception):
    """Something else stands where a filter should."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def as_filter(condition: Any) -> BaseFilter | None:
    """Give the filter that a condition is; ``NotAFilter`` says what it is instead."""
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
            f"{condition.__name__} makes a filter, but is none itself.", f"Write {condition.__name__}()."
        )
    if callable(condition) and not isinstance(condition, type):
        return FunctionFilter(condition)
    raise NotAFilter(
        f"{condition!r} is no filter.",
        "Write a filter such as text(...), or a function that takes the event.",
    )


def policy_from_modules(modules: Iterable[ModuleType | str]) -> Policy:
    """Make the policy of the rules in these modules, in this order.

    Where they declare no DEFAULT rule, one is added that knows the person and keeps the event.
    Raises ``InvalidPolicy`` with every mistake.
    """
    modules = list(modules)
    return _policy(_of_modules(modules), _unused(map(_module_name, modules)))


def collect(apps: Iterable[Named | str]) -> Policy | None:
    """Make the policy of the ``messenger.py`` of these apps, in this order; None where they hold no rule.

    The modules have to be imported before. Raises ``InvalidPolicy`` with every mistake.
    """
    apps = list(apps)
    entries = _of_apps(apps)
    unused = _unused(_messengers(apps))
    return _policy(entries, unused) if entries or unused else None


def problems(apps: Iterable[Named | str]) -> list[Problem] | None:
    """Give every mistake in the ``messenger.py`` of these apps; None where they hold no rule."""
    apps = list(apps)
    entries = _of_apps(apps)
    unused = _unused(_messengers(apps))
    if not entries and not unused:
        return None
    return [*_problems(entries), *unused, *_left_out(apps, entries)]


def overruled(apps: Iterable[Named | str]) -> list[Problem]:
    """Warn of the rules in the ``messenger.py`` of these apps; for where ``DJM_ROUTING_POLICY`` takes their place."""
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
    """Drop what a module registered, before it is imported anew."""
    name = _module_name(module)
    _entries[:] = [entry for entry in _entries if entry.module != name]
    _decorators[:] = [decorator for decorator in _decorators if decorator.module != name]


def _module_name(module: ModuleType | str) -> str:
    return module.__name__ if isinstance(module, ModuleType) else module


def _messengers(apps: Iterable[Named | str]) -> list[str]:
    return [f"{app if isinstance(app, str) else app.name}.messenger" for app in apps]


def _of_apps(apps: Iterable[Named | str]) -> list[_Entry]:
    found: list[_Entry] = []
    for messenger in _messengers(apps):
        found += _expand(
            entry
            for entry in _entries
            if entry.module == messenger or entry.module.startswith(f"{messenger}.")
        )
    return found


def _of_modules(modules: Iterable[ModuleType | str]) -> list[_Entry]:
    names = [_module_name(module) for module in modules]
    return [found for name in names for found in _expand(item for item in _entries if item.module == name)]


def _expand(entries: Iterable[_Entry], seen: frozenset[str] = frozenset()) -> Iterator[_Entry]:
    """Put the rules of an included module where it is included."""
    for entry in entries:
        if not entry.included:
            yield entry
        elif entry.included not in seen:
            inner = [item for item in _entries if item.module == entry.included]
            yield from _expand(inner, seen | {entry.included, entry.module})


def _rules(entries: Iterable[_Entry]) -> list[tuple[str, Any]]:
    """Give place and rule of each entry, with a DEFAULT rule in front where none is declared."""
    found = [(entry.position, entry.rule) for entry in entries if entry.rule is not None]
    if any(_is_default(item) for _, item in found):
        return found
    handlers = [TargetHandlerClass(name) for name in STANDARD_HANDLERS]
    return [("rules", Rule(ReceivingType.DEFAULT, "default", handlers=handlers)), *found]


def _is_default(item: Any) -> bool:
    given = item.get("type") if isinstance(item, Mapping) else getattr(item, "type", None)
    return any(str(kind) == "DEFAULT" for kind in (given if isinstance(given, (list, tuple)) else [given]))


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
    """Report decorators that no function ever came to, which is what a missing pair of parentheses looks like."""
    names = frozenset(modules)
    found = []
    for decorator in _decorators:
        inside = decorator.module in names or any(decorator.module.startswith(f"{name}.") for name in names)
        if decorator.is_used or not inside:
            continue
        first = decorator.first
        name = getattr(first, "__name__", "") if inspect.isfunction(first) else ""
        what = (
            f"@{decorator.kind} stands without parentheses above {name}."
            if name
            else (f"{decorator.kind}(...) stands above no function.")
        )
        hint = (
            f"Write @{decorator.kind}()."
            if decorator.kind != "rule"
            else "Write @rule(text(...)), for example."
        )
        found.append(Problem(name, f"{decorator.module}:{decorator.line}", what, "E043", hint))
    return found


def _left_out(apps: Iterable[Named | str], taken: Iterable[_Entry]) -> list[Problem]:
    """Warn of rules beside the ``messenger.py`` of an app, which no policy holds."""
    names = {app if isinstance(app, str) else app.name for app in apps}
    known = {id(entry) for entry in taken}
    modules: dict[str, int] = {}
    for entry in _entries:
        if id(entry) in known or entry.included or entry.module.endswith(".messenger"):
            # The messenger.py of an app that is not installed is no oversight.
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
