"""DMARC aggregate reports: written ones are valid and read back; bombs and nonsense are refused."""

import re
from dataclasses import replace

import pytest
from dmarc.report import DMARC2Schema
from hypothesis import given
from hypothesis import strategies as st

from mailserver.errors import Invalid, MailError, TooLarge
from mailserver.feedback import dmarc
from mailserver.feedback.model import AuthResult, DmarcReport, DmarcRow

REPORT = DmarcReport(
    "mail.example.test",
    "postmaster@example.test",
    "2026-11-26.example.org",
    1_795_651_200,
    1_795_737_599,
    "example.org",
    {"p": "reject", "sp": "none", "adkim": "r", "aspf": "s", "testing": "n",
     "discovery_method": "treewalk"},
    (
        DmarcRow(
            "192.0.2.1", 12, "none", "pass", "fail", "example.org", "bounce.example.org", (),
            (
                AuthResult("dkim", "example.org", "pass", "s1"),
                AuthResult("dkim", "list.example", "fail", "x"),
                AuthResult("spf", "bounce.example.org", "softfail"),
            ),
        ),
        DmarcRow(
            "2001:db8::1", 3, "quarantine", "fail", "fail", "sub.example.org", "",
            (("trusted_forwarder", 'a & b <"c">'), ("local_policy", "")),
        ),
    ),
)  # fmt: skip

# As senders wrote them before RFC 9990: no namespace, other order, comments, white space.
OLD = b"""\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8" ?>
<!-- from a large provider -->
<feedback>
  <report_metadata><org_name>Example.com</org_name><email>r@example.com</email>
    <report_id>1234</report_id><date_range><begin>1795651200</begin><end>1795737599</end>
    </date_range></report_metadata>
  <policy_published><domain>Example.ORG</domain><adkim>r</adkim><aspf>r</aspf><p>none</p>
    <sp>none</sp><pct>100</pct><fo>0</fo></policy_published>
  <record>
    <row><source_ip>192.0.2.7</source_ip><count>2</count><policy_evaluated>
      <disposition>none</disposition><dkim>fail</dkim><spf>pass</spf>
      <reason><type>forwarded</type><comment>looks
        forwarded</comment></reason></policy_evaluated></row>
    <identifiers><envelope_to>example.com</envelope_to><header_from>example.org</header_from>
    </identifiers>
    <auth_results><spf><domain>example.org</domain><scope>mfrom</scope><result>pass</result></spf>
    </auth_results>
  </record>
</feedback>
"""


def test_written_report_is_read_back() -> None:
    assert dmarc.read(dmarc.write(REPORT)) == REPORT
    assert (REPORT.passed, REPORT.failed) == (12, 3)


def test_written_report_is_valid_by_the_schema_of_the_standard() -> None:
    DMARC2Schema.validate(dmarc.write(REPORT).decode().partition("\n")[2])


def test_old_report_is_read() -> None:
    report = dmarc.read(OLD.removeprefix(b"\xef\xbb\xbf"))
    assert (report.organization, report.domain, report.passed) == ("Example.com", "example.org", 2)
    assert report.policy["pct"] == "100"
    [row] = report.rows
    assert row.reasons == (("forwarded", "looks forwarded"),)
    assert row.results == (AuthResult("spf", "example.org", "pass"),)


def test_many_rows_are_counted_and_too_many_refused() -> None:
    row = REPORT.rows[0]
    report = replace(REPORT, rows=(row,) * 1000)
    assert dmarc.read(dmarc.write(report)).passed == 12_000
    one = re.search(rb"<record>.*?</record>\n", dmarc.write(REPORT), re.DOTALL)
    assert one is not None
    whole = dmarc.write(replace(REPORT, rows=())).replace(
        b"</feedback>", one[0] * (dmarc.MAX_ROWS + 1) + b"</feedback>"
    )
    with pytest.raises(TooLarge):
        dmarc.read(whole)


LAUGHS = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))


@pytest.mark.parametrize(
    "document",
    [
        b"", b"hello", b"<feedback/>", b"<a></b>", b"\0", b"<feedback><report_metadata>",
        b'<!DOCTYPE f [<!ENTITY l0 "ha">' + LAUGHS + b"]><feedback>&l9;</feedback>",
        b'<!DOCTYPE f SYSTEM "file:///etc/passwd"><feedback>x</feedback>',
        b'<!DOCTYPE f [<!ENTITY x SYSTEM "file:///etc/passwd">]><feedback>&x;</feedback>',
        b'<?xml version="1.0" encoding="cp9999"?><feedback/>',
        b"<feedback>" + b"<a>" * 10_000,
        OLD[3:].replace(b"<count>2", b"<count>-2"),
        OLD[3:].replace(b"<count>2", b"<count>99999999999999999999"),
        OLD[3:].replace(b"192.0.2.7", b"example.org"),
        OLD[3:].replace(b"<begin>1795651200", b"<begin>soon"),
        OLD[3:].replace(b"Example.ORG", b""),
    ],
)  # fmt: skip
def test_what_is_no_report_is_refused(document: bytes) -> None:
    with pytest.raises(Invalid):
        dmarc.read(document)


def test_long_values_are_cut() -> None:
    report = dmarc.read(OLD[3:].replace(b"Example.com", b"x" * 5_000_000))
    assert len(report.organization) == dmarc.MAX_TEXT


@given(st.integers(0, len(OLD)), st.binary(max_size=8), st.integers(0, 40))
def test_any_damage_gives_a_report_or_an_error(at: int, put: bytes, cut: int) -> None:
    damaged = OLD[:at] + put + OLD[at + cut :]
    try:
        report = dmarc.read(damaged)
    except MailError:
        return
    assert report.domain
    assert dmarc.read(dmarc.write(report)).rows == report.rows


words = st.text(max_size=20)


@given(words, words, words)
def test_any_text_is_written_as_valid_xml(first: str, second: str, third: str) -> None:
    row = replace(
        REPORT.rows[1],
        reasons=(("other", first),),
        results=(AuthResult("dkim", second, "pass", third),),
    )
    document = dmarc.write(replace(REPORT, organization=first + "x", rows=(row,)))
    assert len(dmarc.read(document).rows) == 1
