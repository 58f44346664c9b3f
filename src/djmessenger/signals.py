"""Signals of djmessenger. Each is sent after the commit, in the process that made the change."""

from __future__ import annotations

from django.dispatch import Signal

reply_queued = Signal()
"""Replies of a conversation were queued. Argument: ``conversation_id``."""
reply_sent = Signal()
"""Meta accepted a reply. Argument: ``reply``."""
reply_failed = Signal()
"""A reply failed, was parked or expired. Argument: ``reply``, with the reason in ``error``."""
messaging_failed = Signal()
"""The last try to handle an event failed. Argument: ``messaging``, with the traceback in ``error``."""
page_paused = Signal()
"""A Page was paused, so none of its replies is sent. Argument: ``page``, with the reason in ``pause_reason``."""
