"""What was said and why, in lines that a person reads in a failing test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from messenger_emulator.state import Bubble


@dataclass(frozen=True)
class LastOutcome:
    """What the policy did with an event: the rules that applied, and why the others did not."""

    type: str
    state: str
    """``done``, ``failed``, ``ignored``, ..."""
    data: Mapping[str, Any] = field(repr=False)
    """The outcome as it is stored."""

    @property
    def applied(self) -> list[str]:
        """Names of the rules that applied, DEFAULT aside."""
        return list(self.data.get("applied", ()))

    @property
    def unhandled(self) -> bool:
        """Whether a person wrote it and no rule was for it."""
        return bool(self.data.get("unhandled"))

    @property
    def suggestion(self) -> str:
        """A rule to paste for an event that nothing handled."""
        return str(self.data.get("suggestion", ""))

    def __str__(self) -> str:
        return explained(self.data) if self.data else f"  {self.type} is {self.state}; no rule was asked"


def explained(outcome: Mapping[str, Any]) -> str:
    """Tell an outcome rule by rule, with the filter that said no."""
    lines = [f"  {outcome.get('summary', '')}"]
    for trace in filter(None, [outcome.get("default"), *outcome.get("rules", ())]):
        verdict = "applied" if trace["applied"] else f"no: {trace.get('refusal') or 'not reached'}"
        lines.append(f"  {trace['position']:>3} {trace['name']:<28} {verdict}")
        for verdict_of_filter in () if trace["applied"] else trace.get("filters", ()):
            lines += _verdicts(verdict_of_filter, 8)
        lines += [
            f"        {step['kind']} {step['name']}: {step['error']}"
            for step in trace.get("steps", ())
            if step.get("error")
        ]
    if outcome.get("skipped"):
        lines.append(f"      {outcome['skipped']} more rules need another text or payload")
    if outcome.get("unhandled"):
        lines.append("      nothing handled it")
    return "\n".join(lines)


def _verdicts(verdict: Mapping[str, Any], indent: int) -> Iterator[str]:
    error = f" ({verdict['error']})" if verdict.get("error") else ""
    yield f"{' ' * indent}{'yes' if verdict['passed'] else 'no '} {verdict['name']}{error}"
    for child in verdict.get("children", ()):
        yield from _verdicts(child, indent + 2)


def line_of(bubble: Bubble) -> str:
    """Give a message as one line: its text, and in brackets what can be tapped."""
    message = bubble.message
    words = bubble.text or ""
    if not words or bubble.kind not in {"text", "template", "postback"}:
        about = message.get("url") or _url_in(message)
        words = (
            " ".join(filter(None, [f"({bubble.template or bubble.kind}", about])) + ")" + f" {words}".rstrip()
        )
    if bubble.kind == "postback":
        words = f"(taps {bubble.text})"
    if bubble.by_page:
        words += "".join(f" {{{card_line(card)}}}" for card in bubble.elements)
        words += "".join(f" [{title}]" for title in titles(bubble.buttons))
        words += "".join(f" [{title}]" for title in quick_reply_titles(bubble))
    return words


def card_line(card: Mapping[str, Any]) -> str:
    """Give a card as one line."""
    buttons = "".join(f" [{title}]" for title in titles(card.get("buttons") or ()))
    return f"{card.get('title') or card.get('media_type') or '...'}{buttons}"


def titles(buttons: Iterable[Mapping[str, Any]]) -> list[str]:
    """Give the titles on buttons; the type of those that bear none."""
    return [str(button.get("title") or button.get("type") or "") for button in buttons]


def quick_reply_titles(bubble: Bubble) -> list[str]:
    """Give the titles of quick replies; the kind of those that ask for a number or an address."""
    return [str(reply.get("title") or reply.get("content_type")) for reply in bubble.quick_replies]


def _url_in(message: Mapping[str, Any]) -> str:
    parts = [message.get("attachment") or {}, *(message.get("attachments") or ())]
    return next((str(part["payload"]["url"]) for part in parts if (part.get("payload") or {}).get("url")), "")


def transcript(person: str, page: str, thread: Iterable[Bubble], rules: Mapping[str, str]) -> str:
    """Give a conversation, each line of the Page with the rule that made it; ``rules`` by message id."""
    width = max(len(person), len(page))
    lines = []
    for bubble in thread:
        who = page if bubble.by_page else person
        rule = f"   < {rules[bubble.mid]}" if rules.get(bubble.mid) else ""
        lines.append(f"  {who:<{width}}  {line_of(bubble)}{rule}")
    return "\n".join(lines) or "  (nobody said anything)"
