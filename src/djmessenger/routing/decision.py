"""The decision: the rules that apply to one event, ready to act."""

from __future__ import annotations

import copy
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import Any, NamedTuple

from djmessenger.database_errors import is_own_outage
from djmessenger.models.recording import answering
from djmessenger.models.replies import ReplyBuffer
from djmessenger.outgoing.data import as_messages
from djmessenger.project_code import ProjectCode, is_interruption
from djmessenger.receiving import Messaging
from djmessenger.replying import ReplyAction, ReplyActionReplier
from djmessenger.replying.sending import buffering, queue, use_language_of
from djmessenger.routing.functions import FunctionHandler, function_name
from djmessenger.routing.outcome import Outcome, RuleTrace, Step
from djmessenger.routing.rule import Rule
from djmessenger.sql import atomic, connection

logger = logging.getLogger("djmessenger.routing")

RULE = "rule"
"""Key in the event's context: name of the rule that runs now."""
_ABSENT = object()


class Applied(NamedTuple):
    """A rule whose filters passed, with the values that the filters captured."""

    rule: Rule
    trace: RuleTrace
    captured: Mapping[str, Any]


Work = Callable[[Applied, Messaging, Sized], None]


class Decision:
    """The rules that a policy chose for one event.

    ``Policy.decide`` makes it, without effect; ``run_slow`` and ``act`` have effects. An instance belongs to one thread
    and to the event for which it was made.
    """

    def __init__(self, outcome: Outcome, default: Applied | None, applied: list[Applied]) -> None:
        self.outcome = outcome
        self._default = default
        self._applied = applied
        # Not in the event's context, which rules may clear: the slow handlers would run again, in the transaction.
        # test_a_slow_rule_runs_once_although_a_rule_clears_the_context
        self._slow_answers: dict[tuple[int, int], list[Any]] = {}
        self._broken: set[int] = set()
        self._broken_while_slow: frozenset[int] = frozenset()
        self._error_while_slow = ""
        self._deciding_seconds = outcome.seconds

    @property
    def applied(self) -> list[Rule]:
        """The rules that apply, in order, without the DEFAULT rule."""
        return [entry.rule for entry in self._applied]

    @property
    def default(self) -> Rule | None:
        """The DEFAULT rule if it applies to this event, otherwise None."""
        return self._default.rule if self._default is not None else None

    def _entries(self) -> list[Applied]:
        return [*([self._default] if self._default is not None else []), *self._applied]

    def examined(self) -> str:
        """Return the names of the rules whose filters were checked, for an error."""
        traces = [*([self.outcome.default] if self.outcome.default else []), *self.outcome.rules]
        return f"a filter of the rules {', '.join(repr(trace.name) for trace in traces if trace.verdicts)}"

    def is_slow(self, messaging: Messaging) -> bool:
        """Return whether an applying rule or one of its handlers is slow for this event."""
        return any(
            entry.rule.slow or handler.is_slow_for(messaging)
            for entry in self._entries()
            for handler in entry.rule.build().handlers
        )

    def only_calls_graph(self) -> bool:
        """Return whether ``run_slow`` waits for Graph only and makes no query."""
        slow = [
            (entry.rule, handler)
            for entry in self._entries()
            for handler in entry.rule.build().handlers
            if _is_slow(entry.rule, handler)
        ]
        return all(not rule.slow and vars(type(handler)).get("only_calls_graph") for rule, handler in slow)

    def run_slow(self, messaging: Messaging, savepoints: bool = False) -> None:
        """Run the slow handlers, after the typing indicator is sent if a rule has ``typing``.

        Call it outside a transaction, because a slow handler may wait for another service. It may be called again.
        The messages that the handlers return are kept, and ``act`` queues them. An exception propagates.
        With ``savepoints`` the exception is recorded instead, and ``act`` skips that rule.
        """
        started = perf_counter()
        self._broken.clear()
        self.outcome.error = ""
        self._slow_answers.clear()
        entries = self._entries()
        for entry in entries:
            entry.trace.error = ""
            entry.trace.steps.clear()
        try:
            if any(entry.rule.typing for entry in entries):
                ReplyActionReplier(ReplyAction.TYPING_ON).reply(messaging)
            for entry in entries:
                if any(_is_slow(entry.rule, handler) for handler in entry.rule.build().handlers):
                    self._guard(
                        self._run_slow_handlers, entry, messaging, savepoint=False, swallow=savepoints
                    )
        finally:
            self._broken_while_slow = frozenset(self._broken)
            self._error_while_slow = self.outcome.error
            self._deciding_seconds += perf_counter() - started
            self.outcome.seconds = self._deciding_seconds

    def act(self, messaging: Messaging, savepoints: bool = False, buffer: ReplyBuffer | None = None) -> None:
        """Run the other handlers and the repliers, and queue the replies.

        With ``buffer`` the replies are put into the reply buffer, and the caller inserts them. An exception propagates.
        With ``savepoints`` each rule runs in a savepoint of the caller's transaction. The effects of a rule that fails
        are rolled back, its exception is logged and recorded, and the other rules run. After a rollback of the caller's
        transaction it may be called again.
        """
        started = perf_counter()
        self._broken = set(self._broken_while_slow)
        self.outcome.error = self._error_while_slow
        for entry in self._entries():
            entry.trace.steps[:] = [step for step in entry.trace.steps if step.kind == "slow handler"]
            if id(entry) not in self._broken:
                entry.trace.error = ""

        def guard(work: Work, entry: Applied | None) -> None:
            self._guard(work, entry, messaging, savepoint=savepoints, swallow=savepoints)

        try:
            with buffering(messaging, buffer):
                guard(self._run_handlers, self._default)
                for entry in self._applied:
                    guard(self._run_rule, entry)
                if (
                    self.outcome.authored
                    and self._default is not None
                    and self._default.rule.build().repliers
                ):
                    guard(self._run_repliers, self._default)
        finally:
            self.outcome.seconds = self._deciding_seconds + perf_counter() - started

    def _run_rule(self, entry: Applied, messaging: Messaging, rows: Sized) -> None:
        self._run_handlers(entry, messaging, rows)
        self._run_repliers(entry, messaging, rows)

    def _guard(
        self,
        work: Work,
        entry: Applied | None,
        messaging: Messaging,
        *,
        savepoint: bool,
        swallow: bool,
    ) -> None:
        """Run a part of a rule with the values that the rule captured.

        An exception is recorded in the outcome. It is raised again unless ``swallow`` is set. One that tells of an
        outage of the database is always raised again, because no rule can be committed after it.
        """
        if entry is None or id(entry) in self._broken:
            return
        captured = {**entry.captured, RULE: entry.rule.label}
        previous = {key: messaging.context.get(key, _ABSENT) for key in captured}
        messaging.context.update(captured)
        conversation = messaging.conversation
        state = copy.deepcopy(conversation.state) if swallow and conversation is not None else None
        try:
            with (
                atomic() if savepoint else nullcontext(),
                answering(entry.rule.label) as rows,
                use_language_of(messaging.person, messaging.page),
                ProjectCode(lambda: f"rule {entry.rule.label!r}"),
            ):
                work(entry, messaging, rows)
        except Exception as error:
            entry.trace.error = f"{type(error).__name__}: {error}"
            self.outcome.error = f"{self.outcome.error}\n{traceback.format_exc()}".strip()
            # test_an_outage_of_the_database_is_no_try_of_a_rule
            # test_a_rule_that_ends_the_transaction_of_its_event_fails_the_event
            # tests/test_contrib_celery.py, test_the_time_limit_of_a_task_is_no_try_of_the_rule_that_it_interrupts
            is_of_host = is_own_outage(error) or is_interruption(error)
            if not swallow or is_of_host or (savepoint and not connection().in_atomic_block):
                raise
            self._broken.add(id(entry))
            if state is not None:
                conversation.state = state
            logger.exception(
                "Rule %r failed", entry.rule.label, extra={"action": "rule_failed", "rule": entry.rule.label}
            )
        finally:
            _take_back(messaging.context, captured, previous)

    def _run_slow_handlers(self, entry: Applied, messaging: Messaging, rows: Sized) -> None:
        for place, handler in enumerate(entry.rule.build().handlers):
            if _is_slow(entry.rule, handler):
                self._run_slow_handler(entry, place, handler, messaging)

    def _run_slow_handler(self, entry: Applied, place: int, handler: Any, messaging: Messaging) -> None:
        with _timed(entry.trace, "slow handler", handler, []) as step:
            answers = as_messages(handler.handle(messaging))
            step.messages = len(answers)
            self._slow_answers[entry.trace.position, place] = answers

    def _run_handlers(self, entry: Applied, messaging: Messaging, rows: Sized) -> None:
        for place, handler in enumerate(entry.rule.build().handlers):
            if _is_slow(entry.rule, handler):
                key = (entry.trace.position, place)
                if key not in self._slow_answers:
                    self._run_slow_handler(entry, place, handler, messaging)
                self._queue(messaging, self._slow_answers[key], entry.rule)
            else:
                with _timed(entry.trace, "handler", handler, rows):
                    self._queue(messaging, as_messages(handler.handle(messaging)), entry.rule)

    def _run_repliers(self, entry: Applied, messaging: Messaging, rows: Sized) -> None:
        for replier in entry.rule.build().repliers:
            with _timed(entry.trace, "replier", replier, rows):
                if isinstance(replier, FunctionHandler):
                    self._queue(messaging, as_messages(replier.handle(messaging)), entry.rule)
                else:
                    replier.reply(messaging)

    def _queue(self, messaging: Messaging, answers: list[Any], rule: Rule) -> None:
        for answer in answers:
            queue(messaging, answer, rule=rule.label)


def _take_back(context: dict[str, Any], captured: Mapping[str, Any], previous: Mapping[str, Any]) -> None:
    """Remove the values that a rule captured from the context. Values that its handlers wrote stay."""
    for key, value in captured.items():
        if context.get(key, _ABSENT) is value:
            if previous[key] is _ABSENT:
                del context[key]
            else:
                context[key] = previous[key]


def _is_slow(rule: Rule, handler: Any) -> bool:
    return rule.slow or bool(getattr(handler, "slow", False))


@contextmanager
def _timed(trace: RuleTrace, kind: str, stage: Any, rows: Sized) -> Iterator[Step]:
    """Record a step: its duration, the number of messages that it queues, and its exception."""
    step = Step(kind, _stage_name(stage))
    trace.steps.append(step)
    before = len(rows)
    started = perf_counter()
    try:
        yield step
    except BaseException as error:
        step.error = f"{type(error).__name__}: {error}"
        raise
    finally:
        step.seconds = perf_counter() - started
        step.messages += len(rows) - before


def _stage_name(stage: Any) -> str:
    if isinstance(stage, FunctionHandler):
        return function_name(stage.function)
    return f"{type(stage).__module__}.{type(stage).__qualname__}"
