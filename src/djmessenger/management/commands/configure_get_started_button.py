"""``manage.py configure_get_started_button``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError

from djmessenger.management.profile_command import ProfileCommand
from djmessenger.operations import profile_apply
from djmessenger.settings import app_settings


class Command(ProfileCommand):
    what = "get-started button"
    field = "get_started"
    help = (
        "Set the get-started button of the Page. With --remove, or if DJM_THREAD_ENABLE_GET_STARTED_BUTTON is False, "
        "remove it. A tap on the button is an event of type GET_STARTED_BUTTON. The persistent menu needs the button: "
        "to remove both, remove the menu first."
    )

    def configure(self) -> None:
        self.change(self.declared_or(self._of_the_setting))

    @staticmethod
    def _of_the_setting() -> Mapping[str, Any]:
        return (
            profile_apply.get_started()
            if app_settings.DJM_THREAD_ENABLE_GET_STARTED_BUTTON
            else {"get_started": None}
        )

    def completed(self, properties: Mapping[str, Any], present: Mapping[str, Any]) -> Mapping[str, Any]:
        if properties["get_started"] is None and present.get("persistent_menu"):
            raise CommandError(
                "The Page has a persistent menu, which needs the get-started button. "
                "Remove the menu first: manage.py configure_persistent_menu --remove"
            )
        return properties
