from __future__ import annotations

import datetime
import email.utils
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djmessenger.exceptions import DJMException
from djmessenger.graph import errors
from djmessenger.graph.errors import (
    GraphError,
    MessageRejected,
    NotSent,
    PageRestricted,
    PermissionMissing,
    PersonUnreachable,
    ProfileRefused,
    RetryLater,
    ThreadTaken,
    Throttled,
    TokenError,
    UnknownFate,
    WindowClosed,
    error_from,
)

# Typed by hand from Meta's tables of codes: code, subcode, who has to act.
DOCUMENTED: list[tuple[int, int | None, type[GraphError]]] = [
    (1, None, UnknownFate),
    (1, 99, PermissionMissing),
    (1, 1357046, UnknownFate),
    (1, 2018382, MessageRejected),
    (2, None, UnknownFate),
    (2, 2018344, PermissionMissing),
    (3, None, PermissionMissing),
    (4, None, Throttled),
    (4, 2018022, Throttled),
    (4, 2018354, WindowClosed),
    (9, 2018352, Throttled),
    (10, None, PermissionMissing),
    (10, 2018278, WindowClosed),
    (10, 2018065, WindowClosed),
    (10, 2018108, PersonUnreachable),
    (10, 2018336, PersonUnreachable),
    (10, 1404170, PermissionMissing),
    (10, 1893015, PersonUnreachable),
    (10, 1893063, PageRestricted),
    (10, 2534022, WindowClosed),
    (10, 2534077, PermissionMissing),
    (17, None, Throttled),
    (17, 2446079, Throttled),
    (32, None, Throttled),
    (100, None, MessageRejected),
    (100, 33, MessageRejected),
    (100, 1893061, MessageRejected),
    (100, 2018001, PersonUnreachable),
    (100, 2018008, MessageRejected),
    (100, 2018014, MessageRejected),
    (100, 2018034, MessageRejected),
    (100, 2018047, MessageRejected),
    (100, 2018074, MessageRejected),
    (100, 2018109, MessageRejected),
    (100, 2018145, MessageRejected),
    (100, 2018164, MessageRejected),
    (100, 2018218, MessageRejected),
    (100, 2018294, MessageRejected),
    (100, 2018320, MessageRejected),
    (100, 2018328, MessageRejected),
    (100, 2534013, PermissionMissing),
    (100, 2534014, PersonUnreachable),
    (100, 2534015, MessageRejected),
    (100, 2534025, MessageRejected),
    (100, 2534029, PersonUnreachable),
    (100, 2534037, ThreadTaken),
    (102, None, TokenError),
    (105, None, MessageRejected),
    (190, None, TokenError),
    *((190, subcode, TokenError) for subcode in (458, 459, 460, 463, 464, 467, 492)),
    (194, None, MessageRejected),
    (200, None, PermissionMissing),
    (200, 1545041, PersonUnreachable),
    (200, 2018021, PermissionMissing),
    (200, 2018027, PermissionMissing),
    (200, 2018028, PermissionMissing),
    (200, 2534041, PermissionMissing),
    (210, None, PermissionMissing),
    (230, None, PermissionMissing),
    (299, None, PermissionMissing),
    (341, None, Throttled),
    (368, None, PageRestricted),
    (551, None, PersonUnreachable),
    (551, 1545041, PersonUnreachable),
    (613, None, Throttled),
    (613, 1893016, MessageRejected),
    (613, 2018338, Throttled),
    (613, 2534040, Throttled),
    (613, 1996, Throttled),
    (1200, None, UnknownFate),
    (2022, None, PermissionMissing),
    (2500, None, MessageRejected),
    (10303, None, MessageRejected),
    (10900, None, MessageRejected),
    (10903, None, MessageRejected),
    (24001, None, MessageRejected),
    (24002, None, MessageRejected),
    (24005, None, MessageRejected),
    (36103, None, PermissionMissing),
    (80001, None, Throttled),
    (80002, None, Throttled),
    (80006, None, Throttled),
    (80014, None, Throttled),
    (100, 2018144, WindowClosed),
    (100, 2018171, ThreadTaken),
    (2018234, None, ThreadTaken),
    (100, 2018173, MessageRejected),
    (2018188, None, MessageRejected),
    (100, 2018247, PermissionMissing),
    (2018218, None, MessageRejected),
    (10, 2018300, ThreadTaken),
    (2018300, None, ThreadTaken),
    (100, 2018321, ThreadTaken),
    (100, 2018389, MessageRejected),
    (100, 2018396, MessageRejected),
    (9000001, None, MessageRejected),
    (2300052, None, MessageRejected),
]


def envelope(code: Any, subcode: Any = None, **more: Any) -> dict[str, Any]:
    error = {"message": "No", "type": "OAuthException", "code": code, "fbtrace_id": "AbC1", **more}
    if subcode is not None:
        error["error_subcode"] = subcode
    return {"error": error}


@pytest.mark.parametrize(("code", "subcode", "expected"), DOCUMENTED)
def test_each_documented_code_names_who_has_to_act(
    code: int, subcode: int | None, expected: type[GraphError]
) -> None:
    error = error_from(400, {}, envelope(code, subcode))
    assert type(error) is expected
    assert error.meaning
    assert (error.code, error.subcode, error.fbtrace_id) == (code, subcode, "AbC1")


@pytest.mark.parametrize("status", [200, 401, 403, 404, 429, 500, 503])
def test_the_http_status_does_not_decide(status: int) -> None:
    for code, subcode, expected in DOCUMENTED:
        assert type(error_from(status, {}, envelope(code, subcode))) is expected


@given(st.text())
def test_the_words_do_not_decide(message: str) -> None:
    assert type(error_from(400, {}, envelope(10, 2018278, message=message))) is WindowClosed
    assert type(error_from(400, {}, envelope(987654, message=message))) is UnknownFate


numbers = st.one_of(st.none(), st.integers(), st.integers(0, 3_000_000), st.text(max_size=5), st.booleans())
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=10,
)


@given(numbers, numbers, st.booleans(), st.integers(100, 599))
def test_any_code_and_subcode_gives_a_class_and_an_action(
    code: Any, subcode: Any, transient: bool, status: int
) -> None:
    error = error_from(status, {}, envelope(code, subcode, is_transient=transient))
    assert isinstance(error, GraphError)
    assert type(error) is not GraphError
    assert all(number is None or abs(number) < 2**31 for number in (error.code, error.subcode))
    assert error.action.endswith(".")
    assert error.meaning
    assert error.fate in ("unsent", "refused", "unknown")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


@given(
    st.integers(),
    st.dictionaries(st.sampled_from(["Retry-After", "X-App-Usage", "X-Page-Usage"]), st.text()),
    st.one_of(json_values, st.binary(), st.builds(lambda value: {"error": value}, json_values)),
)
def test_any_answer_gives_an_error(status: int, headers: dict[str, str], body: Any) -> None:
    error = error_from(status, headers, body)
    assert error.action
    assert str(error)
    json.dumps(error.data)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>502</html>", b"[" * 100_000, b"\xff\xfe", b"null", b"[]", b'{"error": "oh"}', "", None, 7],
)
def test_an_answer_that_cannot_be_read_is_of_unknown_fate(body: Any) -> None:
    assert type(error_from(500, {}, body)) is UnknownFate


def test_numbers_written_as_text_count() -> None:
    error = error_from(400, {}, envelope("10", "2018278"))
    assert type(error) is WindowClosed
    assert (error.code, error.subcode) == (10, 2018278)


def test_the_body_may_be_bytes() -> None:
    assert type(error_from(400, {}, json.dumps(envelope(190, 463)).encode())) is TokenError


@pytest.mark.parametrize(
    ("code", "subcode", "expected"),
    [
        (551, None, UnknownFate),
        (100, 2018001, UnknownFate),
        (987654, None, UnknownFate),
        (2, None, UnknownFate),
        (613, None, Throttled),
        (190, 463, TokenError),
    ],
)
def test_a_transient_error_is_not_refused(code: int, subcode: int | None, expected: type[GraphError]) -> None:
    error = error_from(500, {}, envelope(code, subcode, is_transient=True))
    assert type(error) is expected
    assert error.is_transient


def test_an_unknown_subcode_falls_back_to_its_code() -> None:
    assert type(error_from(400, {}, envelope(551, 7))) is PersonUnreachable
    assert type(error_from(400, {}, envelope(190, 7))) is TokenError


def test_a_long_subcode_means_the_same_under_another_code() -> None:
    assert type(error_from(400, {}, envelope(100, 2018278))) is WindowClosed


@pytest.mark.parametrize("code", [1, 2, 1200])
def test_a_failing_service_stays_of_unknown_fate_whatever_the_subcode(code: int) -> None:
    assert type(error_from(500, {}, envelope(code, 2018278))) is UnknownFate


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, {"code": 7654321, "is_transient": False}, MessageRejected),
        (403, {"code": 7654321, "error_subcode": 9, "is_transient": False}, MessageRejected),
        (400, {"code": 7654321}, UnknownFate),
        (400, {"code": 7654321, "is_transient": "false"}, UnknownFate),
        (400, {"code": 7654321, "is_transient": True}, UnknownFate),
        (500, {"code": 7654321, "is_transient": False}, UnknownFate),
        (400, {"is_transient": False}, UnknownFate),
        (400, {"code": 1, "is_transient": False}, UnknownFate),
        (429, {"code": 7654321, "is_transient": False}, Throttled),
    ],
)
def test_an_undocumented_code_that_meta_calls_lasting_is_refused(
    status: int, error: dict[str, Any], expected: type[GraphError]
) -> None:
    assert type(error_from(status, {}, {"error": error})) is expected


def test_too_many_requests_without_an_error_is_throttling() -> None:
    error = error_from(429, {"retry-after": "120"}, b"slow down")
    assert type(error) is Throttled
    assert error.after == 120


def test_retry_after_as_seconds_date_and_junk() -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=10)
    past = soon - datetime.timedelta(days=1)

    def after(value: str) -> float | None:
        return error_from(400, {"Retry-After": value}, envelope(4)).after

    assert after("90") == 90
    waiting = after(email.utils.format_datetime(soon, usegmt=True))
    assert waiting is not None
    assert 500 < waiting <= 600
    assert after(email.utils.format_datetime(past, usegmt=True)) is None
    assert after("31536000") == 24 * 3600
    assert [after(junk) for junk in ("", "soon", "-5", "0", "1e9", "99999999999999", "\u0663")] == [None] * 7


def test_a_date_to_retry_after_is_compared_with_the_clock_of_meta() -> None:
    """The clock of this host may be wrong by more than the wait."""
    theirs = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    until = theirs + datetime.timedelta(minutes=2)
    headers = {
        "date": email.utils.format_datetime(theirs, usegmt=True),
        "retry-after": email.utils.format_datetime(until, usegmt=True),
    }
    assert error_from(400, headers, envelope(4)).after == 120


def test_the_usage_headers_say_when_calls_are_accepted_again() -> None:
    usage = {"100200": [{"type": "messenger", "call_count": 100, "estimated_time_to_regain_access": 7}]}
    headers = {"x-business-use-case-usage": json.dumps(usage)}
    assert error_from(400, headers, envelope(80006)).after == 7 * 60


def test_a_restricted_page_waits_for_hours() -> None:
    error = error_from(400, {}, envelope(10, 1893063))
    assert error.after is not None
    assert error.after >= 3600


def test_three_errors_pause_the_whole_page() -> None:
    pausing = {cls.__name__ for cls in errors.CLASSES.values() if cls.pauses_page}
    assert pausing == {"Throttled", "PageRestricted", "TokenError"}


def test_fates() -> None:
    fates = {name: cls.fate for name, cls in errors.CLASSES.items()}
    assert {name for name, fate in fates.items() if fate == "unknown"} == {"UnknownFate"}
    assert {name for name, fate in fates.items() if fate == "unsent"} == {
        "NotSent",
        "RetryLater",
        "Throttled",
        "PageRestricted",
        "TokenError",
    }


@pytest.mark.parametrize("cls", errors.CLASSES.values())
def test_every_class_says_what_to_do_and_can_be_pickled(cls: type[GraphError]) -> None:
    error = cls("No", code=1, subcode=2, fbtrace_id="AbC1", status=400, call="POST /me/messages")
    assert isinstance(error, DJMException)
    assert error.action == cls.action
    assert error.action != GraphError.action
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(copy), str(copy), vars(copy)) == (cls, str(error), vars(error))
    for part in ("1/2", "No", "AbC1", "400", "POST /me/messages"):
        assert part in str(error)


def test_the_action_stands_in_a_traceback_but_not_in_the_text() -> None:
    error = error_from(400, {}, envelope(190, 458))
    assert error.action not in str(error)
    assert error.__notes__ == [error.action]
    assert "app" in error.action


def test_meta_quoting_a_token_is_not_repeated() -> None:
    quoted = "x9" * 40
    error = error_from(
        400, {}, envelope(190, message=f"Malformed access token {quoted}", error_user_msg=quoted)
    )
    assert quoted not in str(error)
    assert quoted not in repr(error.data)
    assert "Malformed access token ***" in str(error)


def test_a_message_cannot_forge_a_line_of_the_log() -> None:
    error = error_from(400, {}, envelope(100, message="no\r\nERROR all lost\x1b[31m"))
    assert str(error).splitlines() == [str(error)]
    assert "\x1b" not in str(error)


def test_the_tree() -> None:
    assert issubclass(Throttled, RetryLater)
    assert issubclass(PageRestricted, RetryLater)
    assert not issubclass(NotSent, RetryLater)
    assert not issubclass(ProfileRefused, MessageRejected)
