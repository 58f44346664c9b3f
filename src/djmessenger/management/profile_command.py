"""The parent of the commands that change one property of the Messenger Profile."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from djmessenger.exceptions import DJMException
from djmessenger.graph.errors import GraphError
from djmessenger.management.output import clean_output
from djmessenger.operations import profile_apply
from djmessenger.operations.profile_declaration import declaration_for_page
from djmessenger.operations.profile_plan import make_plan
from djmessenger.settings import app_settings

NAMES: Mapping[str, str] = {"get_started": "get-started button"}


class ProfileCommand(BaseCommand):
    """Parent of the commands that change the Messenger Profile of a Page.

    A refusal by Graph, a network failure or a wrong setting ends the command with exit code 1.
    """

    what = ""
    """Name of the property in the help and the output."""
    field = ""
    """Name of the property in the Messenger Profile."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--page",
            default="",
            metavar="PAGE_ID",
            help="Id of the Page to change; by default the Page of the settings.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Print the JSON that would be sent, and send nothing."
        )
        parser.add_argument("--remove", action="store_true", help=f"Remove the {self.what} from the Page.")

    def handle(self, *args: Any, **options: Any) -> None:
        self.is_dry: bool = options["dry_run"]
        self.page_id: str = options["page"]
        with clean_output(self):
            try:
                if options["remove"]:
                    self.remove()
                else:
                    self.configure()
            except GraphError as error:
                raise CommandError(profile_apply.explained(error)) from error
            except DJMException as error:
                raise CommandError(str(error)) from error

    def configure(self) -> None:
        """Set the property to the value of the settings."""
        raise NotImplementedError

    def remove(self) -> None:
        """Remove the property from the Page."""
        self.change({self.field: None})

    def change(self, properties: Mapping[str, Any]) -> None:
        """Set the properties that differ on the Page; ``None`` removes one. With ``--dry-run`` only print them."""
        if self.is_dry:
            gone = [name for name, value in properties.items() if value is None]
            self.show({"fields": gone} if gone else properties)
            return
        page = profile_apply.page_profile(self.page_id, profile_apply.make_budget(say=self.stdout.write))
        present = page.read()
        plan = make_plan(self.completed(properties, present), present)
        page.apply(plan)
        for change in plan.changes:
            if change.name != self.field:
                self.say(f"The {NAMES[change.name]} is set, because the {self.what} needs it.")
        is_removed = properties[self.field] is None
        state = "removed" if is_removed else "set"
        self.say(f"The {self.what} is {state}." if plan else f"The {self.what} was {state} already.")

    def completed(self, properties: Mapping[str, Any], present: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the properties with those that they need on a Page with ``present``, or raise ``CommandError``."""
        return properties

    def declared_or(self, otherwise: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the property as ``DJM_PROFILE`` declares it, or the result of ``otherwise`` if it does not."""
        page_id = self.page_id or app_settings.DJM_PAGE_ID
        if self.field in declaration_for_page(profile_apply.declared(), page_id):
            return {self.field: profile_apply.wanted(page_id)[self.field]}
        return otherwise()

    def show(self, body: Mapping[str, Any]) -> None:
        for line in json.dumps(body, indent=2, ensure_ascii=False).split("\n"):
            self.stdout.write(line)

    def say(self, sentence: str) -> None:
        self.stdout.write(sentence, self.style.SUCCESS)
