"""The outcome of one event: each rule, step and refusal. Logs, admin pages and tests read it."""

from __future__ import annotations

import dataclasses
import json
import keyword
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from djmessenger.filtering.base import Verdict
from djmessenger.filtering.kinds import TAPS
from djmessenger.receiving import Messaging, ReceivingType

logger = logging.getLogger("djmessenger.routing")


@dataclasses.dataclass(slots=True)
class Step:
    """One handler or replier that was run."""

    kind: str
    """``handler``, ``slow handler`` or ``replier``."""
    name: str
    seconds: float = 0.0
    messages: int = 0
    """Number of messages that it made."""
    error: str = ""
    """Type and text of the exception."""

    def json(self) -> dict[str, Any]:
        data = {
            "kind": self.kind,
            "name": self.name,
            "seconds": self.seconds,
            "messages": self.messages,
            "error": self.error,
        }
        return _without_empty(data, keep=("kind", "name", "seconds"))


@dataclasses.dataclass(slots=True)
class RuleTrace:
    """The record of one checked rule: the verdict of each filter and the steps that ran."""

    name: str
    position: int
    """Position of the rule in the policy, from 0."""
    applied: bool = False
    verdicts: list[Verdict] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    """Duration of its filters."""
    steps: list[Step] = dataclasses.field(default_factory=list)
    error: str = ""
    """Type and text of the exception because of which the effects of the rule were rolled back."""

    @property
    def refusal(self) -> str:
        """Name of the filter, or of its operand, that refused the event; empty if no filter did."""
        for verdict in self.verdicts:
            if not verdict.passed:
                return verdict.culprit.name
        return ""

    def json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "name": self.name,
            "position": self.position,
            "applied": self.applied,
            "seconds": self.seconds,
            "filters": [verdict.json() for verdict in self.verdicts],
            "steps": [step.json() for step in self.steps],
            "refusal": self.refusal,
            "error": self.error,
        }
        return _without_empty(data, keep=("name", "position", "applied", "seconds"))


@dataclasses.dataclass
class Outcome:
    """The record of what a policy did with one event.

    Only ``suggestion`` and ``error`` may contain text of the person.
    """

    type: str
    authored: bool
    """True if the event is a contribution of the person: a text, a tap, an attachment, a form."""
    default: RuleTrace | None = None
    """Record of the DEFAULT rule, None if there is no such rule for the event."""
    rules: list[RuleTrace] = dataclasses.field(default_factory=list)
    """Records of the checked rules, in order."""
    skipped: int = 0
    """Number of rules of the type that were not checked because they need another text or payload."""
    refused: bool = False
    """True if a filter of the DEFAULT rule refused the event, so that no other rule was checked."""
    stopped_by: str = ""
    """Name of the rule with ``stop`` after which no rule was checked."""
    is_own_echo: bool = False
    """True if the event is the echo of a message of this bot, which reaches no rule."""
    fell_back: bool = False
    """True if no rule applied and the FALLBACK rules were checked."""
    unhandled: bool = False
    """True if a person authored the event and no rule applied."""
    suggestion: str = ""
    """Source of a rule for an unhandled event, to paste into ``messenger.py``."""
    error: str = ""
    """Tracebacks of the rules that failed; empty if no rule did."""
    seconds: float = 0.0
    """Duration of filters, handlers and repliers together."""

    def traces(self) -> Iterator[RuleTrace]:
        """Yield the record of the DEFAULT rule, then those of the other checked rules."""
        if self.default is not None:
            yield self.default
        yield from self.rules

    @property
    def applied(self) -> list[str]:
        """Names of the rules that applied, without the DEFAULT rule."""
        return [trace.name for trace in self.rules if trace.applied]

    @property
    def messages(self) -> int:
        """Number of messages that were made. Messages of a rule that failed do not count."""
        return sum(step.messages for trace in self.traces() if not trace.error for step in trace.steps)

    @property
    def errors(self) -> list[str]:
        """Name of each rule that failed, with type and text of its exception."""
        return [f"{trace.name}: {trace.error}" for trace in self.traces() if trace.error]

    def json(self) -> dict[str, Any]:
        """Return the JSON-ready dict. It does not contain the traceback, which the caller stores separately."""
        data: dict[str, Any] = {
            "type": self.type,
            "summary": self.summary(),
            "authored": self.authored,
            "applied": self.applied,
            "messages": self.messages,
            "skipped": self.skipped,
            "seconds": self.seconds,
            "default": self.default.json() if self.default is not None else None,
            "rules": [trace.json() for trace in self.rules],
            "refused": self.refused,
            "stopped_by": self.stopped_by,
            "is_own_echo": self.is_own_echo,
            "fell_back": self.fell_back,
            "unhandled": self.unhandled,
            "suggestion": self.suggestion,
            "errors": self.errors,
        }
        return _without_empty(
            data, keep=("type", "summary", "authored", "applied", "messages", "skipped", "seconds")
        )

    def summary(self) -> str:
        """Return one line about the outcome that contains no text of the person."""
        if self.refused and self.default is not None:
            result = f"refused by {self.default.name!r} ({self.default.refusal})"
        elif self.applied:
            result = ("fallback " if self.fell_back else "") + ", ".join(map(repr, self.applied))
            if self.stopped_by:
                result += ", which stops"
        elif self.is_own_echo:
            result = "the echo of a message of this bot, which reaches no rule"
        else:
            result = "no rule handled it" if self.unhandled else "no rule applied"
        failed = f", {len(self.errors)} failed" if self.errors else ""
        noun = "message" if self.messages == 1 else "messages"
        return (
            f"{self.type}: {result}; {len(self.rules)} checked, {self.skipped} skipped, "
            f"{self.messages} {noun}{failed}, {self.seconds * 1000:.1f} ms"
        )

    def log(self, facts: Callable[[], Mapping[str, Any]] = dict) -> None:
        """Log the summary; for an unhandled event, log a rule to paste. ``facts`` returns further fields."""
        if not logger.isEnabledFor(logging.WARNING if self.unhandled else logging.INFO):
            return
        fields = {
            **facts(),
            "type": self.type,
            "rules": self.applied,
            "messages": self.messages,
            "failed": len(self.errors),
            "ms": round(self.seconds * 1000, 1),
        }
        if self.unhandled:
            logger.warning(
                "No rule handled an event of type %s. Paste this rule into messenger.py to handle it:\n\n%s",
                self.type,
                self.suggestion,
                extra={"action": "event_unhandled", **fields},
            )
        else:
            logger.info("%s", self.summary(), extra={"action": "event_handled", **fields})


def suggest(messaging: Messaging, *, with_text: bool) -> str:
    """Return the source of a rule for an event. It contains the person's text or payload only ``with_text``."""
    kind = messaging.type
    text = ""
    if kind in TAPS:
        text = messaging.payload if with_text else ""
        imported, argument = "tapped", (_quoted(text) if messaging.payload else "")
    elif kind is ReceivingType.SIMPLE_TEXT:
        text = messaging.text if with_text else ""
        imported, argument = "text", _quoted(text)
        if len(text) > _SHOWN:
            imported, argument = "pattern", _quoted(f"^{re.escape(text[:_SHOWN])}")
    elif kind in _CONDITIONS:
        imported, argument = _CONDITIONS[kind], ""
    else:
        imported, argument = "on", _quoted(kind.name)
    return (
        f"from djmessenger.rules import rule, {imported}\n\n\n"
        f"@rule({imported}({argument}))\n"
        f"def {_function_name(text or kind.name)}(event):\n"
        f'    return "..."\n'
    )


_CONDITIONS: Mapping[ReceivingType, str] = {
    ReceivingType.IMAGE: "image",
    ReceivingType.AUDIO: "audio",
    ReceivingType.VIDEO: "video",
    ReceivingType.FILE: "file",
    ReceivingType.STICKER: "sticker",
    ReceivingType.LOCATION: "location",
    ReceivingType.REFERRAL: "referral",
}
_SHOWN = 60
_TAKEN = {"rule", "text", "pattern", "tapped", "on", *_CONDITIONS.values()}


def _quoted(text: str) -> str:
    if not text:
        return '"..."'
    # JSON escapes are valid in Python, except for characters beyond 16 bits, which ensure_ascii=False does not escape.
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else ascii(text)


def _function_name(text: str) -> str:
    name = "_".join(re.findall(r"[a-z0-9]+", text.lower())[:5])[:40].strip("_")
    if not name.isidentifier() or keyword.iskeyword(name) or name in _TAKEN:
        return f"answer_{name}".rstrip("_")
    return name


def _without_empty(data: dict[str, Any], keep: tuple[str, ...]) -> dict[str, Any]:
    return {
        key: round(value, 6) if key == "seconds" else value
        for key, value in data.items()
        if key in keep or value
    }
