"""The numbers that Graph enforces, under the keys of the rulebook."""

from __future__ import annotations

_LIMITS = {
    "text.length": 2000,
    "text.bytes.instagram": 1000,
    "metadata.length": 999,
    "quick_replies.count": 13,
    "quick_reply.title": 20,
    "quick_reply.payload": 1000,
    "buttons.count": 3,
    "button.title": 20,
    "button.payload": 1000,
    "button_template.text": 640,
    "generic.elements": 10,
    "generic.title": 80,
    "generic.subtitle": 80,
    "product.elements": 10,
    "receipt.elements": 100,
    "coupon.title": 80,
    "coupon.subtitle": 80,
    "feedback.title": 65,
    "feedback.subtitle": 80,
    "feedback.button_title": 20,
    "feedback.question_id": 80,
    "feedback.question_title": 85,
    "feedback.question_title.min": 5,
    "feedback.placeholder": 65,
    "image_grid.images": 6,
    "image_grid.images.min": 2,
    "image_grid.title": 45,
    "image_grid.subtitle": 80,
    "one_time.title": 65,
    "images.count": 30,
    "menu.items": 20,
    "menu.title": 30,
    "menu.payload": 1000,
    "get_started.payload": 1000,
    "greeting.text": 160,
    "ice_breakers.count": 4,
    "commands.count": 100,
    "command.name": 32,
    "command.description": 64,
    "domains.count": 50,
    "persona.name": 50,
    "batch.count": 50,
    "profile.calls": 10,
    "send.per_second": 300,
    "send.per_second.media": 10,
    "moderate.ids": 10,
}


def limit(key: str) -> int:
    """Give the number for a key of the rulebook."""
    return _LIMITS[key]
