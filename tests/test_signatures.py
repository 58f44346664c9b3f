"""Signatures: the vectors of the platform, and what never verifies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djmessenger.exceptions import DJMInvalidValueException
from djmessenger.signatures import appsecret_proof, sign, verify

VECTORS = json.loads((Path(__file__).parent / "wire" / "signature_vectors.json").read_text())
SECRET = "0123456789abcdef0123456789abcdef"
BODY = b'{"object":"page"}'
GOOD = sign(SECRET, BODY)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["sample"])
def test_the_vectors_of_the_platform(vector):
    body = vector["body_bytes_ascii"].encode("ascii")
    assert sign(vector["app_secret"], body) == vector["x_hub_signature_256"]
    assert verify(body, vector["x_hub_signature_256"], {"7": vector["app_secret"]}) == "7"


def test_a_body_that_was_serialised_again_does_not_verify():
    vector = next(item for item in VECTORS if item["sample"] == "message_text_unicode")
    again = json.dumps(
        json.loads(vector["body_bytes_ascii"]), ensure_ascii=False, separators=(",", ":")
    ).encode()
    assert sign(vector["app_secret"], again) == vector["wrong_if_reserialised_utf8"]
    assert verify(again, vector["x_hub_signature_256"], {"": vector["app_secret"]}) is None


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        GOOD.upper(),
        GOOD.removeprefix("sha256="),
        GOOD + " ",
        GOOD + "\n",
        GOOD[:-1],
        GOOD + "0",
        "sha1=" + "0" * 40,
        "sha1=" + GOOD.removeprefix("sha256="),
        "md5=" + "0" * 32,
        GOOD[:-1] + "é",
        "sha256=" + "０" * 64,
        f"{GOOD},{GOOD}",
    ],
)
def test_malformed_headers_do_not_verify(header):
    assert verify(BODY, header, {"": SECRET}) is None


def test_the_app_whose_secret_signed_is_named():
    secrets = {"1": "one", "2": "two", "": "nameless"}
    assert verify(BODY, sign("two", BODY), secrets) == "2"
    assert verify(BODY, sign("nameless", BODY), secrets) == ""
    assert verify(BODY, sign("three", BODY), secrets) is None


def test_blanks_at_the_ends_of_a_secret_do_not_count():
    assert sign(f" {SECRET}\n", BODY) == GOOD
    assert verify(BODY, GOOD, {"1": f"{SECRET}\r\n"}) == "1"


@pytest.mark.parametrize("secret", [SECRET.encode(), 7, None, f"{SECRET}\ud800", "two words", "é"])
def test_a_secret_of_another_form_is_refused_without_showing_it(secret):
    for attempt in (lambda: sign(secret, BODY), lambda: verify(BODY, GOOD, {"": secret})):
        with pytest.raises(DJMInvalidValueException) as raised:
            attempt()
        assert "secret" in str(raised.value)
        assert SECRET not in str(raised.value)


def test_empty_secret_never_verifies():
    for blank in ("", " ", "\n\t"):
        assert verify(BODY, sign(blank, BODY), {"": blank}) is None
        assert verify(BODY, sign("", BODY), {"": blank}) is None
    assert verify(BODY, GOOD, {}) is None


@given(st.binary(max_size=50), st.text(max_size=80))
def test_no_header_raises(body, header):
    assert verify(body, header, {"": SECRET}) is None


VISIBLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@given(st.binary(max_size=200), VISIBLE, st.integers(0, 199))
def test_any_changed_byte_is_found(body, secret, at):
    header = sign(secret, body)
    assert verify(body, header, {"a": secret}) == "a"
    changed = bytearray(body or b"\0")
    changed[at % len(changed)] ^= 1
    assert verify(bytes(changed), header, {"a": secret}) is None


def test_appsecret_proof_is_the_hmac_of_the_token():
    assert appsecret_proof("made-up-token", SECRET) == sign(SECRET, b"made-up-token").removeprefix("sha256=")
