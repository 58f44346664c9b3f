"""The stored outcome of an event as a tree: each rule with its filters and steps, and the reason of each refusal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

_DEEPEST = 12
_MOST = 300


@dataclass
class Node:
    """One line of the tree: a rule, a filter of it, or a step that ran."""

    mark: str
    """``yes``, ``no``, ``ran`` or ``error``: classes of the style sheet."""
    text: str
    note: str = ""
    children: list[Node] = field(default_factory=list)

    @property
    def sign(self) -> str:
        return {"yes": "✓", "no": "✗", "ran": "→", "error": "!"}[self.mark]


@dataclass
class Tree:
    """The content of the template ``outcome.html``."""

    summary: str = ""
    nodes: list[Node] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    suggestion: str = ""


def in_short(outcome: object) -> str:
    """Return an outcome in a few words: the rules that applied, or the reason why no rule did."""
    data = _mapping(outcome)
    if not data:
        return ""
    if data.get("refused"):
        default = _mapping(data.get("default"))
        return _("refused by %(rule)s") % {"rule": default.get("name", "DEFAULT")}
    applied = [str(name) for name in _list(data.get("applied"))]
    if not applied:
        return _("no rule handled it") if data.get("unhandled") else _("no rule applied")
    short = ", ".join(applied[:3]) + (", …" if applied[3:] else "")
    count = data.get("messages")
    if isinstance(count, int) and count:
        short += ngettext(" (%d message)", " (%d messages)", count) % count
    return short


def as_tree(outcome: object) -> Tree:
    """Return the tree of a stored outcome. JSON of an unexpected shape makes a shorter tree and no error."""
    data = _mapping(outcome)
    if not data:
        return Tree(summary=_("The policy was not applied to this event."))
    tree = Tree(summary=str(data.get("summary", "")), suggestion=str(data.get("suggestion", "")))
    rules = [rule for rule in (data.get("default"), *_list(data.get("rules"))) if isinstance(rule, Mapping)]
    tree.nodes = [_rule(rule) for rule in rules[:_MOST]]
    if isinstance(skipped := data.get("skipped"), int) and skipped:
        tree.notes.append(
            ngettext(
                "%d more rule of this type was not checked: it needs another text or payload.",
                "%d more rules of this type were not checked: they need another text or payload.",
                skipped,
            )
            % skipped
        )
    if stopped_by := data.get("stopped_by"):
        tree.notes.append(_("Rule %s has stop set, so the rules after it were not checked.") % stopped_by)
    if data.get("fell_back"):
        tree.notes.append(_("No other rule applied, so the FALLBACK rules were checked."))
    tree.notes += [str(error) for error in _list(data.get("errors"))]
    return tree


def _rule(rule: Mapping[str, Any]) -> Node:
    error = str(rule.get("error", ""))
    mark = "error" if error else "yes" if rule.get("applied") else "no"
    refusal = rule.get("refusal")
    note = error or (_("%s refused it") % refusal if refusal else "")
    children = [_filter(item) for item in _mappings(rule.get("filters"))]
    children += [_step(item) for item in _mappings(rule.get("steps"))]
    return Node(mark, str(rule.get("name", "?")), note or _milliseconds(rule), children)


def _filter(verdict: Mapping[str, Any], depth: int = 0) -> Node:
    error = str(verdict.get("error", ""))
    mark = "yes" if verdict.get("passed") else "error" if error else "no"
    inner = _mappings(verdict.get("children")) if depth < _DEEPEST else []
    return Node(mark, str(verdict.get("name", "?")), error, [_filter(item, depth + 1) for item in inner])


def _step(step: Mapping[str, Any]) -> Node:
    error = str(step.get("error", ""))
    made = step.get("messages")
    note = ngettext("%d message", "%d messages", made) % made if isinstance(made, int) and made else ""
    text = f"{step.get('kind', '')} {step.get('name', '?')}".strip()
    return Node(
        "error" if error else "ran", text, error or ", ".join(filter(None, (note, _milliseconds(step))))
    )


def _milliseconds(data: Mapping[str, Any]) -> str:
    seconds = data.get("seconds")
    return f"{seconds * 1000:.1f} ms" if isinstance(seconds, (int, float)) and seconds else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Iterable[Any]:
    return value if isinstance(value, list) else []


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [item for item in list(_list(value))[:_MOST] if isinstance(item, Mapping)]
