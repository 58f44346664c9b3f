"""``manage.py configure_greetings``."""

from __future__ import annotations

from djmessenger.management.profile_command import ProfileCommand
from djmessenger.operations import profile_apply


class Command(ProfileCommand):
    what = "greeting"
    field = "greeting"
    help = (
        "Set DJM_THREAD_GREETINGS_TEXT as the greeting of the Page: the text that a person reads before the first "
        "message. It has at most 160 characters; {{user_first_name}}, {{user_last_name}} and {{user_full_name}} stand "
        "for the reader. A gettext-lazy text is sent in each language of LANGUAGES that has a translation."
    )

    def configure(self) -> None:
        self.change(self.declared_or(profile_apply.greeting))
