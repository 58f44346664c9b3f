"""``manage.py configure_persistent_menu``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from djmessenger.management.profile_command import ProfileCommand
from djmessenger.operations import profile_apply


class Command(ProfileCommand):
    what = "persistent menu"
    field = "persistent_menu"
    help = (
        "Set DJM_THREAD_PERSISTENT_MENUS as the menu beside the composer: up to 20 dicts with type (postback or "
        "web_url), title, and payload or url. Among the first five entries, taps on postbacks without a payload are "
        "events of type PERSISTENT_MENU_ONE to PERSISTENT_MENU_FIVE. If the Page has no get-started button, the button "
        "is set first, because Meta accepts no menu without it. All people see a change after a day at the latest."
    )

    def configure(self) -> None:
        self.change(self.declared_or(profile_apply.persistent_menu))

    def completed(self, properties: Mapping[str, Any], present: Mapping[str, Any]) -> Mapping[str, Any]:
        if properties["persistent_menu"] is None or present.get("get_started"):
            return properties
        return {**profile_apply.get_started(), **properties}
