"""Examination of a policy, as data or as objects, for every mistake in it."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import regex

from djmessenger import models
from djmessenger.exceptions import DJMInvalidConfigException, HasEnded, LimitExceeded
from djmessenger.filtering import (
    AllFilter,
    AnyFilter,
    BaseFilter,
    FunctionFilter,
    NotFilter,
    SimpleTextRegexFilter,
    TappedFilter,
)
from djmessenger.receiving import Messaging, ReceivingType, Recipient, Sender
from djmessenger.replying import CommonReplier
from djmessenger.replying.sending import use_language_of
from djmessenger.routing.functions import (
    FunctionHandler,
    filter_problems,
    returns_something,
    signature_problems,
)
from djmessenger.routing.problems import Problem
from djmessenger.routing.rule import Rule
from djmessenger.routing.targets import (
    OPERATORS,
    TargetClass,
    TargetFilterClass,
    TargetFilterGroup,
    TargetHandlerClass,
    TargetReplierClass,
)
from djmessenger.utils.serializable import Serializable

MAX_NESTING = 20
"""Levels to which ``all``, ``any`` and ``not`` may be nested."""


def examine(policy: Any) -> list[Problem]:
    """Return every mistake in a policy that is data. Never raises."""
    return list(_examine(policy))


def _examine(policy: Any) -> Iterator[Problem]:
    rules = policy.get("rules") if isinstance(policy, Mapping) else None
    if isinstance(policy, Mapping):
        yield from _unknown_keys("", "policy", policy, ("rules",))
    if not isinstance(rules, (list, tuple)):
        yield Problem(
            "",
            "policy",
            f"A policy is a dict with a list of rules, not {_kind(policy)}.",
            "E030",
            'Write {"rules": [...]}.',
        )
        return
    yield from examine_rules(numbered(rules))


def numbered(rules: Iterable[Any]) -> list[tuple[str, Any]]:
    """Return each rule with its position in a policy, such as ``rules[3]``."""
    return [(f"rules[{number}]", rule) for number, rule in enumerate(rules)]


def examine_rules(rules: Iterable[tuple[str, Any]]) -> Iterator[Problem]:
    """Yield every mistake in these pairs of position and rule. Never raises."""
    first_default = ""
    for position, rule in rules:
        examination = _RuleExamination(position, rule)
        yield from examination.run()
        if ReceivingType.DEFAULT in examination.types:
            if first_default:
                yield Problem(
                    examination.name,
                    position,
                    f"This is a second DEFAULT rule; {first_default} is the first.",
                    "E034",
                    "Move its filters, handlers and repliers to the first, or change its type.",
                )
            first_default = first_default or position


class _RuleExamination:
    """The examination of one rule, as data or as an object."""

    def __init__(self, position: str, rule: Any) -> None:
        self.position = position
        self.rule = rule
        self.name = ""
        self.types: tuple[ReceivingType, ...] = ()

    def run(self) -> Iterator[Problem]:
        rule = self.rule
        if isinstance(rule, Rule):
            values: Mapping[str, Any] = {key: value for key, value in vars(rule).items() if key[:1] != "_"}
        elif isinstance(rule, Mapping):
            values = rule
        else:
            yield self.problem("E031", f"A rule is a dict, not {_kind(rule)}.")
            return
        name = values.get("name", "")
        types = values.get("type")
        self.name = name if isinstance(name, str) and name else str(types)[:80]
        keys = ("type", "name", "filters", "handlers", "repliers", *Rule.FLAGS, *Rule.NUMBERS)
        yield from _unknown_keys(self.name, self.position, values, keys)
        if not isinstance(name, str):
            yield self.problem("E031", f"The name of a rule is a text, not {_kind(name)}.", ".name")
        for flag in Rule.FLAGS:
            if not isinstance(values.get(flag, False), bool):
                yield self.problem(
                    "E031", f'"{flag}" is true or false, not {_kind(values[flag])}.', f".{flag}"
                )
        for number in Rule.NUMBERS:
            value = values.get(number)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0
            ):
                yield self.problem("E031", f'"{number}" is a number above zero, not {value!r}.', f".{number}")
        yield from self.check_types(types)
        yield from self.check_stages(values)

    def problem(self, id_: str, message: str, place: str = "", hint: str = "") -> Problem:
        return Problem(self.name, f"{self.position}{place}", message, id_, hint)

    def check_types(self, types: Any) -> Iterator[Problem]:
        listed = list(types) if isinstance(types, (list, tuple)) else [types]
        if types is None or not listed:
            yield self.problem(
                "E033", "The rule has no type.", ".type", 'Write "type": "SIMPLE_TEXT", for example.'
            )
            return
        members: list[ReceivingType] = []
        for item in listed:
            member = item if isinstance(item, ReceivingType) else None
            if isinstance(item, str):
                with contextlib.suppress(KeyError):
                    member = ReceivingType.value_of(item)
            if member is None:
                yield self.problem(
                    "E033",
                    f"There is no receiving type {_shown(item)}.",
                    ".type",
                    _did_you_mean(item, ReceivingType.get_members()) or "The documentation lists them.",
                )
            else:
                members.append(member)
        self.types = tuple(members)

    def check_stages(self, values: Mapping[str, Any]) -> Iterator[Problem]:
        filters: list[Any] = []
        does_something = False
        runs: list[tuple[str, Any]] = []
        for stage, wrapper in _WRAPPERS.items():
            entries = values.get(stage)
            if entries is None:
                continue
            if not isinstance(entries, (list, tuple)):
                yield self.problem("E031", f'"{stage}" is a list, not {_kind(entries)}.', f".{stage}")
                continue
            does_something = does_something or (stage != "filters" and bool(entries))
            for number, entry in enumerate(entries):
                place = f".{stage}[{number}]"
                instance, problems = self.entry(stage, wrapper, entry, place)
                yield from problems
                if instance is None:
                    continue
                if stage == "filters":
                    filters.append(instance)
                else:
                    runs.append((place, instance))
        if not does_something:
            yield self.problem(
                "W030",
                "The rule has neither handlers nor repliers, so it does nothing.",
                hint="If its filters pass, the FALLBACK rules still do not apply.",
            )
        try:
            yield from [
                *self.check_functions(filters, runs),
                *self.check_receipts(runs),
                *self.check_reach(filters),
            ]
        except Exception as error:  # noqa: BLE001 - a filter of the project may raise anything
            yield self.problem(
                "E037", f"A filter raises an exception when it is examined: {type(error).__name__}: {error}."
            )

    def entry(
        self, stage: str, wrapper: type[TargetClass], entry: Any, place: str, depth: int = 0
    ) -> tuple[Any, list[Problem]]:
        """Return the instance that an entry describes, or None, and the mistakes in the entry."""
        if isinstance(entry, TargetFilterGroup) and entry.wrapped is None:
            return self.group(wrapper, entry.name, entry.operands, place, depth)
        if isinstance(entry, TargetClass):
            target = entry
        elif isinstance(entry, Mapping):
            operators = [key for key in OPERATORS if key in entry]
            if stage == "filters" and "name" not in entry and operators:
                problems = list(_unknown_keys(self.name, f"{self.position}{place}", entry, (operators[0],)))
                instance, more = self.group(wrapper, operators[0], entry[operators[0]], place, depth)
                return instance, problems + more
            problems = list(_unknown_keys(self.name, f"{self.position}{place}", entry, ("name", "args")))
            name, args = entry.get("name"), entry.get("args")
            if not isinstance(name, str):
                return None, [
                    *problems,
                    self.problem(
                        "E031",
                        "The entry has no name of a class."
                        if name is None
                        else f"The name is {_kind(name)}, not a text.",
                        place,
                        'Write {"name": "djmessenger....", "args": {...}}.',
                    ),
                ]
            if not (args is None or isinstance(args, Mapping)):
                return None, [
                    *problems,
                    self.problem("E031", f'"args" is a dict, not {_kind(args)}.', place),
                ]
            target = wrapper(name, args)
            instance, more = self.target(target, place)
            return instance, problems + more
        elif wrapper.BASE_CLASS is not None and isinstance(entry, (wrapper.BASE_CLASS, FunctionHandler)):
            return entry, []
        else:
            return None, [
                self.problem(
                    "E031",
                    f"An entry is a dict with the name of a class, not {_kind(entry)}.",
                    place,
                    'Write {"name": "djmessenger....", "args": {...}}.',
                )
            ]
        return self.target(target, place)

    def group(
        self, wrapper: type[TargetClass], name: str, operands: Any, place: str, depth: int
    ) -> tuple[Any, list[Problem]]:
        if depth >= MAX_NESTING:
            return None, [self.problem("E031", f"Filters are nested more than {MAX_NESTING} deep.", place)]
        listed = list(operands) if isinstance(operands, (list, tuple)) else [operands]
        if not listed:
            return None, [
                self.problem(
                    "E031",
                    f'"{name}" contains no filter.',
                    place,
                    "List at least one filter, or remove the entry.",
                )
            ]
        problems: list[Problem] = []
        instances: list[Any] = []
        for number, operand in enumerate(listed):
            inner = f"{place}.{name}[{number}]"
            instance, more = self.entry("filters", wrapper, operand, inner, depth + 1)
            problems += more
            instances.append(instance)
        if any(instance is None for instance in instances):
            return None, problems
        return OPERATORS[name](instances), problems

    def target(self, target: TargetClass, place: str) -> tuple[Any, list[Problem]]:
        """Load the class or function that a wrapper names, and return its instance with the mistakes."""
        if target.wrapped is not None:
            return target.wrapped, []
        try:
            named = target.load()
        except DJMInvalidConfigException as error:
            return None, [self.problem("E036", f"{error}.", place)]
        except Exception as error:  # noqa: BLE001 - importing a module of the project may raise anything
            return None, [
                self.problem(
                    "E035",
                    f"{target.name!r} cannot be loaded: {type(error).__name__}: {error}.",
                    place,
                    _similar_name(target.name),
                )
            ]
        problems = list(self.check_arguments(named, target.args, place))
        if problems:
            return None, problems
        try:
            instance = target.get_instance()
            _rehearse(instance)
        except HasEnded:
            # A feature that Meta ended makes the policy no less valid; the rulebook check warns of it.
            return target.get_instance(), []
        except LimitExceeded as error:
            return None, [self.problem("E039", f"{target.name}: {error}.", place)]
        except Exception as error:  # noqa: BLE001 - a constructor of the project may raise anything
            is_pattern = issubclass(target.get_class(), SimpleTextRegexFilter)
            id_ = "E038" if is_pattern and "regex" in target.args else "E037"
            return None, [
                self.problem(
                    id_,
                    f"{target.name} does not accept its arguments: {type(error).__name__}: {error}.",
                    place,
                )
            ]
        return instance, []

    def check_arguments(self, named: Any, args: Mapping[str, Any], place: str) -> Iterator[Problem]:
        """Yield the arguments that the constructor does not take, and those that it needs and are missing."""
        if not isinstance(named, type):
            return
        if inspect.isabstract(named):
            missing = ", ".join(sorted(getattr(named, "__abstractmethods__", ())))
            yield self.problem(
                "E036",
                f"{_dotted(named)} is abstract: {missing} is missing.",
                place,
                "Use the name of a subclass.",
            )
            return
        try:
            parameters = inspect.signature(named).parameters
        except (TypeError, ValueError):
            return
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return
        keys = {
            (named.json_key(name) if issubclass(named, Serializable) else name): parameter
            for name, parameter in parameters.items()
            if parameter.kind is not parameter.VAR_POSITIONAL or issubclass(named, Serializable)
        }
        for key in args:
            if key in keys or (
                issubclass(named, Serializable) and (key in named.custom_obj_map or hasattr(named, str(key)))
            ):
                continue
            yield self.problem(
                "E037",
                f"{_dotted(named)} takes no argument {_shown(key)}.",
                place,
                _did_you_mean(key, keys)
                or (f"It takes {', '.join(keys)}." if keys else "It takes no arguments."),
            )
        for key, parameter in keys.items():
            if parameter.kind is parameter.VAR_POSITIONAL or parameter.default is not parameter.empty:
                continue
            if key not in args:
                yield self.problem("E037", f"{_dotted(named)} needs the argument {key!r}.", place)

    def check_functions(self, filters: Sequence[Any], runs: Sequence[tuple[str, Any]]) -> Iterator[Problem]:
        """Yield the functions that cannot be called as a filter, handler or replier."""
        captured = frozenset[str]().union(*map(_captures, filters))
        # A filter made of a function, or another handler, may put anything into the context.
        is_open = len(runs) > 1 or any(
            isinstance(leaf, FunctionFilter) for item in filters for leaf in _leaves(item)
        )
        for number, item in enumerate(filters):
            for leaf in _leaves(item):
                if mistake := getattr(leaf, "mistake", ""):
                    id_ = "E038" if leaf.describe().startswith("pattern(") else "E037"
                    yield self.problem(id_, f"{leaf.describe()}: {mistake}.", f".filters[{number}]")
                elif isinstance(leaf, FunctionFilter):
                    for id_, message, hint in filter_problems(leaf.function):
                        yield self.problem(id_, message, f".filters[{number}]", hint)
        for place, instance in runs:
            if isinstance(instance, FunctionHandler):
                for id_, message, hint in signature_problems(instance.function, captured, is_open=is_open):
                    yield self.problem(id_, message, place, hint)

    def check_receipts(self, runs: Sequence[tuple[str, Any]]) -> Iterator[Problem]:
        """Yield a warning for each part that answers an echo or a receipt."""
        if not _RECEIPTS.intersection(self.types):
            return
        for place, instance in runs:
            is_function = isinstance(instance, FunctionHandler)
            if returns_something(instance.function) if is_function else place.startswith(".repliers"):
                yield self.problem(
                    "W033",
                    "The rule answers an echo or a receipt. Each answer causes the next one.",
                    place,
                    "Answer an event that the person authored. DJM_MAX_UNASKED ends the repetition.",
                )

    def check_reach(self, filters: Sequence[Any]) -> Iterator[Problem]:
        """Yield a warning for each filter that never passes, or passes none of the rule's types."""
        for number, item in enumerate(filters):
            if any(isinstance(leaf, SimpleTextRegexFilter) and leaf.regex is None for leaf in _leaves(item)):
                yield self.problem(
                    "W031",
                    f"The filter {item.describe()} has no regular expression, so it never passes.",
                    f".filters[{number}]",
                    'Give it one: {"regex": "..."}.',
                )
        surrounding = {ReceivingType.DEFAULT, ReceivingType.FALLBACK, ReceivingType.ANY}
        if not self.types or surrounding.intersection(self.types):
            return
        for number, item in enumerate(filters):
            passes = item.types()
            if passes is not None and not passes.intersection(self.types):
                yield self.problem(
                    "W031",
                    f"The filter {item.describe()} passes none of the rule's types, so the rule never applies.",
                    f".filters[{number}]",
                    f"It passes {', '.join(sorted(str(kind) for kind in passes)) or 'nothing'}.",
                )


_RECEIPTS = frozenset({ReceivingType.ECHO, ReceivingType.DELIVERED, ReceivingType.READ})
"""Types of the events that each message of the bot causes."""
_WRAPPERS: Mapping[str, type[TargetClass]] = {
    "filters": TargetFilterClass,
    "handlers": TargetHandlerClass,
    "repliers": TargetReplierClass,
}


def _rehearse(instance: Any) -> None:
    """Build the message of a replier once, for an empty event, so that a limit of Meta shows at the check.

    Only methods of djmessenger are called, because with an empty event they read no database.
    """
    if not isinstance(instance, CommonReplier):
        return
    if not type(instance).get_message.__module__.startswith("djmessenger."):
        return
    event = Messaging(Sender(""), Recipient(""))
    with use_language_of(models.FBUserProfile(psid=event.get_psid())):
        instance.get_message(event)


def _leaves(item: BaseFilter) -> Iterator[BaseFilter]:
    """Yield the filters of which a combined filter consists."""
    if isinstance(item, (AllFilter, AnyFilter)):
        for operand in item.operands:
            yield from _leaves(operand)
    elif isinstance(item, NotFilter):
        yield from _leaves(item.negated)
    else:
        yield item


def _captures(item: BaseFilter) -> frozenset[str]:
    """Return the names that are in the context whenever the filter passes."""
    if isinstance(item, AllFilter):
        return frozenset[str]().union(*map(_captures, item.operands))
    if isinstance(item, AnyFilter):
        return frozenset.intersection(*map(_captures, item.operands))
    if isinstance(item, SimpleTextRegexFilter) and item.regex is not None:
        with contextlib.suppress(regex.error):
            return frozenset(["match", "groups", *regex.compile(item.regex).groupindex])
    if isinstance(item, TappedFilter) and not any(isinstance(payload, str) for payload in item.payloads):
        return frozenset(["payload"] if item.payloads else [])
    return frozenset()


def _unknown_keys(
    rule: str, position: str, data: Mapping[Any, Any], known: Iterable[str]
) -> Iterator[Problem]:
    known = tuple(known)
    for key in data:
        if key not in known:
            yield Problem(
                rule,
                position,
                f"There is no key {_shown(key)} here.",
                "E032",
                _did_you_mean(key, known) or f"The keys are {', '.join(known)}.",
            )


def _similar_name(dotted: str) -> str:
    """Return a hint for a dotted name that is wrong, from the classes that are loaded."""
    paths = {
        cls.__name__: f"{'.'.join(cls.__module__.split('.')[:2])}.{cls.__name__}"
        for wrapper in _WRAPPERS.values()
        for cls in _subclasses(wrapper.BASE_CLASS)
        if cls.__module__.startswith("djmessenger.") and not cls.__name__.startswith("_")
    }
    matches = difflib.get_close_matches(dotted.rpartition(".")[2][:120], paths, n=1, cutoff=0.7)
    if matches:
        return f"Did you mean {paths[matches[0]]}?"
    return "Write the full dotted name, such as djmessenger.filtering.ThumbUpFilter."


def _subclasses(base: type[Any]) -> Iterator[type[Any]]:
    for subclass in base.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _did_you_mean(text: Any, names: Iterable[str]) -> str:
    matches = difflib.get_close_matches(str(text)[:120], list(names), n=1)
    return f"Did you mean {matches[0]}?" if matches else ""


def _dotted(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


_REPR = reprlib.Repr()
_REPR.maxstring = 60


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {_shown(value)}"


def _shown(value: Any) -> str:
    return _REPR.repr(value)
