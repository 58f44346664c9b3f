"""The Messenger Profile of the settings, sent to Meta by the commands and after ``migrate``.

The profile is the part of a conversation that a person sees before the first message: greeting, button, menu.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import connections

from djmessenger import bot, models, sql
from djmessenger.bot.pages import default_page, find_page
from djmessenger.exceptions import DJMException, DJMInvalidConfigException
from djmessenger.graph.client import Client
from djmessenger.graph.errors import GraphError
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
    """Return the greeting as a property of the Messenger Profile."""
    return {
        "greeting": greeting_entries(
            app_settings.DJM_THREAD_GREETINGS_TEXT, _languages(), settings.LANGUAGE_CODE
        )
    }


def get_started() -> dict[str, Any]:
    """Return the get-started button as a property of the Messenger Profile."""
    return {"get_started": get_started_button()}


def persistent_menu() -> dict[str, Any]:
    """Return the persistent menu as a property of the Messenger Profile."""
    return {
        "persistent_menu": menu_entries(
            app_settings.DJM_THREAD_PERSISTENT_MENUS, _languages(), settings.LANGUAGE_CODE
        )
    }


def _languages() -> list[str]:
    return [code for code, _name in settings.LANGUAGES]


def declared() -> dict[str, Any]:
    """Return ``DJM_PROFILE`` as declared. A relative path is relative to ``BASE_DIR``."""
    return read_declaration(app_settings.DJM_PROFILE, getattr(settings, "BASE_DIR", ""))


def wanted(page_id: str = "", platform: str = MESSENGER) -> dict[str, Any]:
    """Return the properties that the settings declare for a Page; ``None`` for a property to remove.

    ``DJM_PROFILE`` overrides the ``DJM_THREAD_*`` settings, and its part for the Page overrides both. Raises
    ``DJMInvalidConfigException`` with the position of a mistake.
    """
    written = declared()
    of_page = declaration_for_page(written, page_id)
    properties = {name: value for name, value in _of_thread_settings().items() if name not in of_page}
    properties |= declared_properties(of_page, _languages(), settings.LANGUAGE_CODE)
    page_declaration = {str(key): value for key, value in written[PAGES].items()}.get(page_id, {})
    return for_platform(properties, platform, page_declaration)


def _of_thread_settings() -> dict[str, Any]:
    properties: dict[str, Any] = {}
    if app_settings.DJM_THREAD_GREETINGS_TEXT:
        properties |= greeting()
    menu = persistent_menu() if app_settings.DJM_THREAD_PERSISTENT_MENUS else {}
    if app_settings.DJM_THREAD_ENABLE_GET_STARTED_BUTTON or menu:
        properties |= get_started()
    else:
        properties["get_started"] = None
    return properties | menu


def page_profile(page_id: str, budget: Budget) -> PageProfile:
    """Return the profile of the Page with this id; if it is empty, of the default Page."""
    page = page_of(page_id)
    client = bot.get_client(page)
    return PageProfile(
        client, budget, page_id=page.page_id or id_of(client), platform=page.configured("channel")
    )


def page_of(page_id: str) -> models.Page:
    """Return the Page with the id of an option ``--page``; if it is empty, the default Page.

    Raises ``DJMInvalidConfigException`` if the id is no number.
    """
    if page_id and not (page_id.isdecimal() and page_id.isascii()):
        raise DJMInvalidConfigException(
            f"--page is {page_id!r}; it must be the id of a Page, which is a number"
        )
    return find_page(page_id) if page_id else default_page()


def id_of(client: Client) -> str:
    """Return the id of the Page to which the client's token belongs; one GET."""
    return str(client.page_fields(["id"]).get("id", ""))


make_budget = Budget
"""Class of the call budget. Tests replace it to use another clock."""


def explained(error: GraphError) -> str:
    """Return a message with Graph's answer and the action to take. Graph's text is quoted, so it is visibly Graph's."""
    if error.code is None:
        return (
            f"Graph did not answer: {error}\nCheck the network and DJM_GRAPH_URL, then run the command again."
        )
    number = f"{error.code}" if error.subcode is None else f"{error.code}, subcode {error.subcode}"
    trace = f" (fbtrace_id {error.fbtrace_id})" if error.fbtrace_id else ""
    return f"Graph refused with code {number}: {error.message!r}{trace}\n{error.action}"


def auto_configure(
    using: str = "default", *, client_for: Callable[[], Client] | None = None, **kwargs: Any
) -> None:
    """Send the profile after ``migrate`` if ``DJM_THREAD_ENABLE_AUTO_CONFIG`` is on. Receiver of ``post_migrate``.

    Does nothing for a test database. Never raises: a failure is logged as a warning, because ``migrate`` has succeeded.
    """
    if not app_settings.DJM_THREAD_ENABLE_AUTO_CONFIG or using != sql.alias():
        return
    if is_test_database(using):
        return
    try:
        sent = _send_all(client_for or bot.get_client)
    except Exception as error:
        is_known = isinstance(error, DJMException)
        message = explained(error) if isinstance(error, GraphError) else str(error)
        logger.warning(
            "The Messenger Profile was not configured; run manage.py djmessenger profile apply, or the commands "
            "configure_..., to repeat it. %s",
            message if is_known else type(error).__name__,
            exc_info=None if is_known else error,
            extra={"action": "auto_config_failed"},
        )
    else:
        logger.info(
            "The Messenger Profile was configured: %s",
            ", ".join(sent) or "nothing changed",
            extra={"action": "auto_config_done"},
        )


def _send_all(client_for: Callable[[], Client]) -> list[str]:
    """Send the properties in which the Page differs from the settings and return their names.

    Raises ``OverBudget`` instead of a wait, because ``migrate`` must not wait.
    """
    if not any(wanted().values()):
        return []
    client = client_for()
    page_id = client.page_id if client.page_id != "me" else id_of(client)
    page = PageProfile(client, make_budget(say=logger.info, wait=None), page_id=page_id)
    plan = page.plan(wanted(page_id))
    page.apply(plan)
    return [change.name for change in plan.changes]


def is_test_database(using: str) -> bool:
    """Return whether a database was made for tests: by Django's runner, by pytest, or by ``testserver``."""
    # A runner sets up its environment before it makes a database. The attribute is private, so its absence is no error.
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
