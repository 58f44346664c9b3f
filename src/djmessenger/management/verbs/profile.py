"""``manage.py djmessenger profile``: compare the Messenger Profile of a Page with the settings, and change it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from djmessenger.management.targets import add_page_arguments, chosen, command_errors, each_page
from djmessenger.operations import profile_apply as profile
from djmessenger.operations import profile_declaration as declaration
from djmessenger.operations.profile_plan import PageProfile, Plan
from djmessenger.operations.profile_properties import ORDER

help = (  # noqa: A001 - as every verb names it
    "Compare the Messenger Profile of a Page with the settings, and change it. The profile is the part that a person "
    "sees before the first message: greeting, get-started button, menu, ice breakers, commands, domains and linking "
    "address. DJM_PROFILE and the DJM_THREAD settings declare it. plan: show the difference and change nothing. "
    "apply: set the declared properties; it may be interrupted and repeated. check: like plan, with exit code 1 if "
    "Page and settings differ, and 2 if an error prevents the comparison. pull: print the properties of the Page as a "
    "declaration. reset: remove all properties. rollback: revert the last change. Properties that are not declared "
    "are not changed."
)

NOTHING = "nothing to change"


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("action", choices=sorted(_ACTIONS))
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=ORDER,
        metavar="PROPERTY",
        help=f"only this property; may be repeated: {', '.join(ORDER)}",
    )
    parser.add_argument("--json", action="store_true", help="pull: print JSON instead of TOML")
    parser.add_argument("--output", type=Path, metavar="FILE", help="pull: write to a file")
    add_page_arguments(parser)


def handle(command: BaseCommand, **options: Any) -> int:
    with command_errors():
        act = _ACTIONS[options["action"]]
        page_ids = chosen(options, more=map(str, profile.declared()[declaration.PAGES]))
        if options["action"] == "pull" and len(page_ids) > 1:
            raise CommandError("pull prints one Page; select it with --page")

        def act_on(page_id: str) -> bool:
            page = profile.page_profile(page_id, profile.make_budget(say=command.stderr.write))
            return act(_Run(command, page, options))

        return int(each_page(command, page_ids, act_on))


class _Run:
    """One action on one Page."""

    def __init__(self, command: BaseCommand, page: PageProfile, options: Mapping[str, Any]) -> None:
        self.command = command
        self.page = page
        self.options = options
        self.only = options["only"]

    def say(self, line: str) -> None:
        self.command.stdout.write(line)

    def wanted(self) -> dict[str, Any]:
        properties = profile.wanted(self.page.page_id, self.page.platform)
        return {name: value for name, value in properties.items() if not self.only or name in self.only}

    def show(self, plan: Plan | None, nothing: str = NOTHING) -> None:
        self.say(f"Page {self.page.page_id}: {_count(plan) if plan else nothing}")
        for line in [line for change in plan.changes for line in change.lines()] if plan else []:
            self.say(line)
        if plan and plan.unmanaged and not self.only:
            self.say(f"  not declared, so not changed: {', '.join(plan.unmanaged)}")


def _plan(run: _Run) -> bool:
    run.show(run.page.plan(run.wanted()))
    return False


def _check(run: _Run) -> bool:
    plan = run.page.plan(run.wanted())
    run.show(plan)
    return bool(plan)


def _apply(run: _Run) -> bool:
    return _carry_out(run, run.page.plan(run.wanted()), run.page.apply)


def _reset(run: _Run) -> bool:
    nothing = {name: None for name in ORDER if not run.only or name in run.only}
    return _carry_out(run, run.page.plan(nothing), run.page.apply)


def _rollback(run: _Run) -> bool:
    plan = run.page.plan_rollback()
    if plan is None:
        run.show(None, "no change to revert")
        return False
    return _carry_out(run, plan, run.page.roll_back)


def _carry_out(run: _Run, plan: Plan, work: Callable[..., None]) -> bool:
    run.say(f"Page {run.page.page_id}: {_count(plan) if plan else NOTHING}")
    work(plan, say=run.say)
    return False


def _pull(run: _Run) -> bool:
    properties = declaration.of_profile(run.page.read())
    properties = {name: value for name, value in properties.items() if not run.only or name in run.only}
    text = f"{json.dumps(properties, indent=2)}\n" if run.options["json"] else declaration.to_toml(properties)
    output = run.options["output"]
    if output is None:
        for line in text.removesuffix("\n").split("\n"):
            run.command.stdout.write(line)
    else:
        output.write_text(text, encoding="utf-8")
        run.say(f"Page {run.page.page_id}: written to {output}")
    return False


def _count(plan: Plan) -> str:
    return "1 change" if len(plan.changes) == 1 else f"{len(plan.changes)} changes"


_ACTIONS: Mapping[str, Callable[[_Run], bool]] = {
    "apply": _apply,
    "check": _check,
    "plan": _plan,
    "pull": _pull,
    "reset": _reset,
    "rollback": _rollback,
}
