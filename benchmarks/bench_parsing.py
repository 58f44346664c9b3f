"""Cost of decoding a callback and reading its events, against ``json.loads`` alone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import django

from benchmarks.measure import seconds_per_call, show

SAMPLES = Path(__file__).parent.parent / "tests" / "wire"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    django.setup()
    from djmessenger.receiving.decoding import decode  # noqa: PLC0415 - after the set-up
    from djmessenger.receiving.parsing import split  # noqa: PLC0415 - after the set-up

    for sample in ("message_text", "postback_button", "message_attachment_image"):
        item = json.loads((SAMPLES / f"{sample}.json").read_bytes())
        entry = item["entry"][0]
        body = json.dumps({**item, "entry": [{**entry, "messaging": entry["messaging"] * 10}]}).encode()

        def ours(body: bytes = body) -> None:
            for parsed in split(decode(body)):
                assert parsed.messaging is not None
                assert parsed.messaging.type
                assert parsed.messaging.key()

        bare = seconds_per_call(lambda body=body: json.loads(body), calls=300) / 10  # type: ignore[misc]
        cost = seconds_per_call(ours, calls=300) / 10
        show(f"{sample}: decode, split, type and key", cost * 1e6, "us a messaging")
        show(f"{sample}: against json.loads alone", cost / bare, "times")


if __name__ == "__main__":
    main()
