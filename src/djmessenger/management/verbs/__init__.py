"""The verbs of ``manage.py djmessenger``: one module each, named as on the command line.

A verb module has ``help`` (one paragraph), ``add_arguments(parser)`` and ``handle(command, **options)``, which returns
the exit code, or None for success. With ``needs_checks = False`` the verb runs although the system checks fail.
"""

from __future__ import annotations
