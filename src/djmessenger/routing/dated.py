"""Rows of the dated rulebook that the rules of a policy use, found without a run of the rules."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import fields
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from djmessenger import rulebook
from djmessenger.channels import INSTAGRAM, MESSENGER
from djmessenger.outgoing.attachments import Sticker
from djmessenger.outgoing.base import Part
from djmessenger.outgoing.data import BUTTONS, QUICK_REPLIES
from djmessenger.outgoing.templates import Template
from djmessenger.replying import MessageReplier
from djmessenger.routing.functions import FunctionHandler, function_name
from djmessenger.routing.policy import Policy

_TAG = "tag."
_INSTAGRAM_ONLY = f".{INSTAGRAM}"

_OF_PARTS: dict[type, str] = {
    **{kind: f"button.{name}" for name, kind in BUTTONS.items()},
    **{kind: f"quick_reply.{name}" for name, kind in QUICK_REPLIES.items()},
}


class Use(NamedTuple):
    """One row of the rulebook that a rule depends on."""

    rule: str
    what: str
    """The message or function of the rule."""
    key: str


def dated_uses(policy: Policy, channel: str = MESSENGER) -> list[Use]:
    """Return the uses of dated rulebook rows by the rules of a policy of a Page of that channel.

    Messages that a rule holds are read completely. The code of a function is searched for messages, classes of messages
    and names of tags. Functions of the same package that it calls are searched too.
    """
    uses: dict[Use, None] = {}
    for rule in policy.rules:
        built = rule.build()
        for item in (*built.handlers, *built.repliers):
            for what, key in _of_item(item):
                if channel == INSTAGRAM or not key.endswith(_INSTAGRAM_ONLY):
                    uses[Use(rule.label, what, key)] = None
    return list(uses)


def _of_item(item: Any) -> Iterator[tuple[str, str]]:
    if isinstance(item, MessageReplier):
        for message in item.messages:
            yield from ((type(message).__name__, key) for key in sorted(dated_keys(message)))
    elif isinstance(item, FunctionHandler):
        yield from _of_functions([item.function])
    elif not type(item).__module__.startswith("djmessenger."):
        methods = (getattr(type(item), name, None) for name in ("get_message", "handle", "reply"))
        yield from _of_functions(method for method in methods if inspect.isfunction(method))


def _of_functions(functions: Iterable[Any]) -> Iterator[tuple[str, str]]:
    waiting = [inspect.unwrap(function) for function in functions]
    seen: set[int] = set()
    while waiting:
        function = waiting.pop()
        if not isinstance(function, FunctionType) or id(function) in seen:
            continue
        seen.add(id(function))
        keys, called = _of_code(function)
        yield from ((function_name(function), key) for key in sorted(keys))
        package = function.__module__.partition(".")[0]
        waiting += [callee for callee in called if callee.__module__.partition(".")[0] == package]


def _of_code(function: FunctionType) -> tuple[set[str], list[FunctionType]]:
    constants, names = set[Any](), set[str]()
    _look_through(function.__code__, constants, names)
    keys: set[str] = set()
    if "tag" in constants:
        keys |= {f"{_TAG}{text}" for text in constants if f"{_TAG}{text}" in rulebook.table}
    called: list[FunctionType] = []
    for name in sorted(names):
        value = function.__globals__.get(name)
        if isinstance(value, Part) or (isinstance(value, type) and issubclass(value, Part)):
            keys |= dated_keys(value)
        elif isinstance(value, FunctionType):
            called.append(value)
    return keys, called


def _look_through(code: CodeType, constants: set[Any], names: set[str]) -> None:
    """Add the texts and global names of a function and of its inner functions to the two sets."""
    names.update(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _look_through(constant, constants, names)
        elif isinstance(constant, str):
            constants.add(constant)
        elif isinstance(constant, tuple):
            # The bytecode keeps the names of keyword arguments as one tuple.
            constants.update(inner for inner in constant if isinstance(inner, str))


def dated_keys(message: Any) -> frozenset[str]:
    """Return the keys of the rulebook rows on which a message or a message class depends.

    Such rows are those of message tags, templates, stickers, and kinds of buttons and quick replies.
    """
    return frozenset(key for key in _keys_of(message) if key in rulebook.table)


def _keys_of(value: Any) -> Iterator[str]:
    kind = value if isinstance(value, type) else type(value)
    if issubclass(kind, Template):
        yield f"template.{kind.template_type}"
    if issubclass(kind, Sticker):
        yield "sticker"
    if kind in _OF_PARTS:
        yield _OF_PARTS[kind]
        yield _OF_PARTS[kind] + _INSTAGRAM_ONLY
    if isinstance(value, Part):
        if tag := getattr(value, "tag", ""):
            yield f"tag.{tag}"
        for field in fields(value):  # type: ignore[arg-type]
            inner = getattr(value, field.name)
            for item in inner if isinstance(inner, tuple) else (inner,):
                if isinstance(item, Part):
                    yield from _keys_of(item)
