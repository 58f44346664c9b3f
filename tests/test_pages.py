"""Many Pages: whose token, app, policy, language and host an event gets, and that two never mix."""

from __future__ import annotations

import io
import json
import types
from urllib.parse import urlsplit

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from django.urls import include, path, reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy

from djmessenger import bot, checks, models, page_checks, secret_checks, signatures
from djmessenger.admin.pages import PageAdmin
from djmessenger.bot import tokens
from djmessenger.bot.pages import all_pages, client_columns, client_config_for, page_of, token_of
from djmessenger.bot.tokens import key_problems
from djmessenger.exceptions import DJMInvalidConfigException, TokenKeyError
from djmessenger.graph.context import current as current_client
from djmessenger.graph.errors import TokenError
from djmessenger.secret import Secret
from tests.graph_tools import Recorder, frames_of, refusal
from tests.pipeline_tools import now_ms, pass_time, policy

urlpatterns = [path("admin/", admin.site.urls), path("", include("djmessenger.urls"))]

pytestmark = [pytest.mark.urls("tests.test_pages"), pytest.mark.django_db]

A, B, INSTA = "1000001", "1000002", "17840000000001"
ANA, BEN = "7012345678901234", "7099345678901234"
APP_A, APP_B = "501", "502"
SECRETS = {APP_A: "a" * 32, APP_B: "b" * 32}
KEYS = [tokens.new_key() for _ in range(3)]


class Meta(Recorder):
    """Takes every message and gives it an id."""

    def send(self, request):
        given = (
            self.answers.pop(0) if self.answers else {"recipient_id": "1", "message_id": f"m_{id(request)}"}
        )
        self.answers.insert(0, given)
        return super().send(request)

    @property
    def sent(self):
        """Of each message: path, token, text."""
        return [
            (urlsplit(one.url).path, one.headers["Authorization"].removeprefix("Bearer "), text_of(one))
            for one in self.requests
            if text_of(one) is not None
        ]


def text_of(request):
    return json.loads(request.body or b"{}").get("message", {}).get("text")


@pytest.fixture
def meta():
    world = Meta()
    bot.use_transport(world)
    yield world
    bot.use_transport(None)


@pytest.fixture
def two_apps(settings):
    settings.DJM_PAGE_ACCESS_TOKEN = ""
    settings.DJM_SAVE_USER_PROFILE = False
    settings.DJM_APP_SECRET = SECRETS
    settings.DJM_TOKEN_KEYS = KEYS[:1]
    settings.DJM_PAGES = {
        A: {"token": "token-of-a", "app_id": APP_A},
        B: {"token": "token-of-b", "app_id": APP_B},
    }
    return settings


def message(page, person, words="hello", mid=""):
    return {
        "sender": {"id": person},
        "recipient": {"id": page},
        "timestamp": now_ms(),
        "message": {"mid": mid or f"m_{page}_{person}_{words}", "text": words},
    }


def body(*items, kind="page"):
    """One callback with an entry for each (page id, item)."""
    entries = [{"id": page, "time": now_ms(), "messaging": [item]} for page, item in items]
    return json.dumps({"object": kind, "entry": entries}).encode()


def post(client, content, secret=SECRETS[APP_A]):
    answer = client.post(
        "/messenger",
        data=content,
        content_type="application/json",
        headers={"X-Hub-Signature-256": signatures.sign(secret, content)},
    )
    assert answer.status_code == 200


def page_with_token(page_id=A, token="token-in-the-row", **fields):
    page = models.Page(page_id=page_id, **fields)
    bot.set_token(page, Secret(token))
    page.save()
    return page


class TestPrecedence:
    def test_entry_then_row_then_the_one_page_of_the_settings(self, settings):
        settings.DJM_TOKEN_KEYS = KEYS
        settings.DJM_PAGE_ID = A
        settings.DJM_PAGE_ACCESS_TOKEN = "token-of-the-settings"
        page = models.Page.objects.create(page_id=A)
        assert token_of(page) == Secret("token-of-the-settings")
        bot.set_token(page, Secret("token-of-the-row"))
        page.version = "v25.0"
        config = client_config_for(page)
        assert (config.token, config.version) == (Secret("token-of-the-row"), "v25.0")
        settings.DJM_PAGES = {A: {"token": "token-of-the-entry", "version": "v26.0"}}
        config = client_config_for(page)
        assert (config.token, config.version) == (Secret("token-of-the-entry"), "v26.0")

    def test_values_that_an_entry_leaves_out_come_from_the_row(self, settings):
        settings.DJM_PAGES = {A: {"token": "token-of-a"}}
        page = models.Page(page_id=A, app_id=APP_B, policy="x.y", language="de", channel="instagram")
        assert [page.configured(name) for name in ("app_id", "policy", "language", "channel")] == [
            APP_B, "x.y", "de", "instagram",
        ]  # fmt: skip
        settings.DJM_PAGES = {A: {"app_id": APP_A, "language": "fr"}}
        assert [page.configured(name) for name in ("app_id", "policy", "language")] == [APP_A, "x.y", "fr"]

    def test_one_page_needs_no_id(self, settings):
        assert token_of(models.Page(page_id="123")) == Secret(settings.DJM_PAGE_ACCESS_TOKEN)
        assert bot.get_client().page_id == "me"

    def test_another_page_than_the_named_one_does_not_use_its_token(self, settings):
        settings.DJM_PAGE_ID = A
        with pytest.raises(DJMInvalidConfigException, match=f"Page {B} has no token"):
            bot.get_client(models.Page(page_id=B))

    def test_beside_entries_no_page_is_guessed(self, settings):
        settings.DJM_PAGES = {A: {"token": "token-of-a"}}
        with pytest.raises(DJMInvalidConfigException, match=f"Page {B} has no token"):
            bot.get_client(models.Page(page_id=B))

    def test_the_page_that_is_meant_where_none_is_named(self, settings):
        settings.DJM_PAGE_ACCESS_TOKEN = ""
        settings.DJM_PAGES = {A: {"token": "token-of-a"}}
        assert bot.get_client().page_id == A
        settings.DJM_PAGES = {A: {"token": "token-of-a"}, B: {"token": "token-of-b"}}
        with pytest.raises(DJMInvalidConfigException, match="DJM_PAGE_ID"):
            bot.get_client()
        settings.DJM_PAGE_ID = B
        assert bot.get_client().page_id == B
        assert [page.page_id for page in all_pages()] == [A, B]

    def test_a_client_serves_until_something_of_its_page_changes(self, settings):
        settings.DJM_TOKEN_KEYS = KEYS
        page = page_with_token()
        first = bot.get_client(page)
        assert bot.get_client(models.Page.objects.get()) is first
        bot.set_token(page, Secret("another-token"))
        assert bot.get_client(page) is not first

    def test_the_configuration_of_a_client_is_made_once_for_the_content_of_a_row(self, settings, monkeypatch):
        settings.DJM_TOKEN_KEYS = KEYS
        page = page_with_token()
        made = []
        monkeypatch.setattr(
            bot, "client_config_for", lambda page: made.append(page.page_id) or client_config_for(page)
        )
        first = bot.get_client(page)
        models.Page.objects.update(date_last_callback=timezone.now())
        assert bot.get_client(models.Page.objects.get()) is bot.get_client(page) is first
        assert made == [A]
        settings.DJM_GRAPH_TIMEOUT = 3.0
        assert bot.get_client(page).timeout == 3.0
        assert made == [A, A]

    def test_a_change_of_any_column_of_a_row_reaches_its_client(self, settings):
        settings.DJM_TOKEN_KEYS = KEYS
        settings.DJM_APP_SECRET = SECRETS
        page_with_token()
        others = {
            "channel": "instagram",
            "login": "instagram",
            "app_id": APP_B,
            "version": "v25.0",
            "is_logged": True,
            "token_ciphertext": tokens.encrypt(A, Secret("another-token")),
        }
        for field in models.Page._meta.concrete_fields:
            if field.name == "page_id":
                continue  # The ciphertext belongs to one Page: another id is an error, not another client.
            page = models.Page.objects.get()
            bot.get_client(page)
            text = "other" if field.get_internal_type() in {"CharField", "TextField"} else None
            setattr(page, field.name, others.get(field.name, text))
            assert client_config_for(page_of(client_columns(page))) == client_config_for(page), field.name

    def test_an_error_of_a_page_without_token_is_not_kept(self, settings):
        page = models.Page(page_id=B)
        settings.DJM_PAGE_ID = A
        with pytest.raises(DJMInvalidConfigException):
            bot.get_client(page)
        settings.DJM_TOKEN_KEYS = KEYS
        page.token_ciphertext = tokens.encrypt(B, Secret("token-of-b"))
        assert bot.get_client(page).page_id == B

    def test_the_proof_is_made_with_the_secret_of_the_pages_app(self, two_apps, meta):
        bot.get_client(models.Page(page_id=B)).send({"id": BEN}, {"message": {"text": "x"}})
        assert meta.body["appsecret_proof"] == signatures.appsecret_proof("token-of-b", SECRETS[APP_B])


class TestInstagram:
    def test_an_account_with_instagram_login_uses_its_own_host(self, settings):
        settings.DJM_PAGES = {INSTA: {"token": "t", "channel": "instagram", "login": "instagram"}}
        config = client_config_for(models.Page(page_id=INSTA))
        assert (config.base_url, config.page_id) == ("https://graph.instagram.com", INSTA)
        assert not config.app_secret

    def test_behind_a_facebook_page_the_token_says_which(self, settings):
        settings.DJM_PAGES = {INSTA: {"token": "t", "channel": "instagram"}}
        config = client_config_for(models.Page(page_id=INSTA))
        assert (config.base_url, config.page_id) == ("https://graph.facebook.com", "me")

    def test_an_emulator_in_the_place_of_graph_serves_both(self, settings):
        settings.DJM_PAGES = {INSTA: {"token": "t", "channel": "instagram", "login": "instagram"}}
        settings.DJM_GRAPH_URL = "http://127.0.0.1:9"
        assert client_config_for(models.Page(page_id=INSTA)).base_url == "http://127.0.0.1:9"
        settings.DJM_INSTAGRAM_GRAPH_URL = "https://graph.instagram.com"
        assert client_config_for(models.Page(page_id=INSTA)).base_url == "https://graph.instagram.com"

    def test_instagram_uses_the_same_engine_with_its_own_limits(self, two_apps, meta, client, monkeypatch):
        two_apps.DJM_PAGES = {
            INSTA: {"token": "token-of-insta", "channel": "instagram", "login": "instagram", "app_id": APP_A}
        }
        # 450 letters of three bytes each: one message on Messenger, two within Instagram's 1,000 bytes.
        monkeypatch.setattr(bot, "get_policy", lambda page=None: policy(lambda event: "語 " * 450))
        bot.get_engine.cache_clear()
        post(client, body((INSTA, message(INSTA, ANA)), kind="instagram"))
        assert models.Page.objects.get().channel == "instagram"
        assert len(meta.sent) == 2
        assert all(len(text.encode()) <= 1000 for _path, _token, text in meta.sent)
        assert {urlsplit(one.url).hostname for one in meta.requests} == {"graph.instagram.com"}

    def test_the_channel_is_learnt_once(self, two_apps, client, meta):
        models.Page.objects.create(page_id=A, channel="messenger")
        post(client, body((A, message(A, ANA)), kind="instagram"))
        assert models.Page.objects.get().channel == "messenger"


def test_two_pages_in_one_callback_never_mix(two_apps, meta, client):
    two_apps.LANGUAGES = [("en", "English"), ("de", "German")]
    two_apps.DJM_PAGES = {
        A: {
            "token": "token-of-a", "app_id": APP_A, "version": "v25.0",
            "policy": "tests.page_rules.AS_DICT", "language": "de",
        },
        B: {"token": "token-of-b", "app_id": APP_A, "policy": "tests.page_rules"},
    }  # fmt: skip
    items = [(page, message(page, person)) for page in (A, B) for person in (ANA, BEN)]
    # Each person knows both Pages here, which Meta's ids never allow; the queues are apart all the same.
    post(client, body(*items))
    assert sorted(meta.sent) == sorted(
        [
            (f"/v25.0/{A}/messages", "token-of-a", "from the dict"),
            (f"/v25.0/{A}/messages", "token-of-a", "from the dict"),
            (f"/v26.0/{B}/messages", "token-of-b", "from the module"),
            (f"/v26.0/{B}/messages", "token-of-b", "from the module"),
        ]
    )
    proofs = {json.loads(one.body)["appsecret_proof"] for one in meta.requests}
    assert proofs == {signatures.appsecret_proof(f"token-of-{one}", SECRETS[APP_A]) for one in "ab"}


def test_the_limit_and_the_client_are_those_of_the_event(two_apps, meta, client, monkeypatch):
    seen = []
    monkeypatch.setattr(
        bot,
        "get_policy",
        lambda page=None: policy(lambda event: seen.append((event.page.page_id, current_client().page_id))),
    )
    bot.get_engine.cache_clear()
    two_apps.DJM_PAGES = {page: {"token": f"token-of-{page}", "app_id": APP_A} for page in (A, B)}
    post(client, body((A, message(A, ANA)), (B, message(B, BEN))))
    assert seen == [(A, A), (B, B)]


def test_the_pages_language_is_the_second_choice(two_apps, meta, client, monkeypatch):
    two_apps.DJM_PAGES = {A: {"token": "token-of-a", "language": "de"}, B: {"token": "token-of-b"}}
    two_apps.DJM_APP_SECRET = SECRETS[APP_A]
    monkeypatch.setattr(bot, "get_policy", lambda page=None: policy(lambda event: gettext_lazy("Yes")))
    bot.get_engine.cache_clear()
    person = "7012345678900003"
    models.FBUserProfile.objects.create(psid=person, locale="fr_FR")
    post(client, body((A, message(A, ANA)), (B, message(B, BEN)), (A, message(A, person))))
    assert sorted(text for _path, _token, text in meta.sent) == ["Ja", "Oui", "Yes"]


class TestTwoApps:
    """App A's secret on app B's Page: stored and never handled."""

    def test_is_ignored_with_the_reason(self, two_apps, meta, client):
        post(client, body((B, message(B, BEN))), SECRETS[APP_A])
        row = models.Messaging.objects.get()
        assert (row.state, row.page) == ("ignored", None)
        assert "the signature is of app 501" in row.reason
        assert not models.Conversation.objects.exists()
        assert not models.FBUserProfile.objects.exists()
        assert not models.Page.objects.exists()
        assert meta.sent == []

    def test_leaves_its_neighbours_alone(self, two_apps, meta, client):
        post(client, body((A, message(A, ANA)), (B, message(B, BEN))), SECRETS[APP_A])
        states = dict(models.Messaging.objects.values_list("page__page_id", "state"))
        assert states == {A: "done", None: "ignored"}

    def test_takes_nothing_from_the_true_one(self, two_apps, meta, client):
        content = body((B, message(B, BEN, mid="m_same")))
        post(client, content, SECRETS[APP_A])
        post(client, content, SECRETS[APP_A])
        post(client, content, SECRETS[APP_B])
        assert sorted(models.Messaging.objects.values_list("state", flat=True)) == ["done", "ignored"]
        assert sorted(models.Callback.objects.values_list("app_id", "copies")) == [(APP_A, 2), (APP_B, 1)]

    def test_its_echo_settles_nothing(self, two_apps, meta, client):
        item = message(B, BEN)
        item["sender"], item["recipient"] = item["recipient"], item["sender"]
        item["message"] |= {"is_echo": True, "app_id": int(APP_B), "metadata": f"djm1.{'0' * 32}.1"}
        post(client, body((B, item)), SECRETS[APP_A])
        assert models.Messaging.objects.get().echo_token is None
        post(client, body((B, item)), SECRETS[APP_B])
        assert models.Messaging.objects.exclude(echo_token=None).count() == 1

    def test_a_row_names_the_app_too(self, two_apps, meta, client):
        two_apps.DJM_PAGES = {}
        page_with_token(B, app_id=APP_B)
        post(client, body((B, message(B, BEN))), SECRETS[APP_A])
        row = models.Messaging.objects.get()
        assert (row.page.page_id, row.page.date_last_callback) == (B, None)
        assert "the signature is of another app (501)" in row.reason
        post(client, body((B, message(B, BEN, mid="m_2"))), SECRETS[APP_B])
        assert sorted(models.Messaging.objects.values_list("state", flat=True)) == ["done", "ignored"]

    def test_without_a_known_app_the_signature_is_enough(self, two_apps, meta, client):
        two_apps.DJM_APP_SECRET = list(SECRETS.values())
        post(client, body((B, message(B, BEN))), SECRETS[APP_A])
        assert models.Messaging.objects.get().state == "done"


class TestPolicies:
    def test_by_dotted_path_or_file(self, tmp_path):
        file = tmp_path / "berlin.json"
        file.write_text(json.dumps({"rules": []}))
        page = models.Page(page_id=A)
        assert bot.get_policy(page) is bot.get_policy() is bot.get_policy(None)
        for source, rules in (("tests.page_rules", 2), ("tests.page_rules.AS_DICT", 1), (str(file), 0)):
            page.policy = source
            assert len(bot.get_policy(page).rules) == rules
            assert bot.get_policy(page) is bot.get_policy(page)
            assert bot.get_problems_at(source) == []

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("no_such_module", "no_such_module"),
            ("tests.page_rules.MISSING", "MISSING"),
            ("tests.page_rules.NO_POLICY", "no module of rules"),
            ("tests.page_rules.BROKEN", "no.such.Replier"),
            ("/nowhere/policy.json", "nowhere"),
        ],
    )
    def test_a_mistake_is_reported(self, source, said):
        problems = bot.get_problems_at(source)
        assert said in " ".join(map(str, problems))
        assert all(problem.docs for problem in problems)
        with pytest.raises((DJMInvalidConfigException, ImportError)):
            bot.get_policy(models.Page(page_id=A, policy=source))

    def test_an_error_inside_a_module_is_not_hidden(self, monkeypatch, tmp_path):
        (tmp_path / "breaks_inside.py").write_text("import not_there_at_all\n")
        monkeypatch.syspath_prepend(tmp_path)
        assert "not_there_at_all" in str(bot.get_problems_at("breaks_inside")[0])


class TestTokens:
    def test_the_row_holds_ciphertext_only(self, settings):
        settings.DJM_TOKEN_KEYS = KEYS
        page = page_with_token(token="canary-token")
        assert token_of(models.Page.objects.get()) == Secret("canary-token")
        assert "canary" not in page.token_ciphertext
        out = io.StringIO()
        call_command("dumpdata", "djmessenger.page", stdout=out)
        assert page.token_ciphertext in out.getvalue()
        assert "canary" not in out.getvalue()

    def test_one_key_may_be_a_text(self, settings):
        settings.DJM_TOKEN_KEYS = KEYS[0]
        assert token_of(page_with_token()) == Secret("token-in-the-row")

    @pytest.mark.parametrize(
        ("keys", "said"),
        [
            ((), "DJM_TOKEN_KEYS is empty"),
            (KEYS[1:], "No key of DJM_TOKEN_KEYS opens"),
            (["x"], r"KEYS\[0\] is no key"),
        ],
    )
    def test_a_missing_wrong_or_broken_key_is_loud(self, settings, keys, said):
        settings.DJM_TOKEN_KEYS = KEYS[:1]
        page = page_with_token(token="canary-token")
        settings.DJM_TOKEN_KEYS = keys
        with pytest.raises(TokenKeyError, match=said) as raised:
            bot.get_client(page)
        collected = frames_of(raised.value, but=__file__)
        assert "canary" not in collected
        assert not any(key in collected for key in KEYS)
        assert isinstance(raised.value, DJMInvalidConfigException)

    def test_without_the_library_it_says_what_to_install(self, settings, monkeypatch):
        settings.DJM_TOKEN_KEYS = KEYS
        monkeypatch.setattr(tokens, "HAS_CRYPTOGRAPHY", False)
        with pytest.raises(TokenKeyError, match="pip install"):
            page_with_token()
        with pytest.raises(TokenKeyError, match="pip install"):
            tokens.new_key()

    def test_the_token_of_another_page_is_not_taken(self, settings):
        settings.DJM_TOKEN_KEYS = KEYS
        page = page_with_token(A)
        with pytest.raises(TokenKeyError, match="another Page"):
            token_of(models.Page(page_id=B, token_ciphertext=page.token_ciphertext))

    def test_a_wrong_key_never_falls_back_to_the_settings(self, settings):
        settings.DJM_TOKEN_KEYS = KEYS[:1]
        page = page_with_token()
        settings.DJM_TOKEN_KEYS = KEYS[1:]
        assert settings.DJM_PAGE_ACCESS_TOKEN
        with pytest.raises(TokenKeyError):
            token_of(page)

    def test_rotation_moves_all_to_the_newest_key(self, settings):
        settings.DJM_TOKEN_KEYS = KEYS[:1]
        page_with_token(A, "token-of-a")
        settings.DJM_TOKEN_KEYS = KEYS[1:2]
        page_with_token(B, "token-of-b")
        settings.DJM_TOKEN_KEYS = [KEYS[1], KEYS[0]]
        assert bot.rotate_tokens() == 1
        assert bot.rotate_tokens() == 0
        settings.DJM_TOKEN_KEYS = KEYS[1:2]
        assert {token_of(page) for page in models.Page.objects.all()} == {
            Secret("token-of-a"),
            Secret("token-of-b"),
        }

    def test_rotation_keeps_a_token_that_is_stored_meanwhile(self, settings, monkeypatch):
        settings.DJM_TOKEN_KEYS = KEYS[:1]
        page = page_with_token(A, "token-of-a")
        settings.DJM_TOKEN_KEYS = [KEYS[1], KEYS[0]]
        decrypt = bot.decrypt

        def decrypt_and_store(page_id, ciphertext):
            token = decrypt(page_id, ciphertext)
            stored = models.Page.objects.get(page_id=page_id)
            bot.set_token(stored, Secret("new-token-of-a"))
            stored.save()
            return token

        with monkeypatch.context() as patch:
            patch.setattr(bot, "decrypt", decrypt_and_store)
            bot.rotate_tokens()
        assert token_of(models.Page.objects.get(pk=page.pk)) == Secret("new-token-of-a")

    def test_rotation_does_what_it_can_and_names_the_rest(self, settings):
        settings.DJM_TOKEN_KEYS = KEYS[:1]
        page_with_token(A)
        settings.DJM_TOKEN_KEYS = KEYS[1:2]
        page_with_token(B)
        settings.DJM_TOKEN_KEYS = [KEYS[2], KEYS[1]]
        with pytest.raises(TokenKeyError, match=f"1 tokens .* those of {A}"):
            bot.rotate_tokens()
        settings.DJM_TOKEN_KEYS = KEYS[2:]
        assert token_of(models.Page.objects.get(page_id=B)) == Secret("token-in-the-row")

    def test_a_reply_waits_for_the_key(self, settings, meta):
        settings.DJM_TOKEN_KEYS = KEYS[:1]
        page_with_token(A)
        settings.DJM_TOKEN_KEYS = KEYS[1:]
        conversation = models.Conversation.objects.between(A, ANA)
        conversation.date_last_inbound = timezone.now()
        conversation.save()
        reply = models.Reply.objects.queue(conversation, {"message": {"text": "x"}}, type="simple_text")
        bot.get_engine().drain_queue("out", conversation.pk)
        reply.refresh_from_db()
        assert (reply.state, meta.requests) == ("queued", [])
        page = models.Page.objects.get()
        assert page.paused_until is not None
        assert "DJM_TOKEN_KEYS" in page.pause_reason
        settings.DJM_TOKEN_KEYS = KEYS
        pass_time(3600)
        bot.get_engine().drain_queue("out", conversation.pk)
        reply.refresh_from_db()
        assert reply.state == "sent"


class TestVerb:
    def run(self, *arguments):
        out = io.StringIO()
        call_command("djmessenger", "tokens", *arguments, stdout=out)
        return out.getvalue()

    def test_makes_keys(self, settings):
        settings.DJM_TOKEN_KEYS = [self.run("--new-key").strip()]
        assert key_problems() == []

    def test_keeps_a_token_from_standard_input(self, settings, monkeypatch):
        settings.DJM_TOKEN_KEYS = KEYS
        monkeypatch.setattr("sys.stdin", io.StringIO("canary-token-0123456789\n"))
        assert "canary" not in self.run("--set", A)
        assert token_of(models.Page.objects.get()) == Secret("canary-token-0123456789")
        shown = self.run()
        assert "ends in …6789" in shown
        assert "canary" not in shown

    def test_refuses_what_is_no_token_or_page(self, settings, monkeypatch):
        settings.DJM_TOKEN_KEYS = KEYS
        for given in ("\n", "two words\n"):
            monkeypatch.setattr("sys.stdin", io.StringIO(given))
            with pytest.raises(CommandError):
                self.run("--set", A)
        with pytest.raises(CommandError, match="number"):
            self.run("--set", "shop")
        assert not models.Page.objects.exists()

    def test_rotates(self, settings):
        settings.DJM_TOKEN_KEYS = KEYS[:1]
        page_with_token(A)
        settings.DJM_TOKEN_KEYS = [KEYS[1], KEYS[0]]
        assert "older key: run --rotate" in self.run()
        assert "1 tokens" in self.run("--rotate")
        assert "older key" not in self.run()

    def test_lists_what_cannot_be_read_and_fails(self, settings):
        settings.DJM_TOKEN_KEYS = KEYS[:1]
        page_with_token(A)
        settings.DJM_TOKEN_KEYS = KEYS[1:]
        with pytest.raises(SystemExit):
            self.run()
        with pytest.raises(CommandError, match=A):
            self.run("--rotate")


class TestAdmin:
    @pytest.fixture
    def staff(self, admin_client, settings):
        settings.DJM_TOKEN_KEYS = KEYS
        return admin_client

    def form(self, **fields):
        return {"page_id": A, "name": "", "channel": "messenger", "login": "facebook", **fields}

    def test_a_page_is_added_with_its_token(self, staff):
        answer = staff.post(
            reverse("admin:djmessenger_page_add"),
            self.form(new_token="canary-token-0123456789", app_id=APP_B),
        )
        assert answer.status_code == 302
        page = models.Page.objects.get()
        assert (token_of(page), page.app_id) == (Secret("canary-token-0123456789"), APP_B)

    def test_the_token_goes_in_and_never_comes_out(self, staff):
        page = page_with_token(A, "canary-token-0123456789")
        address = reverse("admin:djmessenger_page_change", args=[page.pk])
        shown = staff.get(address).content.decode()
        assert "ends in …6789" in shown
        assert "canary" not in shown
        assert page.token_ciphertext not in shown
        answer = staff.post(address, self.form(new_token="canary-two-words bad"))
        assert answer.status_code == 200
        assert "canary" not in answer.content.decode()
        assert staff.post(address, self.form(new_token="canary-second-0123456789")).status_code == 302
        page.refresh_from_db()
        assert token_of(page) == Secret("canary-second-0123456789")
        history = staff.get(reverse("admin:djmessenger_page_history", args=[page.pk])).content.decode()
        assert "canary" not in history
        assert "canary" not in staff.get(reverse("admin:djmessenger_page_changelist")).content.decode()

    def test_an_empty_field_leaves_it_and_a_tick_removes_it(self, staff):
        page = page_with_token(A)
        address = reverse("admin:djmessenger_page_change", args=[page.pk])
        staff.post(address, self.form(name="Berlin"))
        page.refresh_from_db()
        assert (page.name, token_of(page)) == ("Berlin", Secret("token-in-the-row"))
        staff.post(address, self.form(name="Berlin", remove_token="on"))
        page.refresh_from_db()
        assert page.token_ciphertext == ""

    def test_without_a_key_it_says_so_beside_the_field(self, staff, settings):
        settings.DJM_TOKEN_KEYS = ()
        answer = staff.post(
            reverse("admin:djmessenger_page_add"), self.form(new_token="canary-token-0123456789")
        )
        assert "DJM_TOKEN_KEYS is empty" in answer.content.decode()
        assert not models.Page.objects.exists()

    def test_a_token_that_cannot_be_read_is_reported(self, staff, settings):
        page = page_with_token(A)
        settings.DJM_TOKEN_KEYS = [tokens.new_key()]
        shown = staff.get(reverse("admin:djmessenger_page_change", args=[page.pk])).content.decode()
        assert "No key of DJM_TOKEN_KEYS opens" in shown

    @pytest.mark.parametrize(
        ("field", "value"), [("version", "26"), ("policy", "tests.page_rules.BROKEN"), ("page_id", "shop")]
    )
    def test_a_value_that_cannot_be_right_is_refused(self, staff, field, value):
        answer = staff.post(reverse("admin:djmessenger_page_add"), self.form(**{field: value}))
        assert answer.status_code == 200
        assert not models.Page.objects.exists()

    def test_a_policy_is_for_superusers(self, staff, client, django_user_model):
        page = models.Page.objects.create(page_id=A)
        user = django_user_model.objects.create_user("sub", password="x", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(content_type__app_label="djmessenger"))
        client.force_login(user)
        address = reverse("admin:djmessenger_page_change", args=[page.pk])
        assert client.post(address, self.form(policy="tests.page_rules", name="Berlin")).status_code == 302
        page.refresh_from_db()
        assert (page.name, page.policy) == ("Berlin", "")
        staff.post(address, self.form(policy="tests.page_rules"))
        page.refresh_from_db()
        assert page.policy == "tests.page_rules"

    def test_a_field_that_did_not_change_is_not_written(self, staff):
        page = page_with_token(A)
        request = types.SimpleNamespace()
        form = types.SimpleNamespace(changed_data=[])
        models.Page.objects.update(name="set meanwhile")
        PageAdmin(models.Page, None).save_model(request, page, form, change=True)
        assert models.Page.objects.get().name == "set meanwhile"


class TestRequestLog:
    def send(self, page, words="what they wrote"):
        return bot.get_client(page).send({"id": ANA}, {"message": {"text": words}})

    def test_is_kept_for_pages_that_want_it(self, two_apps, meta):
        quiet = models.Page.objects.create(page_id=A)
        loud = models.Page.objects.create(page_id=B, is_logged=True)
        for page in (quiet, loud):
            self.send(page)
        (line,) = models.GraphCall.objects.all()
        assert (line.page, line.method, line.status, line.outcome) == (loud, "POST", 200, "ok")
        two_apps.DJM_PAGES = {A: {"token": "token-of-a", "log": True}}
        self.send(quiet)
        assert models.GraphCall.objects.filter(page=quiet).count() == 1

    def test_holds_no_secret_no_text_and_no_id(self, two_apps, meta, admin_client):
        page = models.Page.objects.create(page_id=B, is_logged=True)
        meta.answers = [refusal(190, 463, message="token-of-b is dead, what they wrote")]
        with pytest.raises(TokenError):
            self.send(page)
        line = models.GraphCall.objects.get()
        assert (line.outcome, line.code, line.subcode, line.fbtrace_id) == ("TokenError", 190, 463, "Trace")
        shown = admin_client.get(reverse("admin:djmessenger_graphcall_changelist")).content.decode()
        assert "TokenError" in shown
        written = repr(models.GraphCall.objects.values().get())
        for canary in ("token-of-b", "what they wrote", ANA, f"/{B}/"):
            assert canary not in written
            assert canary not in shown

    def test_is_bounded_for_each_page(self, two_apps, meta):
        two_apps.DJM_REQUEST_LOG = 3
        pages = [models.Page.objects.create(page_id=one, is_logged=True) for one in (A, B)]
        for _ in range(5):
            for page in pages:
                self.send(page)
        newest = set(models.GraphCall.objects.order_by("-id").values_list("id", flat=True)[:6])
        assert models.GraphCall.objects.trim() == 4
        assert set(models.GraphCall.objects.values_list("id", flat=True)) == newest

    def test_trims_itself(self, two_apps, meta, monkeypatch):
        monkeypatch.setattr("djmessenger.models.pages._TRIM_EVERY", 2)
        two_apps.DJM_REQUEST_LOG = 3
        page = models.Page.objects.create(page_id=A, is_logged=True)
        for _ in range(9):
            self.send(page)
        assert models.GraphCall.objects.count() <= 4

    def test_a_week_is_enough(self, two_apps, meta):
        page = models.Page.objects.create(page_id=A, is_logged=True)
        self.send(page)
        old = timezone.now() - timezone.timedelta(days=8)
        models.GraphCall.objects.update(date=old)
        assert models.GraphCall.objects.trim() == 1

    def test_the_purge_takes_old_lines_and_expired_uploads(self, two_apps, meta):
        page = models.Page.objects.create(page_id=A, is_logged=True)
        for _ in range(2):
            self.send(page)
            models.UploadedFile.objects.keep(page, str(_), "image", "1")
        for rows, field, days in ((models.GraphCall, "date", 8), (models.UploadedFile, "date_expires", 1)):
            first = rows.objects.order_by("id").first()
            rows.objects.filter(pk=first.pk).update(**{field: timezone.now() - timezone.timedelta(days=days)})
        call_command("djmessenger", "purge", stdout=io.StringIO())
        assert (models.GraphCall.objects.count(), models.UploadedFile.objects.count()) == (1, 1)

    def test_a_line_that_is_refused_breaks_no_call(self, two_apps, meta, monkeypatch, caplog):
        page = models.Page.objects.create(page_id=A, is_logged=True)

        def refuse(*args, **facts):
            raise DatabaseError("full")

        monkeypatch.setattr(models.GraphCall.objects, "note", refuse)
        assert self.send(page).message_id
        assert "request log" in caplog.text


class TestChecks:
    def ids(self):
        found = page_checks.check_pages() + checks.check_secrets() + secret_checks.check_form_of_secrets()
        text = " ".join(f"{message.msg} {message.hint}" for message in found)
        assert "canary" not in text
        return [message.id.removeprefix("djmessenger.") for message in found]

    @pytest.mark.parametrize(
        ("entry", "expected"),
        [
            ({}, []),
            ({"token": "canary", "channel": "instagram", "login": "instagram", "log": True}, ["W064"]),
            ({"channel": "instagram", "login": "instagram"}, []),
            ({"tokn": "canary"}, ["E020"]),
            ({"token": b"canary"}, ["E020"]),
            ({"token": " \n"}, ["E061"]),
            ({"token": "canary\n"}, []),
            ({"channel": "whatsapp"}, ["E020"]),
            ({"login": "password"}, ["E020"]),
            ("canary", ["E020"]),
            ({"version": "26"}, ["W008"]),
            ({"version": "v20.0"}, ["W009"]),
            ({"policy": "tests.page_rules.BROKEN"}, ["E035"]),
            ({"policy": "tests.page_rules"}, []),
        ],
    )
    def test_of_an_entry(self, settings, entry, expected):
        settings.DJM_PAGE_ID = B
        settings.DJM_PAGES = {A: entry}
        assert self.ids() == expected

    @pytest.mark.parametrize("key", [1000001, "shop", ""])
    def test_of_a_key(self, settings, key):
        settings.DJM_PAGE_ID = B
        settings.DJM_PAGES = {key: {}}
        assert self.ids() == ["E020"]

    def test_of_apps(self, two_apps):
        assert self.ids() == []
        two_apps.DJM_PAGES = {A: {"token": "canary"}}
        assert self.ids() == ["W024"]
        two_apps.DJM_PAGES = {A: {"token": "canary", "app_id": "999"}}
        assert self.ids() == ["W025"]

    def test_of_the_one_page_beside_others(self, two_apps):
        two_apps.DJM_PAGE_ACCESS_TOKEN = "canary"
        assert self.ids() == ["W026"]
        two_apps.DJM_PAGE_ID = B
        assert self.ids() == []

    def test_of_keys(self, settings, monkeypatch):
        settings.DJM_TOKEN_KEYS = [KEYS[0], "canary"]
        assert self.ids() == ["E022"]
        settings.DJM_TOKEN_KEYS = KEYS
        assert self.ids() == []
        monkeypatch.setattr(tokens, "HAS_CRYPTOGRAPHY", False)
        assert self.ids() == ["E022"]

    def test_tokens_elsewhere_are_enough(self, settings):
        settings.DJM_PAGE_ACCESS_TOKEN = ""
        assert self.ids() == ["E005"]
        settings.DJM_TOKEN_KEYS = KEYS
        assert self.ids() == []


@pytest.mark.django_db(transaction=True)
def test_coverage_counts_the_rules_of_each_page_with_its_own_policy(messenger, settings, tmp_path):
    other = "104233987650013"
    own = tmp_path / "own.json"
    rule = {"type": "SIMPLE_TEXT", "name": "of the other Page", "filters": [], "repliers": []}
    replier = {"name": "djmessenger.replying.SimpleMessageReplier", "args": {"localized_string": "Hi"}}
    never = {"type": "IMAGE", "name": "never", "filters": [], "repliers": [replier]}
    own.write_text(json.dumps({"rules": [rule | {"repliers": [replier]}, never]}))
    settings.DJM_PAGES = {
        messenger.page.id: {"token": messenger.page.token},
        other: {"token": messenger.page.token, "policy": str(own)},
    }
    page = messenger.add_page(other)
    missing = messenger.coverage()
    assert "of the other Page" in missing
    messenger.person(page=page).says("anything")
    assert set(missing) - set(messenger.coverage()) == {"of the other Page"}
