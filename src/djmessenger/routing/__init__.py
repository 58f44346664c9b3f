"""Which rules apply to a messaging, and what comes of it: ``Policy``, ``Rule``, ``Decision``, ``Outcome``.

A policy decides first and acts afterwards. ``decide`` asks all filters and has no effect; the ``Decision`` it
gives runs the handlers and repliers of the rules that apply; the ``Outcome`` says what happened and why.
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
