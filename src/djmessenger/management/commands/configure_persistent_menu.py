"""``manage.py configure_persistent_menu``."""

from __future__ import annotations

from djmessenger.management import profile


class Command(profile.ProfileCommand):
    what = "persistent menu"
    field = "persistent_menu"
    help = (
        "Send DJM_THREAD_PERSISTENT_MENUS, the menu beside the composer: up to 20 dicts with type (postback or "
        "web_url), title, and payload or url. The first five postbacks without a payload arrive as "
        "PERSISTENT_MENU_ONE to PERSISTENT_MENU_FIVE. Sets the get-started button first where the Page has none, for "
        "Meta takes no menu without it. A change can take a day to reach everybody."
    )

    def configure(self) -> None:
        menu = profile.persistent_menu()
        if not self.is_dry and self.client().get_messenger_profile(["get_started"]).get_started is None:
            self.client().set_messenger_profile(profile.get_started())
            self.say("The get-started button is set, for the menu needs it.")
        self.send(menu)
