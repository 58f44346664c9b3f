"""Failures that the kit raises without an assertion: broken rules, and messages that Graph refuses."""

from __future__ import annotations

import inspect
import logging
import sys
from typing import Any

from djmessenger import bot, models
from djmessenger.routing.functions import FunctionHandler
from djmessenger.testing.explanation import explained


class RuleFailed(AssertionError):
    """An exception in a rule or in one of its filters; the text contains the traceback."""


class ReplyRefused(AssertionError):
    """A message that did not reach the person: Graph refused it, or it expired."""


class ErrorLog(logging.Handler):
    """Log handler that collects the exceptions that filters swallow."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.records.append(record)


def rule_failed(row: models.Messaging) -> RuleFailed:
    """Build the failure of an event whose handling failed."""
    about = explained(row.outcome) if row.outcome else f"the policy was not reached for a {row.type}"
    return RuleFailed(f"a rule failed\n\n{row.error.strip()}\n\nOutcome\n{about}")


def filter_failed(record: logging.LogRecord) -> RuleFailed:
    """Build the failure of a filter that raised; the policy takes the exception for a refusal."""
    return RuleFailed(f"a filter failed\n\n{logging.Formatter().format(record)}")


def reply_refused(reply: models.Reply, sent_by: str = "") -> ReplyRefused:
    """Build the failure of a reply that will not be sent; ``sent_by`` is the result of ``sender``."""
    reply.refresh_from_db()
    answer = reply.response or {}
    codes = [f"{key} {answer[key]}" for key in ("code", "error_subcode") if answer.get(key) is not None]
    lines = [
        f"Graph refused a message: {', '.join(codes)}"
        if codes
        else f"a message is {reply.get_state_display()}",
        reply.error.strip(),
        f"Message  {reply.data.get('message')}",
        f"Made by  {origin(reply.rule, sent_by)}",
    ]
    if reply.messaging is not None and reply.messaging.outcome:
        lines += ["", "Outcome", explained(reply.messaging.outcome)]
    return ReplyRefused("\n".join(lines))


def sender() -> str:
    """Return file and line of the project code that queues the current reply; empty if a rule returned it."""
    frame = sys._getframe(1)
    while (caller := frame.f_back) is not None:
        frame = caller
        module = str(frame.f_globals.get("__name__", ""))
        if module == f"{__package__}.driver":
            return ""
        if module.partition(".")[0] not in {"contextlib", "django", "djmessenger"}:
            return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
    return ""


def origin(label: str, sent_by: str) -> str:
    """Return the name of a rule with file and line of its functions, or with ``sent_by`` if code called ``send``."""
    if sent_by:
        return f"{label} {sent_by}".strip()
    places = [label]
    for rule in bot.get_policy().rules:
        if rule.label != label:
            continue
        built = rule.build()
        places += [_place(step) for step in (*built.handlers, *built.repliers)]
    return "\n         ".join(filter(None, places))


def _place(step: Any) -> str:
    if not isinstance(step, FunctionHandler):
        return ""
    function = inspect.unwrap(step.function)
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno} in {function.__qualname__}" if code else ""
