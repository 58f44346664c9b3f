"""App of the bot; removes the mechanism that ``bench_mechanisms`` names."""

from __future__ import annotations

import os

from django.apps import AppConfig


class EchoBot(AppConfig):
    name = "benchmarks.echo_bot"

    def ready(self) -> None:
        if mechanism := os.environ.get("BENCH_WITHOUT"):
            from benchmarks.without import ALTERNATIVES, MECHANISMS  # noqa: PLC0415 - needs the models

            (MECHANISMS | ALTERNATIVES)[mechanism]()
