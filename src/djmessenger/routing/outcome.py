"""What the policy did with one messaging, step by step, and why: the value that logs, pages and tests read."""

from __future__ import annotations

import dataclasses
import json
import keyword
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from djmessenger.filtering import Verdict
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
    """How many messages it made."""
    error: str = ""
    """Type and text of the exception."""

    def json(self) -> dict[str, Any]:
        return _without_empty(dataclasses.asdict(self), keep=("kind", "name", "seconds"))


@dataclasses.dataclass(slots=True)
class RuleTrace:
    """One rule that was asked: what each filter said, and what the rule did."""

    name: str
    position: int
    """Its place in the policy, from 0."""
    applied: bool = False
    verdicts: list[Verdict] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    """Time its filters took."""
    steps: list[Step] = dataclasses.field(default_factory=list)
    error: str = ""
    """Type and text of the exception that took back what the rule did."""

    @property
    def refusal(self) -> str:
        """Name of the filter that said no, down to the operand; empty when none did."""
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
    """What the policy did with one messaging. Holds no text of a person but inside ``suggestion`` and ``error``."""

    type: str
    authored: bool
    """Whether a person wrote, tapped or sent it."""
    default: RuleTrace | None = None
    """The DEFAULT rule, which surrounds all others."""
    rules: list[RuleTrace] = dataclasses.field(default_factory=list)
    """The rules that were asked, in order."""
    skipped: int = 0
    """Rules of the type that were not asked: they need another text or payload."""
    refused: bool = False
    """The DEFAULT rule said no, which ends the matter."""
    stopped_by: str = ""
    """The rule after which no other may apply."""
    fell_back: bool = False
    """No rule applied, so the FALLBACK rules were asked."""
    unhandled: bool = False
    """A person authored it, and nothing in the policy was for it."""
    suggestion: str = ""
    """A rule to paste for an event that nothing handled."""
    error: str = ""
    """Traceback of what went wrong; empty when nothing did."""
    seconds: float = 0.0
    """Time for filters, handlers and repliers together."""

    def traces(self) -> Iterator[RuleTrace]:
        """Give the DEFAULT rule, then the others that were asked."""
        if self.default is not None:
            yield self.default
        yield from self.rules

    @property
    def applied(self) -> list[str]:
        """Names of the rules that applied, DEFAULT aside."""
        return [trace.name for trace in self.rules if trace.applied]

    @property
    def messages(self) -> int:
        """How many messages were made; those of a rule that failed were taken back."""
        return sum(step.messages for trace in self.traces() if not trace.error for step in trace.steps)

    @property
    def errors(self) -> list[str]:
        """Type and text of each exception, after the name of its rule."""
        return [f"{trace.name}: {trace.error}" for trace in self.traces() if trace.error]

    def json(self) -> dict[str, Any]:
        """Give the JSON-ready form. The traceback is left to whoever stores it beside."""
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
            "fell_back": self.fell_back,
            "unhandled": self.unhandled,
            "suggestion": self.suggestion,
            "errors": self.errors,
        }
        return _without_empty(
            data, keep=("type", "summary", "authored", "applied", "messages", "skipped", "seconds")
        )

    def summary(self) -> str:
        """Say it in one line, without anything a person wrote."""
        if self.refused and self.default is not None:
            what = f"refused by {self.default.name!r} ({self.default.refusal})"
        elif self.applied:
            what = ("fallback " if self.fell_back else "") + ", ".join(map(repr, self.applied))
            if self.stopped_by:
                what += ", stopped there"
        else:
            what = "nothing handled it" if self.unhandled else "no rule"
        failed = f", {len(self.errors)} failed" if self.errors else ""
        return (
            f"{self.type}: {what}; {len(self.rules)} asked, {self.skipped} skipped, "
            f"{self.messages} messages{failed}, {self.seconds * 1000:.1f} ms"
        )

    def log(self, **facts: Any) -> None:
        """Write one line to the log, with facts beside it; an event that nothing handled brings a rule to paste."""
        fields = {
            **facts,
            "type": self.type,
            "rules": self.applied,
            "messages": self.messages,
            "failed": len(self.errors),
            "ms": round(self.seconds * 1000, 1),
        }
        if self.unhandled:
            logger.warning(
                "Nothing handled a %s. A rule for it:\n\n%s",
                self.type,
                self.suggestion,
                extra={"action": "event_unhandled", **fields},
            )
        else:
            logger.info("%s", self.summary(), extra={"action": "event_handled", **fields})


def suggest(messaging: Messaging, *, with_text: bool) -> str:
    """Write a rule for a messaging; what the person wrote or tapped stands in it only ``with_text``."""
    kind = messaging.type
    said = ""
    if kind in TAPS:
        said = messaging.payload if with_text else ""
        imported, argument = "tapped", (_quoted(said) if messaging.payload else "")
    elif kind is ReceivingType.SIMPLE_TEXT:
        said = messaging.text if with_text else ""
        imported, argument = "text", _quoted(said)
        if len(said) > _SHOWN:
            imported, argument = "pattern", _quoted(f"^{re.escape(said[:_SHOWN])}")
    elif kind in _CONDITIONS:
        imported, argument = _CONDITIONS[kind], ""
    else:
        imported, argument = "on", _quoted(kind.name)
    return (
        f"from djmessenger.rules import rule, {imported}\n\n\n"
        f"@rule({imported}({argument}))\n"
        f"def {_function_name(said or kind.name)}(event):\n"
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


def _quoted(said: str) -> str:
    if not said:
        return '"..."'
    # JSON's escapes are Python's too, but for characters beyond 16 bits.
    return json.dumps(said, ensure_ascii=False) if said.isprintable() else ascii(said)


def _function_name(said: str) -> str:
    name = "_".join(re.findall(r"[a-z0-9]+", said.lower())[:5])[:40].strip("_")
    if not name.isidentifier() or keyword.iskeyword(name) or name in _TAKEN:
        return f"answer_{name}".rstrip("_")
    return name


def _without_empty(data: dict[str, Any], keep: tuple[str, ...]) -> dict[str, Any]:
    return {
        key: round(value, 6) if key == "seconds" else value
        for key, value in data.items()
        if key in keep or value
    }
