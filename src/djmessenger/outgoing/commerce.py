"""Templates for selling: receipt, product, coupon.

Sources: Messenger Platform, the page of each template, read November 2026.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from decimal import Decimal
from typing import Any, ClassVar, TypeAlias

from djmessenger.channels import INSTAGRAM, MESSENGER
from djmessenger.outgoing.base import (
    Inside,
    Part,
    PayloadLike,
    TextLike,
    Writer,
    has_value,
    present,
)
from djmessenger.outgoing.templates import Template

Amount: TypeAlias = int | float | Decimal


@dataclass(frozen=True)
class ReceiptItem(Part):
    """One item of a receipt; ``price`` in the currency of the receipt."""

    title: TextLike
    price: Amount
    _: KW_ONLY
    subtitle: TextLike = ""
    quantity: Amount | None = None
    currency: str = ""
    image_url: str = ""

    def write(self, out: Writer) -> dict[str, Any]:
        return {
            "title": out.text("title", self.title),
            "price": _amount(out, "price", self.price),
            **present(
                subtitle=out.text("subtitle", self.subtitle, required=False),
                quantity=_amount(out, "quantity", self.quantity) if self.quantity is not None else None,
                currency=out.plain("currency", self.currency, required=False),
                image_url=out.optional_url("image_url", self.image_url),
            ),
        }


@dataclass(frozen=True)
class Address(Part):
    """Postal address of a delivery."""

    street_1: str
    city: str
    postal_code: str
    state: str
    country: str
    street_2: str = ""

    def write(self, out: Writer) -> dict[str, Any]:
        written = {name: out.plain(name, getattr(self, name)) for name in ("street_1", "city", "postal_code")}
        written |= {name: out.plain(name, getattr(self, name)) for name in ("state", "country")}
        return written | present(street_2=out.plain("street_2", self.street_2, required=False))


@dataclass(frozen=True)
class Adjustment(Part):
    """A discount or another change of the price."""

    name: TextLike
    amount: Amount

    def write(self, out: Writer) -> dict[str, Any]:
        return {"name": out.text("name", self.name), "amount": _amount(out, "amount", self.amount)}


@dataclass(frozen=True)
class ReceiptTemplate(Template):
    """A receipt; ``order_number`` has to be unique. At most 100 items, no buttons.

    ``timestamp`` is in seconds since 1970.
    """

    kind: ClassVar[str] = "receipt"
    template_type: ClassVar[str] = "receipt"
    inside: ClassVar[Mapping[str, Inside]] = {
        "elements": ReceiptItem,
        "address": Address,
        "adjustments": Adjustment,
    }

    recipient_name: str
    order_number: str
    currency: str
    payment_method: TextLike
    total_cost: Amount
    _: KW_ONLY
    elements: Sequence[ReceiptItem] = ()
    subtotal: Amount | None = None
    shipping_cost: Amount | None = None
    total_tax: Amount | None = None
    address: Address | None = None
    adjustments: Sequence[Adjustment] = ()
    merchant_name: TextLike = ""
    order_url: str = ""
    timestamp: int | None = None
    sharable: bool = False

    def payload_of(self, out: Writer) -> dict[str, Any]:
        costs = {
            name: _amount(out, name, getattr(self, name))
            for name in ("subtotal", "shipping_cost", "total_tax")
            if getattr(self, name) is not None
        }
        when = out.number("timestamp", self.timestamp, least=0) if self.timestamp is not None else ""
        return {
            "recipient_name": out.plain("recipient_name", self.recipient_name),
            "order_number": out.plain("order_number", self.order_number),
            "currency": out.plain("currency", self.currency),
            "payment_method": out.text("payment_method", self.payment_method),
            "summary": {**costs, "total_cost": _amount(out, "total_cost", self.total_cost)},
            **present(
                sharable=out.flag("sharable", self.sharable),
                merchant_name=out.text("merchant_name", self.merchant_name, required=False),
                order_url=out.optional_url("order_url", self.order_url),
                timestamp=str(when),
                elements=out.parts("elements", self.elements, ReceiptItem, "receipt.elements", least=0),
                address=out.part("address", self.address, Address) if self.address is not None else None,
                adjustments=out.parts("adjustments", self.adjustments, Adjustment, least=0),
            ),
        }


@dataclass(frozen=True)
class ProductTemplate(Template):
    """One to ten products of the catalogue that the Page owns, by their ids."""

    kind: ClassVar[str] = "product"
    template_type: ClassVar[str] = "product"
    channels: ClassVar[frozenset[str]] = frozenset({MESSENGER, INSTAGRAM})

    product_ids: tuple[str, ...] | list[str]

    def payload_of(self, out: Writer) -> dict[str, Any]:
        out.count("product_ids", self.product_ids, "product.elements")
        ids = enumerate(self.product_ids)
        return {"elements": [{"id": out.plain(f"product_ids[{index}]", value)} for index, value in ids]}


@dataclass(frozen=True)
class CouponTemplate(Template):
    """A coupon with a code without spaces, a link, or both; Meta writes the button that reveals the code."""

    kind: ClassVar[str] = "coupon"
    template_type: ClassVar[str] = "coupon"

    title: TextLike
    _: KW_ONLY
    coupon_code: str = ""
    coupon_url: str = ""
    coupon_url_button_title: TextLike = ""
    coupon_pre_message: TextLike = ""
    subtitle: TextLike = ""
    image_url: str = ""
    payload: PayloadLike = ""

    def payload_of(self, out: Writer) -> dict[str, Any]:
        code = out.plain("coupon_code", self.coupon_code, required=False)
        if not code and not has_value(self.coupon_url):
            out.refuse("coupon_code", "needs at least one of coupon_code and coupon_url")
        if any(character.isspace() for character in code):
            out.refuse("coupon_code", f"{code!r} has white space in it")
        return {
            "title": out.text("title", self.title, "coupon.title"),
            **present(
                subtitle=out.text("subtitle", self.subtitle, "coupon.subtitle", required=False),
                coupon_code=code,
                coupon_url=out.optional_url("coupon_url", self.coupon_url),
                coupon_url_button_title=out.text(
                    "coupon_url_button_title", self.coupon_url_button_title, required=False
                ),
                coupon_pre_message=out.text("coupon_pre_message", self.coupon_pre_message, required=False),
                image_url=out.optional_url("image_url", self.image_url),
                payload=out.payload("payload", self.payload, "payload.length", required=False),
            ),
        }


def _amount(out: Writer, name: str, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        out.wrong_type(name, "a number", value)
    if not math.isfinite(value):
        out.refuse(name, f"{value} is not a finite number")
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
