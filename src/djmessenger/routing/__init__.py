"""Selection and execution of the rules for one event: ``Policy``, ``Rule``, ``Decision``, ``Outcome``.

A policy decides first and acts afterwards. ``Policy.decide`` checks all filters, without effect, and returns a
``Decision``. The decision runs the handlers and repliers of the rules that apply. Its ``Outcome`` records each step and
each refusal.
"""

from __future__ import annotations

from djmessenger.routing.policy import Policy
from djmessenger.routing.problems import InvalidPolicy
from djmessenger.routing.rule import Rule
from djmessenger.routing.targets import TargetClass, TargetFilterClass, TargetHandlerClass, TargetReplierClass

__all__ = [
    "InvalidPolicy",
    "Policy",
    "Rule",
    "TargetClass",
    "TargetFilterClass",
    "TargetHandlerClass",
    "TargetReplierClass",
]
