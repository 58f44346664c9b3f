from __future__ import annotations

import copy
import json
import logging
import pickle
import pprint
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djmessenger.exceptions import DJMInvalidConfigException, DJMInvalidValueException
from djmessenger.graph.client import Client
from djmessenger.graph.context import bound as bound_client
from djmessenger.graph.context import current as current_client
from djmessenger.graph.context import set_default as set_default_client
from djmessenger.graph.errors import (
    MessageRejected,
    NotSent,
    PersonUnreachable,
    ProfileRefused,
    TokenError,
    UnknownFate,
    WindowClosed,
)
from djmessenger.graph.wire import Call, Response, Upload
from djmessenger.logs import hidden
from djmessenger.secret import Secret
from tests.graph_tools import (
    APP_SECRET,
    PROOF,
    PSID,
    TOKEN,
    Recorder,
    client_of,
    frames_of,
    json_values,
    query_of,
    refusal,
)


def test_a_message_goes_out_and_its_ids_come_back() -> None:
    client, recorder = client_of({"recipient_id": PSID, "message_id": "m_1", "attachment_id": "55"})
    sent = client.send({"id": PSID}, {"message": {"text": "Hé"}, "messaging_type": "RESPONSE"})
    assert (sent.recipient_id, sent.message_id, sent.attachment_id) == (PSID, "m_1", "55")
    assert (sent.status_code, sent.data["message_id"]) == (200, "m_1")
    assert recorder.last.method == "POST"
    assert recorder.last.url == "https://graph.facebook.com/v26.0/100200/messages"
    assert recorder.last.headers["Authorization"] == f"Bearer {TOKEN}"
    assert recorder.last.timeout == 10.0
    assert recorder.body == {
        "recipient": {"id": PSID},
        "message": {"text": "Hé"},
        "messaging_type": "RESPONSE",
    }


def test_a_sender_action_needs_no_message_id() -> None:
    client, _ = client_of({"recipient_id": PSID})
    assert client.send({"id": PSID}, {"sender_action": "typing_on"}).message_id == ""


@pytest.mark.parametrize(
    "answered",
    [
        {"recipient_id": PSID},
        {"message_id": ""},
        {"message_id": None},
        [],
        "ok",
        Response(200, {}, b""),
        Response(200, {}, b"<html>"),
        Response(200, {}, b"[" * 100_000),
        Response(200, {}, b'{"message_id": "m_1"'),
        Response(302, {"Location": "https://elsewhere.test"}, b"{}"),
        Response(500, {}, b'{"message_id": "m_1"}'),
        Response(503, {}, b"busy"),
        Response(400, {}, b"no JSON"),
        refusal(1),
        refusal(2, status=500),
        refusal(1200),
        refusal(987654),
    ],
)
def test_an_answer_that_proves_nothing_is_of_unknown_fate(answered: Any) -> None:
    client, _ = client_of(answered)
    with pytest.raises(UnknownFate):
        client.send({"id": PSID}, {"message": {"text": "x"}})


def test_a_refusal_is_an_error_even_under_status_200() -> None:
    client, _ = client_of(refusal(190, 463, status=200))
    with pytest.raises(TokenError):
        client.send({"id": PSID}, {"message": {"text": "x"}})


def test_the_proof_goes_with_every_call_once_the_secret_is_known() -> None:
    client, recorder = client_of(app_secret=APP_SECRET)
    client.execute(Call("GET", "me", params={"fields": "id"}))
    assert query_of(recorder.last.url) == {"fields": "id", "appsecret_proof": PROOF}
    client.execute(Call("GET", "me"))
    assert query_of(recorder.last.url) == {"appsecret_proof": PROOF}
    client.execute(Call("POST", "me/x", {"a": 1}))
    assert recorder.body == {"a": 1, "appsecret_proof": PROOF}
    assert "?" not in recorder.last.url
    client.execute(Call("POST", "me/x", {}, params={"b": "c"}))
    assert recorder.body == {"appsecret_proof": PROOF}
    assert query_of(recorder.last.url) == {"b": "c"}
    client.execute(Call("DELETE", "me/x"))
    assert query_of(recorder.last.url) == {"appsecret_proof": PROOF}
    client.execute(Call("POST", "me/x", {"a": {}}, files={"filedata": Upload("a.png", b"1")}))
    assert PROOF.encode() in (recorder.last.body or b"")
    assert all(TOKEN not in request.url for request in recorder.requests)


def test_without_a_secret_there_is_no_proof() -> None:
    client, recorder = client_of()
    client.execute(Call("GET", "me"))
    client.execute(Call("POST", "me/x", {}))
    assert not any(
        "appsecret_proof" in request.url or b"appsecret" in (request.body or b"")
        for request in recorder.requests
    )


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_any_body_arrives_with_its_proof(body: dict[str, Any]) -> None:
    client, recorder = client_of(app_secret=APP_SECRET)
    client.execute(Call("POST", "me/x", body))
    expected = json.loads(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))
    assert recorder.body == {**expected, "appsecret_proof": PROOF}


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_any_query_can_be_written(params: dict[str, Any]) -> None:
    client, recorder = client_of(app_secret=APP_SECRET)
    client.execute(Call("GET", "me", params=params))
    assert recorder.last.url.isascii()


def test_a_local_file_makes_the_body_multipart(tmp_path: Any) -> None:
    path = tmp_path / "cat é.png"
    path.write_bytes(b"\x89PNG\x00\xff")
    client, recorder = client_of({"recipient_id": PSID, "message_id": "m_1"})
    body = {"message": {"attachment": {"type": "image", "payload": {}}}}
    client.send({"id": PSID}, body, file=Upload.from_path(path))
    content = recorder.last.body or b""
    assert recorder.last.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert b'name="recipient"\r\n\r\n{"id": "7012345678901234"}\r\n' in content
    assert b'name="message"\r\n\r\n{"attachment": {"type": "image", "payload": {}}}\r\n' in content
    assert b'name="filedata"; filename="cat ' in content
    assert b"Content-Type: image/png\r\n\r\n\x89PNG\x00\xff\r\n" in content


def test_a_file_that_is_not_there_is_an_error_before_the_call(tmp_path: Any) -> None:
    client, recorder = client_of()
    with pytest.raises(FileNotFoundError):
        client.upload("image", Upload.from_path(tmp_path / "none.png"))
    assert recorder.requests == []


def test_a_file_of_unknown_kind() -> None:
    assert Upload("x", b"").media_type == "application/octet-stream"
    assert Upload("x.png", b"", "audio/mpeg").media_type == "audio/mpeg"


@pytest.mark.parametrize(
    "path",
    [
        "https://elsewhere.test/x",
        "//elsewhere.test/x",
        "me/../../x",
        "me?access_token=1",
        "me#x",
        "a b",
        "me\r\n",
    ],
)
def test_a_call_cannot_leave_its_host_or_version(path: str) -> None:
    with pytest.raises(DJMInvalidValueException):
        Call("GET", path)


def test_a_long_hostile_path_is_refused_at_once() -> None:
    with pytest.raises(DJMInvalidValueException):
        Call("GET", "a" * 50_000 + "?")


def test_a_call_of_another_method_is_refused() -> None:
    with pytest.raises(DJMInvalidValueException):
        Call("PATCH", "me")


def test_an_id_stays_one_segment() -> None:
    client, recorder = client_of({"id": "1", "name": "A"})
    client.profile("me/accounts?x=1#y")
    assert urlsplit(recorder.last.url).path == "/v26.0/me%2Faccounts%3Fx%3D1%23y"
    for missing in ("", ".", "..", "../me"):
        with pytest.raises(DJMInvalidValueException):
            client.profile(missing)


def test_usage_is_kept_by_counter() -> None:
    business = {"100200": [{"type": "messenger", "call_count": 80, "estimated_time_to_regain_access": 3}]}
    client, _ = client_of(
        Response(200, {"X-App-Usage": '{"call_count": 10, "total_time": 25, "total_cputime": 5}'}, b"{}"),
        Response(200, {"x-business-use-case-usage": json.dumps(business)}, b"{}"),
        Response(400, {"X-Page-Usage": '{"call_count": 99}', "X-App-Usage": "junk"}, b"{}"),
        Response(200, {}, b"{}"),
    )
    assert client.usage.peak == 0
    client.execute(Call("GET", "me"))
    assert client.usage.app is not None
    assert client.usage.peak == 25
    client.execute(Call("GET", "me"))
    assert client.usage.peak == 80
    assert client.usage.regain_after == 180
    with pytest.raises(UnknownFate):
        client.execute(Call("GET", "me"))
    client.execute(Call("GET", "me"))
    assert client.usage.page is not None
    assert client.usage.peak == 99
    assert client.usage.app.total_time == 25


@given(st.text(), st.text())
def test_usage_headers_of_any_kind_are_survived(app: str, business: str) -> None:
    client, _ = client_of(Response(200, {"X-App-Usage": app, "X-Business-Use-Case-Usage": business}, b"{}"))
    client.execute(Call("GET", "me"))


def test_the_request_log_is_bounded_and_holds_neither_ids_nor_texts() -> None:
    client, _ = client_of(
        {"recipient_id": PSID, "message_id": "m_1"},
        refusal(551, fbtrace_id="Trace9"),
        Response(200, {"x-fb-trace-id": "Trace8"}, b'{"id": "1", "name": "Ana"}'),
        NotSent(meaning="the connection was refused"),
        log_size=3,
    )
    client.send({"id": PSID}, {"message": {"text": "hello there"}})
    with pytest.raises(PersonUnreachable):
        client.send({"id": PSID}, {"message": {"text": "hello there"}})
    client.profile(PSID)
    with pytest.raises(NotSent):
        client.profile(PSID)
    lines = list(client.log)
    assert [line.outcome for line in lines] == ["PersonUnreachable", "ok", "NotSent"]
    assert (lines[0].method, lines[0].status, lines[0].code) == ("POST", 400, 551)
    assert [line.fbtrace_id for line in lines] == ["Trace9", "Trace8", ""]
    assert lines[0].path.endswith("/messages")
    assert lines[1].path == lines[2].path
    for told in (PSID, "hello", "Ana", TOKEN):
        assert told not in repr(lines)


def test_a_trace_id_of_a_header_brings_no_control_characters_into_an_error() -> None:
    client, _ = client_of(
        Response(400, {"x-fb-trace-id": "T\r\n\x1b[31m"}, b'{"error": {"code": 551}}'), log_size=1
    )
    with pytest.raises(ProfileRefused) as raised:
        client.profile(PSID)
    assert str(raised.value).isprintable()
    assert raised.value.fbtrace_id.isprintable()
    assert next(iter(client.log)).fbtrace_id.startswith("T")


def test_without_a_size_nothing_is_logged_in_memory() -> None:
    client, _ = client_of()
    client.execute(Call("GET", "me"))
    assert list(client.log) == []


def test_one_line_of_log_for_each_call(caplog: pytest.LogCaptureFixture) -> None:
    client, _ = client_of(
        {"recipient_id": PSID, "message_id": "m_1"},
        refusal(10, 2018278, message=f"outside, {TOKEN}"),
        app_secret=APP_SECRET,
    )
    with caplog.at_level(logging.INFO, "djmessenger.graph"):
        client.send({"id": PSID}, {"message": {"text": "hello there"}})
        with pytest.raises(WindowClosed):
            client.execute(Call("GET", PSID, params={"x": "hello there"}))
    good, bad = caplog.records
    assert (good.levelname, bad.levelname) == ("INFO", "WARNING")
    assert vars(good).items() >= {"action": "graph_call", "method": "POST", "status": 200}.items()
    assert vars(bad).items() >= {"outcome": "WindowClosed", "code": 10, "subcode": 2018278}.items()
    everything = "\n".join(pprint.pformat(vars(record)) for record in caplog.records)
    for told in (PSID, "hello", TOKEN, APP_SECRET, PROOF, "100200"):
        assert told not in everything


def test_ids_hash_alike_under_one_token_and_otherwise_not() -> None:
    first, second = client_of()[0], client_of()[0]
    other = Client("another", transport=Recorder())
    assert first._hidden(PSID) == second._hidden(PSID) == other._hidden(PSID) == hidden(PSID) != PSID
    assert first._hidden("me/messages") == "me/messages"


def test_meta_quoting_the_token_is_not_repeated() -> None:
    client, _ = client_of(refusal(190, message=f"Malformed access token {TOKEN}"))
    with pytest.raises(TokenError) as raised:
        client.execute(Call("GET", "me"))
    assert TOKEN not in frames_of(raised.value, but=__file__)
    assert "Malformed" in str(raised.value)


@pytest.mark.parametrize(
    "answered",
    [refusal(190), refusal(100), Response(500, {}, b"x"), NotSent(meaning="refused"), RuntimeError("broken")],
)
def test_no_frame_of_a_failed_call_holds_a_secret(answered: Any) -> None:
    client, _ = client_of(answered, app_secret=APP_SECRET)
    with pytest.raises(Exception, match=r".*") as raised:
        client.send({"id": PSID}, {"message": {"text": "x"}}, file=Upload("a.png", b"1"))
    collected = frames_of(raised.value, but=__file__)
    assert "problem=" in collected
    for secret in (TOKEN, APP_SECRET, PROOF):
        assert secret not in collected


@pytest.mark.parametrize("body", [{"a": float("nan")}, {"a": object()}, {"a": {1, 2}}])
def test_no_frame_of_a_call_that_cannot_be_written_holds_a_secret(body: dict[str, Any]) -> None:
    client, recorder = client_of(app_secret=APP_SECRET)
    for call in (
        Call("POST", "me/x", body),
        Call("GET", "me", params=body),
        Call("POST", "me/x", body, files={"f": Upload("a", b"")}),
    ):
        with pytest.raises((ValueError, TypeError)) as raised:
            client.execute(call)
        collected = frames_of(raised.value, but=__file__)
        assert not any(secret in collected for secret in (TOKEN, APP_SECRET, PROOF))
    assert recorder.requests == []


@pytest.mark.parametrize("bad", ["to ken", "to\nken", "to\x00ken", "tökén"])
def test_a_token_that_cannot_be_one_is_refused_without_showing_it(bad: str) -> None:
    with pytest.raises(DJMInvalidValueException) as raised:
        Client(bad)
    assert bad not in str(raised.value)


def test_a_line_break_at_the_end_of_a_token_is_forgiven() -> None:
    recorder = Recorder()
    Client(f"{TOKEN}\n", transport=recorder).execute(Call("GET", "me"))
    assert recorder.last.headers["Authorization"] == f"Bearer {TOKEN}"


def test_nothing_shows_a_secret() -> None:
    client, recorder = client_of(app_secret=APP_SECRET)
    client.execute(Call("GET", "me"))
    secret = Secret(TOKEN)
    shown = [
        client,
        recorder.last,
        secret,
        {"token": secret},
        vars(client),
        Call("POST", "me", {"a": "hello"}),
    ]
    for value in shown:
        for text in (repr(value), str(value), pprint.pformat(value)):
            assert not any(hidden in text for hidden in (TOKEN, APP_SECRET, PROOF, "hello"))
    assert f"{secret}" == "***"
    assert secret == Secret(secret)
    assert len({secret, Secret(TOKEN)}) == 1
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(client)


@pytest.mark.parametrize(
    "url",
    [
        "graph.facebook.com",
        "ftp://graph.facebook.com",
        "http://graph.facebook.com",
        "http://8.8.8.8",
        "https://user:pass@graph.facebook.com",
        "https://graph.facebook.com?x=1",
        "https://graph.facebook.com#x",
        "https://",
        "",
    ],
)
def test_an_address_that_would_leak_the_token_is_refused(url: str) -> None:
    with pytest.raises(DJMInvalidConfigException):
        Client(TOKEN, base_url=url)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000/emulator/", "http://localhost:8000", "http://[::1]:1", "http://emulator:80"],
)
def test_an_emulator_nearby_may_use_plain_http(url: str) -> None:
    recorder = Recorder()
    Client(TOKEN, base_url=url, transport=recorder).execute(Call("GET", "me"))
    assert recorder.last.url == f"{url.rstrip('/')}/v26.0/me"


@pytest.mark.parametrize("version", ["26.0", "v26", "v26.0/..", "latest", "v26.0\n"])
def test_a_version_is_checked_by_its_shape_only(version: str) -> None:
    with pytest.raises(DJMInvalidConfigException):
        Client(TOKEN, version=version)
    assert Client(TOKEN, version="v99.1").version == "v99.1"


def test_the_current_client_is_the_bound_one_else_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, default = (client_of()[0] for _ in range(3))
    monkeypatch.setattr("djmessenger.graph.context._default", None)
    with pytest.raises(DJMInvalidConfigException):
        current_client()
    set_default_client(lambda: default)
    assert current_client() is default
    with bound_client(first):
        with bound_client(second) as inner:
            assert current_client() is inner is second
        assert current_client() is first
    assert current_client() is default
    with pytest.raises(MessageRejected), bound_client(first):
        raise MessageRejected
    assert current_client() is default


def test_characters_that_no_database_stores_are_replaced_in_an_answer() -> None:
    client, _ = client_of({"recipient_id": PSID, "message_id": "m_1", "words": "a\x00b\ud800"})
    sent = client.send({"id": PSID}, {"message": {"text": "x"}})
    assert sent.data["words"] == "a\ufffdb\ufffd"
