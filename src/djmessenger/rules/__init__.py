"""The Python notation of a policy: decorated functions and filters."""

from __future__ import annotations

from djmessenger.rules.registry import (
    Condition,
    collect,
    default,
    fallback,
    forget,
    include,
    policy_from_modules,
    problems,
    rule,
)

__all__ = [
    "Condition",
    "collect",
    "default",
    "fallback",
    "forget",
    "include",
    "policy_from_modules",
    "problems",
    "rule",
]
