"""The door for Meta: which request gets which status, and what it leaves behind."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import io
import json
import traceback

import pytest
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.db import DatabaseError
from django.test import Client, RequestFactory, override_settings

from djmessenger import models, urls, webhook
from djmessenger.pipeline import split, store
from djmessenger.views import DJMBotView
from messenger_emulator.encoding import encode_like_meta

URL = "/messenger"
BODY = json.dumps({"object": "page", "entry": []}).encode()


def sign(body: bytes, secret: str = settings.DJM_APP_SECRET, algorithm: str = "sha256") -> str:
    return f"{algorithm}={hmac.new(secret.encode(), body, algorithm).hexdigest()}"


def post(body: bytes = BODY, signature: str | None = None, client: Client | None = None, **extra):
    headers = {"X-Hub-Signature-256": sign(body) if signature is None else signature}
    if signature == "":
        headers = {}
    return (client or Client()).post(URL, body, content_type="application/json", headers=headers, **extra)


@pytest.fixture
def rows(db):
    return models.Callback.objects


class TestVerification:
    def ask(self, **query):
        return Client().get(URL, {f"hub.{key}": value for key, value in query.items()})

    def test_the_challenge_comes_back_as_plain_text(self):
        answer = self.ask(mode="subscribe", challenge="1158201444", verify_token="made-up-verify-token")
        assert (answer.status_code, answer.content) == (200, b"1158201444")
        assert answer["Content-Type"].startswith("text/plain")
        assert answer["X-Content-Type-Options"] == "nosniff"

    def test_no_middleware_is_needed_for_nosniff(self, settings):
        settings.MIDDLEWARE = []
        for answer in (Client().get(URL), post(signature="")):
            assert answer["X-Content-Type-Options"] == "nosniff"

    def test_the_order_of_the_query_does_not_matter(self):
        answer = self.ask(verify_token="made-up-verify-token", challenge="1", mode="subscribe")
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        "query",
        [
            {"mode": "subscribe", "challenge": "1", "verify_token": "wrong"},
            {"mode": "subscribe", "challenge": "1", "verify_token": "tökén"},
            {"mode": "subscribe", "challenge": "1", "verify_token": "made-up-verify-token-and-more"},
            {"mode": "subscribe", "challenge": "1", "verify_token": "made-up-verify-toke"},
            {"mode": "subscribe", "challenge": "1"},
            {"mode": "unsubscribe", "challenge": "1", "verify_token": "made-up-verify-token"},
            {"mode": "subscribe", "challenge": "<script>", "verify_token": "made-up-verify-token"},
            {"mode": "subscribe", "challenge": "", "verify_token": "made-up-verify-token"},
            {"mode": "subscribe", "challenge": "1" * 257, "verify_token": "made-up-verify-token"},
        ],
    )
    def test_anything_else_is_refused_and_echoes_nothing(self, query):
        answer = self.ask(**query)
        assert (answer.status_code, answer.content) == (403, b"")

    def test_no_token_is_ever_logged(self, caplog):
        self.ask(mode="subscribe", challenge="1", verify_token="tried-token")
        assert "DJM_ENDPOINT_VERIFY_TOKEN" in caplog.text
        assert "tried-token" not in caplog.text
        assert "made-up-verify-token" not in caplog.text

    def test_a_curious_browser_gets_a_sentence(self):
        answer = Client().get(URL)
        assert answer.status_code == 200
        assert b"webhook" in answer.content


class TestSignature:
    def test_a_true_one_is_stored_and_answered_200(self, rows):
        assert post().status_code == 200
        assert bytes(rows.get().body) == BODY

    @pytest.mark.parametrize(
        "signature",
        [
            "",
            "sha256=",
            sign(BODY).upper(),
            sign(BODY) + "0",
            sign(BODY).replace("sha256=", ""),
            sign(BODY).replace("sha256=", "sha1="),
            sign(BODY, algorithm="sha1"),
            sign(BODY, algorithm="md5"),
            sign(BODY, secret="another"),
            sign(BODY, secret=""),
            sign(BODY + b" "),
            "sha256=" + "é" * 64,
            "sha256=" + "０" * 64,
        ],
    )
    def test_any_other_is_refused_and_leaves_no_row(self, rows, signature, django_assert_num_queries):
        with django_assert_num_queries(0):
            answer = post(signature=signature)
        assert (answer.status_code, answer.content) == (403, b"")
        assert not rows.exists()

    def test_the_old_header_beside_a_bad_new_one_does_not_help(self, rows):
        answer = Client().post(
            URL,
            BODY,
            content_type="application/json",
            headers={
                "X-Hub-Signature": sign(BODY, algorithm="sha1"),
                "X-Hub-Signature-256": "sha256=" + "0" * 64,
            },
        )
        assert answer.status_code == 403

    def test_each_of_several_secrets_serves(self, rows, settings):
        settings.DJM_APP_SECRET = {"1001": "first", "1002": "second"}
        assert post(signature=sign(BODY, "second")).status_code == 200
        assert rows.get().app_id == "1002"

    def test_without_a_secret_nothing_is_taken(self, rows, settings):
        settings.DJM_APP_SECRET = ""
        assert post(signature=sign(BODY, "")).status_code == 503
        assert not rows.exists()

    def test_debug_is_no_way_round_it(self, rows, settings):
        settings.DEBUG = True
        assert post(signature="sha256=" + "0" * 64).status_code == 403
        settings.DJM_APP_SECRET = ""
        assert post(signature=sign(BODY, "")).status_code == 403

    @pytest.mark.parametrize(
        "written",
        [
            json.dumps,
            lambda data: json.dumps(data, separators=(",", ":")),
            lambda data: json.dumps(data, separators=(",", ":"), ensure_ascii=False),
            lambda data: json.dumps(data, indent=2).replace("/", "\\/"),
        ],
    )
    def test_a_body_that_a_proxy_wrote_again_is_named_in_the_log(self, rows, caplog, written):
        data = {"object": "page", "entry": [], "url": "https://example.com/é"}
        assert post(written(data).encode(), signature=sign(encode_like_meta(data))).status_code == 403
        assert "a proxy may have parsed the body" in caplog.text

    def test_a_large_body_with_a_wrong_signature_is_not_searched_for_a_reason(
        self, rows, caplog, monkeypatch
    ):
        """Anybody may send it, and the search would take a second of the processor."""
        searched = []
        monkeypatch.setattr(webhook, "_is_written_again", searched.append)
        body = json.dumps(["x"] * 100_000).encode()
        assert post(body, signature=sign(body, "another")).status_code == 403
        assert "DJM_APP_SECRET" in caplog.text
        assert searched == []

    @pytest.mark.parametrize(
        "body",
        [
            encode_like_meta(
                {"url": "https://example.com/é", "text": 'He said "a", and "b" : c / d', "z": ": , /"}
            ),
            b"{/",
            b"[" * 100_000 + b"/",
        ],
    )
    def test_a_wrong_secret_is_named_for_bytes_as_meta_writes_them_and_for_rubbish(self, rows, caplog, body):
        assert post(body, signature=sign(body, "another")).status_code == 403
        assert "DJM_APP_SECRET" in caplog.text
        assert "proxy" not in caplog.text

    def test_neither_digest_nor_secret_nor_body_is_logged(self, rows, caplog):
        post(b'{"text": "canary"}', signature=sign(BODY))
        assert "DJM_APP_SECRET" in caplog.text
        for hidden in (sign(b'{"text": "canary"}'), sign(BODY), settings.DJM_APP_SECRET, "canary"):
            assert hidden not in caplog.text


class TestBody:
    @pytest.mark.parametrize("body", [b"", b"{", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}'])
    def test_signed_rubbish_is_kept_and_answered_200(self, rows, body):
        assert post(body).status_code == 200
        row = rows.get()
        assert row.state == models.Callback.State.QUARANTINED
        assert bytes(row.body) == body

    def test_over_the_limit_is_413_and_leaves_no_row(self, rows, settings, django_assert_num_queries):
        settings.DJM_MAX_BODY = 100
        with django_assert_num_queries(0):
            assert post(b"x" * 101).status_code == 413
        assert post(b"x" * 100).status_code == 200

    def test_a_body_without_a_length_has_the_limit_too(self, settings):
        settings.DJM_MAX_BODY = 100
        scope = {"type": "http", "method": "POST", "path": URL, "query_string": b"", "headers": []}
        for size, expected in ((101, 413), (100, 403)):
            request = ASGIRequest(scope, io.BytesIO(b"x" * size))
            request.META["HTTP_X_HUB_SIGNATURE_256"] = "sha256=" + "0" * 64
            assert DJMBotView.as_view()(request).status_code == expected

    def test_a_body_that_a_middleware_read_has_the_limit_too(self, rows, settings):
        settings.MIDDLEWARE = ["tests.test_views.reading_the_body"]
        settings.DJM_MAX_BODY = 100
        assert [post(b"x" * size).status_code for size in (101, 100)] == [413, 200]

    @pytest.mark.parametrize("when", ["after", "both"])
    def test_a_middleware_may_read_the_body_after_the_view(self, rows, settings, when):
        settings.MIDDLEWARE = ["tests.test_views.reading_the_body_after"]
        if when == "both":
            settings.MIDDLEWARE.append("tests.test_views.reading_the_body")
        settings.DJM_MAX_BODY = 100
        bodies = [BODY, b"x" * 101]
        assert [(answer.status_code, answer["X-Seen"]) for answer in map(post, bodies)] == [
            (200, BODY.decode()),
            (413, "x" * 101 if when == "both" else ""),
        ]
        assert post(signature="sha256=" + "0" * 64)["X-Seen"] == BODY.decode()
        assert post(signature="")["X-Seen"] == BODY.decode()

    def test_a_middleware_may_read_after_a_body_that_is_too_large_for_django(self, rows, settings):
        settings.MIDDLEWARE = ["tests.test_views.reading_the_body_after"]
        answer = post(b" " * 3_000_000 + BODY)
        assert (answer.status_code, len(answer["X-Seen"])) == (200, 3_000_000 + len(BODY))
        settings.DJM_MAX_BODY = 2_999_999
        assert post(b" " * 3_000_000).status_code == 413

    def test_a_body_in_chunks_is_read_if_the_server_marks_its_end(self, rows, settings):
        settings.DJM_MAX_BODY = 100
        for size, expected in ((101, 413), (100, 200)):
            body = b"x" * size
            stream = OneByteAtATime(body)
            answer = in_chunks(body, stream, **{"wsgi.input_terminated": True})
            assert answer.status_code == expected
            assert stream.tell() == size
        assert bytes(rows.get().body) == b"x" * 100

    def test_a_body_in_chunks_is_read_after_a_middleware_asked_for_it(self, rows, settings):
        settings.MIDDLEWARE = ["tests.test_views.asking_for_the_body"]
        assert in_chunks(BODY, io.BytesIO(BODY), **{"wsgi.input_terminated": True}).status_code == 200
        assert bytes(rows.get().body) == BODY

    def test_a_body_in_chunks_that_cannot_be_read_is_refused_with_the_reason(self, rows, caplog):
        stream = io.BytesIO(BODY)
        assert in_chunks(BODY, stream).status_code == 411
        assert stream.tell() == 0
        assert "chunks" in caplog.text
        assert "signature" not in caplog.text

    def test_a_full_batch_passes_the_limit_of_django(self, rows):
        assert post(b" " * 3_000_000 + BODY).status_code == 200

    def test_a_middleware_that_touched_the_form_does_no_harm(self, rows, settings):
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.test_views.touching_the_form"]
        assert post().status_code == 200

    def test_a_multipart_type_is_no_500(self, rows, settings):
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.test_views.touching_the_form"]
        answer = Client().post(
            URL,
            BODY,
            content_type="multipart/form-data; boundary=x",
            headers={"X-Hub-Signature-256": sign(BODY)},
        )
        assert answer.status_code in {200, 403}


class OneByteAtATime(io.BytesIO):
    """Stream whose reads return less than there is, as that of a socket."""

    def read(self, size=-1):
        return super().read(min(size, 1))


def in_chunks(body: bytes, stream: io.BytesIO, **environ):
    """Answer a request as a WSGI server passes it on that came with Transfer-Encoding and without Content-Length."""
    request = RequestFactory().post(
        URL, content_type="application/json", headers={"X-Hub-Signature-256": sign(body)}
    )
    del request.environ["CONTENT_LENGTH"]
    environ = {**request.environ, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": stream, **environ}
    return WSGIHandler().get_response(WSGIRequest(environ))


def asking_for_the_body(get_response):
    def middleware(request):
        assert request.body == b""
        return get_response(request)

    return middleware


def reading_the_body_after(get_response):
    def middleware(request):
        answer = get_response(request)
        answer["X-Seen"] = request.body.decode()
        return answer

    return middleware


def touching_the_form(get_response):
    def middleware(request):
        request.POST.get("anything")
        return get_response(request)

    return middleware


def reading_the_body(get_response):
    def middleware(request):
        assert request.body
        return get_response(request)

    return middleware


@pytest.fixture
def patterns():
    with override_settings(DJM_ENDPOINT="a.c+/(b)"):
        found = importlib.reload(urls).urlpatterns
    importlib.reload(urls)
    return found


class TestAddress:
    @pytest.mark.parametrize("path", ["a.c+/(b)", "a.c+/(b)/"])
    def test_the_endpoint_is_matched_literally(self, patterns, path):
        assert patterns[0].resolve(path)

    @pytest.mark.parametrize("path", ["abc/b", "abcc/b", "a.c/b", "xa.c+/(b)", "a.c+/(b)x", "a.c+/(b)//", ""])
    def test_and_never_as_a_pattern(self, patterns, path):
        assert patterns[0].resolve(path) is None

    @pytest.mark.parametrize("endpoint", ["", "/", "//", " ", " / ", "\n"])
    def test_an_endpoint_that_names_no_path_has_no_url(self, endpoint):
        """The checks do not run in a process that serves requests."""
        with override_settings(DJM_ENDPOINT=endpoint):
            found = importlib.reload(urls).urlpatterns
        importlib.reload(urls)
        assert found == []

    def test_nothing_else_is_published(self, patterns):
        assert [pattern.name for pattern in patterns] == ["djmessenger-webhook", "djmessenger-health"]


class TestMeeting:
    @pytest.mark.parametrize("method", ["put", "delete", "patch", "trace"])
    def test_other_methods_are_405(self, method):
        assert getattr(Client(), method)(URL).status_code == 405

    @pytest.mark.parametrize(
        ("path", "method", "status"),
        [
            (URL, "get", 200),
            (URL, "head", 200),
            (URL, "options", 200),
            (f"{URL}?hub.mode=subscribe&hub.verify_token=made-up-verify-token&hub.challenge=1", "head", 200),
            (f"{URL}?hub.mode=subscribe&hub.verify_token=wrong&hub.challenge=1", "head", 403),
        ],
    )
    def test_uptime_monitors_are_answered_without_the_database(self, path, method, status, caplog):
        answer = getattr(Client(), method)(path)
        assert answer.status_code == status
        assert answer.content == b"" or method == "get"
        if method == "options":
            assert answer["Allow"] == "GET, HEAD, OPTIONS, POST"
        assert bool(caplog.records) == (status != 200)

    def test_csrf_and_login_middlewares_let_it_pass(self, rows, settings):
        settings.MIDDLEWARE = [
            *settings.MIDDLEWARE,
            "django.contrib.auth.middleware.LoginRequiredMiddleware",
        ]
        assert post(client=Client(enforce_csrf_checks=True)).status_code == 200

    @pytest.mark.parametrize("path", ["/messenger", "/messenger/"])
    def test_with_and_without_the_final_slash(self, rows, path):
        answer = Client().post(
            path, BODY, content_type="application/json", headers={"X-Hub-Signature-256": sign(BODY)}
        )
        assert answer.status_code == 200

    def test_the_same_bytes_again_are_one_row(self, rows):
        assert [post().status_code, post().status_code] == [200, 200]
        assert rows.get().copies == 2

    def test_a_database_that_cannot_take_it_is_503(self, rows, monkeypatch):
        def refuse(*args):
            raise DatabaseError("disk full")

        monkeypatch.setattr(store, "store_many", refuse)
        assert post().status_code == 503

    @pytest.mark.parametrize(("module", "trouble"), [(store, "store_many"), (split, "split_many")])
    def test_no_frame_of_a_logged_traceback_holds_a_secret(self, rows, monkeypatch, caplog, module, trouble):
        def refuse(*args):
            raise DatabaseError("disk full")

        monkeypatch.setattr(module, trouble, refuse)
        post()
        tracebacks = [record.exc_info[2] for record in caplog.records if record.exc_info]
        frames = [frame for found in tracebacks for frame, _line in traceback.walk_tb(found)]
        assert frames
        assert not [frame for frame in frames if settings.DJM_APP_SECRET in repr(frame.f_locals)]

    def test_trouble_after_the_commit_is_still_200(self, rows, monkeypatch):
        def stumble(engine, callback_id):
            raise RuntimeError("later")

        monkeypatch.setattr("djmessenger.pipeline.engine.Engine.drain_callback", stumble)
        assert post().status_code == 200
        assert rows.get().state == models.Callback.State.NEW

    def test_200_promises_a_committed_row_under_atomic_requests(self, settings):
        from django.core.handlers.base import BaseHandler  # noqa: PLC0415
        from django.urls import resolve  # noqa: PLC0415

        view = resolve(URL).func
        settings.DATABASES["default"]["ATOMIC_REQUESTS"] = True
        try:
            assert BaseHandler().make_view_atomic(view) is view
        finally:
            settings.DATABASES["default"]["ATOMIC_REQUESTS"] = False


def test_the_digest_is_over_the_raw_bytes(db):
    body = b'{"object":"page","entry":[],"x":"\\u00e4\\/"}'
    assert post(body).status_code == 200
    assert hashlib.sha256(body).hexdigest() == models.Callback.objects.get().sha256
