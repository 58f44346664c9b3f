"""The coffee shop of the demo: every rule of its bot, and every text in three languages."""

from __future__ import annotations

import ast
import gettext
from pathlib import Path

import pytest

from djmessenger.demo import settings as shop_settings
from djmessenger.testing import containing

SHOP = Path(shop_settings.__file__).parent
"""Not by its modules: its model belongs to an app that is there only in some tests."""


def test_a_visit_to_the_shop(shop, messenger):
    mari = messenger.person("Mari Tamm", locale="en_GB", timezone="Europe/Tallinn")
    assert mari.screen.greeting == "Coffee, and a bot that knows about it."
    mari.gets_started()
    mari.sees("Welcome, Mari! What may it be?", quick_replies=["Espresso", "Flat white", "Chai", "Show me"])
    mari.taps("Show me")
    mari.sees(cards={name: ["Order"] for name in ("Espresso", "Flat white", "Chai")})
    mari.taps("Order", on="Flat white")
    mari.sees(containing("Flat white, coming up. Your number is"))
    assert mari.sees().template == "receipt"
    mari.sees("Anything else?", buttons=["Cancel it", "Our menu"])
    number = mari.row.orders.get().pk
    mari.says(f"Where is order {number}?")
    mari.sees(f"Order {number}, Flat white, is on the bar.")
    mari.taps("Our menu")
    assert mari.screen.opened == ["https://example.com/menu"]
    mari.taps("Cancel it")
    mari.sees("Cancelled. Till next time!")
    assert not mari.row.orders.exists()
    mari.taps("Cancel it")
    mari.sees("That one is already in your hand.")
    mari.says(f"How is order {number}?")
    mari.sees(f"There is no order {number} of yours.")

    mari.sends_sticker()
    mari.sees("Thank you for the thumb!")
    mari.sends_location(25.034, 121.5645, "Taipei 101")
    mari.sees("Then you are nearly here. Follow the smell of coffee.")
    assert mari.row.userlocation_set.exists()
    mari.sends_image()
    mari.sees("What a picture! It goes on our wall.")
    mari.taps("Help")
    mari.sees("Say hello, choose a drink, or ask for your order by its number.")
    mari.says("Do you sell tea pots?")
    mari.sees("I only know about coffee.", quick_replies=["Flat white"])
    assert messenger.coverage() == []


def test_a_visit_in_german(shop, messenger):
    jonas = messenger.person("Jonas Weber", locale="de_DE")
    jonas.says("Guten Morgen")
    drinks = ["Espresso", "Flat White", "Chai"]
    jonas.sees("Willkommen, Jonas! Was darf es sein?", quick_replies=[*drinks, "Zeig mir alles"])
    jonas.taps("Unsere Getr\u00e4nke")
    jonas.sees(cards={name: ["Bestellen"] for name in drinks})
    jonas.taps("Bestellen", on="Chai")
    jonas.sees(containing("Chai, kommt sofort. Deine Nummer ist"))
    assert receipt_of(jonas) == ("Kaffeeladen", "An der Theke", "Chai")
    jonas.sees("Noch etwas?", buttons=["Stornieren", "Unsere Karte"])
    number = jonas.row.orders.get().pk
    jonas.says(f"Wo bleibt Bestellung {number}?")
    jonas.sees(f"Bestellung {number}, Chai, steht auf der Theke.")
    jonas.says("Und Kannen?")
    jonas.sees("Ich kenne mich nur mit Kaffee aus.", quick_replies=["Flat White"])


def test_a_visit_in_traditional_chinese(shop, messenger):
    lin = messenger.person("怡君 林", locale="zh_TW", timezone="Asia/Taipei")
    lin.says("你好")
    lin.sees("怡君，歡迎！想喝點什麼？", quick_replies=["濃縮咖啡", "馥列白", "印度奶茶", "看看飲品"])
    lin.taps("馥列白")
    lin.sees(containing("馥列白馬上來。您的號碼是"))
    assert receipt_of(lin) == ("咖啡店", "櫃台付款", "馥列白")
    lin.sees("還需要什麼嗎？", buttons=["取消", "我們的菜單"])
    number = lin.row.orders.get().pk
    lin.says(f"訂單 {number} 呢？")
    lin.sees(f"訂單 {number}（馥列白）已在吧台上。")
    lin.sends_sticker()
    lin.sees("謝謝您的讚！")
    lin.taps("說明")
    lin.sees("打個招呼、選杯飲料，或用號碼詢問您的訂單。")


def receipt_of(person):
    payload = person.sees().message["attachment"]["payload"]
    return payload["merchant_name"], payload["payment_method"], payload["elements"][0]["title"]


def test_an_order_of_another_person_is_not_shown(shop, messenger):
    ana, ben = messenger.person(), messenger.person()
    ana.says("hello")
    ana.taps("Chai")
    number = ana.row.orders.get().pk
    ben.says(f"where is my order {number}")
    ben.sees(f"There is no order {number} of yours.")


def texts_of(module):
    for node in ast.walk(ast.parse((SHOP / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
            yield node.args[0].value


@pytest.mark.parametrize("language", ["de", "zh_Hant"])
def test_the_catalogues_have_every_text_and_no_other(language):
    """Django reads the compiled catalogue; the text file beside it is for translators."""
    folder = SHOP / "locale" / language / "LC_MESSAGES"
    with (folder / "django.mo").open("rb") as file:
        compiled = dict(gettext.GNUTranslations(file)._catalog)
    assert compiled.keys() - {""} == {*texts_of("messenger.py"), *texts_of("settings.py")}
    written = (folder / "django.po").read_text(encoding="utf-8")
    for text, translated in compiled.items():
        if text:
            assert f'msgid "{text}"\nmsgstr "{translated}"\n' in written
