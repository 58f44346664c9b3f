"""The verbs of ``manage.py djmessenger``: every module here is one, named as it is typed.

A verb module has ``help`` (one paragraph that teaches), ``add_arguments(parser)`` and ``handle(command, **options)``,
which gives the exit code, or None for success. ``needs_checks = False`` lets it run where the system checks fail.
"""

from __future__ import annotations
