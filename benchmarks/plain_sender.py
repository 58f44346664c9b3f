"""Plain durable bot: sends the answers to the callbacks that the view ``plain`` inserted.

It does the least that a durable bot does, to compare this package with. It has one row for each callback, many calls
of Graph at once, and one mark for each answer. A crash repeats the calls whose mark is missing. It has no order, no
dedup key, no retry and no record of the answer.
"""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.db import connection

SENDERS = 160
CREATE = "CREATE TABLE plain (id bigserial PRIMARY KEY, body bytea NOT NULL, is_answered bool NOT NULL DEFAULT false)"
CREATE_INDEX = "CREATE INDEX plain_waiting ON plain (id) WHERE NOT is_answered"
INSERT = "INSERT INTO plain (body) VALUES (%s)"
WAITING = "SELECT id, body FROM plain WHERE NOT is_answered AND NOT id = ANY(%s) ORDER BY id LIMIT %s"
MARK = "UPDATE plain SET is_answered = true WHERE id = ANY(%s)"
HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {'x' * 20}"}

Rows = queue.SimpleQueue[tuple[int, bytes]]


def send(address: str, rows: Rows, answered: queue.SimpleQueue[int]) -> None:
    """Call Graph for each row, on one connection, for ever."""
    graph = http.client.HTTPConnection(address)
    while True:
        row_id, body = rows.get()
        event: dict[str, Any] = json.loads(body)["entry"][0]["messaging"][0]
        text = event["message"]["text"].removeprefix("say ")
        call = {"recipient": event["sender"], "messaging_type": "RESPONSE", "message": {"text": text}}
        for _try in range(2):
            try:
                graph.request("POST", f"/{settings.DJM_GRAPH_VERSION}/me/messages", json.dumps(call), HEADERS)
                answer = graph.getresponse()
                break
            except ConnectionError:
                # Graph closes connections that were idle for five seconds.
                graph.close()
        if json.loads(answer.read())["message_id"]:
            answered.put(row_id)


def main() -> None:
    django.setup()
    rows: Rows = queue.SimpleQueue()
    answered: queue.SimpleQueue[int] = queue.SimpleQueue()
    arguments = (urlsplit(settings.DJM_GRAPH_URL).netloc, rows, answered)
    for _ in range(SENDERS):
        threading.Thread(target=send, args=arguments, daemon=True).start()
    in_flight: set[int] = set()
    with connection.cursor() as cursor:
        print("ready", flush=True)
        while True:
            done = [answered.get() for _ in range(answered.qsize())]
            if done:
                cursor.execute(MARK, [done])
                in_flight.difference_update(done)
            cursor.execute(WAITING, [[*in_flight], SENDERS - len(in_flight)])
            waiting = cursor.fetchall()
            for row_id, body in waiting:
                in_flight.add(row_id)
                rows.put((row_id, bytes(body)))
            time.sleep(0 if waiting else 0.005)


if __name__ == "__main__":
    main()
