"""Signals of djmessenger: each is sent after the commit, in the process that did the work."""

from __future__ import annotations

from django.dispatch import Signal

reply_queued = Signal()
"""Replies of a conversation wait: ``conversation_id``."""
reply_sent = Signal()
"""Meta has a reply: ``reply``."""
reply_failed = Signal()
"""A reply will not be sent: ``reply``, which is failed, parked or expired and says why."""
messaging_failed = Signal()
"""The last try to handle an event failed: ``messaging``, whose ``error`` is the traceback."""
page_paused = Signal()
"""Nothing is sent for a Page for now: ``page``, whose ``pause_reason`` says why."""
