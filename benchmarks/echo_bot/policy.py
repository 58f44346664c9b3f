"""The same bot as data: the default policy, and one documented replier that repeats each text."""

from __future__ import annotations

from typing import Any

from djmessenger.utils.default_routing_policy import RUNNABLE_ROUTING_POLICY

POLICY: dict[str, Any] = {
    "rules": [
        *RUNNABLE_ROUTING_POLICY["rules"],
        {
            "type": "SIMPLE_TEXT",
            "name": "Echo Rule",
            "filters": [
                {
                    "name": "djmessenger.filtering.SimpleTextRegexFilter",
                    "args": {"regex": "^say (?P<words>.*)$"},
                }
            ],
            "repliers": [{"name": "benchmarks.echo_bot.repliers.EchoReplier"}],
        },
    ]
}
