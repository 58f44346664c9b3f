"""What the calls to Graph share: paths, ids, lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from djmessenger.exceptions import DJMInvalidValueException
from djmessenger.graph import results
from djmessenger.graph.results import Paged
from djmessenger.graph.wire import Call

Item = TypeVar("Item")


def segment(value: str) -> str:
    """Give an id as one segment of a path; ``DJMInvalidValueException`` for one that cannot be an id."""
    text = quote(str(value), safe="")
    if not text or text in {".", ".."}:
        raise DJMInvalidValueException("An id for Graph is missing")
    return text


def person(psid: str) -> dict[str, str]:
    """Give the recipient that is a person known by page-scoped id."""
    return {"id": str(psid)}


class Calls:
    """Every call that a bot for one Page makes; ``djmessenger.graph.Client`` executes them."""

    page_id: str

    def execute(self, call: Call) -> Any:
        raise NotImplementedError

    def _answer(self, call: Call, *, needs: str = "") -> tuple[int, Any]:
        """Give status and JSON; ``UnknownFate`` where the JSON lacks the id that ``needs`` names."""
        raise NotImplementedError

    def _page(self, edge: str = "") -> str:
        return f"{segment(self.page_id)}/{edge}" if edge else segment(self.page_id)

    def _get(self, path: str, **params: Any) -> Any:
        return self.execute(Call("GET", path, params=params))

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self.execute(
            Call("POST", path, {key: value for key, value in body.items() if value is not None})
        )

    def _paged(self, path: str, read: Callable[[Any], Item], **params: Any) -> Paged[Item]:
        data = self._get(path, **params)
        return Paged(tuple(map(read, results.items_of(data))), results.after_of(data))

    def _id(self, call: Call, key: str = "id") -> str:
        return results.text_of(self._answer(call, needs=key)[1][key])
