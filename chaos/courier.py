"""Sender of callbacks: late, in any order, in batches of any size, some twice or together; and posts of strangers."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from chaos.faults import ECHOES
from chaos.storm import PAGE, Storm
from djmessenger.signatures import sign
from messenger_emulator.server import Callback
from messenger_emulator.webhook import sign_sha1
from messenger_emulator.world import Pending

DELAY = 0.7
"""Maximum delay of a callback in seconds."""
STRANGER = "99900000000000"
"""Id of a person who is named in forged posts only."""
TOO_LARGE = 200_000
REFUSALS = {"unsigned": 403, "wrong": 403, "sha1": 403, "put": 405, "too large": 413}


class Courier:
    """Thread that posts waiting callbacks in waves, each callback until it is answered 200.

    The callbacks of a wave are posted at the same time. A wave begins when all of the wave before are answered 200.
    """

    def __init__(
        self,
        storm: Storm,
        urls: Callable[[], list[str]],
        secret: str,
        seed: int,
        *,
        late: float,
        share: float,
        together: int,
    ) -> None:
        self._storm = storm
        self._urls = urls
        self._secret = secret
        self._late = late
        self._share = share
        self._choose = random.Random(f"courier {seed}")
        self._ended = threading.Event()
        self._busy = threading.Lock()
        self._together = together
        """Most callbacks of a wave."""
        self._pool = ThreadPoolExecutor(together)
        self._open: list[bytes] = []
        self._wave: list[bytes] = []
        """Callbacks of the present wave that are not answered 200 yet. They are also in ``_open``."""
        self._number = 0
        """Number of the present wave."""
        self._delayed_items: list[tuple[float, Pending]] = []
        self.signed: dict[bytes, list[dict[str, Any]]] = {}
        """Items by body, for all bodies with a valid signature."""
        self.spoil = True
        """True while echoes are spoilt and strangers post."""
        self.acknowledged: list[bytes] = []
        self.waves: list[int] = []
        """Number of the wave of each acknowledged callback."""
        self.grouped = 0
        """Number of waves of several callbacks."""
        self.echoes: Counter[str] = Counter()
        self.echoed: dict[str, float] = {}
        """Time at which the echo of a message was first answered 200, by message id; echoes of our app only."""
        self.proofs: list[tuple[str, str]] = []
        """Token and message id of the echoes of our app that were answered 200."""
        self.seconds: list[float] = []
        """Seconds until each answer 200."""
        self.refused: Counter[str] = Counter()
        """Number of failed posts by status or exception."""
        self.turned_away: Counter[str] = Counter()
        """Number of forged posts by kind and answer."""
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(10)
        self._pool.shutdown(cancel_futures=True)

    def idle(self) -> bool:
        with self._busy:
            return not (self._open or self._delayed_items or self._storm.waiting)

    def missing(self) -> list[str]:
        """Return the kinds of echoes, of forged posts and of waves that have not occurred yet."""
        return [
            *(f"echo {kind}" for kind in ECHOES if not self.echoes[kind]),
            *(kind for kind, status in REFUSALS.items() if not self.turned_away[f"{kind}: {status}"]),
            *(["callbacks at the same time"] if self._together > 1 and not self.grouped else []),
        ]

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            with self._busy:
                self._take()
                while self._open and self._post_wave():
                    pass
            if self.spoil and self._choose.random() < 0.2:
                self._post_as_a_stranger()

    def _take(self) -> None:
        now = time.monotonic()
        with self._storm.lock:
            fresh, self._storm.waiting = self._storm.waiting, []
        for pending in fresh:
            self._delayed_items += self._delayed(pending, now)
        due = [pending for at, pending in self._delayed_items if at <= now]
        self._delayed_items = [(at, pending) for at, pending in self._delayed_items if at > now]
        self._choose.shuffle(due)
        while due:
            size = self._choose.choice([1, 1, 2, 3, 8])
            batch, due = due[:size], due[size:]
            self._storm._together = self._choose.random() < 0.5
            self._pack(batch)
            if self._choose.random() < 0.15:
                self._pack(self._choose.sample(batch, len(batch)))
        if self.spoil and self.acknowledged and self._choose.random() < 0.1:
            self._open.append(self._choose.choice(self.acknowledged))

    def _pack(self, batch: list[Pending]) -> None:
        content = self._storm.body_of(batch)
        self._open.append(content)
        self.signed[content] = [pending.item for pending in batch]

    def _delayed(self, pending: Pending, now: float) -> list[tuple[float, Pending]]:
        """Return the times at which an item is posted: one time, or for echoes also late, twice or never."""
        message = pending.item.get("message") or {}
        at = now + self._choose.uniform(0, DELAY) * self.spoil
        if not message.get("is_echo"):
            return [(at, pending)]
        if message["mid"] in self._storm.hurried:
            return [(now, pending)]
        if pending.item["recipient"]["id"] in self._storm.unheard:
            return []
        rare = [kind for kind in ECHOES if not self.echoes[kind]]
        if (
            message["text"] == "forged"
            or not self.spoil
            or self._choose.random() > (0.5 if rare else self._share)
        ):
            return [(at, pending)]
        kind = rare[0] if rare else self._choose.choice(ECHOES)
        self.echoes[kind] += 1
        if kind == "lost":
            return []
        if kind == "late":
            return [(now + self._late, pending)]
        if kind == "twice":
            return [(at, pending), (now + self._choose.uniform(0, DELAY), pending)]
        if kind == "in standby":
            pending.container = "standby"
        else:
            message.pop("metadata", None)
        return [(at, pending)]

    def _note_echoes(self, items: list[dict[str, Any]]) -> None:
        for item in items:
            message = item.get("message") or {}
            token = message.get("metadata", "").partition(" ")[0]
            if message.get("is_echo") and token and str(message["app_id"]) == self._storm.pages[PAGE].app_id:
                self.proofs.append((token, message["mid"]))
                self.echoed.setdefault(message["mid"], time.time())

    def _post_wave(self) -> bool:
        """Post the callbacks of the present wave, or of the next one. Return whether all are answered 200."""
        if not self._wave:
            self._wave = self._open[: self._choose.randint(1, self._together)]
            self._number += 1
            self.grouped += len(self._wave) > 1
        posts = []
        for content in self._wave:
            urls = self._urls()
            self._choose.shuffle(urls)
            posts.append(self._pool.submit(self._post, content, urls))
        for content, post in zip(list(self._wave), posts, strict=True):
            seconds, refusals = post.result()
            self.refused.update(refusals)
            if seconds is not None:
                self.seconds.append(seconds)
                self._wave.remove(content)
                self._open.remove(content)
                self.acknowledged.append(content)
                self.waves.append(self._number)
                self._note_echoes(self.signed[content])
        return not self._wave

    def _post(self, content: bytes, urls: list[str]) -> tuple[float | None, list[str]]:
        """Post a callback to one address after the other, until one answers 200.

        Returns the seconds until that answer, or None without one, and the statuses and exceptions of failed posts.
        """
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": sign(self._secret, content)}
        refusals = []
        for url in urls:
            began = time.monotonic()
            try:
                status = Callback(url).post(content, headers)
            except Exception as error:  # noqa: BLE001 - a server that dies can cause any exception
                refusals.append(type(error).__name__)
                continue
            if status == 200:
                return time.monotonic() - began, refusals
            refusals.append(str(status))
        return None, refusals

    def _post_as_a_stranger(self) -> None:
        """Send a forged post, which the bot must refuse and not store."""
        kind = self._choose.choice(list(REFUSALS))
        content = (
            b'{"object": "page", "entry": [{"id": "%s", "time": 1, "messaging": [{"sender": {"id": "%s"}, '
            b'"recipient": {"id": "%s"}, "timestamp": %d, "message": {"mid": "m_stranger", "text": "canary"}}]}]}'
        ) % (PAGE.encode(), STRANGER.encode(), PAGE.encode(), int(time.time() * 1000))
        if kind == "too large":
            content += b" " * TOO_LARGE
        headers = {
            "unsigned": {},
            "wrong": {"X-Hub-Signature-256": sign("no" + self._secret, content)},
            "sha1": {"X-Hub-Signature": sign_sha1(self._secret, content)},
        }.get(kind, {"X-Hub-Signature-256": sign(self._secret, content)})
        parts = urlsplit(self._choose.choice(self._urls()))
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
        try:
            method = "PUT" if kind == "put" else "POST"
            connection.request(
                method, parts.path, body=content, headers={"Content-Type": "application/json", **headers}
            )
            self.turned_away[f"{kind}: {connection.getresponse().status}"] += 1
        except Exception as error:  # noqa: BLE001 - as above
            self.turned_away[f"{kind}: {type(error).__name__}"] += 1
        finally:
            connection.close()
