"""What a person sees before the first message, sent from the settings: for the commands, and after ``migrate``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import connections, router

from djmessenger import bot, graph, models
from djmessenger.exceptions import DJMException, DJMInvalidConfigException
from djmessenger.operations.profile_declaration import (
    PAGES,
    declaration_for_page,
    declared_properties,
    read_declaration,
)
from djmessenger.operations.profile_plan import Budget, PageProfile, for_platform
from djmessenger.operations.profile_thread_settings import get_started_button, greeting_entries, menu_entries
from djmessenger.settings import app_settings

logger = logging.getLogger(__name__)

MESSENGER: str = models.Page.Channel.MESSENGER.value


def greeting() -> dict[str, Any]:
    """Give the greeting as a property of the Messenger Profile."""
    return {
        "greeting": greeting_entries(
            app_settings.DJM_THREAD_GREETINGS_TEXT, _languages(), settings.LANGUAGE_CODE
        )
    }


def get_started() -> dict[str, Any]:
    """Give the get-started button as a property of the Messenger Profile."""
    return {"get_started": get_started_button()}


def persistent_menu() -> dict[str, Any]:
    """Give the persistent menu as a property of the Messenger Profile."""
    return {
        "persistent_menu": menu_entries(
            app_settings.DJM_THREAD_PERSISTENT_MENUS, _languages(), settings.LANGUAGE_CODE
        )
    }


def _languages() -> list[str]:
    return [code for code, _name in settings.LANGUAGES]


def declared() -> dict[str, Any]:
    """Give ``DJM_PROFILE`` as written; a relative path is looked for in ``BASE_DIR``."""
    return read_declaration(app_settings.DJM_PROFILE, getattr(settings, "BASE_DIR", ""))


def wanted(page_id: str = "", platform: str = MESSENGER) -> dict[str, Any]:
    """Give what the settings want a Page to show: the properties, ``None`` for one that is to go.

    ``DJM_PROFILE`` is laid over the ``DJM_THREAD_*`` settings, and its part for the Page over both. Raises
    ``DJMInvalidConfigException`` with the place of a mistake.
    """
    written = declared()
    of_page = declaration_for_page(written, page_id)
    found = {name: value for name, value in _of_thread_settings().items() if name not in of_page}
    found |= declared_properties(of_page, _languages(), settings.LANGUAGE_CODE)
    own = {str(key): value for key, value in written[PAGES].items()}.get(page_id, {})
    return for_platform(found, platform, own)


def _of_thread_settings() -> dict[str, Any]:
    found: dict[str, Any] = {}
    if app_settings.DJM_THREAD_GREETINGS_TEXT:
        found |= greeting()
    menu = persistent_menu() if app_settings.DJM_THREAD_PERSISTENT_MENUS else {}
    if app_settings.DJM_THREAD_ENABLE_GET_STARTED_BUTTON or menu:
        found |= get_started()
    else:
        found["get_started"] = None
    return found | menu


def page_profile(page_id: str, budget: Budget) -> PageProfile:
    """Give the profile of a Page by its id; of the Page of the settings where it is empty."""
    page = page_of(page_id)
    client = bot.get_client(page)
    return PageProfile(
        client, budget, page_id=page.page_id or id_of(client), platform=page.configured("channel")
    )


def page_of(page_id: str) -> models.Page:
    """Give a Page by the id that a command was given; the one that is meant where none was."""
    if page_id and not (page_id.isdecimal() and page_id.isascii()):
        raise DJMInvalidConfigException(
            f"--page is {page_id!r}; it must be the id of a Page, which is a number"
        )
    return bot.find_page(page_id) if page_id else bot.default_page()


def id_of(client: graph.Client) -> str:
    """Ask Graph whose token it is."""
    return str(client.page_fields(["id"]).get("id", ""))


make_budget = Budget
"""Makes what counts the calls and waits; another clock comes in here."""


def explained(error: graph.GraphError) -> str:
    """Say what Graph answered and what to do; Graph's own text is quoted, so that it cannot pass for ours."""
    if error.code is None:
        return (
            f"Graph gave no answer: {error}\nCheck the network and DJM_GRAPH_URL, then run the command again."
        )
    number = f"{error.code}" if error.subcode is None else f"{error.code}, subcode {error.subcode}"
    trace = f" (fbtrace_id {error.fbtrace_id})" if error.fbtrace_id else ""
    return f"Graph refused with code {number}: {error.message!r}{trace}\n{error.action}"


def auto_configure(
    using: str = "default", *, client_for: Callable[[], graph.Client] | None = None, **kwargs: Any
) -> None:
    """Send the profile after ``migrate`` where ``DJM_THREAD_ENABLE_AUTO_CONFIG`` is on; a receiver of ``post_migrate``.

    Does nothing for a test database, and whatever goes wrong is a warning in the log: ``migrate`` has done its part.
    """
    if not app_settings.DJM_THREAD_ENABLE_AUTO_CONFIG or using != router.db_for_write(models.Page):
        return
    if is_test_database(using):
        return
    try:
        sent = _send_all(client_for or bot.get_client)
    except Exception as error:
        is_known = isinstance(error, DJMException)
        said = explained(error) if isinstance(error, graph.GraphError) else str(error)
        logger.warning(
            "The Messenger Profile is not configured; the commands configure_... and djmessenger profile apply try it "
            "again. %s",
            said if is_known else type(error).__name__,
            exc_info=None if is_known else error,
            extra={"action": "auto_config_failed"},
        )
    else:
        logger.info(
            "The Messenger Profile is configured: %s",
            ", ".join(sent) or "nothing changed",
            extra={"action": "auto_config_done"},
        )


def _send_all(client_for: Callable[[], graph.Client]) -> list[str]:
    """Send what the settings want and the Page does not have; give the names. Never waits: migrate does not."""
    if not any(wanted().values()):
        return []
    client = client_for()
    known = client.page_id if client.page_id != "me" else id_of(client)
    page = PageProfile(client, make_budget(say=logger.info, wait=None), page_id=known)
    plan = page.plan(wanted(known))
    page.apply(plan)
    return [change.name for change in plan.changes]


def is_test_database(using: str) -> bool:
    """Tell whether a database was made for tests: by Django's runner, by pytest, or by ``testserver``."""
    # A runner sets its environment up before it makes a database; private, so looked at without relying on it.
    test_utils = sys.modules.get("django.test.utils")
    if hasattr(getattr(test_utils, "_TestState", None), "saved_data"):
        return True
    options = connections[using].settings_dict
    name = str(options.get("NAME") or "")
    named = str((options.get("TEST") or {}).get("NAME") or "")
    file_name = name.replace("\\", "/").rpartition("/")[2]
    return (
        bool(named and name == named)
        or file_name.startswith("test_")
        or name == ":memory:"
        or "mode=memory" in name
    )
