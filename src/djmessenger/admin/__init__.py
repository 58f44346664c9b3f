"""The admin: events with their outcome, replies with their state, conversations, Pages and persons.

Content of persons is shown as text only. The browser of a member of staff loads no file from an address of a person.
"""

from __future__ import annotations

from djmessenger.admin import conversations, inbox, outbox, pages, people  # noqa: F401 - each registers its models
