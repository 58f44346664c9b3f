"""The simulator in a real browser, before the demo's bot: nothing is stubbed but Meta."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.browser.conftest import DESKTOP, PHONE, ROOT, arrive, field, says

THEIRS = ".theirs .bubble"
MINE = ".mine .bubble"


def theirs(page, text):
    return page.locator(THEIRS, has_text=text).last


def start(page, name="Ben Yilmaz"):
    arrive(page, name)
    page.locator(".get-started").click()
    theirs(page, f"Welcome, {name.split()[0]}!").wait_for()


def choose(page, title):
    page.locator(".chips").get_by_role("button", name=title, exact=True).click()


def test_from_get_started_to_a_receipt(page):
    arrive(page)
    assert page.locator(".greeting").inner_text() == "Coffee, and a bot that knows about it."
    page.locator(".get-started").click()
    theirs(page, "Welcome, Ben! What may it be?").wait_for()
    assert page.locator(".chips button").all_inner_texts() == ["Espresso", "Flat white", "Chai", "Show me"]
    choose(page, "Show me")
    page.locator(".cards .card").nth(2).wait_for()
    row = page.locator(".cards").last
    assert row.evaluate("row => row.scrollLeft") == 0
    page.get_by_role("button", name="Next card").last.click()
    page.wait_for_function("row => row.scrollLeft > 100", arg=row.element_handle())
    page.locator(".cards .card", has_text="Flat white").get_by_role("button", name="Order").click()
    receipt = page.locator(".receipt")
    receipt.wait_for()
    assert receipt.locator("dd.total").inner_text().replace("\u00a0", "") == "€3.60"
    assert "Ben Yilmaz" not in receipt.inner_text() or "Paid with" in receipt.inner_text()
    theirs(page, "Anything else?").get_by_role("button", name="Cancel it").click()
    theirs(page, "Cancelled. Till next time!").wait_for()


def test_a_card_is_swiped_on_a_phone(open_page):
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    page.get_by_role("button", name="All conversations").click()
    start(page, "Uma Rao")
    choose(page, "Show me")
    row = page.locator(".cards").last
    row.locator(".card").nth(2).wait_for()
    box = row.bounding_box()
    session = page.context.new_cdp_session(page)
    for kind, x in [("touchStart", 250), *(("touchMove", x) for x in range(240, 50, -10)), ("touchEnd", 0)]:
        points = [{"x": box["x"] + x, "y": box["y"] + 60}] if x else []
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.wait_for_function("row => row.scrollLeft > 50", arg=row.element_handle())


def test_a_file_a_picture_a_voice_a_place_a_sticker(page, tmp_path):
    start(page)
    paper = tmp_path / "wish list.pdf"
    paper.write_bytes(b"%PDF-1.4 made up")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="File").click()
    chooser.value.set_files(paper)
    page.locator(".mine .file", has_text="wish list.pdf").wait_for()
    picture = ROOT / "src/djmessenger/demo/static/shop/chai.jpg"
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Picture").click()
    chooser.value.set_files(picture)
    theirs(page, "What a picture!").wait_for()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.mine img')].some(one => one.naturalWidth > 300)"
    )
    microphone = page.get_by_role("button", name="Voice message")
    microphone.click()
    page.get_by_text("Recording.").wait_for()
    microphone.click()
    page.locator(".mine .voice").wait_for()
    page.get_by_role("button", name="Location").click()
    page.get_by_role("button", name="Brandenburger Tor").click()
    page.get_by_role("button", name="Send", exact=True).click()
    page.locator(".mine .place", has_text="Brandenburger Tor").wait_for()
    page.get_by_role("button", name="Send a thumb").click()
    theirs(page, "Thank you for the thumb").wait_for()
    page.get_by_role("button", name="Stickers").click()
    page.get_by_role("button", name="Coffee", exact=True).click()
    page.get_by_role("img", name="Sticker: Coffee").wait_for()


def test_the_menu_and_an_emoji(page):
    start(page)
    page.get_by_role("button", name="Menu", exact=True).click()
    page.get_by_role("button", name="Help", exact=True).click()
    page.locator(MINE, has_text="Help").wait_for()
    page.locator(".line.theirs").nth(1).wait_for()
    page.get_by_role("button", name="Emoji").click()
    page.get_by_role("button", name="🥳").click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Send", exact=True).click()
    page.locator(".mine .big", has_text="🥳").wait_for()


def test_a_second_person_and_a_second_page_are_others(page):
    start(page)
    says(page, "only mine")
    page.locator(MINE, has_text="only mine").wait_for()
    arrive(page, "Zoe Adler")
    assert page.locator(".bubble").count() == 0
    page.locator(".get-started").click()
    theirs(page, "Welcome, Zoe!").wait_for()
    page.get_by_role("button", name="Add a Page").click()
    page.get_by_label("Name", exact=True).fill("Tea shop")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("heading", name="Tea shop").first.wait_for()
    says(page, "hello")
    theirs(page, "Welcome").wait_for()
    page.locator(".person", has_text="Ben Yilmaz").last.click()
    page.locator(MINE, has_text="only mine").wait_for()


def test_a_fault_shows_and_ends(page):
    start(page)
    page.get_by_role("tab", name="Faults").click()
    page.get_by_role("switch", name="blocked the person has").check()
    says(page, "can you hear me")
    page.get_by_role("tab", name="Message").click()
    page.locator(MINE, has_text="can you hear me").click()
    page.locator(".panel .wrong", has_text="551").first.wait_for()
    page.get_by_role("tab", name="Faults").click()
    switch = page.get_by_role("switch", name="blocked the person has")
    assert switch.is_checked()
    switch.uncheck()
    says(page, "and now?")
    theirs(page, "I only know about coffee.").wait_for()


def test_the_panel_tells_what_lies_behind_a_message(page):
    start(page)
    says(page, "do you sell tea pots?")
    answer = theirs(page, "I only know about coffee.")
    answer.click()
    panel = page.locator(".panel")
    panel.get_by_text("fallback 'sorry'").wait_for()
    told = panel.inner_text()
    for words in (
        "X-Hub-Signature-256",
        "sha256=",
        '"text": "do you sell tea pots?"',
        "rules applied, committed",
    ):
        assert words in told
    panel.locator("summary", has_text="Rows written").click()
    assert "Reply" in panel.inner_text() or "reply" in panel.inner_text()
    assert panel.locator(".block.this .path").inner_text().endswith("/messages")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    panel.get_by_role("button", name="Copy as curl").first.click()
    page.locator(".notice", has_text="Copied.").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("curl -X POST http://127.0.0.1:")
    assert "X-Hub-Signature-256: sha256=" in copied


def test_reactions_replies_and_edits(page):
    start(page)
    answer = theirs(page, "Welcome, Ben!")
    answer.hover()
    line = page.locator(".line.theirs").last
    line.get_by_role("button", name="React").click()
    line.get_by_role("button", name="Love").click()
    page.locator(".theirs .reactions", has_text="❤️").wait_for()
    theirs(page, "Welcome, Ben!").hover()
    page.locator(".line.theirs").last.get_by_role("button", name="Reply").click()
    says(page, "to this one")
    page.locator(".mine .quote", has_text="Welcome, Ben!").wait_for()
    mine = page.locator(".line.mine", has_text="to this one")
    mine.locator(".bubble").hover()
    mine.get_by_role("button", name="Edit").click()
    assert field(page).input_value() == "to this one"
    says(page, "to that one")
    page.locator(".line.mine", has_text="Edited").locator(".bubble", has_text="to that one").wait_for()


def test_the_clock_closes_the_window(page):
    start(page)
    page.locator(".window", has_text="23:").wait_for()
    page.get_by_role("tab", name="Clock").click()
    page.get_by_role("button", name="25 hours").click()
    page.locator(".window", has_text="window closed").wait_for()
    says(page, "good morning")
    page.locator(".window", has_text="23:").wait_for()


def test_raw_json_profile_and_export(page):
    start(page)
    page.get_by_role("tab", name="Raw").click()
    page.get_by_label("Sample").select_option("message_attachment_sticker")
    area = page.get_by_label("Body of the callback")
    page.wait_for_function("area => area.value.includes('sticker')", arg=area.element_handle())
    page.get_by_role("button", name="Send", exact=True).click()
    theirs(page, "Thank you for the thumb").wait_for()
    area.fill("this is no JSON")
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_role("tab", name="Traffic").click()
    page.locator(".traffic button", has_text="raw").first.click()
    page.get_by_text("quarantined").wait_for()
    page.get_by_role("tab", name="Raw").click()
    page.get_by_role("button", name="Export as test").click()
    source = page.get_by_role("textbox", name="The conversation as a test").input_value()
    assert "ben.gets_started()" in source
    compile(source, "<export>", "exec")
    page.locator("dialog").get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Set", exact=True).click()
    arrive(page, "Curious Kay")
    page.locator(".chips").get_by_role("button", name="Are you open now?").wait_for()


def test_an_account_is_linked_and_a_link_leads_here(page):
    arrive(page, "Link Visitor")
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="Come by an m.me link").click()
    page.get_by_label("Reference").fill("spring")
    page.get_by_role("button", name="Open it").click()
    theirs(page, "Welcome, Link!").wait_for()
    page.get_by_role("tab", name="Message").click()
    page.get_by_text('"ref": "spring"').wait_for()
    button = {"type": "account_link", "url": "https://example.com/login"}
    payload = {"template_type": "button", "text": "Who are you?", "buttons": [button]}
    page.evaluate(
        """(payload) => {
          const root = document.querySelector("djm-simulator");
          const message = { attachment: { payload } };
          const bubble = { by_page: true, kind: "template", text: "", message, time: 0, mid: "m" };
          const opened = "https://example.com/login?account_linking_token=1";
          root.perform = async (name) => name === "press" ? { opened } : {};
          root.messages.append(root.bubble(bubble, {}));
        }""",
        payload,
    )
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("account_linking_token=1").wait_for()
    page.get_by_role("button", name="Link the account").click()
    page.get_by_role("dialog", name="Log in").wait_for(state="detached")


@pytest.mark.parametrize(
    "text",
    [
        "<script>document.title = 'stolen'</script><img src=x onerror=\"document.title = 'stolen'\">",
        "\u202eright to left \u2066isolated\u2069 \u200fmark\u202c",
        "🎉" * 1000 + "👩‍👩‍👧‍👦" * 140,
        "W" * 600,
        "=1+1\u0000\u0007 {{ 7 * 7 }} ${7 * 7} </textarea></script>",
    ],
    ids=["script", "right-to-left", "emoji", "long-word", "controls"],
)
def test_nothing_that_a_person_writes_does_harm(page, text):
    start(page)
    title = page.title()
    box = field(page)
    box.evaluate("(field, text) => { field.value = text; field.dispatchEvent(new Event('input')); }", text)
    box.press("Enter")
    theirs(page, "I only know about coffee.").wait_for()
    mine = page.locator(MINE).last
    assert mine.locator(".words").evaluate("one => one.children.length") == 0
    assert page.title() == title
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".thread").evaluate("one => one.scrollWidth <= one.clientWidth")
    area, thread = mine.bounding_box(), page.locator(".thread").bounding_box()
    assert area["x"] >= thread["x"]
    assert area["x"] + area["width"] <= thread["x"] + thread["width"]
    mine.click()
    page.locator(".panel .code").first.wait_for()
    body = page.locator(".panel-body")
    assert body.evaluate("one => one.scrollWidth <= one.clientWidth")
    assert page.locator(".panel script, .panel img").count() == 0


def test_names_do_no_harm_either(page):
    arrive(page, "<b>Bo</b> \u202eevil " + "N" * 60)
    assert page.locator(".person b").count() == 0
    assert page.locator(".people").evaluate("one => one.scrollWidth <= one.clientWidth")


def test_works_without_a_mouse(page):
    start(page)
    field(page).focus()
    page.keyboard.type("hello")
    page.keyboard.press("Enter")
    page.locator(THEIRS).nth(1).wait_for()
    chips = page.locator(".chips button")
    page.keyboard.press("Shift+Tab")
    for _ in range(20):
        if chips.nth(1).evaluate("one => one === document.activeElement"):
            break
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.locator(".receipt").wait_for()
    theirs(page, "Anything else?").wait_for()
    page.locator(".thread").focus()
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.classList.contains('bubble')")
    page.keyboard.press("Home")
    assert "Get Started" in page.evaluate("document.activeElement.innerText")
    page.keyboard.press("Enter")
    assert page.get_by_role("tab", name="Message").get_attribute("aria-selected") == "true"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "React"


AXE = "axe_playwright_python"


def axe(page):
    """Return the serious faults that axe finds."""
    module = pytest.importorskip(AXE, reason="axe is not installed (it is in the extra 'dev')")
    page.add_script_tag(content=(Path(module.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        (one["id"], one["impact"], [node["html"][:160] for node in one["nodes"]][:3])
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_no_serious_fault(open_page, size, scheme):
    page = open_page(viewport=size, color_scheme=scheme, bypass_csp=True)
    if size is PHONE:
        page.get_by_role("button", name="All conversations").click()
        assert axe(page) == []
    start(page)
    choose(page, "Show me")
    page.locator(".cards .card").nth(2).wait_for()
    assert axe(page) == []
    says(page, "hello")
    page.locator(".chips button").nth(1).wait_for()
    choose(page, "Chai")
    page.locator(".receipt").wait_for()
    page.locator(MINE).last.click()
    if size is PHONE:
        page.get_by_role("button", name="Behind the messages").click()
    page.locator(".panel .tree").wait_for()
    assert axe(page) == []
    for tab in ("Traffic", "Faults", "Clock", "Raw"):
        page.get_by_role("tab", name=tab).click()
        page.locator(".panel-body > *").first.wait_for()
        assert axe(page) == []


def test_the_first_paint_is_small_and_comes_from_here(page, demo):
    loaded = page.evaluate(
        "performance.getEntries().filter(one => one.decodedBodySize).map(one => [one.name, one.decodedBodySize])"
    )
    site = demo.partition("/simulator/")[0]
    assert {name for name, _size in loaded if not name.startswith((site, "data:"))} == set()
    drawn = {
        name: size
        for name, size in loaded
        if "/simulator/" in name and not {"state", "details", "files"} & set(name.split("?")[0].split("/"))
    }
    assert len(drawn) == 7
    assert sum(drawn.values()) < 100_000, drawn


def shots(tmp_path):
    """The folder of the documentation's pictures, when they are to be taken anew: DJM_SCREENSHOTS=1."""
    return ROOT / "docs" / "images" if os.environ.get("DJM_SCREENSHOTS") else tmp_path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_screenshots(open_page, tmp_path, size, scheme):
    page = open_page(viewport=size, color_scheme=scheme)
    if size is PHONE:
        page.get_by_role("button", name="All conversations").click()
    start(page, {"light": "Ana Torres", "dark": "Uma Rao"}[scheme] if size is DESKTOP else "Zoe Adler")
    choose(page, "Show me")
    page.locator(".cards .card").nth(2).wait_for()
    page.locator(".cards .card", has_text="Flat white").get_by_role("button", name="Order").click()
    page.locator(".receipt").wait_for()
    theirs(page, "Anything else?").wait_for()
    page.wait_for_function("() => [...document.images].every(one => one.complete && one.naturalWidth)")
    mode = "" if scheme == "light" else "-dark"
    name = "phone" if size is PHONE else "desktop"
    if size is DESKTOP:
        page.locator(".receipt").click()
        page.locator(".panel .tree").wait_for()
        page.locator(".thread").evaluate("one => one.scrollTop = one.scrollHeight")
    target = shots(tmp_path) / f"simulator-{name}{mode}.png"
    page.mouse.move(2, 2)
    page.screenshot(path=target)
    assert target.stat().st_size < 300_000


def template(kind, **payload):
    attachment = {"type": "template", "payload": {"template_type": kind, **payload}}
    return {"kind": "template", "message": {"attachment": attachment}}


BUTTONS = [
    {"type": "postback", "title": "Yes", "payload": "YES"},
    {"type": "web_url", "title": "Read on", "url": "https://example.com/"},
    {"type": "phone_number", "title": "Call us", "payload": "+886255500100"},
]
QUESTION = {"id": "q1", "type": "csat", "title": "How was your coffee?", "score_option": "five_emojis"}
GRID = [
    {"url": "https://example.com/1.jpg", "is_hero_image": True},
    {"url": "https://example.com/2.jpg", "action": {"type": "postback", "payload": "TWO", "text": "Two"}},
    {"url": "https://example.com/3.jpg", "action": {"type": "web_url", "url": "https://example.com/"}},
]
DRAWN = [
    template("button", text="Shall we?", buttons=BUTTONS),
    template("generic", elements=[{"title": "One card", "subtitle": "alone", "buttons": BUTTONS[:1]}]),
    template(
        "media", elements=[{"media_type": "video", "url": "https://www.facebook.com/v/1", "buttons": []}]
    ),
    template(
        "coupon", title="A cup on us", subtitle="This week", coupon_code="CUP-7", coupon_pre_message="For you"
    ),
    template("image_grid", elements=[{"title": "Our week", "images": GRID, "buttons": BUTTONS[:1]}]),
    template(
        "customer_feedback",
        title="Rate us",
        button_title="Send it",
        feedback_screens=[{"questions": [{**QUESTION, "follow_up": {"type": "free_form"}}]}],
        business_privacy={"url": "https://example.com/privacy"},
    ),
    template("product", elements=[{"id": "1"}, {"id": "2"}]),
    template(
        "customer_information",
        countries=["EE", "FI"],
        business_privacy={"url": "https://example.com/privacy"},
    ),
    template("instant_form", form_id="77"),
    template("one_time_notif_req", title="When it is back", payload="BACK"),
    template("a_kind_of_next_year"),
    {
        "kind": "video",
        "message": {"attachment": {"type": "video", "payload": {}}, "url": "https://example.com/v.mp4"},
    },
    {
        "kind": "audio",
        "message": {"attachment": {"type": "audio", "payload": {}}, "url": "https://example.com/a.mp4"},
    },
    {
        "kind": "images",
        "message": {
            "attachments": [{"type": "image", "payload": {"url": f"https://example.com/{n}"}} for n in "123"]
        },
    },
    {
        "kind": "text",
        "text": "It is me",
        "persona": {"name": "Kay", "profile_picture_url": "https://example.com/k"},
    },
]


def test_every_template_is_drawn(open_page, tmp_path):
    page = open_page(bypass_csp=True)
    start(page, "Mari Maasikas")
    base = {
        "by_page": True,
        "text": "",
        "message": {},
        "reactions": {},
        "elements": [],
        "edits": 0,
        "time": 1795598998,
    }
    bubbles = [{**base, "mid": f"m_drawn_{number}", **one} for number, one in enumerate(DRAWN)]
    page.evaluate(
        """(bubbles) => {
          const root = document.querySelector("djm-simulator");
          clearTimeout(root.timer);
          root.poll = () => {};
          root.asked = [];
          root.perform = async (name, values) => root.asked.push([values.act, ...values.args]);
          const place = { first: true, last: true };
          root.messages.replaceChildren(...bubbles.map((one) => root.bubble(one, place)));
        }""",
        bubbles,
    )
    for words in (
        "Shall we?",
        "One card",
        "A cup on us",
        "Our week",
        "How was your coffee?",
        "Kay",
        "To ship to you in EE, FI.",
        "Form 77. Its questions are stored at Meta.",
        "a_kind_of_next_year",
    ):
        page.locator(".thread").get_by_text(words).first.scroll_into_view_if_needed()
    assert page.locator(".thread").evaluate("one => one.scrollWidth <= one.clientWidth")
    assert axe(page) == []
    page.set_viewport_size({"width": 1280, "height": 3300})
    page.screenshot(path=os.environ.get("DJM_DRAWN", tmp_path / "drawn.png"))
    card = page.locator(".feedback")
    card.get_by_role("button", name="4 of 5").click()
    card.get_by_role("button", name="Send it").click()
    page.get_by_role("button", name="Reveal code").click()
    page.get_by_text("CUP-7", exact=True).wait_for()
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="Add your details").click()
    page.get_by_label("Postal code").fill("10111")
    page.get_by_role("dialog").get_by_role("button", name="Send").click()
    page.get_by_role("dialog").wait_for(state="detached")
    *asked, (act, given) = page.evaluate("document.querySelector('djm-simulator').asked")
    assert asked == [
        ["answers_feedback", {"q1": {"type": "csat", "payload": "4"}}],
        ["reveals_coupon"],
        ["submits_form"],
    ]
    assert act == "gives_information"
    assert (given["name"], given["postal_code"], given["country"]) == ("Mari Maasikas", "10111", "EE")
