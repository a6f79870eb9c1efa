"""MTA-STS: records, policies and answers of web servers."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.errors import Invalid
from mailserver.smtp.protocol.sts import MAX_AGE, Mode, parse_policy, record_id, response_body

# RFC 8461 §3.2
POLICY = (
    "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\n"
    "mx: backupmx.example.com\nmax_age: 604800\n"
)


def test_the_policy_of_the_rfc() -> None:
    policy = parse_policy(POLICY.replace("\n", "\r\n"))
    assert (policy.mode, policy.max_age) == (Mode.ENFORCE, 604800)
    assert policy.allows("Mail.Example.com.")
    assert policy.allows("a.example.net")
    assert not policy.allows("a.b.example.net")
    assert not policy.allows("example.net")
    assert not policy.allows("localhost")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version: STSv2\nmode: enforce\nmx: a\nmax_age: 1\n",
        "version: STSv1\nmode: strict\nmx: a\nmax_age: 1\n",
        "version: STSv1\nmode: enforce\nmax_age: 1\n",
        "version: STSv1\nmode: enforce\nmx: a\nmax_age: -1\n",
        "version: STSv1\nmode: enforce\nmx: a\nmax_age: 1x\n",
        "version: STSv1\nmode: enforce\nmx: a\nmax_age: 1\nnote: \0\n",
    ],
)
def test_bad_policies(text: str) -> None:
    with pytest.raises(Invalid):
        parse_policy(text)


def test_ages_are_bounded() -> None:
    assert parse_policy("version: STSv1\nmode: none\nmax_age: 9999999999\n").max_age == MAX_AGE


def test_records() -> None:
    assert record_id(["v=STSv1; id=20160831085700Z;"]) == "20160831085700Z"
    assert record_id(["v=spf1 -all", "v=STSv1;id=1"]) == "1"
    assert record_id([]) is None
    assert record_id(["v=STSv1; id=1", "v=STSv1; id=2"]) is None
    assert record_id(["v=STSv1; id=not-good"]) is None


def test_answers_of_web_servers() -> None:
    assert response_body(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nabc") == "abc"
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    )
    assert response_body(chunked) == "abc"
    for bad in (
        b"HTTP/1.1 301 Moved\r\nLocation: x\r\n\r\n",
        b"HTTP/1.1 200 OK",
        chunked[:-10],
        b"HTTP/1.1 200 OK\r\n\r\n\xff",
    ):
        with pytest.raises(Invalid):
            response_body(bad)


@given(st.binary(max_size=200))
def test_any_answer_is_read_or_refused(response: bytes) -> None:
    with contextlib.suppress(Invalid):
        parse_policy(response_body(response))
