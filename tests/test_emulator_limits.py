"""Every limit of messages and of the Messenger Profile: at it accepted, one over refused.

The numbers are typed from Meta's pages, on purpose not read from the emulator's own table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.test_emulator import Bench

HTTPS = "https://shop.example.com/"


class Case(NamedTuple):
    name: str
    build: Callable[[int], Any]
    """The message for a length or number."""
    most: int
    code: int
    text: str
    """The text of the refusal, the parameter included."""
    least: int | None = None
    code_under: int = 194


def template(kind: str, **payload: Any) -> dict[str, Any]:
    return {"attachment": {"type": "template", "payload": {"template_type": kind, **payload}}}


def postback(title: str = "Go", payload: str = "GO") -> dict[str, Any]:
    return {"type": "postback", "title": title, "payload": payload}


def reply(title: str = "Yes", payload: str = "YES") -> dict[str, Any]:
    return {"content_type": "text", "title": title, "payload": payload}


def replies(*items: Any) -> dict[str, Any]:
    return {"text": "?", "quick_replies": list(items)}


def buttons(*items: Any) -> dict[str, Any]:
    return template("button", text="?", buttons=list(items))


def card(**more: Any) -> dict[str, Any]:
    return {"title": "Card", "subtitle": "sub", **more}


def generic(*cards: Any) -> dict[str, Any]:
    return template("generic", elements=list(cards))


def receipt(number: int = 0, **more: Any) -> dict[str, Any]:
    payload = {
        "recipient_name": "Ana",
        "order_number": "1",
        "currency": "EUR",
        "payment_method": "Card",
        "summary": {"total_cost": 1},
        "elements": [{"title": "Line", "price": 1}] * number,
    }
    return template("receipt", **{**payload, **more})


ADDRESS = {"street_1": "x", "street_2": "", "city": "x", "postal_code": "1", "state": "x", "country": "DE"}
COSTS = {"subtotal": 1, "shipping_cost": 1, "total_tax": 1, "total_cost": 3}


def feedback(**more: Any) -> dict[str, Any]:
    question = {**QUESTION, **more.pop("question", {})}
    payload = {
        "title": "Rate us",
        "feedback_screens": [{"questions": [question]}],
        "business_privacy": {"url": HTTPS},
        **more,
    }
    return template("customer_feedback", **payload)


def grid(number: int = 2, **more: Any) -> dict[str, Any]:
    return template("image_grid", elements=[{"images": [{"url": HTTPS}] * number, **more}])


QUESTION = {"id": "q1", "type": "csat", "title": "How was it?"}
T = "name_placeholder"
MESSAGES = [
    Case(
        "text",
        lambda n: {"text": "x" * n},
        2000,
        100,
        "Length of param message[text] must be less than or equal to 2000",
    ),
    Case("text of emoji", lambda n: {"text": "\U0001f44d" * n}, 2000, 100, "message[text]"),
    Case("metadata", lambda n: {"text": "x", "metadata": "m" * n}, 999, 100, "message[metadata]"),
    Case(
        "images",
        lambda n: {"attachments": [{"type": "image", "payload": {"url": HTTPS}}] * n},
        30,
        105,
        "param message[attachments] has too many elements.",
        1,
        100,
    ),
    Case(
        "quick replies",
        lambda n: replies(*[reply()] * n),
        13,
        105,
        "param message[quick_replies] has too many elements.",
        1,
    ),
    Case(
        "quick reply title",
        lambda n: replies(reply("t" * n)),
        20,
        100,
        "Length of param message[quick_replies][0][title] must be less than or equal to 20",
        1,
        100,
    ),
    Case(
        "quick reply payload",
        lambda n: replies(reply(payload="p" * n)),
        1000,
        100,
        "message[quick_replies][0][payload]",
        1,
        100,
    ),
    Case(
        "buttons",
        lambda n: buttons(*[postback()] * n),
        3,
        105,
        f"param {T}[buttons] has too many elements.",
        1,
    ),
    Case(
        "button title",
        lambda n: buttons(postback("t" * n)),
        20,
        100,
        f"Length of param {T}[buttons][0][title] must be less than or equal to 20",
        1,
        100,
    ),
    Case(
        "link title",
        lambda n: buttons({"type": "web_url", "url": HTTPS, "title": "t" * n}),
        20,
        100,
        f"{T}[buttons][0][title]",
        1,
        100,
    ),
    Case(
        "call title",
        lambda n: buttons({"type": "phone_number", "payload": "+4930123456", "title": "t" * n}),
        20,
        100,
        f"{T}[buttons][0][title]",
        1,
        100,
    ),
    Case(
        "button payload",
        lambda n: buttons(postback(payload="p" * n)),
        1000,
        100,
        f"{T}[buttons][0][payload]",
        1,
        100,
    ),
    Case(
        "call days",
        lambda n: buttons({"type": "audio_call", "title": "Call", "expires_in_days": n}),
        7,
        100,
        "expires_in_days",
        1,
        100,
    ),
    Case(
        "button text",
        lambda n: template("button", text="t" * n, buttons=[postback()]),
        640,
        100,
        f"Length of param {T}[text] must be less than or equal to 640",
        1,
        100,
    ),
    Case(
        "generic elements",
        lambda n: generic(*[card()] * n),
        10,
        105,
        f"param {T}[elements] has too many elements.",
        1,
    ),
    Case(
        "generic title",
        lambda n: generic(card(title="t" * n)),
        80,
        100,
        f"Length of param {T}[elements][0][title] must be less than or equal to 80",
        1,
        100,
    ),
    Case(
        "generic subtitle",
        lambda n: generic(card(subtitle="t" * n, image_url=HTTPS)),
        80,
        100,
        f"{T}[elements][0][subtitle]",
    ),
    Case(
        "generic buttons",
        lambda n: generic(card(buttons=[postback()] * n)),
        3,
        105,
        f"param {T}[elements][0][buttons] has too many elements.",
        1,
    ),
    Case(
        "media buttons",
        lambda n: template(
            "media",
            elements=[
                {"media_type": "image", "url": "https://www.facebook.com/p/1", "buttons": [postback()] * n}
            ],
        ),
        3,
        105,
        f"{T}[elements][0][buttons]",
    ),
    Case(
        "media elements",
        lambda n: template(
            "media", elements=[{"media_type": "image", "url": "https://www.facebook.com/p/1"}] * n
        ),
        1,
        105,
        f"{T}[elements]",
        1,
    ),
    Case("receipt elements", receipt, 100, 105, f"param {T}[elements] has too many elements.", 0),
    Case(
        "products", lambda n: template("product", elements=[{"id": "123"}] * n), 10, 105, f"{T}[elements]", 1
    ),
    Case(
        "coupon title",
        lambda n: template("coupon", title="t" * n, coupon_code="X"),
        80,
        100,
        f"{T}[title]",
        1,
        100,
    ),
    Case(
        "coupon subtitle",
        lambda n: template("coupon", title="t", subtitle="t" * n, coupon_code="X"),
        80,
        100,
        f"{T}[subtitle]",
    ),
    Case("feedback title", lambda n: feedback(title="t" * n), 65, 100, f"{T}[title]", 1, 100),
    Case("feedback subtitle", lambda n: feedback(subtitle="t" * n), 80, 100, f"{T}[subtitle]"),
    Case("feedback button", lambda n: feedback(button_title="t" * n), 20, 100, f"{T}[button_title]"),
    Case(
        "feedback question id",
        lambda n: feedback(question={"id": "q" * n}),
        80,
        100,
        "[questions][0][id]",
        1,
        100,
    ),
    Case(
        "feedback question title",
        lambda n: feedback(question={"title": "q" * n}),
        85,
        100,
        "[questions][0][title]",
        5,
        100,
    ),
    Case(
        "feedback placeholder",
        lambda n: feedback(question={"follow_up": {"type": "free_form", "placeholder": "p" * n}}),
        65,
        100,
        "[placeholder]",
    ),
    Case(
        "feedback screens",
        lambda n: feedback(feedback_screens=[{"questions": [QUESTION]}] * n),
        1,
        105,
        "param name_placeholder[feedback_screens] has too many elements.",
        1,
    ),
    Case(
        "feedback questions",
        lambda n: feedback(feedback_screens=[{"questions": [QUESTION] * n}]),
        1,
        105,
        "[feedback_screens][0][questions] has too many elements.",
        1,
    ),
    Case("feedback days", lambda n: feedback(expires_in_days=n), 7, 100, f"{T}[expires_in_days]", 1, 100),
    Case("grid images", grid, 6, 105, f"param {T}[elements][0][images] has too many elements.", 2),
    Case("grid title", lambda n: grid(title="t" * n), 45, 100, f"{T}[elements][0][title]"),
    Case("grid subtitle", lambda n: grid(subtitle="t" * n), 80, 100, f"{T}[elements][0][subtitle]"),
    Case(
        "grid heroes",
        lambda n: grid(images=[{"url": HTTPS, "is_hero_image": number < n} for number in range(3)]),
        1,
        100,
        "at most one hero image",
    ),
    Case("grid buttons", lambda n: grid(buttons=[postback()] * n), 3, 105, f"{T}[elements][0][buttons]"),
    Case(
        "address days",
        lambda n: template(
            "customer_information", countries=["DE"], business_privacy={"url": HTTPS}, expires_in_days=n
        ),
        7,
        100,
        "expires_in_days",
        1,
        100,
    ),
    Case(
        "one-time title",
        lambda n: template("one_time_notif_req", title="t" * n, payload="P"),
        65,
        100,
        f"{T}[title]",
        1,
        100,
    ),
]  # fmt: skip


def question(payload: str = "Q") -> dict[str, Any]:
    return {"question": "Open?", "payload": payload}


def menu(*items: Any) -> dict[str, Any]:
    entry = {"locale": "default", "call_to_actions": list(items)}
    return {"get_started": {"payload": "GO"}, "persistent_menu": [entry]}


def commands(*items: Any) -> dict[str, Any]:
    return {"commands": [{"locale": "default", "commands": list(items)}]}


PROFILES = [
    Case(
        "greeting",
        lambda n: {"greeting": [{"locale": "default", "text": "g" * n}]},
        160,
        100,
        "Length of param greeting[0][text] must be less than or equal to 160",
        1,
        100,
    ),
    Case(
        "get started",
        lambda n: {"get_started": {"payload": "p" * n}},
        1000,
        100,
        "get_started[payload]",
        1,
        100,
    ),
    Case(
        "menu items",
        lambda n: menu(*[postback()] * n),
        20,
        105,
        "Number of call to actions exceeds the maximum allowed number",
        1,
    ),
    Case(
        "menu title",
        lambda n: menu(postback("t" * n)),
        30,
        100,
        "Length of param persistent_menu[0][call_to_actions][0][title] must be less than or equal to 30",
        1,
        100,
    ),
    Case(
        "menu link title",
        lambda n: menu({"type": "web_url", "url": HTTPS, "title": "t" * n}),
        30,
        100,
        "persistent_menu[0][call_to_actions][0][title]",
        1,
        100,
    ),
    Case(
        "menu payload",
        lambda n: menu(postback(payload="p" * n)),
        1000,
        100,
        "persistent_menu[0][call_to_actions][0][payload]",
        1,
        100,
    ),
    Case(
        "ice breakers",
        lambda n: {"ice_breakers": [{"locale": "default", "call_to_actions": [question()] * n}]},
        4,
        105,
        "ice_breakers[0]",
        1,
    ),
    Case("ice breakers, old form", lambda n: {"ice_breakers": [question()] * n}, 4, 105, "ice_breakers", 1),
    Case(
        "ice breaker payload",
        lambda n: {"ice_breakers": [question("p" * n)]},
        1000,
        100,
        "ice_breakers[0][payload]",
        1,
        100,
    ),
    Case(
        "commands",
        lambda n: commands(*[{"name": "c", "description": "d"}] * n),
        100,
        105,
        "commands[0][commands]",
        1,
    ),
    Case(
        "command name",
        lambda n: commands({"name": "c" * n, "description": "d"}),
        32,
        100,
        "commands[0][commands][0][name]",
        1,
        100,
    ),
    Case(
        "command description",
        lambda n: commands({"name": "c", "description": "d" * n}),
        64,
        100,
        "[description]",
        1,
        100,
    ),
    Case(
        "domains",
        lambda n: {"whitelisted_domains": ["https://shop.example.com"] * n},
        50,
        105,
        "whitelisted_domains",
    ),
]  # fmt: skip


def check(case: Case, call: Callable[[Any], tuple[int, Any]]) -> None:
    status, answer = call(case.build(case.most))
    assert status == 200, answer
    status, answer = call(case.build(case.most + 1))
    assert (status, answer["error"]["code"]) == (400, case.code)
    assert answer["error"]["message"].startswith(f"(#{case.code}) ")
    assert case.text in answer["error"]["message"]
    assert answer["error"]["type"] == "OAuthException"
    assert answer["error"]["fbtrace_id"]
    if case.least is not None:
        status, answer = call(case.build(case.least))
        assert status == 200, answer
    if case.least:
        status, answer = call(case.build(case.least - 1))
        assert (status, answer["error"]["code"]) == (400, case.code_under), answer


@pytest.mark.parametrize("case", MESSAGES, ids=lambda case: case.name)
def test_limit_of_a_message(case):
    bench = Bench()
    check(case, bench.send)
    assert len(bench.ana.received) == 1 + (case.least is not None)


@pytest.mark.parametrize("case", PROFILES, ids=lambda case: case.name)
def test_limit_of_the_profile(case):
    bench = Bench()
    check(case, lambda body: bench.call("POST", "me/messenger_profile", body))


MENUS = [case for case in PROFILES if case.name.startswith("menu ")]


@pytest.mark.parametrize("case", MENUS, ids=lambda case: case.name)
def test_limit_of_the_menu_of_one_person(case):
    bench = Bench()
    bench.page.platform()["get_started"] = {"payload": "GO"}

    def call(body):
        menu = {"psid": bench.ana.id, "persistent_menu": body["persistent_menu"]}
        return bench.call("POST", "me/custom_user_settings", menu)

    check(case, call)


def test_ten_calls_of_the_menu_of_one_person_in_ten_minutes():
    bench = Bench()
    ben = bench.emulator.add_person(bench.page, "Ben Yilmaz")
    for _ in range(10):
        assert bench.call("GET", "me/custom_user_settings", psid=bench.ana.id)[0] == 200
    status, answer = bench.call("GET", "me/custom_user_settings", psid=bench.ana.id)
    assert (status, answer["error"]["code"]) == (400, 613)
    assert bench.call("GET", "me/custom_user_settings", psid=ben.id)[0] == 200
    bench.clock.advance(minutes=10)
    assert bench.call("GET", "me/custom_user_settings", psid=bench.ana.id)[0] == 200


def test_limit_of_moderation():
    bench = Bench()
    persons = [bench.emulator.add_person(bench.page, f"Person {number}") for number in range(11)]

    def call(ids, actions):
        body = {"user_ids": [{"id": person.id} for person in persons[:ids]], "actions": actions}
        status, answer = bench.call("POST", "me/moderate_conversations", body)
        return status, answer.get("error", {}).get("code")

    assert call(10, ["block_user", "move_to_spam"]) == (200, None)
    assert call(11, ["block_user"]) == (400, 105)
    assert call(1, ["block_user", "move_to_spam", "ban_user"]) == (400, 105)


def test_limit_of_a_persona_name():
    bench = Bench()
    body = {"profile_picture_url": HTTPS}
    assert bench.call("POST", "me/personas", {**body, "name": "n" * 50})[0] == 200
    status, answer = bench.call("POST", "me/personas", {**body, "name": "n" * 51})
    assert (status, answer["error"]["code"]) == (400, 100)
    assert "Length of param name must be less than or equal to 50" in answer["error"]["message"]


def test_limit_of_a_batch():
    bench = Bench()
    part = {"method": "GET", "relative_url": "me"}
    status, answer = bench.call("POST", "", {"batch": [part] * 50})
    assert (status, len(answer)) == (200, 50)
    status, answer = bench.call("POST", "", {"batch": [part] * 51})
    assert answer["error"]["type"] == "GraphBatchException"
    assert "Maximum batch size is 50" in answer["error"]["message"]


def test_limit_of_text_on_instagram_counts_bytes():
    bench = Bench()
    page = bench.emulator.add_page("17", "other-token", channel="instagram", account_id="178")
    person = bench.emulator.add_person(page)
    person.says("hi")
    for text, wanted in (("x" * 1000, 200), ("x" * 1001, 400), ("\u00e4" * 500, 200), ("\u00e4" * 501, 400)):
        body = {"recipient": {"id": person.id}, "message": {"text": text}, "access_token": "other-token"}
        status, _, answer = bench.emulator.handle(
            "POST", "/me/messages", "", {"content-type": "application/json"}, bench.json(body)
        )
        assert status == wanted, answer


def test_long_titles_of_quick_replies_are_cut_on_instagram():
    bench = Bench()
    page = bench.emulator.add_page("17", "other-token", channel="instagram", account_id="178")
    person = bench.emulator.add_person(page)
    person.says("hi")
    message = replies(reply("t" * 21))
    body = {"recipient": {"id": person.id}, "message": message, "access_token": "other-token"}
    kind = {"content-type": "application/json"}
    assert bench.emulator.handle("POST", "/me/messages", "", kind, bench.json(body))[0] == 200
    assert person.taps_quick_reply("t" * 20).item["message"]["text"] == "t" * 20


def test_ten_calls_of_the_profile_in_ten_minutes():
    bench = Bench()
    for _ in range(10):
        assert bench.call("GET", "me/messenger_profile", fields="greeting") == (200, {"data": []})
    status, answer = bench.call("GET", "me/messenger_profile", fields="greeting")
    assert (status, answer["error"]["code"]) == (400, 613)
    bench.clock.advance(minutes=10)
    assert bench.call("GET", "me/messenger_profile", fields="greeting")[0] == 200


@pytest.mark.parametrize(
    ("most", "message"),
    [(300, {"text": "x"}), (10, {"attachment": {"type": "video", "payload": {"url": HTTPS}}})],
)
def test_calls_in_a_second(most, message):
    bench = Bench(echoes=False, delivery_receipts=False, read_receipts=False)
    assert {bench.send(message)[0] for _ in range(most)} == {200}
    assert bench.send(message)[1]["error"]["code"] == 613
    bench.clock.advance(seconds=1)
    assert bench.send(message)[0] == 200


@pytest.mark.parametrize(
    "message",
    [
        generic({"title": "alone"}),
        generic(card(colour="red")),
        buttons({"type": "postback", "title": "x"}),
        buttons({"type": "postback", "title": "x", "payload": "p", "url": HTTPS}),
        buttons({"type": "web_url", "title": "x", "url": "no address"}),
        buttons({"type": "web_url", "title": "x", "url": HTTPS, "messenger_extensions": True}),
        buttons({"type": "web_url", "title": "x", "url": HTTPS, "fallback_url": HTTPS}),
        buttons({"type": "web_url", "title": "x", "url": HTTPS, "webview_height_ratio": "huge"}),
        buttons({"type": "account_link", "url": "http://shop.example.com/"}),
        buttons({"type": "account_link", "url": HTTPS, "title": "x"}),
        buttons({"type": "account_unlink", "title": "x"}),
        buttons({"type": "phone_number", "title": "x", "payload": "call me"}),
        buttons({"type": "element_share"}),
        buttons({"type": "payment", "title": "x"}),
        buttons({"type": "game_play", "title": "x", "game_metadata": {"player_id": 1, "context_id": 2}}),
        replies({"content_type": "location"}),
        replies({"content_type": "user_email", "title": "x"}),
        replies({"content_type": "text", "title": "", "payload": "x"}),
        template("list", elements=[card()]),
        template("open_graph", elements=[{"url": HTTPS}]),
        template("airline_itinerary"),
        template("button", buttons=[postback()]),
        template("media", elements=[{"media_type": "image"}]),
        template("media", elements=[{"media_type": "image", "url": HTTPS}]),
        template("media", elements=[{"media_type": "audio", "url": "https://www.facebook.com/1"}]),
        template("receipt", recipient_name="Ana"),
        receipt(currency="euro"),
        receipt(summary={}),
        receipt(address={"street_1": "x"}),
        receipt(elements=[{"title": "x"}]),
        template("product", elements=[{"id": "sku-1"}]),
        template("customer_information", countries=["Germany"], business_privacy={"url": HTTPS}),
        template("customer_information", countries=["DE"]),
        template("customer_information", business_privacy={"url": HTTPS}, purpose="MARKETING"),
        template("notification_messages", title="x", payload="x"),
        {"sticker_id": "thumb"},
        {"attachments": [{"type": "video", "payload": {"url": HTTPS}}]},
        {"attachment": {"type": "image", "payload": {"url": HTTPS, "is_reusable": "perhaps"}}},
        template("coupon", title="x"),
        template("coupon", title="x", coupon_code="A B"),
        feedback(feedback_screens=[{"questions": []}]),
        feedback(question={"id": "with space"}),
        feedback(question={"type": "nps", "score_option": "five_stars"}),
        feedback(button_title="https://x.example"),
        template("image_grid", elements=[{"images": [{"url": HTTPS, "is_hero_image": True}] * 2}]),
        grid(buttons=[{"type": "phone_number", "title": "x", "payload": "+4930123456"}]),
        template(
            "image_grid",
            elements=[{"images": [{"url": HTTPS, "action": {"type": "postback", "payload": "x"}}] * 2}],
        ),
        template("instant_form", form_id="x"),
        {"text": 5},
        {"text": ""},
        {},
        {"attachment": {"type": "sculpture", "payload": {"url": HTTPS}}},
        {"attachment": {"type": "image", "payload": {}}},
        {"attachment": {"type": "image", "payload": {"url": HTTPS, "attachment_id": "1"}}},
        {"attachment": {"type": "image", "payload": {"attachment_id": "404"}}},
        {"text": "x", "attachment": {"type": "image", "payload": {"url": HTTPS}}},
        {"text": "x", "colour": "red"},
        "text",
        ["text"],
    ],
)
def test_a_message_that_graph_would_refuse_is_refused(message):
    bench = Bench()
    status, answer = bench.send(message)
    assert status == 400, answer
    assert answer["error"]["code"] in {1, 100, 105, 194}
    assert not bench.ana.received


@pytest.mark.parametrize(
    "message",
    [
        replies({"content_type": "user_phone_number"}, {"content_type": "user_email"}),
        replies({"content_type": "text", "title": "", "payload": "", "image_url": HTTPS}),
        replies({"content_type": "text", "title": "x", "payload": 5}),
        buttons({"type": "account_link", "url": HTTPS}, {"type": "account_unlink"}),
        buttons({"type": "game_play", "title": "x", "game_metadata": {"player_id": "1"}}),
        generic(card(default_action={"type": "web_url", "url": HTTPS})),
        template(
            "media", elements=[{"media_type": "video", "url": "https://www.facebook.com/v/1"}], sharable=True
        ),
        template("coupon", title="x", coupon_url=HTTPS),
        receipt(
            summary=COSTS, address=ADDRESS, adjustments=[{"name": "x", "amount": 1}], timestamp="1795425304"
        ),
        template(
            "image_grid",
            elements=[
                {
                    "images": [
                        {"url": HTTPS, "action": {"type": "web_url", "url": HTTPS}},
                        {
                            "url": HTTPS,
                            "is_hero_image": True,
                            "action": {"type": "postback", "payload": "x", "text": "X"},
                        },
                    ]
                }
            ],
        ),
        template("instant_form", form_id="123"),
        {"sticker_id": 369239263222822},
        {
            "attachment": {"type": "file", "payload": {"url": HTTPS, "is_reusable": True}},
            "quick_replies": [reply()],
        },
    ],
)
def test_a_message_that_graph_accepts_is_accepted(message):
    bench = Bench()
    status, answer = bench.send(message)
    assert status == 200, answer
    assert bench.ana.received[0].message.items() >= message.items()


def test_the_budget_of_a_day_grows_with_the_persons():
    bench = Bench(enforce_business_limit=True)
    assert {bench.call("GET", "me")[0] for _ in range(200)} == {200}
    answer = bench.call("GET", "me")[1]
    assert answer["error"]["code"] == 80006
    assert "X-Business-Use-Case-Usage" in bench.emulator.calls[-1].headers
    bench.emulator.add_person(bench.page).says("hi")
    assert bench.call("GET", "me")[0] == 200
