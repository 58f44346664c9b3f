"""Messages and the emulator judge alike: what is built is taken, what is refused would be refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from djmessenger import outgoing as o
from djmessenger.exceptions import LimitExceeded
from messenger_emulator import Emulator

URL = "https://example.com/a.png"
PAGE, TOKEN = "104233987650012", "made-up-page-token"

Make = Callable[[], o.OutgoingMessage]


def words(*limits: int) -> st.SearchStrategy[str]:
    """Texts of a length at one of the limits, seldom over it, also of letters that are no ASCII.

    Seldom, since a message with several faults does not show which of them each side sees.
    """
    lengths = [
        length for limit in limits for length in [1, *[max(1, limit - 1)] * 7, *[limit] * 14, limit + 1]
    ]
    return st.builds(
        lambda letter, length: letter * length, st.sampled_from("aé謝"), st.sampled_from(lengths)
    )


def some(item: st.SearchStrategy[Any], least: int, most: int) -> st.SearchStrategy[list[Any]]:
    """Lists that seldom hold ``most``, which is one over the limit."""
    usual = st.lists(item, min_size=least, max_size=min(most - 1, least + 2))
    at_the_limit = st.lists(item, min_size=most - 1, max_size=most - 1)
    over = st.lists(item, min_size=most, max_size=most)
    return st.sampled_from([usual] * 12 + [at_the_limit] * 6 + [over]).flatmap(lambda chosen: chosen)


def made(cls: type, *values: Any, **named: Any) -> st.SearchStrategy[Callable[[], Any]]:
    """A maker, not the object: making it is where a mistake is found."""
    return st.builds(
        lambda drawn, more: (
            lambda: cls(*map(_make, drawn), **{key: _make(value) for key, value in more.items()})
        ),
        st.tuples(*values),
        st.fixed_dictionaries(named),
    )


def _make(value: Any) -> Any:
    if isinstance(value, list):
        return [_make(item) for item in value]
    return value() if callable(value) else value


TITLE, PAYLOAD = words(20), words(1000)
DAYS = st.sampled_from([1, *[7] * 10, 8])
BUTTON = st.one_of(
    made(o.PostbackButton, TITLE, PAYLOAD),
    made(o.UrlButton, TITLE, st.just(URL)),
    made(o.CallButton, TITLE, st.just("+15105551234")),
    made(o.AudioCallButton, TITLE, DAYS),
)
PLAIN_BUTTON = st.one_of(made(o.PostbackButton, TITLE, PAYLOAD), made(o.UrlButton, TITLE, st.just(URL)))
QUICK_REPLY = st.one_of(
    made(o.QuickReply, TITLE, PAYLOAD),
    made(o.QuickReply, TITLE, PAYLOAD, st.just(URL)),
    made(o.PhoneQuickReply),
    made(o.EmailQuickReply),
)
ELEMENT = made(
    o.Element, words(80), words(80), image_url=st.sampled_from(["", URL]), buttons=some(BUTTON, 0, 4)
)
GRID_IMAGE = made(o.GridImage, st.just(URL))
QUESTION = made(
    o.Question,
    words(80).filter(str.isascii),
    st.sampled_from(["csat", "nps", "ces", "free_form"]),
    words(5, 85).filter(lambda title: len(title) > 1),
    follow_up=st.one_of(st.just(""), words(65)),
)

MESSAGES: dict[str, st.SearchStrategy[Make]] = {
    "text": made(o.Text, words(2000, 4000), quick_replies=some(QUICK_REPLY, 0, 14)),
    "image": made(o.Image, st.just(URL), quick_replies=some(QUICK_REPLY, 0, 14)),
    "audio": made(o.Audio, st.just(URL)),
    "video": made(o.Video, st.just(URL)),
    "file": made(o.File, st.just(URL)),
    "sticker": made(o.Sticker),
    "product": made(o.ProductTemplate, some(st.just("4212"), 1, 11)),
    "instant form": made(o.InstantForm, st.just("77")),
    "utility": made(o.Utility, st.just("order_sent"), st.just("en")),
    "images": made(o.Images, some(st.just(URL), 1, 31)),
    "button": made(o.ButtonTemplate, words(640), some(BUTTON, 1, 4)),
    "generic": made(o.GenericTemplate, some(ELEMENT, 1, 11)),
    "media": made(
        o.MediaTemplate,
        st.sampled_from(["image", "video"]),
        url=st.just("https://www.facebook.com/shop/photos/1"),
        buttons=some(BUTTON, 0, 4),
    ),
    "receipt": made(
        o.ReceiptTemplate,
        *map(st.just, ("Ana", "1", "EUR", "Cash")),
        st.integers(0, 9),
        elements=some(made(o.ReceiptItem, st.just("Tea"), st.just(1)), 0, 3),
    ),
    "coupon": made(o.CouponTemplate, words(80), coupon_code=st.just("TEA10"), subtitle=words(80)),
    "image grid": made(
        o.ImageGrid,
        some(GRID_IMAGE, 2, 7),
        title=words(45),
        subtitle=words(80),
        buttons=some(PLAIN_BUTTON, 0, 4),
    ),
    "feedback": made(
        o.CustomerFeedback,
        words(65),
        QUESTION,
        st.just("https://example.com/privacy"),
        subtitle=words(80),
        button_title=words(20),
        expires_in_days=DAYS,
    ),
    "customer information": made(
        o.CustomerInformation,
        st.just(["EE"]),
        st.just("https://example.com/privacy"),
        expires_in_days=DAYS,
    ),
}


def refusals(make: Make) -> list[str]:
    """Build the message whatever its numbers, send each of its calls, and give what Graph said of them."""
    emulator = Emulator(enforce_rates=False)
    page = emulator.add_page(PAGE, TOKEN)
    person = emulator.add_person(page)
    emulator.add_template(page, "order_sent", "en")
    person.says("hello")
    found = []
    for body in make().requests():
        sent = json.dumps({"recipient": {"id": person.id}, **body}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        status, _, answer = emulator.handle("POST", "/v26.0/me/messages", "", headers, sent)
        if status != 200:
            found.append(json.loads(answer)["error"]["message"])
    return found


@pytest.mark.parametrize("kind", MESSAGES)
@given(data=st.data())
def test_built_messages_are_accepted_and_refused_ones_would_be_refused(
    kind: str, data: st.DataObject
) -> None:
    make = data.draw(MESSAGES[kind])
    try:
        make().requests()
    except LimitExceeded as error:
        ours = str(error)
    else:
        ours = ""
    with override_settings(DJM_OUTGOING_CHECKS="warn"):
        theirs = refusals(make)
    assert bool(ours) == bool(theirs), (ours, theirs)
