"""Checks of templates and buttons.

Keys and limits: Messenger Platform, "Buttons" (April 2026), "Templates" (2026) and "Image grid" (June 2026). Also
"Customer feedback template", "Structured information template" and "Utility messages". For Instagram: "Generic
template" (April 2026).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from messenger_emulator.refusals import Refusal, bad, missing
from messenger_emulator.state import Page
from messenger_emulator.validation import (
    as_flag,
    as_list,
    as_number,
    as_object,
    as_text,
    as_url,
    inner,
    one_of,
    only_keys,
    optional_text,
    required,
    required_text,
)

URL_KEYS = {
    "type",
    "title",
    "url",
    "webview_height_ratio",
    "messenger_extensions",
    "fallback_url",
    "webview_share_button",
}
_BUTTON_KEYS: Mapping[str, Collection[str]] = {
    "web_url": URL_KEYS,
    "postback": {"type", "title", "payload"},
    "phone_number": {"type", "title", "payload"},
    "account_link": {"type", "url"},
    "account_unlink": {"type"},
    "game_play": {"type", "title", "payload", "game_metadata"},
    "audio_call": {"type", "title", "expires_in_days", "payload"},
}
ANY_BUTTON = frozenset(_BUTTON_KEYS)
PLAIN_BUTTON = frozenset({"web_url", "postback"})


def check_buttons(
    buttons: Any,
    path: str,
    page: Page,
    *,
    kinds: Collection[str] = ANY_BUTTON,
    least: int = 0,
    most: int | None = None,
    title: int | None = None,
) -> None:
    """Check a list of buttons. A menu allows more buttons and longer titles."""
    for number, button in enumerate(
        as_list(buttons, path, least=least, most=page.limits["buttons.count"] if most is None else most)
    ):
        check_button(button, f"{path}[{number}]", page, kinds=kinds, title=title)


def check_button(
    button: Any, path: str, page: Page, *, kinds: Collection[str] = ANY_BUTTON, title: int | None = None
) -> None:
    as_object(button, path)
    kind = one_of(required(button, "type", path), kinds, f"{path}[type]")
    only_keys(button, _BUTTON_KEYS[kind], path)
    if "title" in _BUTTON_KEYS[kind]:
        required_text(button, "title", path, most=page.limits["button.title"] if title is None else title)
    if kind == "postback":
        required_text(button, "payload", path, most=page.limits["button.payload"])
    elif kind == "phone_number":
        number = required_text(button, "payload", path)
        if not re.fullmatch(r"\+[0-9]{5,15}", re.sub(r"[ ()\-.]", "", number)):
            raise bad(f"Param {path}[payload] must be a valid phone number", path=path)
    elif kind == "account_link":
        as_url(required(button, "url", path), f"{path}[url]", https=True)
    elif kind == "web_url":
        check_web_url(button, path, page)
    elif kind == "game_play" and button.get("game_metadata") is not None:
        metadata = as_object(button["game_metadata"], f"{path}[game_metadata]")
        if len([key for key in ("player_id", "context_id") if metadata.get(key)]) != 1:
            raise bad(f"Param {path}[game_metadata] must hold either player_id or context_id")
    elif kind == "audio_call" and button.get("expires_in_days") is not None:
        as_number(
            button["expires_in_days"],
            f"{path}[expires_in_days]",
            least=1,
            most=page.limits["audio_call.days"],
        )


def check_web_url(button: Mapping[str, Any], path: str, page: Page) -> None:
    url = as_url(required(button, "url", path), f"{path}[url]")
    if button.get("webview_height_ratio") is not None:
        one_of(button["webview_height_ratio"], {"compact", "tall", "full"}, f"{path}[webview_height_ratio]")
    if button.get("webview_share_button") is not None:
        one_of(button["webview_share_button"], {"hide"}, f"{path}[webview_share_button]")
    extensions = bool(button.get("messenger_extensions")) and as_flag(
        button["messenger_extensions"], f"{path}[messenger_extensions]"
    )
    if extensions:
        as_url(url, f"{path}[url]", https=True)
        if not _is_whitelisted(url, page):
            raise bad("The URL provided is not whitelisted for messenger extensions", path=path)
    elif button.get("fallback_url"):
        raise bad(f"Param {path}[fallback_url] needs messenger_extensions", path=path)


def _is_whitelisted(url: str, page: Page) -> bool:
    host = urlsplit(url).hostname
    return any(urlsplit(str(d)).hostname == host for d in page.platform().get("whitelisted_domains") or ())


PLACEHOLDER = "name_placeholder"
"""Name of the payload of a template in the messages of Graph's validator."""


def check_template(payload: Any, page: Page) -> None:
    if payload is None:
        raise missing("message[attachment][payload]")
    as_object(payload, "message[attachment][payload]")
    path = "message[attachment][payload][template_type]"
    name = required(payload, "template_type", "message[attachment][payload]")
    if name in {"list", "open_graph"}:
        raise bad(f"The {name} template is deprecated on API version 4.0 and later", path=path)
    allowed = _INSTAGRAM_TEMPLATES if page.is_instagram else _TEMPLATES.keys()
    _TEMPLATES[one_of(name, allowed, path)](payload, PLACEHOLDER, page)


def _generic(payload: Mapping[str, Any], path: str, page: Page) -> None:
    only_keys(payload, {"template_type", "elements", "sharable", "image_aspect_ratio"}, path)
    elements = as_list(
        required(payload, "elements", path),
        f"{path}[elements]",
        least=1,
        most=page.limits["generic.elements"],
    )
    properties = {"subtitle", "image_url", "default_action", "buttons"}
    for number, element in enumerate(elements):
        at = f"{path}[elements][{number}]"
        as_object(element, at)
        only_keys(element, properties | {"title"}, at)
        required_text(element, "title", at, most=page.limits["generic.title"])
        if not any(element.get(key) for key in properties):
            raise bad(f"Param {at} must have at least one property besides title", path=at)
        optional_text(element, "subtitle", at, most=page.limits["generic.subtitle"])
        if element.get("image_url"):
            as_url(element["image_url"], f"{at}[image_url]")
        if element.get("default_action") is not None:
            _default_action(element["default_action"], f"{at}[default_action]", page)
        if element.get("buttons") is not None:
            kinds = PLAIN_BUTTON if page.is_instagram else ANY_BUTTON
            check_buttons(element["buttons"], f"{at}[buttons]", page, kinds=kinds, least=1)


def _default_action(action: Any, path: str, page: Page) -> None:
    as_object(action, path)
    one_of(required(action, "type", path), {"web_url"}, f"{path}[type]")
    only_keys(action, URL_KEYS - {"title"}, path)
    check_web_url(action, path, page)


def _button(payload: Mapping[str, Any], path: str, page: Page) -> None:
    only_keys(payload, {"template_type", "text", "buttons", "sharable"}, path)
    required_text(payload, "text", path, most=page.limits["button_template.text"])
    kinds = PLAIN_BUTTON if page.is_instagram else ANY_BUTTON
    check_buttons(required(payload, "buttons", path), f"{path}[buttons]", page, kinds=kinds, least=1)


def _media(payload: Mapping[str, Any], path: str, page: Page) -> None:
    only_keys(payload, {"template_type", "elements", "sharable"}, path)
    most = page.limits["media.elements"]
    elements = as_list(required(payload, "elements", path), f"{path}[elements]", least=1, most=most)
    at = f"{path}[elements][0]"
    element = as_object(elements[0], at)
    only_keys(element, {"media_type", "attachment_id", "url", "buttons"}, at)
    one_of(required(element, "media_type", at), {"image", "video"}, f"{at}[media_type]")
    given = [key for key in ("attachment_id", "url") if element.get(key)]
    if not given:
        raise bad("Neither an attachment ID nor a URL was given for the media template", 2018187, at)
    if len(given) > 1:
        raise bad(f"Param {at} must hold either attachment_id or url", path=at)
    if element.get("url"):
        host = urlsplit(as_url(element["url"], f"{at}[url]")).hostname or ""
        if host != "facebook.com" and not host.endswith(".facebook.com"):
            raise bad("The URL of a media template must be a Facebook URL", 2018188, at)
    elif str(element["attachment_id"]) not in page.attachments:
        raise bad("Invalid attachment ID", 2018074, at)
    if element.get("buttons") is not None:
        check_buttons(element["buttons"], f"{at}[buttons]", page)


_RECEIPT_KEYS = {
    "template_type",
    "recipient_name",
    "order_number",
    "currency",
    "payment_method",
    "summary",
    "merchant_name",
    "order_url",
    "timestamp",
    "elements",
    "address",
    "adjustments",
    "sharable",
}


def _receipt(payload: Mapping[str, Any], path: str, page: Page) -> None:
    only_keys(payload, _RECEIPT_KEYS, path)
    for key in ("recipient_name", "order_number", "currency", "payment_method"):
        required_text(payload, key, path)
    if not re.fullmatch(r"[A-Z]{3}", str(payload["currency"])):
        raise bad(f"Param {path}[currency] must be a valid ISO 4217 currency code", path=path)
    summary = as_object(required(payload, "summary", path), f"{path}[summary]")
    only_keys(summary, {"subtotal", "shipping_cost", "total_tax", "total_cost"}, f"{path}[summary]")
    required(summary, "total_cost", f"{path}[summary]")
    if payload.get("address") is not None:
        address = as_object(payload["address"], f"{path}[address]")
        needed = ("street_1", "city", "postal_code", "state", "country")
        only_keys(address, {*needed, "street_2"}, f"{path}[address]")
        for key in needed:
            required_text(address, key, f"{path}[address]")
    elements = as_list(
        payload.get("elements") or [], f"{path}[elements]", most=page.limits["receipt.elements"]
    )
    for number, element in enumerate(elements):
        at = f"{path}[elements][{number}]"
        as_object(element, at)
        only_keys(element, {"title", "subtitle", "quantity", "price", "currency", "image_url"}, at)
        required_text(element, "title", at)
        required(element, "price", at)
    for number, adjustment in enumerate(as_list(payload.get("adjustments") or [], f"{path}[adjustments]")):
        at = f"{path}[adjustments][{number}]"
        only_keys(as_object(adjustment, at), {"name", "amount"}, at)


def _product(payload: Mapping[str, Any], path: str, page: Page) -> None:
    only_keys(payload, {"template_type", "elements", "sharable"}, path)
    most = page.limits["product.elements"]
    elements = as_list(required(payload, "elements", path), f"{path}[elements]", least=1, most=most)
    for number, element in enumerate(elements):
        at = f"{path}[elements][{number}]"
        only_keys(as_object(element, at), {"id"}, at)
        if not str(element.get("id", "")).isdigit():
            raise bad("Invalid product ID", 2018320, at)


_COUPON_KEYS = {
    "template_type",
    "title",
    "subtitle",
    "coupon_code",
    "coupon_url",
    "coupon_url_button_title",
    "coupon_pre_message",
    "image_url",
    "payload",
}


def _coupon(payload: Mapping[str, Any], path: str, page: Page) -> None:
    only_keys(payload, _COUPON_KEYS, path)
    required_text(payload, "title", path, most=page.limits["coupon.title"])
    optional_text(payload, "subtitle", path, most=page.limits["coupon.subtitle"])
    if not payload.get("coupon_code") and not payload.get("coupon_url"):
        raise missing(f"{path}[coupon_code]")
    if re.search(r"\s", optional_text(payload, "coupon_code", path)):
        raise bad(f"Param {path}[coupon_code] must not contain spaces", path=path)
    for key in ("coupon_url", "image_url"):
        if payload.get(key):
            as_url(payload[key], f"{path}[{key}]")


_SCORES = {
    "csat": {"one_to_five", "five_stars", "five_emojis"},
    "nps": {"zero_to_ten"},
    "ces": {"one_to_seven"},
}
_LABELS = {"neg_pos", "hard_easy", "dis_sat", "unlike_like", "poor_great", "none"}


def _feedback(payload: Mapping[str, Any], path: str, page: Page) -> None:
    keys = {"title", "subtitle", "button_title", "feedback_screens", "business_privacy", "expires_in_days"}
    only_keys(payload, keys | {"template_type"}, path)
    required_text(payload, "title", path, most=page.limits["feedback.title"])
    optional_text(payload, "subtitle", path, most=page.limits["feedback.subtitle"])
    button = optional_text(payload, "button_title", path, most=page.limits["feedback.button_title"])
    if "://" in button:
        raise bad(f"Param {path}[button_title] must not contain a URL", path=path)
    screens = as_list(
        required(payload, "feedback_screens", path),
        f"{path}[feedback_screens]",
        least=1,
        most=page.limits["feedback.screens"],
    )
    at = f"{path}[feedback_screens][0]"
    questions = required(as_object(screens[0], at), "questions", at)
    for question in as_list(questions, f"{at}[questions]", least=1, most=page.limits["feedback.questions"]):
        _question(question, f"{at}[questions][0]", page)
    _privacy_and_expiry(payload, path, page.limits["feedback.days"])


def _question(question: Any, path: str, page: Page) -> None:
    as_object(question, path)
    name = required_text(question, "id", path, most=page.limits["feedback.question.id"])
    if not re.fullmatch(r"[A-Za-z0-9_]+", name, re.ASCII):
        raise bad(f"Param {path}[id] may only contain letters, digits and underscores", path=path)
    kind = one_of(required(question, "type", path), {*_SCORES, "free_form"}, f"{path}[type]")
    if question.get("title") is not None:
        as_text(
            question["title"],
            f"{path}[title]",
            least=page.limits["feedback.question.title.least"],
            most=page.limits["feedback.question.title"],
        )
    if question.get("score_label") is not None:
        one_of(question["score_label"], _LABELS, f"{path}[score_label]")
    if question.get("score_option") is not None:
        one_of(question["score_option"], _SCORES.get(kind, ()), f"{path}[score_option]")
    if question.get("follow_up") is not None:
        follow_up = as_object(question["follow_up"], f"{path}[follow_up]")
        one_of(required(follow_up, "type", f"{path}[follow_up]"), {"free_form"}, f"{path}[follow_up][type]")
        optional_text(
            follow_up, "placeholder", f"{path}[follow_up]", most=page.limits["feedback.placeholder"]
        )


def _privacy_and_expiry(payload: Mapping[str, Any], path: str, most: int) -> None:
    privacy = as_object(required(payload, "business_privacy", path), f"{path}[business_privacy]")
    as_url(required(privacy, "url", f"{path}[business_privacy]"), f"{path}[business_privacy][url]")
    if payload.get("expires_in_days") is not None:
        as_number(payload["expires_in_days"], f"{path}[expires_in_days]", least=1, most=most)


def _image_grid(payload: Mapping[str, Any], path: str, page: Page) -> None:
    only_keys(payload, {"template_type", "elements", "sharable"}, path)
    elements = as_list(required(payload, "elements", path), f"{path}[elements]", least=1, most=1)
    at = f"{path}[elements][0]"
    element = as_object(elements[0], at)
    only_keys(element, {"images", "title", "subtitle", "buttons"}, at)
    optional_text(element, "title", at, most=page.limits["image_grid.title"])
    optional_text(element, "subtitle", at, most=page.limits["image_grid.subtitle"])
    images = as_list(
        required(element, "images", at),
        f"{at}[images]",
        least=page.limits["image_grid.images.least"],
        most=page.limits["image_grid.images"],
    )
    for number, image in enumerate(images):
        spot = f"{at}[images][{number}]"
        only_keys(as_object(image, spot), {"url", "is_hero_image", "action"}, spot)
        as_url(required(image, "url", spot), f"{spot}[url]")
        if image.get("action") is not None:
            _grid_action(image["action"], f"{spot}[action]", page)
    if len([image for image in images if image.get("is_hero_image")]) > 1:
        raise bad(f"Param {at}[images] may have at most one hero image", path=at)
    if element.get("buttons") is not None:
        check_buttons(element["buttons"], f"{at}[buttons]", page, kinds=PLAIN_BUTTON)


def _grid_action(action: Any, path: str, page: Page) -> None:
    as_object(action, path)
    if one_of(required(action, "type", path), PLAIN_BUTTON, f"{path}[type]") == "web_url":
        only_keys(action, {"type", "url"}, path)
        as_url(required(action, "url", path), f"{path}[url]")
    else:
        only_keys(action, {"type", "payload", "text"}, path)
        required_text(action, "payload", path, most=page.limits["button.payload"])
        required_text(action, "text", path)


def _customer_information(payload: Mapping[str, Any], path: str, page: Page) -> None:
    countries = as_list(payload.get("countries") or [], f"{path}[countries]")
    for number, country in enumerate(countries):
        if not re.fullmatch(r"[A-Z]{2}", str(country)):
            raise bad(f"Param {path}[countries][{number}] must be a two-letter country code", path=path)
    if payload.get("purpose") is not None:
        one_of(payload["purpose"], {"shipping"}, f"{path}[purpose]")
    _privacy_and_expiry(payload, path, page.limits["information.days"])


def _instant_form(payload: Mapping[str, Any], path: str, page: Page) -> None:
    if not str(payload.get("form_id", "")).isdigit():
        raise Refusal(1, "The form is not eligible", subcode=2018382)


def _one_time(payload: Mapping[str, Any], path: str, page: Page) -> None:
    only_keys(payload, {"template_type", "title", "payload"}, path)
    required_text(payload, "title", path, most=page.limits["opt_in.title"])
    required_text(payload, "payload", path, most=page.limits["button.payload"])


_TEMPLATES: Mapping[str, Callable[[Mapping[str, Any], str, Page], None]] = {
    "generic": _generic,
    "button": _button,
    "media": _media,
    "receipt": _receipt,
    "product": _product,
    "coupon": _coupon,
    "customer_feedback": _feedback,
    "image_grid": _image_grid,
    "customer_information": _customer_information,
    "instant_form": _instant_form,
    "one_time_notif_req": _one_time,
}
_INSTAGRAM_TEMPLATES = frozenset({"generic", "button", "product"})


def check_utility(template: Any, page: Page) -> None:
    """Check the ``template`` of a utility message, which has to be approved for the Page."""
    path = "message[template]"
    as_object(template, path)
    name = required_text(template, "name", path)
    language = as_object(required(template, "language", path), inner(path, "language"))
    required_text(language, "code", f"{path}[language]")
    as_list(template.get("components") or [], f"{path}[components]")
    if not page.has_template(name):
        raise bad(f"The template {name} does not exist or is not approved", path=path)
