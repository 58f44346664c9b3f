"""Worker process of a pass: the command, with the faults inside a process."""

from __future__ import annotations

from django.core.management import call_command

from chaos.inside import set_up

if __name__ == "__main__":
    set_up()
    call_command("djmessenger", "worker", threads=4, slow_threads=4)
