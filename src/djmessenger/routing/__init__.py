"""Selection and execution of the rules for one event: ``Policy``, ``Rule``, ``Decision``, ``Outcome``.

A policy decides first and acts afterwards. ``Policy.decide`` checks all filters, without effect, and returns a
``Decision``. The decision runs the handlers and repliers of the rules that apply. Its ``Outcome`` records each step and
each refusal.
"""

from __future__ import annotations

from djmessenger.routing.decision import Decision
from djmessenger.routing.functions import FunctionHandler, FunctionReplier
from djmessenger.routing.outcome import Outcome, RuleTrace, Step
from djmessenger.routing.policy import Policy
from djmessenger.routing.problems import InvalidPolicy, Problem
from djmessenger.routing.rule import Rule
from djmessenger.routing.targets import (
    TargetClass,
    TargetFilterClass,
    TargetFilterGroup,
    TargetHandlerClass,
    TargetReplierClass,
)

__all__ = [
    "Decision",
    "FunctionHandler",
    "FunctionReplier",
    "InvalidPolicy",
    "Outcome",
    "Policy",
    "Problem",
    "Rule",
    "RuleTrace",
    "Step",
    "TargetClass",
    "TargetFilterClass",
    "TargetFilterGroup",
    "TargetHandlerClass",
    "TargetReplierClass",
]
