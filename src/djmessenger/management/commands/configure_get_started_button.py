"""``manage.py configure_get_started_button``."""

from __future__ import annotations

from django.core.management.base import CommandError

from djmessenger import settings
from djmessenger.management import profile


class Command(profile.ProfileCommand):
    what = "get-started button"
    field = "get_started"
    help = (
        "Show the get-started button, or remove it where DJM_THREAD_ENABLE_GET_STARTED_BUTTON is False or --remove "
        "is given. A tap on it arrives as GET_STARTED_BUTTON. The persistent menu needs it, so the menu goes first "
        "when both are removed."
    )

    def configure(self) -> None:
        if settings.DJM_THREAD_ENABLE_GET_STARTED_BUTTON:
            self.send(profile.get_started())
        else:
            self.remove()

    def remove(self) -> None:
        if not self.is_dry and self.client().get_messenger_profile(["persistent_menu"]).persistent_menu:
            raise CommandError(
                "The Page has a persistent menu, and Meta keeps a menu only beside the get-started button. "
                "Remove the menu first: manage.py configure_persistent_menu --remove"
            )
        self.delete(self.field)
