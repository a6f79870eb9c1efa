"""The fields that say what was checked, and those that only claim to."""

from dataclasses import replace
from datetime import UTC, datetime

import authres
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.address import Address
from mailserver.antispam.authentication import Rules, authenticate
from mailserver.antispam.authentication.headers import (
    authentication_results,
    received_spf,
    without_forged,
)
from mailserver.antispam.authentication.results import (
    Arc,
    Authentication,
    Dmarc,
    Iprev,
    Signature,
    Spf,
)
from mailserver.antispam.evidence import Client, Inquiry
from mailserver.antispam.verdict import Action
from mailserver.mime.authserv import authserv_id, results
from tests.zone import Zone

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INQUIRY = Inquiry(
    "s1",
    Client("192.0.2.1", "mx.a.test"),
    Address("ann", "a.test"),
    (),
    b"",
    NOW,
)
DONE = Authentication(
    Iprev("pass", "192.0.2.1", "mx.a.test"),
    Spf("none", "helo", "mx.a.test"),
    Spf("pass", "mailfrom", "a.test", "ip4:192.0.2.0/24"),
    (
        Signature("pass", "a.test", "s1", "@a.test", "rsa-sha256"),
        Signature("fail", "b.test", "s2", "@b.test", "rsa-sha256", "body was changed"),
    ),
    Arc("pass", 1, "list.test", ("list.test",)),
    Dmarc("pass", "a.test", "a.test", "reject", ("dkim", "spf")),
)


def test_results_are_read_again_by_authres() -> None:
    field = authentication_results(DONE, "mx.example.test").decode()
    assert field.endswith("\r\n")
    assert all(len(line) <= 78 for line in field.splitlines())
    read = authres.AuthenticationResultsHeader.parse(field.replace("\r\n\t", " ").strip())
    assert read.authserv_id == "mx.example.test"
    assert [(each.method, each.result) for each in read.results] == [
        ("iprev", "pass"),
        ("spf", "none"),
        ("spf", "pass"),
        ("dkim", "pass"),
        ("dkim", "fail"),
        ("arc", "pass"),
        ("dmarc", "pass"),
    ]


def test_received_spf() -> None:
    assert received_spf(DONE, INQUIRY, "mx.example.test").decode() == (
        "Received-SPF: pass (mx.example.test: a.test permits this client)\r\n"
        "\tclient-ip=192.0.2.1;\r\n"
        '\tenvelope-from="ann@a.test";\r\n'
        '\thelo="mx.a.test";\r\n'
        '\treceiver="mx.example.test";\r\n'
        "\tidentity=mailfrom;\r\n"
        '\tmechanism="ip4:192.0.2.0/24"\r\n'
    )


@given(st.text(), st.text(), st.text())
def test_nothing_a_peer_says_ends_a_field(domain: str, reason: str, selector: str) -> None:
    done = Authentication(
        Iprev("fail", domain),
        Spf("fail", "helo", domain, reason=reason),
        Spf("permerror", "mailfrom", domain, selector, reason),
        (Signature("permerror", domain, selector, reason, selector, reason),),
        Arc("fail", 2, domain, reason=reason),
        Dmarc("permerror", domain, reason=reason, override=selector, policy=reason),
    )
    inquiry = Inquiry("s", Client(domain, selector), Address(reason, domain), (), b"", NOW)
    for field in (
        authentication_results(done, "mx.example.test"),
        received_spf(done, inquiry, "mx.example.test"),
    ):
        assert field.endswith(b"\r\n")
        lines = field[:-2].split(b"\r\n")
        assert all(line.startswith(b"\t") and line.strip() for line in lines[1:])
        assert not any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines)
        assert all(len(line) <= 998 for line in lines)


@pytest.mark.parametrize(
    "field",
    [
        b"Authentication-Results: mx.example.test; spf=pass",
        b"authentication-results:mx.example.test;spf=pass",
        b"Authentication-Results : MX.Example.Test ; dkim=pass",
        b"Authentication-Results: (a (nested) comment) mx.example.test 1; spf=pass",
        b"Authentication-Results:\r\n mx.example.test;\r\n\tspf=pass",
        b'Authentication-Results: "mx.example.test"; spf=pass',
        b'Authentication-Results: "mx\\.example.test"; spf=pass',
        b"Authentication-Results: mx.example.test.; spf=pass",
        b"Authentication-Results: mx.example.test(x); spf=pass",
        b"Authentication-Results: (never closed mx.example.test; spf=pass",
        b"Authentication-Results: ; spf=pass",
        b"Authentication-Results:",
    ],
)
def test_forged_results_are_removed(field: bytes) -> None:
    raw = b"From: a@a.test\r\n" + field + b"\r\nSubject: x\r\n\r\nbody\r\n"
    assert without_forged(raw, ["mx.example.test"]) == (
        b"From: a@a.test\r\nSubject: x\r\n\r\nbody\r\n"
    )


@pytest.mark.parametrize(
    "field",
    [
        b"Authentication-Results: mx.other.test; spf=pass",
        b"Authentication-Results: mx.example.test.evil.test; spf=pass",
        b"ARC-Authentication-Results: i=1; mx.example.test; spf=pass",
        b"X-Authentication-Results: mx.example.test; spf=pass",
    ],
)
def test_results_of_others_stay(field: bytes) -> None:
    raw = b"From: a@a.test\r\n" + field + b"\r\n\r\nAuthentication-Results: mx.example.test\r\n"
    assert without_forged(raw, ["mx.example.test"]) == raw


def test_a_comment_of_ten_megabytes_is_no_field_of_anybody() -> None:
    raw = b"Authentication-Results: " + b"(" * 10_000_000 + b"\r\nTo: x\r\n\r\n"
    assert without_forged(raw, ["mx.example.test"]) == b"To: x\r\n\r\n"


def test_results_behind_ten_megabytes_of_header_are_removed() -> None:
    padding = b"X: " + b"y" * 70 + b"\r\n"
    raw = padding * 140_000 + b"Authentication-Results: mx.example.test; spf=pass\r\n\r\nbody"
    assert without_forged(raw, ["mx.example.test"]) == padding * 140_000 + b"\r\nbody"


@given(st.binary())
def test_any_value_is_read(value: bytes) -> None:
    name = authserv_id(value)
    assert name is None or name == name.lower()
    assert len(results(value)) <= len(value)


@pytest.mark.parametrize(
    "value",
    [b" mx.test; a=b", b"mx.test 1; a=b", b'(c) "mx.test" (c) 1 (c); a=b', b"mx.test;a=b"],
)
def test_results_are_what_comes_after_the_name(value: bytes) -> None:
    assert results(value) == b"a=b"


async def test_the_checks_of_a_message_are_made_together() -> None:
    zone = Zone(
        {
            ("a.test", "TXT"): ["v=spf1 ip4:192.0.2.1 -all"],
            ("1.2.0.192.in-addr.arpa", "PTR"): ["mx.a.test."],
            ("mx.a.test", "A"): ["192.0.2.1"],
        }
    )
    done = await authenticate(zone, INQUIRY, Rules("mx.example.test"), lambda: 1.0)
    results = {finding.check: finding.result for finding in done.findings}
    assert results["iprev"] == "pass"
    assert results["spf"] == "pass"
    assert results["spf_helo"] == "none"
    assert results["dkim"] == "none"


async def test_the_null_sender_is_the_host() -> None:
    zone = Zone({("mx.a.test", "TXT"): ["v=spf1 ip4:192.0.2.1 -all"]})
    inquiry = replace(INQUIRY, sender=None)
    done = await authenticate(zone, inquiry, Rules("mx.example.test"), lambda: 1.0)
    assert (done.mail_from.result, done.mail_from.identity) == ("pass", "helo")
    assert zone.asked.count(("mx.a.test", "TXT")) == 1
    assert authentication_results(done, "mx.example.test").count(b"spf=") == 1
    assert b"identity=helo" in received_spf(done, inquiry, "mx.example.test")


async def test_a_message_in_the_name_of_another_domain_is_refused() -> None:
    zone = Zone(
        {
            ("a.test", "TXT"): ["v=spf1 ip4:192.0.2.1 -all"],
            ("_dmarc.b.test", "TXT"): ["v=DMARC1; p=reject"],
        }
    )
    inquiry = replace(INQUIRY, raw=b"From: boss@b.test\r\nSubject: x\r\n\r\npay\r\n")
    done = await authenticate(zone, inquiry, Rules("mx.example.test"), lambda: 1.0)
    assert (done.mail_from.result, done.dmarc.result) == ("pass", "fail")
    assert done.dmarc.action is Action.REJECT
    field = authentication_results(done, "mx.example.test")
    assert b"dmarc=fail (p=reject dis=reject) header.from=b.test\r\n" in field


async def test_a_message_asks_dns_so_many_questions_and_no_more() -> None:
    zone = Zone({("a.test", "TXT"): ["v=spf1 include:b.test -all"]})
    done = await authenticate(zone, INQUIRY, Rules("mx.example.test", questions=3), lambda: 1.0)
    assert len(zone.asked) == 3
    assert done.mail_from.result == "temperror"


@given(st.binary(max_size=300), st.text(max_size=20))
async def test_any_message_has_results(raw: bytes, helo: str) -> None:
    inquiry = replace(INQUIRY, raw=raw, client=Client("192.0.2.1", helo))
    done = await authenticate(Zone(), inquiry, Rules("mx.example.test"), lambda: 1.0)
    assert authentication_results(done, "mx.example.test").endswith(b"\r\n")
    assert len(done.findings) == 6
