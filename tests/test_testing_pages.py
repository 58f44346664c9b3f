"""The test kit in projects with several Pages, apps and channels."""

from __future__ import annotations

import pytest

from djmessenger import models

pytestmark = pytest.mark.django_db(transaction=True)

A, B, ACCOUNT, BUSINESS = "104233987650012", "104233987650013", "17841400000000001", "17841400000000002"
FACEBOOK_APP, INSTAGRAM_APP = "883041772661055", "883041772661056"


@pytest.fixture
def kit(settings):
    """Return a function that starts the kit after the test has set its settings."""
    from djmessenger.testing import Messenger  # noqa: PLC0415 - the class is named as tests of projects name it

    started = []

    def start():
        kit = Messenger(settings)
        kit.start()
        started.append(kit)
        return kit

    yield start
    for each in started:
        each.stop()


def everything(settings):
    settings.DJM_APP_ID = FACEBOOK_APP
    settings.DJM_APP_SECRET = {FACEBOOK_APP: "f" * 32, INSTAGRAM_APP: "e" * 32}
    settings.DJM_PAGES = {
        A: {"token": "real-token"},
        B: {"token": ""},
        ACCOUNT: {"token": "another", "channel": "instagram"},
        BUSINESS: {
            "token": "third",
            "channel": "instagram",
            "login": "instagram",
            "app_id": INSTAGRAM_APP,
        },
    }


def test_each_page_of_the_settings_answers(kit, settings):
    everything(settings)
    messenger = kit()
    assert messenger.page.id == A
    for page_id in (B, ACCOUNT, BUSINESS):
        messenger.add_page(page_id)
    for page in messenger.pages.values():
        someone = messenger.person(page=page)
        someone.says("hi")
        someone.sees()
        row = models.Conversation.objects.get(person_id=someone.psid).page
        assert (row.page_id, row.channel) == (page.account_id, page.channel)
    assert {page.channel for page in messenger.pages.values()} == {"messenger", "instagram"}
    assert "real-token" not in repr(messenger.emulator.calls)


@pytest.mark.parametrize(
    "secret",
    [
        "s" * 32,
        ["s" * 32, "t" * 32],
        {INSTAGRAM_APP: "s" * 32, FACEBOOK_APP: "t" * 32},
        {FACEBOOK_APP: "s" * 32},
    ],
)
def test_each_form_of_the_app_secret(kit, settings, secret):
    everything(settings)
    settings.DJM_APP_SECRET = secret
    ana = kit().person()
    ana.says("hi")
    ana.sees()


@pytest.mark.parametrize("login", ["", "instagram"])
def test_an_instagram_account_in_a_project_without_pages(kit, login):
    messenger = kit()
    account = messenger.add_page(ACCOUNT, channel="instagram", login=login)
    ana, ben = messenger.person(page=account), messenger.person()
    for person in (ana, ben):
        person.says("hi")
        person.sees()
    rows = {row.person_id: row.page for row in models.Conversation.objects.select_related("page")}
    assert rows[ana.psid].channel == "instagram"
    assert rows[ana.psid].has_instagram_login() == bool(login)
    assert rows[ben.psid].channel == "messenger"
