"""The coffee shop of the demo: every rule of its bot, in three visits."""

from __future__ import annotations

from djmessenger.testing import containing


def test_a_visit_to_the_shop(shop, messenger):
    mari = messenger.person("Mari Tamm", locale="en_GB", timezone="Europe/Tallinn")
    mari.gets_started()
    mari.sees("Welcome, Mari! What may it be?", quick_replies=["Espresso", "Flat white", "Chai"])
    mari.taps("Flat white")
    mari.sees(containing("Flat white, coming up. Your number is"))
    mari.sees("Anything else?", buttons=["Cancel it", "Our menu"])
    number = mari.row.orders.get().pk
    mari.says(f"Where is order {number}?")
    mari.sees(f"Order {number} is on the bar.")
    mari.taps("Our menu")
    assert mari.screen.opened == ["https://example.com/menu"]
    mari.taps("Cancel it")
    mari.sees("Cancelled. Till next time!")
    assert not mari.row.orders.exists()
    mari.taps("Cancel it")
    mari.sees("That one is already in your hand.")
    mari.says(f"How is order {number}?")
    mari.sees(f"There is no order {number} of yours.")

    mari.sends_image()
    mari.sees("What a picture! It goes on our wall.")
    mari.says("Do you sell tea pots?")
    mari.sees("I only know about coffee.", quick_replies=["Flat white"])

    lin = messenger.person("林 怡君", locale="zh_TW", timezone="Asia/Taipei")
    lin.says("hi")
    lin.sees("您也好")
    lin.says("你好")
    lin.sees("您也好")
    lin.sends_sticker()
    lin.sees("謝謝您的讚")
    lin.sends_location(25.034, 121.5645, "Taipei 101")
    lin.does("postback", "Help", '{"payload_class": "djmessenger.payload.PersistentMenuOnePayload"}')
    lin.sees("這是幫助訊息")

    assert messenger.coverage() == []


def test_an_order_of_somebody_else_stays_theirs(shop, messenger):
    ana, ben = messenger.person(), messenger.person()
    ana.says("hello")
    ana.taps("Chai")
    number = ana.row.orders.get().pk
    ben.says(f"where is my order {number}")
    ben.sees(f"There is no order {number} of yours.")
