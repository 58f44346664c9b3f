"""One replier for each kind of message that has no documented replier. Its arguments are the fields of the message."""

from __future__ import annotations

from typing import Any, ClassVar

from djmessenger.outgoing.base import MESSAGES, OutgoingMessage
from djmessenger.outgoing.data import from_data
from djmessenger.replying.repliers import MessageReplier


class KindReplier(MessageReplier):
    """Parent of repliers whose arguments are the fields of one kind of message, as plain data or objects.

    ``{"name": "djmessenger.replying.CouponReplier", "args": {"title": "Ten off", "coupon_code": "TEA10"}}`` is equal to
    a ``MessageReplier`` with the data ``{"type": "coupon", ...}``.
    """

    kind: ClassVar[str]

    def __init__(self, **fields: Any) -> None:
        super().__init__(from_data({"type": self.kind, **fields}, with_files=True))
        self.fields = fields

    def json_unordered(self) -> dict[str, Any]:
        """Return the fields as the constructor got them."""
        return dict(self.fields)


HAVE_A_REPLIER = frozenset(
    {"text", "simple_text", "image", "audio", "video", "file", "sender_action", "typing"}
)
"""Types of message that a documented replier sends."""
WITHOUT_A_REPLIER = frozenset({"reaction"})
"""Types that no policy can send: a reaction needs the id of one message."""


def _replier_of(kind: str, message: type[OutgoingMessage]) -> type[KindReplier]:
    """Build the replier of one kind of message: ``CouponReplier`` for ``coupon``."""
    name = f"{kind.title().replace('_', '')}Replier"
    summary = (message.__doc__ or "").partition("\n")[0]
    return type(
        name,
        (KindReplier,),
        {"kind": kind, "__doc__": f"A replier that sends ``{message.__name__}``.\n\n{summary}"},
    )


KIND_REPLIERS = {
    replier.__name__: replier
    for replier in (
        _replier_of(kind, message)
        for kind, message in MESSAGES.items()
        if kind not in HAVE_A_REPLIER | WITHOUT_A_REPLIER
    )
}
"""Name of each class to the class. ``djmessenger.replying`` shows them all."""
