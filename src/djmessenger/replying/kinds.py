"""A replier for each kind of message that the documented ones leave out: its arguments are the message's fields."""

from __future__ import annotations

from typing import Any, ClassVar

from djmessenger.outgoing import from_data
from djmessenger.replying.repliers import MessageReplier


class KindReplier(MessageReplier):
    """Parent of repliers whose arguments are the fields of one kind of message, as plain data or objects.

    ``{"name": "djmessenger.replying.CouponReplier", "args": {"title": "Ten off", "coupon_code": "TEA10"}}`` says
    the same as a ``MessageReplier`` with the data ``{"type": "coupon", ...}``.
    """

    kind: ClassVar[str]

    def __init__(self, **fields: Any) -> None:
        super().__init__(from_data({"type": self.kind, **fields}))
        self.fields = fields

    def json_unordered(self) -> dict[str, Any]:
        """Give the fields as they were given."""
        return dict(self.fields)


class ImagesReplier(KindReplier):
    """Replies with several pictures in one message."""

    kind = "images"


class StickerReplier(KindReplier):
    """Replies with a sticker of Messenger's own."""

    kind = "sticker"


class ButtonReplier(KindReplier):
    """Replies with a text and buttons."""

    kind = "button"


class GenericReplier(KindReplier):
    """Replies with cards to swipe through."""

    kind = "generic"


class MediaReplier(KindReplier):
    """Replies with a picture or film of Facebook's, with buttons."""

    kind = "media"


class ImageGridReplier(KindReplier):
    """Replies with a grid of pictures that can be tapped."""

    kind = "image_grid"


class ReceiptReplier(KindReplier):
    """Replies with a receipt."""

    kind = "receipt"


class ProductReplier(KindReplier):
    """Replies with products of the Page's catalogue."""

    kind = "product"


class CouponReplier(KindReplier):
    """Replies with a coupon."""

    kind = "coupon"


class CustomerFeedbackReplier(KindReplier):
    """Replies with a question on how things went."""

    kind = "customer_feedback"


class CustomerInformationReplier(KindReplier):
    """Replies with a form that asks for address and contact."""

    kind = "customer_information"


class InstantFormReplier(KindReplier):
    """Replies with an instant form."""

    kind = "instant_form"


class UtilityReplier(KindReplier):
    """Replies with an approved utility template."""

    kind = "utility"
