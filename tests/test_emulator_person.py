"""The screen and the actions of a person."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from messenger_emulator import NotOnScreen
from tests.test_emulator import Bench
from tests.test_emulator_limits import buttons, card, generic, postback, replies, reply, template
from tests.test_emulator_webhook import Bot


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def ana(bench):
    return bench.ana


def last(bench):
    """Post what waits and give the newest item."""
    bot = Bot()
    bench.emulator.deliver(bot)
    return bot.items[-1]


def test_quick_replies_are_those_of_the_newest_message(bench, ana):
    bench.send(
        replies(reply("Yes", "YES"), {"content_type": "user_phone_number"}, {"content_type": "user_email"})
    )
    act = ana.taps_quick_reply("Yes")
    assert act.item["message"] == {"mid": act.mid, "text": "Yes", "quick_reply": {"payload": "YES"}}
    with pytest.raises(NotOnScreen, match="sees no quick reply 'Yes'; there are \\[\\]"):
        ana.taps_quick_reply("Yes")
    bench.send(
        replies(reply("Yes", "YES"), {"content_type": "user_phone_number"}, {"content_type": "user_email"})
    )
    assert ana.gives_phone("+37255501234").item["message"]["quick_reply"] == {"payload": "+37255501234"}
    bench.send(replies({"content_type": "user_email"}))
    assert ana.gives_email("ana@x.example").item["message"]["text"] == "ana@x.example"
    with pytest.raises(NotOnScreen):
        ana.gives_email("ana@x.example")


def test_buttons_stay_on_the_screen(bench, ana):
    bench.send(buttons(postback("Old", "OLD")))
    link = {"type": "web_url", "title": "Site", "url": "https://x.example/"}
    phone = {"type": "phone_number", "title": "Call", "payload": "+4930123456"}
    bench.send(generic(card(buttons=[postback("New", "NEW"), link, phone])))
    assert ana.taps_button("Old").item["postback"]["payload"] == "OLD"
    assert ana.taps_button("NEW").item["postback"]["title"] == "New"
    assert ana.taps_button("Site") is None
    assert ana.taps_button("Call") is None
    assert ana.opened == ["https://x.example/", "+4930123456"]
    with pytest.raises(NotOnScreen, match="'Old'"):
        ana.taps_button("Missing")


def test_a_tap_on_a_picture_of_a_grid(bench, ana):
    action = {"type": "postback", "payload": "RED", "text": "Red"}
    images = [{"url": "https://x.example/1", "action": action}, {"url": "https://x.example/2"}]
    bench.send(template("image_grid", elements=[{"images": images}]))
    assert ana.taps("Red").item["postback"]["payload"] == "RED"


def test_accounts(bench, ana):
    bench.send(buttons({"type": "account_link", "url": "https://x.example/link"}, {"type": "account_unlink"}))
    assert ana.taps_button("account_link") is None
    address, _, given = ana.opened[0].partition("?")
    assert address == "https://x.example/link"
    (token,), (way_back,) = parse_qs(given).values()
    assert list(parse_qs(given)) == ["account_linking_token", "redirect_uri"]
    assert (
        way_back
        == f"https://www.facebook.com/messenger_platform/account_linking?account_linking_token={token}"
    )
    query = {"fields": "recipient", "account_linking_token": token}
    assert bench.call("GET", "me", **query) == (200, {"id": bench.page.id, "recipient": ana.id})
    bench.clock.advance(minutes=6)
    assert bench.call("GET", "me", **query)[1]["error"]["code"] == 10303
    ana.links_account("code-1")
    assert last(bench)["account_linking"] == {"status": "linked", "authorization_code": "code-1"}
    ana.taps_button("account_unlink")
    assert last(bench)["account_linking"] == {"status": "unlinked"}


PRIVACY = {"business_privacy": {"url": "https://x.example/privacy"}}


def test_forms_and_coupons(bench, ana):
    for act in (ana.submits_form, ana.reveals_coupon, lambda: ana.gives_information({})):
        with pytest.raises(NotOnScreen, match="sees no template"):
            act()
    bench.send(template("customer_information", countries=["EE"], **PRIVACY))
    bench.send(template("instant_form", form_id="77"))
    bench.send(template("coupon", title="A cup on us", coupon_code="CUP-7", payload="cup"))
    ana.gives_information({"name": "Mari Maasikas", "postal_code": "10123"})
    responses = [{"key": "name", "value": "Mari Maasikas"}, {"key": "postal_code", "value": "10123"}]
    assert last(bench)["messaging_customer_information"] == {
        "screens": [{"screen_id": "Add address", "responses": responses}]
    }
    ana.submits_form()
    assert last(bench)["messaging_in_thread_lead_form_submit"] == {"form_id": "77"}
    revealed = ana.reveals_coupon().item["message"]
    assert revealed["template"] == {"type": "coupon", "payload": "cup", "coupon_code": "CUP-7"}


def test_before_the_first_message(bench, ana):
    with pytest.raises(NotOnScreen, match="no Get Started"):
        ana.gets_started()
    bench.page.platform().update(
        get_started={"payload": "GO"},
        greeting=[
            {"locale": "default", "text": "Hello {{user_first_name}}"},
            {"locale": "de_DE", "text": "Hallo {{user_full_name}}"},
        ],
        ice_breakers=[{"question": "Open?", "payload": "OPEN"}],
    )
    assert ana.greeting == "Hallo Ana Torres"
    assert ana.taps("Open?").item["postback"] == {
        "title": "Open?",
        "payload": "OPEN",
        "mid": ana.thread[0].mid,
    }
    assert (ana.greeting, ana.ice_breakers) == ("", [])
    assert ana.gets_started().item["postback"]["payload"] == "GO"


def test_links_into_the_thread(bench, ana):
    bench.page.platform()["get_started"] = {"payload": "GO"}
    referral = {"ref": "store-42", "source": "SHORTLINK", "type": "OPEN_THREAD"}
    assert ana.opens_link("store-42").item["postback"]["referral"] == referral
    assert ana.opens_link("store-42").item["referral"] == referral


def test_the_menu_of_the_language(bench, ana):
    def entry(locale, title):
        return {"locale": locale, "call_to_actions": [postback(title, "SHOP")]}

    bench.page.platform()["persistent_menu"] = [entry("default", "Shop"), entry("de_DE", "Laden")]
    assert ana.taps_menu("Laden").item["postback"]["payload"] == "SHOP"
    with pytest.raises(NotOnScreen):
        ana.taps_menu("Shop")
    with pytest.raises(NotOnScreen):
        ana.taps("Shop")


def test_acts_and_their_events(bench, ana):
    mid = bench.send({"text": "Hello"})[1]["message_id"]
    bench.emulator.deliver(Bot())
    assert ana.reacts("\U0001f44d").item["reaction"] == {
        "reaction": "like",
        "emoji": "\U0001f44d",
        "action": "react",
        "mid": mid,
    }
    assert ana.unreacts().item["reaction"] == {"action": "unreact", "mid": mid}
    assert ana.says("this one", reply_to=mid).item["message"]["reply_to"] == {
        "mid": mid,
        "is_self_reply": False,
    }
    own = ana.thread[-1].mid
    assert ana.edits("that one").item["message_edit"] == {"mid": own, "text": "that one", "num_edit": 1}
    for _ in range(4):
        ana.edits("again")
    with pytest.raises(NotOnScreen, match="5 times"):
        ana.edits("too often")
    coordinates = ana.sends_location(59.437, 24.7536).item["message"]["attachments"][0]["payload"][
        "coordinates"
    ]
    assert coordinates == {"lat": 59.437, "long": 24.7536}
    assert ana.sends_images("https://x.example/1", "https://x.example/2").item["message"]["attachments"][
        1
    ] == {
        "type": "image",
        "payload": {"url": "https://x.example/2"},
    }
    assert ana.sends_link("https://x.example/").item["message"]["text"] == "https://x.example/"
    assert ana.opts_in("cart").item["optin"] == {"ref": "cart"}
    assert "sender" not in ana.ticks_checkbox("cart-1").item
    feedback = ana.answers_feedback({"q1": {"type": "csat", "payload": "5"}})
    assert feedback.item["messaging_feedback"]["feedback_screens"][0]["questions"]["q1"]["payload"] == "5"
    assert ana.does("send_cart", {"order": {"note": "x"}}).item["order"] == {"note": "x"}
    assert ana.sends_attachment("file", "https://x.example/a.pdf").item["message"]["attachments"] == [
        {"type": "file", "payload": {"url": "https://x.example/a.pdf"}}
    ]
    assert ana.deletes().item["message"]["is_deleted"] is True


def test_the_bubble_tells_how_it_came(bench, ana):
    persona = bench.call(
        "POST", "me/personas", {"name": "Kim", "profile_picture_url": "https://x.example/k"}
    )[1]
    mid = ana.says("hi").mid
    bench.send({"text": "x"}, persona_id=persona["id"], notification_type="NO_PUSH", reply_to={"mid": mid})
    (bubble,) = ana.received
    assert (bubble.persona["name"], bubble.notification_type, bubble.reply_to) == ("Kim", "NO_PUSH", mid)
    assert (bubble.app_id, bubble.by_page, bubble.kind) == ("883041772661055", True, "text")


def test_a_person_who_is_away_reads_later(bench, ana):
    ana.online = False
    bench.send({"text": "x"})
    assert (ana.received[0].delivered, ana.received[0].read) == (True, False)
    ana.reads()
    assert ana.received[0].read


def test_pages_and_persons_are_not_added_twice(bench):
    with pytest.raises(ValueError, match="there already"):
        bench.emulator.add_page(bench.page.id, "another-token")
    with pytest.raises(ValueError, match="already"):
        bench.emulator.add_person(bench.page, person_id=bench.ana.id)
    with pytest.raises(ValueError, match="no webhook field mesages"):
        bench.emulator.add_page("2", "third-token", subscribed_fields=["mesages"])


def test_ids_repeat_with_the_seed_only():
    one, two = Bench(), Bench()
    assert one.ana.id == two.ana.id
    two.emulator.ids.__init__()
    assert one.emulator.ids.number("x") != two.emulator.ids.number("x")


def test_a_human_answers_from_the_inbox(bench, ana):
    bench.emulator.agent_says(ana, "Kim here", takes_control=True)
    item = last(bench)
    assert item["message"]["app_id"] == 263902037430900
    assert item["message"]["is_echo"] is True
    assert bench.send({"text": "me too"})[1]["error"]["error_subcode"] == 2018300
    bench.emulator.hand_over(ana, bench.page.app_id, "done")
    assert last(bench)["pass_thread_control"] == {
        "previous_owner_app_id": "263902037430900",
        "new_owner_app_id": "883041772661055",
        "metadata": "done",
    }
    assert bench.send({"text": "back"})[0] == 200


def test_messages_of_a_person_blocked_by_the_page_are_dropped(bench, ana):
    body = {"user_ids": [{"id": ana.id}], "actions": ["BLOCK_USER"]}
    assert bench.call("POST", "me/moderate_conversations", body)[0] == 200
    ana.says("let me in")
    assert bench.emulator.deliver(Bot()) == []
    body["actions"] = ["UNBLOCK_USER"]
    bench.call("POST", "me/moderate_conversations", body)
    ana.says("thanks")
    assert last(bench)["message"]["text"] == "thanks"


def test_a_smile_has_another_name_on_instagram(bench):
    account = bench.emulator.add_page("17", "other-token", channel="instagram", account_id="178")
    for person, name in (
        (bench.ana, "smile"),
        (bench.emulator.add_person(account, "Bo", username="bo.b"), "laugh"),
    ):
        mid = person.says("hi").mid
        assert person.reacts("\U0001f606", mid).item["reaction"]["reaction"] == name
    fields = {"fields": "participants{username},snippet", "access_token": "other-token"}
    (thread,) = bench.call("GET", "17/conversations", platform="instagram", **fields)[1]["data"]
    assert thread["snippet"] == "hi"
    assert thread["participants"]["data"][1] == {"username": "bo.b"}
