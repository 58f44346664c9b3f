"""Transcript and outcome as text for the message of a failing test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from messenger_emulator.state import Bubble


@dataclass(frozen=True)
class LastOutcome:
    """Outcome of one event: the rules that applied, and the reason of each refusal."""

    type: str
    state: str
    """``done``, ``failed``, ``ignored``, ..."""
    data: Mapping[str, Any] = field(repr=False)
    """Outcome as stored."""

    @property
    def applied(self) -> list[str]:
        """Names of the rules that applied, without ``DEFAULT``."""
        return list(self.data.get("applied", ()))

    @property
    def unhandled(self) -> bool:
        """Return whether a person wrote the event and no rule applied."""
        return bool(self.data.get("unhandled"))

    @property
    def suggestion(self) -> str:
        """Source of a rule that would match an unhandled event."""
        return str(self.data.get("suggestion", ""))

    def __str__(self) -> str:
        return explained(self.data) if self.data else f"  {self.type} is {self.state}; no rule was evaluated"


def explained(outcome: Mapping[str, Any]) -> str:
    """Return an outcome as text, rule by rule, with the filter that refused."""
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
        noun = "rule needs" if outcome["skipped"] == 1 else "rules need"
        lines.append(f"      {outcome['skipped']} more {noun} another text or payload")
    if outcome.get("unhandled"):
        lines.append("      no rule handled it")
    return "\n".join(lines)


def _verdicts(verdict: Mapping[str, Any], indent: int) -> Iterator[str]:
    error = f" ({verdict['error']})" if verdict.get("error") else ""
    yield f"{' ' * indent}{'yes' if verdict['passed'] else 'no '} {verdict['name']}{error}"
    for child in verdict.get("children", ()):
        yield from _verdicts(child, indent + 2)


def line_of(bubble: Bubble) -> str:
    """Return a message as one line: its text, then the titles of buttons and quick replies in brackets."""
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
    """Return a card as one line: its title and the titles of its buttons."""
    buttons = "".join(f" [{title}]" for title in titles(card.get("buttons") or ()))
    return f"{card.get('title') or card.get('media_type') or '...'}{buttons}"


def titles(buttons: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the titles of buttons; the type of a button without a title."""
    return [str(button.get("title") or button.get("type") or "") for button in buttons]


def quick_reply_titles(bubble: Bubble) -> list[str]:
    """Return the titles of quick replies; the content type of one that requests a number or an address."""
    return [str(reply.get("title") or reply.get("content_type")) for reply in bubble.quick_replies]


def _url_in(message: Mapping[str, Any]) -> str:
    parts = [message.get("attachment") or {}, *(message.get("attachments") or ())]
    return next((str(part["payload"]["url"]) for part in parts if (part.get("payload") or {}).get("url")), "")


def transcript(person: str, page: str, thread: Iterable[Bubble], rules: Mapping[str, str]) -> str:
    """Return a conversation as lines; a message of the Page ends with its rule. ``rules`` maps message ids to rules."""
    width = max(len(person), len(page))
    lines = []
    for bubble in thread:
        author = page if bubble.by_page else person
        rule = f"   < {rules[bubble.mid]}" if rules.get(bubble.mid) else ""
        lines.append(f"  {author:<{width}}  {line_of(bubble)}{rule}")
    return "\n".join(lines) or "  (no messages)"
