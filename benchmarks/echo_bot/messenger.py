"""Rules of the benchmarks: one answers each text, one waits as if for a language model."""

from __future__ import annotations

import os
import time

from djmessenger.rules import Messaging, on, rule, text


@rule(text("ask the model"), slow=True, stop=True)
def ask(event: Messaging) -> str:
    time.sleep(float(os.environ["BENCH_MODEL_SECONDS"]))
    return "The model says: 42"


@rule(on("SIMPLE_TEXT"))
def say(event: Messaging) -> str:
    return event.text.removeprefix("say ")
