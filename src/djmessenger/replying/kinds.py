"""One replier for each kind of message that has no documented replier. Its arguments are the fields of the message."""

from __future__ import annotations

from typing import Any, ClassVar

from djmessenger.outgoing.data import from_data
from djmessenger.replying.repliers import MessageReplier


class KindReplier(MessageReplier):
    """Parent of repliers whose arguments are the fields of one kind of message, as plain data or objects.

    ``{"name": "djmessenger.replying.CouponReplier", "args": {"title": "Ten off", "coupon_code": "TEA10"}}`` is equal to
    a ``MessageReplier`` with the data ``{"type": "coupon", ...}``.
    """

    kind: ClassVar[str]

    def __init__(self, **fields: Any) -> None:
        super().__init__(from_data({"type": self.kind, **fields}))
        self.fields = fields

    def json_unordered(self) -> dict[str, Any]:
        """Return the fields as the constructor got them."""
        return dict(self.fields)


class ImagesReplier(KindReplier):
    """A replier that sends several pictures in one message."""

    kind = "images"


class StickerReplier(KindReplier):
    """A replier that sends a sticker of Messenger."""

    kind = "sticker"


class ButtonReplier(KindReplier):
    """A replier that sends a text with buttons."""

    kind = "button"


class GenericReplier(KindReplier):
    """A replier that sends a row of cards."""

    kind = "generic"


class MediaReplier(KindReplier):
    """A replier that sends a picture or video that is on Facebook, with buttons."""

    kind = "media"


class ImageGridReplier(KindReplier):
    """A replier that sends a grid of pictures that can be tapped."""

    kind = "image_grid"


class ReceiptReplier(KindReplier):
    """A replier that sends a receipt."""

    kind = "receipt"


class ProductReplier(KindReplier):
    """A replier that sends products of the Page's catalogue."""

    kind = "product"


class CouponReplier(KindReplier):
    """A replier that sends a coupon."""

    kind = "coupon"


class CustomerFeedbackReplier(KindReplier):
    """A replier that sends a form for customer feedback."""

    kind = "customer_feedback"


class CustomerInformationReplier(KindReplier):
    """A replier that sends a form for address and contact."""

    kind = "customer_information"


class InstantFormReplier(KindReplier):
    """A replier that sends an instant form."""

    kind = "instant_form"


class UtilityReplier(KindReplier):
    """A replier that sends an approved utility template."""

    kind = "utility"
