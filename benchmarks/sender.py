"""Minimal sender: posts signed callbacks at a rate and measures the time of each answer.

It is a process of its own, so that its CPU is not counted as the bot's. It reads one JSON object from its input:
``port``, ``path``, ``rate`` (callbacks a second; 0: as fast as they are answered), ``connections`` and ``bodies``.
Writes one: ``posted`` (times) and ``took`` (seconds), in the order of the bodies, and ``statuses`` (how many of each).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sys
import time
from collections import Counter

SECRET = b"0123456789abcdef0123456789abcdef"


async def post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: bytes) -> str:
    signature = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    writer.write(
        b"POST /%b HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        b"X-Hub-Signature-256: sha256=%b\r\nContent-Length: %d\r\n\r\n%b"
        % (path.encode(), signature.encode(), len(body), body)
    )
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    if b"content-length: 0" not in lower:
        start = lower.index(b"content-length:") + 15
        await reader.readexactly(int(lower[start : lower.index(b"\r\n", start)]))
    return head.split(b" ", 2)[1].decode()


async def run(port: int, path: str, rate: float, connections: int, bodies: list[str]) -> dict[str, object]:
    posted, took = [0.0] * len(bodies), [0.0] * len(bodies)
    statuses: Counter[str] = Counter()
    numbers = iter(range(len(bodies)))
    began = time.time()

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            if rate:
                await asyncio.sleep(max(0.0, began + number / rate - time.time()))
            body = bodies[number].encode()
            posted[number] = time.time()
            try:
                statuses[await post(reader, writer, path, body)] += 1
            except (asyncio.IncompleteReadError, ConnectionError):
                # The server may close a connection; Meta would open another one too.
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                statuses[await post(reader, writer, path, body)] += 1
            took[number] = time.time() - posted[number]
        writer.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    return {"posted": posted, "took": took, "statuses": statuses}


def main() -> None:
    json.dump(asyncio.run(run(**json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
