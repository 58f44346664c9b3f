"""The stand-in for Meta in bad weather: Graph fails in every way there is, callbacks come in any order and twice."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from djmessenger.emulator import Emulator, NoAnswer
from djmessenger.emulator.core import Answer
from djmessenger.emulator.server import Callback
from djmessenger.emulator.world import Pending
from djmessenger.signatures import sign

PAGE = "104233987650012"
TOO_LONG = 1.2
"""Seconds; the client gives up before."""
ECHO_DELAY = 0.7
"""Seconds at most by which a callback is late."""


def _error(status: int, code: int, **headers: str) -> Answer:
    kind = {
        "Content-Type": "application/json",
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }
    return status, kind, b'{"error": {"message": "stormy", "code": %d, "fbtrace_id": "A0"}}' % code


REFUSALS: dict[str, Answer] = {
    "500": (500, {}, b""),
    "html": (502, {"Content-Type": "text/html"}, b"<html>Bad gateway</html>"),
    "code 1": _error(500, 1),
    "code 2": _error(500, 2),
    "unknown code": _error(400, 918273),
    "throttled": _error(429, 613, Retry_After="1"),
    "throttled, junk": _error(429, 4, Retry_After="1; soon"),
    "redirect": (302, {"Location": "http://127.0.0.1:1/"}, b""),
}
"""Answers to calls that are not carried out."""
SPOILT: dict[str, Answer] = {
    "200 without id": (200, {}, b'{"recipient_id": "1"}'),
    "500 although accepted": (500, {}, b""),
    "code 1 although accepted": _error(500, 1),
    "html although accepted": (200, {"Content-Type": "text/html"}, b"<html></html>"),
    "cut": (200, {"Content-Type": "application/json"}, b'{"recipient_id": "1", "mess'),
    "bad gzip": (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08 no gzip"),
}
"""Answers to calls that are carried out."""
FAULTS = [
    *REFUSALS,
    *SPOILT,
    "hung up before",
    "hung up after",
    "silent before",
    "silent after",
    "late acceptance",
]


class Storm(Emulator):
    """Spoils a share of the sends; which ones, and how, follows from the seed and their number."""

    def __init__(self, seed: int, share: float, *, receipts: bool = True) -> None:
        super().__init__(
            seed=str(seed), enforce_rates=False, read_receipts=receipts, delivery_receipts=receipts
        )
        self._seed = seed
        self.share = share
        self._number = 0
        self._numbers = threading.Lock()
        self.struck: Counter[str] = Counter()
        self.tokens: list[str] = []
        """Every token in a request, in the order of arrival."""

    def _fault(self) -> str:
        with self._numbers:
            self._number += 1
            choose = random.Random(f"{self._seed} {self._number}")
            if choose.random() >= self.share:
                return ""
            rare = [fault for fault in FAULTS if not self.struck[fault]]
            fault = choose.choice(rare or FAULTS)
            self.struck[fault] += 1
            return fault

    def handle(
        self, method: str, path: str, query: Any = "", headers: Any = None, body: bytes = b""
    ) -> Answer:
        if not path.endswith("/messages") or b'"message"' not in body:
            return super().handle(method, path, query, headers, body)
        fault = self._fault()
        if fault in REFUSALS:
            return REFUSALS[fault]
        if fault == "hung up before":
            raise NoAnswer(accepted=False)
        if fault == "silent before":
            time.sleep(TOO_LONG)
            raise NoAnswer(accepted=False)
        if fault == "late acceptance":
            time.sleep(TOO_LONG)
        answer = super().handle(method, path, query, headers, body)
        if fault in SPOILT:
            return SPOILT[fault]
        if fault == "hung up after":
            raise NoAnswer(accepted=True)
        if fault == "silent after":
            time.sleep(TOO_LONG)
        return answer


class Courier:
    """Posts what waits: late, in any order, in batches of any size, some of it again; until it is answered 200."""

    def __init__(self, storm: Storm, urls: Callable[[], list[str]], secret: str, seed: int) -> None:
        self._storm = storm
        self._urls = urls
        self._secret = secret
        self._choose = random.Random(f"courier {seed}")
        self._ended = threading.Event()
        self._busy = threading.Lock()
        self._open: list[bytes] = []
        self._held: list[tuple[float, Pending]] = []
        self.acknowledged: list[bytes] = []
        self.refused: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(10)

    def idle(self) -> bool:
        with self._busy:
            return not (self._open or self._held or self._storm.waiting)

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            with self._busy:
                self._take()
                for content in list(self._open):
                    if not self._post(content):
                        break
                    self._open.remove(content)
                    self.acknowledged.append(content)

    def _take(self) -> None:
        now = time.monotonic()
        with self._storm.lock:
            fresh, self._storm.waiting = self._storm.waiting, []
        self._held += [(now + self._choose.uniform(0, ECHO_DELAY), pending) for pending in fresh]
        due = [pending for at, pending in self._held if at <= now]
        self._held = [(at, pending) for at, pending in self._held if at > now]
        self._choose.shuffle(due)
        while due:
            size = self._choose.choice([1, 1, 2, 3, 8])
            batch, due = due[:size], due[size:]
            self._storm._together = self._choose.random() < 0.5
            self._open.append(self._storm.body_of(batch))
            if self._choose.random() < 0.15:
                self._open.append(self._storm.body_of(self._choose.sample(batch, len(batch))))
        if self.acknowledged and self._choose.random() < 0.1:
            self._open.append(self._choose.choice(self.acknowledged))

    def _post(self, content: bytes) -> bool:
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": sign(self._secret, content)}
        urls = self._urls()
        self._choose.shuffle(urls)
        for url in urls:
            try:
                status = Callback(url).post(content, headers)
            except OSError as error:
                self.refused[type(error).__name__] += 1
                continue
            except Exception as error:  # noqa: BLE001 - a server that dies may leave anything behind
                self.refused[type(error).__name__] += 1
                continue
            if status == 200:
                return True
            self.refused[str(status)] += 1
        return False
