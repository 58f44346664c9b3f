"""Tables made from the code while the documentation is built, so they cannot fall behind it."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from django.utils.functional import Promise
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from djmessenger import rulebook, settings
from djmessenger.receiving import ReceivingType
from djmessenger.utils.default_routing_policy import RUNNABLE_ROUTING_POLICY


def table(head: list[str], rows: list[list[str]]) -> str:
    """Give a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def settings_table() -> str:
    return table(
        ["Setting", "Type", "Default", "Meaning"],
        [
            [f"`{name}`", type_text(row.type), default_text(row.default), row.meaning]
            for name, row in settings.SETTINGS.items()
        ],
    )


def type_text(kind: type | tuple[type, ...]) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    names = {Promise: "lazy text", datetime.timedelta: "timedelta"}
    return " or ".join(
        names.get(one, "path" if one.__name__ == "PathLike" else one.__name__) for one in kinds
    )


def default_text(default: Any) -> str:
    if default is RUNNABLE_ROUTING_POLICY:
        return "the runnable part of the sample policy"
    if isinstance(default, datetime.timedelta):
        return f"{default.days} days"
    if isinstance(default, int) and not isinstance(default, bool) and default % 2**20 == 0 and default:
        return f"`{default}` ({default // 2**20} MiB)"
    return f"`{default!r}`"


def events_table() -> str:
    return table(
        ["Type", "What happened", "Authored by a person"],
        [
            [f"`{name}`", one.description or "–", "yes" if one.authored else ""]
            for name, one in ReceivingType.get_members().items()
        ],
    )


def limits_table() -> str:
    rows = getattr(rulebook, "rows", dict)()
    return table(
        ["Key", "Value", "What", "Source", "Read"],
        [
            [f"`{row.key}`", value_text(row), str(row.what), str(row.source), str(row.date)]
            for row in rows.values()
        ],
    )


def value_text(row: Any) -> str:
    until = getattr(row, "until", None)
    shown = "" if row.value is None else str(row.value)
    return f"{shown} until {until}".strip() if until else shown or "–"


class GeneratedTable(SphinxDirective):
    tables: ClassVar[dict[str, Any]] = {
        "settings-table": settings_table,
        "events-table": events_table,
        "limits-table": limits_table,
    }

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(self.tables[self.name]())


def setup(app: Sphinx) -> dict[str, bool]:
    for name in GeneratedTable.tables:
        app.add_directive(name, GeneratedTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
