"""What a person sees before the first message, sent from the settings: for the commands, and after ``migrate``."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings as django_settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections, router

from djmessenger import bot, graph, models, settings
from djmessenger.exceptions import DJMException, DJMInvalidConfigException
from djmessenger.outgoing import thread

logger = logging.getLogger(__name__)


def greeting() -> dict[str, Any]:
    """Give the greeting as a property of the Messenger Profile."""
    return {
        "greeting": thread.greeting(
            settings.DJM_THREAD_GREETINGS_TEXT, _languages(), django_settings.LANGUAGE_CODE
        )
    }


def get_started() -> dict[str, Any]:
    """Give the get-started button as a property of the Messenger Profile."""
    return {"get_started": thread.get_started()}


def persistent_menu() -> dict[str, Any]:
    """Give the persistent menu as a property of the Messenger Profile."""
    return {
        "persistent_menu": thread.persistent_menu(
            settings.DJM_THREAD_PERSISTENT_MENUS, _languages(), django_settings.LANGUAGE_CODE
        )
    }


def _languages() -> list[str]:
    return [code for code, _name in django_settings.LANGUAGES]


class ProfileCommand(BaseCommand):
    """Parent of the commands that change the Messenger Profile of a Page.

    A refusal by Graph, a broken network and a wrong setting end the command with an exit status of 1.
    """

    what = ""
    """The property, as the help names it."""
    field = ""
    """Its name in the Messenger Profile."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--page",
            default="",
            metavar="PAGE_ID",
            help="Page to change; the one of the settings when left out.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Print the JSON that would be sent, and send nothing."
        )
        parser.add_argument("--remove", action="store_true", help=f"Remove the {self.what} from the Page.")

    def handle(self, *args: Any, **options: Any) -> None:
        self.is_dry: bool = options["dry_run"]
        self.page_id: str = options["page"]
        try:
            if options["remove"]:
                self.remove()
            else:
                self.configure()
        except graph.GraphError as error:
            raise CommandError(_explained(error)) from error
        except DJMException as error:
            raise CommandError(str(error)) from error

    def configure(self) -> None:
        """Send what the settings say."""
        raise NotImplementedError

    def remove(self) -> None:
        """Remove the property from the Page."""
        self.delete(self.field)

    def client(self) -> graph.Client:
        return client_of(self.page_id)

    def send(self, properties: Mapping[str, Any]) -> None:
        if self.is_dry:
            self.show(properties)
            return
        self.client().set_messenger_profile(properties)
        self.say(f"The {self.what} is set.")

    def delete(self, field: str) -> None:
        if self.is_dry:
            self.show({"fields": [field]})
            return
        self.client().delete_messenger_profile([field])
        self.say(f"The {self.what} is removed.")

    def show(self, body: Mapping[str, Any]) -> None:
        self.stdout.write(json.dumps(body, indent=2, ensure_ascii=False))

    def say(self, sentence: str) -> None:
        self.stdout.write(self.style.SUCCESS(sentence))


def client_of(page_id: str) -> graph.Client:
    """Give the client of a Page by its id; of the Page of the settings where it is empty."""
    if not page_id:
        return bot.get_client()
    if not page_id.isdecimal() or not page_id.isascii():
        raise DJMInvalidConfigException(
            f"--page is {page_id!r}; it must be the id of a Page, which is a number"
        )
    page = models.Page.objects.filter(page_id=page_id).first()
    return bot.get_client(page or models.Page(page_id=page_id))


def _explained(error: graph.GraphError) -> str:
    """Say what Graph answered and what to do; Graph's own text is quoted, so that it cannot pass for ours."""
    if error.code is None:
        return (
            f"Graph gave no answer: {error}\nCheck the network and DJM_GRAPH_URL, then run the command again."
        )
    number = f"{error.code}" if error.subcode is None else f"{error.code}, subcode {error.subcode}"
    trace = f" (fbtrace_id {error.fbtrace_id})" if error.fbtrace_id else ""
    return f"Graph refused with code {number}: {error.message!r}{trace}\n{error.action}"


def send_all(client: graph.Client) -> list[str]:
    """Send everything that the settings hold, in the order that Graph asks for; give the names of what was sent.

    The menu goes last and alone: Graph takes it only where the get-started button stands already.
    """
    first: dict[str, Any] = {}
    if settings.DJM_THREAD_GREETINGS_TEXT:
        first |= greeting()
    menu = persistent_menu() if settings.DJM_THREAD_PERSISTENT_MENUS else {}
    if settings.DJM_THREAD_ENABLE_GET_STARTED_BUTTON or menu:
        first |= get_started()
    for properties in filter(None, (first, menu)):
        client.set_messenger_profile(properties)
    return [*first, *menu]


def auto_configure(
    using: str = "default", *, client_for: Callable[[], graph.Client] | None = None, **kwargs: Any
) -> None:
    """Send the profile after ``migrate`` where ``DJM_THREAD_ENABLE_AUTO_CONFIG`` is on; a receiver of ``post_migrate``.

    Does nothing for a test database, and whatever goes wrong is a warning in the log: ``migrate`` has done its part.
    """
    if not settings.DJM_THREAD_ENABLE_AUTO_CONFIG or using != router.db_for_write(models.Page):
        return
    if is_test_database(using):
        return
    try:
        sent = send_all((client_for or bot.get_client)())
    except Exception as error:
        is_known = isinstance(error, DJMException)
        said = _explained(error) if isinstance(error, graph.GraphError) else str(error)
        logger.warning(
            "The Messenger Profile is not configured; the commands configure_... try it again. %s",
            said if is_known else type(error).__name__,
            exc_info=None if is_known else error,
            extra={"action": "auto_config_failed"},
        )
    else:
        logger.info(
            "The Messenger Profile is configured: %s", ", ".join(sent), extra={"action": "auto_config_done"}
        )


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
