"""Minimal Graph: answers each send after a delay and stores its time.

It is a process of its own, so that its CPU is not counted as the bot's. ``GET /report`` returns the stored texts and
times, and the numbers of profiles and of connections; ``GET /delay/<ms>`` sets the delay.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

IDLE = 5.0
"""Seconds after which an idle connection is closed, as servers do."""


class Standin:
    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.texts: list[str] = []
        self.times: list[float] = []
        self.answered = 0
        self.profiles = 0
        self.connections = 0
        """Number of accepted connections since ``/forget``."""
        self.open_connections = 0

    def answer(self, path: str, body: bytes) -> tuple[bytes, float]:
        """Return the answer to a request, and its delay in seconds."""
        if path == "/report":
            report = {
                "texts": self.texts,
                "times": self.times,
                "profiles": self.profiles,
                "connections": self.connections,
                "open_connections": self.open_connections,
            }
            return json.dumps(report).encode(), 0.0
        if path == "/forget":
            self.texts, self.times = [], []
            self.profiles = self.connections = 0
            return b"{}", 0.0
        if path.startswith("/delay/"):
            self.delay = int(path.rpartition("/")[2]) / 1000
            return b"{}", 0.0
        if not body:
            self.profiles += 1
            profile = {
                "id": path.partition("?")[0].rpartition("/")[2],
                "first_name": "Ann",
                "last_name": "Lee",
            }
            return json.dumps(profile | {"locale": "en_US", "timezone": 1}).encode(), self.delay
        call = json.loads(body)
        if "message" in call:
            self.texts.append(call["message"]["text"])
            self.times.append(time.time())
        self.answered += 1
        answer = {"recipient_id": call["recipient"]["id"], "message_id": f"m_out_{self.answered}"}
        return json.dumps(answer).encode(), self.delay


class Connection(asyncio.Protocol):
    def __init__(self, standin: Standin) -> None:
        self.standin = standin
        self.buffer = b""
        self.end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.standin.connections += 1
        self.standin.open_connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.standin.open_connections -= 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = 0
        for line in head.split(b"\r\n")[1:]:
            if line[:15].lower() == b"content-length:":
                length = int(line[15:])
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        content, delay = self.standin.answer(head.split(b" ", 2)[1].decode(), rest[:length])
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            len(content),
            content,
        )
        if self.end is not None:
            self.end.cancel()
        asyncio.get_running_loop().call_later(delay, self._write, answer)

    def _write(self, answer: bytes) -> None:
        self.transport.write(answer)  # type: ignore[attr-defined]
        self.end = asyncio.get_running_loop().call_later(IDLE, self.transport.close)


async def main() -> None:
    standin = Standin(int(sys.argv[1]) / 1000)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(standin), "127.0.0.1", 0, backlog=1000
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
