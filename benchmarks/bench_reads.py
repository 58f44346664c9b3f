"""CPU time of the widest named queries, beside the same query by Django's ORM."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks.measure import seconds_per_call, show
from benchmarks.site import database

_CONVERSATIONS = 1000
_ASKED = (1, 50)
"""Numbers of queues or persons of one call."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--calls", type=int, default=2000, help="calls of a query with one row in a round")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, database(chosen.database, Path(folder)) as environment:
        os.environ.update(environment, DJANGO_SETTINGS_MODULE="benchmarks.settings")
        import django  # noqa: PLC0415 - the database is known only now

        django.setup()
        from django.core.management import call_command  # noqa: PLC0415

        call_command("migrate", verbosity=0)
        _fill()
        _measure(chosen.calls)


def _fill() -> None:
    from djmessenger import models  # noqa: PLC0415

    page = models.Page.objects.create(page_id="1")
    people = models.FBUserProfile.objects.bulk_create(
        models.FBUserProfile(psid=str(number), page=page) for number in range(_CONVERSATIONS)
    )
    conversations = models.Conversation.objects.bulk_create(
        models.Conversation(page=page, person=person, state={"step": 1}) for person in people
    )
    models.ConversationQueue.objects.ensure(conversation.pk for conversation in conversations)
    models.Messaging.objects.bulk_create(
        models.Messaging(
            type="SIMPLE_TEXT", body={"message": {"text": "hello"}}, key=str(number), page=page,
            conversation=conversation, timestamp=number,
        )
        for number, conversation in enumerate(conversations)
    )  # fmt: skip
    models.Reply.objects.bulk_create(
        models.Reply(
            recipient=conversation.person,
            conversation=conversation,
            type="text",
            data={"message": {"text": "hello"}},
        )
        for conversation in conversations
    )


def _measure(calls: int) -> None:
    from benchmarks import orm_reads  # noqa: PLC0415
    from djmessenger import models  # noqa: PLC0415
    from djmessenger.pipeline import reads  # noqa: PLC0415

    queues = models.ConversationQueue.objects
    keys = {
        "next_events": list(queues.filter(kind="in").values_list("pk", flat=True)),
        "next_replies": list(queues.filter(kind="out").values_list("pk", flat=True)),
        "conversations_of": [str(number) for number in range(_CONVERSATIONS)],
    }
    for name in keys:
        django_query = getattr(orm_reads, name)
        for asked in _ASKED:
            ids = keys[name][:asked]
            assert len(getattr(reads, name)(ids)) == len(django_query(ids)) == asked
            for kind, query in (("named SQL", getattr(reads, name)), ("ORM", django_query)):
                seconds = seconds_per_call(
                    lambda query=query, ids=ids: query(ids), calls=max(1, calls // (asked + 9))
                )
                show(f"{name}, {asked} rows, {kind}", seconds * 1e6, "us")


if __name__ == "__main__":
    main()
