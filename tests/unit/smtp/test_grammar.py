"""Paths, parameters, replies and trace fields."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.smtp.protocol import parameters
from mailserver.smtp.protocol.parameters import MAIL_PARAMETERS, By, parse_parameters
from mailserver.smtp.protocol.paths import (
    NULL_PATH,
    POSTMASTER,
    parse_forward_path,
    parse_reverse_path,
)
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.protocol.trace import Trace, with_protocol


def code_of(function: Any, *arguments: Any) -> int:
    with pytest.raises(Refused) as refused:
        function(*arguments)
    reply: Reply = refused.value.reply
    return reply.code


@pytest.mark.parametrize(
    ("text", "path", "normal", "rest"),
    [
        ("FROM:<a@b.test>", "a@b.test", "a@b.test", ""),
        ("from:<A.B@B.Test> SIZE=1", "A.B@B.Test", "a.b@b.test", " SIZE=1"),
        ("FROM: <a@b.test>", "a@b.test", "a@b.test", ""),
        ("FROM:<@x.test,@y.test:a@b.test>", "a@b.test", "a@b.test", ""),
        ('FROM:<"a b"@b.test>', '"a b"@b.test', "a b@b.test", ""),
        ('FROM:<"a\\"@\\>b"@b.test>', '"a\\"@\\>b"@b.test', 'a"@>b@b.test', ""),
        ("FROM:<a@[192.0.2.1]>", "a@[192.0.2.1]", "a@[192.0.2.1]", ""),
        ("FROM:<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", "a@[ipv6:2001:db8::1]", ""),
        ("FROM:<grün@bücher.test>", "grün@bücher.test", "grün@xn--bcher-kva.test", ""),
        ("FROM:<a+b=c/d!e@b.test>", "a+b=c/d!e@b.test", "a+b=c/d!e@b.test", ""),
    ],
)
def test_reverse_paths(text: str, path: str, normal: str, rest: str) -> None:
    found, following = parse_reverse_path(text)
    assert (found.text, str(found.address), following) == (path, normal, rest)


def test_the_null_path_sends_and_does_not_receive() -> None:
    assert parse_reverse_path("FROM:<>") == (NULL_PATH, "")
    assert code_of(parse_forward_path, "TO:<>") == 501


def test_postmaster_needs_no_domain_as_a_recipient() -> None:
    assert parse_forward_path("TO:<PostMaster>") == (POSTMASTER, "")
    assert code_of(parse_reverse_path, "FROM:<postmaster>") == 501


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a@b.test",
        "FROM:a@b.test",
        "FROM:<a@b.test",
        "FROM:<a>",
        "FROM:<a@>",
        "FROM:<@b.test>",
        "FROM:<a@b.test>x",
        "FROM:<a b@c.test>",
        "FROM:<a(comment)@b.test>",
        "FROM:<a@b.test\r\nRCPT TO:<x@y.test>",
        "FROM:<a\rb@c.test>",
        "FROM:<a\0@b.test>",
        "FROM:<a@b..test>",
        "FROM:<.a@b.test>",
        'FROM:<"a@b.test>',
        'FROM:<"a\n"@b.test>',
        "FROM:<" + "a" * 65 + "@b.test>",
        "FROM:<a@" + "b" * 64 + ".test>",
        "FROM:<<a@b.test>>",
        "TO:<a@b.test>",
    ],
)
def test_bad_paths_are_refused(text: str) -> None:
    assert code_of(parse_reverse_path, text) == 501


mutated = st.lists(
    st.sampled_from(["FROM:", "TO:", "<", ">", "@", '"', "\\", ":", ",", " ", "a", "b.test", "\r"])
    | st.text(max_size=3),
    max_size=12,
).map("".join)


@settings(max_examples=200)
@given(mutated | mutated.map(lambda text: f"FROM:<{text}>"))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    try:
        path, _ = parse_reverse_path(text)
    except Refused:
        assert code_of(parse_reverse_path, text) == 501
    else:
        assert not set(path.text) & set("\r\n\0")
        assert parse_reverse_path(f"FROM:<{path.text}>")[0] == path


def test_parameters_keep_the_case_of_their_values() -> None:
    text = " size=12 BODY=8bitmime SMTPUTF8 AUTH=e+3Dmc2@Example.com"
    assert parse_parameters(text, MAIL_PARAMETERS) == {
        "SIZE": 12,
        "BODY": "8BITMIME",
        "SMTPUTF8": True,
        "AUTH": "e=mc2@Example.com",
    }
    assert parse_parameters(" AUTH=<>", MAIL_PARAMETERS) == {"AUTH": "<>"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BY=120;R", By(120, True, False)),
        ("BY=+120;rt", By(120, True, True)),
        ("BY=-999999999;N", By(-999999999, False, False)),
        ("BY=0;NT", By(0, False, True)),
        ("MT-PRIORITY=-9", -9),
        ("MT-PRIORITY=0", 0),
    ],
)
def test_urgency(text: str, expected: object) -> None:
    (found,) = parse_parameters(f" {text}", MAIL_PARAMETERS).values()
    assert found == expected


@given(st.from_regex(r"\A[+-]?[0-9]{0,11};?[RNTrnt]{0,3}\Z") | st.text(max_size=12))
def test_any_value_of_by_is_read_or_refused(value: str) -> None:
    try:
        by = parameters.parse_by(value)
    except Refused:
        return
    assert abs(by.seconds) < 10**9
    assert by.seconds > 0 or not by.returns


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (" SIZE", 501),
        (" SIZE=", 501),
        (" SIZE=-1", 501),
        (" SIZE=1e3", 501),
        (" SIZE=٣", 501),
        (" SIZE=" + "9" * 21, 501),
        (" SIZE=1 size=1", 501),
        (" BODY", 501),
        (" BODY=BINARY", 501),
        (" SMTPUTF8=1", 501),
        (" AUTH=a=b", 501),
        (" AUTH=+zz", 501),
        (" -X=1", 501),
        (" MT-URGENCY=3", 555),
        (" MT-PRIORITY=10", 501),
        (" MT-PRIORITY=-0", 501),
        (" MT-PRIORITY", 501),
        (" BY", 501),
        (" BY=120", 501),
        (" BY=120;X", 501),
        (" BY=120;RTT", 501),
        (" BY=0;R", 501),
        (" BY=-1;R", 501),
        (" BY=1234567890;N", 501),
        (" BY=٣;N", 501),
        (" RET=ALL", 501),
        (" RET", 501),
        (" ENVID=a+b", 501),
        (" ENVID=" + "x" * 101, 501),
        (" REQUIRETLS=1", 501),
        (" HOLDFOR=-1", 501),
        (" HOLDFOR", 501),
        (" HOLDFOR=" + "9" * 10, 501),
        (" HOLDUNTIL=2026-12-24T18:00:00", 501),
    ],
)
def test_bad_parameters_are_refused(text: str, code: int) -> None:
    assert code_of(parse_parameters, text, MAIL_PARAMETERS) == code


def test_every_parameter_has_a_test_here() -> None:
    assert set(parameters.MAIL_PARAMETERS) == {
        "SIZE", "BODY", "SMTPUTF8", "AUTH", "RET", "ENVID", "REQUIRETLS", "HOLDFOR",
        "HOLDUNTIL", "BY", "MT-PRIORITY",
    }  # fmt: skip


def test_replies_repeat_code_and_status_on_every_line() -> None:
    assert bytes(Reply(250, "2.0.0", "OK")) == b"250 2.0.0 OK\r\n"
    assert bytes(Reply(250, "", "a", ("b", "c"))) == b"250-a\r\n250-b\r\n250 c\r\n"
    assert bytes(Reply(550, "5.6.11", "a", ("b",))) == b"550-5.6.11 a\r\n550 5.6.11 b\r\n"


@pytest.mark.parametrize(
    ("esmtp", "tls", "authenticated", "smtputf8", "name"),
    [
        (False, False, False, False, "SMTP"),
        (True, False, False, False, "ESMTP"),
        (True, True, False, False, "ESMTPS"),
        (True, False, True, False, "ESMTPA"),
        (True, True, True, False, "ESMTPSA"),
        (True, False, False, True, "UTF8SMTP"),
        (True, True, True, True, "UTF8SMTPSA"),
    ],
)
def test_with_protocols(
    esmtp: bool, tls: bool, authenticated: bool, smtputf8: bool, name: str
) -> None:
    assert (
        with_protocol(esmtp=esmtp, tls=tls, authenticated=authenticated, smtputf8=smtputf8) == name
    )


def trace(helo: str = "c.example.org", peer: str = "192.0.2.1", recipient: str = "") -> bytes:
    date = datetime(2026, 11, 24, 10, 30, tzinfo=UTC)
    return bytes(Trace(helo, peer, "mail.example.test", "ESMTP", "", "id1", date, recipient))


def test_a_received_field() -> None:
    assert trace(recipient="a@b.test") == (
        b"Received: from c.example.org ([192.0.2.1])\r\n"
        b"\tby mail.example.test with ESMTP id id1\r\n"
        b"\tfor <a@b.test>;\r\n"
        b"\tTue, 24 Nov 2026 10:30:00 +0000\r\n"
    )
    assert b"([IPv6:2001:db8::1])" in trace(peer="2001:db8::1")


@settings(max_examples=200)
@given(st.text(max_size=40))
def test_a_client_name_cannot_forge_fields(helo: str) -> None:
    field = trace(helo=helo)
    parsed = message_from_bytes(field + b"\r\nbody", policy=policy.compat32)
    assert parsed.keys() == ["Received"]
    assert field.count(b"(") == 1
    assert field.count(b"\n") == 3
