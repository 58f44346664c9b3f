"""Internal: system checks of the Pages in ``DJM_PAGES``."""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage

from djmessenger import bot
from djmessenger.bot.tokens import key_problems
from djmessenger.checks import (
    are_right,
    message_of_problem,
    new_error,
    new_warning,
    register,
    version_messages,
)
from djmessenger.settings.declared import ID, PAGE_KEYS, SETTINGS, app_settings
from djmessenger.settings.setting import type_name


@register("DJM_PAGES", "DJM_TOKEN_KEYS")
def check_pages(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Report entries of ``DJM_PAGES`` that cannot be used or belong to no app, and wrong ``DJM_TOKEN_KEYS``."""
    messages = [
        new_error("E022", problem.partition(". ")[0] + ".", problem.partition(". ")[2] or problem, "pages")
        for problem in _key_problems()
    ]
    if not isinstance(app_settings.DJM_PAGES, dict):
        return messages
    # The setting is in no local variable, because a traceback of an exception below would show the tokens.
    for number, page_id in enumerate(app_settings.DJM_PAGES, 1):
        # A key that is no page id may be a token at the wrong place.
        name = f"DJM_PAGES[{page_id!r}]" if _is_page_id(page_id) else f"Entry {number} of DJM_PAGES"
        if complaint := _complaint_of_page(page_id):
            messages.append(new_error("E020", f"{name} {complaint}.", SETTINGS["DJM_PAGES"].meaning, "pages"))
            continue
        messages += _check_page(page_id, name)
    if app_settings.DJM_PAGES and app_settings.DJM_PAGE_ACCESS_TOKEN and not app_settings.DJM_PAGE_ID:
        messages.append(
            new_warning(
                "W026",
                "DJM_PAGE_ACCESS_TOKEN and DJM_PAGES are set without DJM_PAGE_ID, so no Page uses that token.",
                "Set DJM_PAGE_ID to the id of its Page, or move the token into DJM_PAGES.",
                "pages",
            )
        )
    return messages


def _check_page(page_id: str, name: str) -> Iterator[CheckMessage]:
    if version := app_settings.page_setting(page_id, "version"):
        yield from version_messages(
            version, datetime.datetime.now(tz=datetime.UTC).date(), f"{name}['version']"
        )
    if policy := app_settings.page_setting(page_id, "policy"):
        yield from (message_of_problem(problem, f"{name}: ") for problem in bot.get_problems_at(str(policy)))
    if app_settings.page_setting(page_id, "login") == "instagram" and app_settings.page_setting(
        page_id, "token"
    ):
        yield new_warning(
            "W064",
            f"{name} has the token of an account with Instagram Login, which Meta ends after 60 days. A token in the "
            "settings cannot be renewed.",
            f"Store it in the database: manage.py djmessenger tokens --set {page_id}. Then remove it from the setting.",
            "pages",
        )
    names = app_settings.DJM_APP_SECRET if are_right("DJM_APP_SECRET") else ()
    apps = {name for name in names if name and not name.startswith("#")}
    app_id = app_settings.page_setting(page_id, "app_id") or app_settings.DJM_APP_ID
    if app_id and apps and app_id not in apps:
        yield new_warning(
            "W025",
            f"{name} is of app {app_id}, which is not in DJM_APP_SECRET: all its callbacks are ignored.",
            "Add the app's id and secret to DJM_APP_SECRET, or correct the id.",
            "pages",
        )
    elif not app_id and len(apps) > 1:
        yield new_warning(
            "W024",
            f"{name} has no app_id, and DJM_APP_SECRET contains several apps: each of them can write to this Page.",
            "Set app_id to the app to which the Page belongs.",
            "pages",
        )


def _is_page_id(key: Any) -> bool:
    return isinstance(key, str) and re.fullmatch(ID.pattern, key) is not None


def _complaint_of_page(page_id: Any) -> str:
    """Return the reason why an entry of ``DJM_PAGES`` is refused, without its values: one of them is the token."""
    if not _is_page_id(page_id):
        return "has a key that is no page id, which is a text of digits"
    if not isinstance(app_settings.DJM_PAGES[page_id], dict):
        return f"must be dict, not {type_name(app_settings.DJM_PAGES[page_id])}"
    for name in app_settings.DJM_PAGES[page_id]:
        if name not in PAGE_KEYS:
            close = difflib.get_close_matches(str(name), PAGE_KEYS, 1)
            if close:
                return f"has the key {name!r}, which does not exist; did you mean {close[0]!r}?"
            return f"has a key that does not exist; the keys are {', '.join(PAGE_KEYS)}"
        if problem := PAGE_KEYS[name].problem(app_settings.page_value(page_id, name)):
            return f"has the key {name!r}, whose value {problem}"
    return ""


def _key_problems() -> list[str]:
    return key_problems() if are_right("DJM_TOKEN_KEYS") else []
