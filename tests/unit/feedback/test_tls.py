"""SMTP TLS reports: written ones are read back, the example of RFC 8460 is, nonsense is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.errors import Invalid, MailError
from mailserver.feedback import tls
from mailserver.feedback.model import TlsFailure, TlsPolicy, TlsReport

# RFC 8460 appendix B
EXAMPLE: dict[str, Any] = {
    "organization-name": "Company-X",
    "date-range": {
        "start-datetime": "2016-04-01T00:00:00Z",
        "end-datetime": "2016-04-01T23:59:59Z",
    },
    "contact-info": "sts-reporting@company-x.example",
    "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
    "policies": [
        {
            "policy": {
                "policy-type": "sts",
                "policy-string": [
                    "version: STSv1", "mode: testing", "mx: *.mail.company-y.example",
                    "max_age: 86400",
                ],
                "policy-domain": "company-y.example",
                "mx-host": ["*.mail.company-y.example"],
            },
            "summary": {
                "total-successful-session-count": 5326,
                "total-failure-session-count": 303,
            },
            "failure-details": [
                {
                    "result-type": "certificate-expired",
                    "sending-mta-ip": "2001:db8:abcd:0012::1",
                    "receiving-mx-hostname": "mx1.mail.company-y.example",
                    "failed-session-count": 100,
                },
                {
                    "result-type": "starttls-not-supported",
                    "sending-mta-ip": "2001:db8:abcd:0013::1",
                    "receiving-mx-hostname": "mx2.mail.company-y.example",
                    "receiving-ip": "203.0.113.56",
                    "failed-session-count": 200,
                    "additional-information": "https://reports.company-x.example/report_info",
                },
                {
                    "result-type": "validation-failure",
                    "sending-mta-ip": "198.51.100.62",
                    "receiving-ip": "203.0.113.58",
                    "receiving-mx-hostname": "mx-backup.mail.company-y.example",
                    "failed-session-count": 3,
                    "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
                },
            ],
        }
    ],
}  # fmt: skip
TEXT = json.dumps(EXAMPLE).encode()


def test_example_of_the_standard() -> None:
    report = tls.read(TEXT)
    assert (report.organization, report.domain) == ("Company-X", "company-y.example")
    assert (report.begins, report.ends) == (1459468800, 1459555199)
    assert (report.passed, report.failed) == (5326, 303)
    [policy] = report.policies
    assert policy.hosts == ("*.mail.company-y.example",)
    assert [each.result_type for each in policy.failures] == [
        "certificate-expired", "starttls-not-supported", "validation-failure",
    ]  # fmt: skip


def test_written_report_is_read_back() -> None:
    report = TlsReport(
        "mail.example.test",
        "postmaster@example.test",
        "id-1",
        1459468800,
        1459555199,
        (
            TlsPolicy("no-policy-found", "a.example", 3, 0),
            TlsPolicy(
                "tlsa", "b.example", 1, 2, ("3 1 1 00ff",), ("mx.b.example",),
                (TlsFailure("tlsa-invalid", 2, "mx.b.example", "192.0.2.1", "", "no match"),),
            ),
        ),
    )  # fmt: skip
    assert tls.read(tls.write(report)) == report


def test_host_that_is_a_single_text() -> None:
    policy = EXAMPLE["policies"][0]
    about = {**policy["policy"], "mx-host": "mx.example"}
    report = tls.read(json.dumps({**EXAMPLE, "policies": [{**policy, "policy": about}]}).encode())
    assert report.policies[0].hosts == ("mx.example",)


@pytest.mark.parametrize(
    "change",
    [
        {"policies": []}, {"policies": {}}, {"policies": [{}]}, {"policies": [1]},
        {"date-range": "today"}, {"date-range": {"start-datetime": "x", "end-datetime": "y"}},
        {"report-id": 5}, {"organization-name": None},
        {"policies": [{**EXAMPLE["policies"][0], "summary": {"total-failure-session-count": -1}}]},
        {
            "policies": [
                {**EXAMPLE["policies"][0], "failure-details": [{"failed-session-count": True}]}
            ]
        },
    ],
)  # fmt: skip
def test_what_is_no_report_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        tls.read(json.dumps(EXAMPLE | change).encode())


@pytest.mark.parametrize("document", [b"", b"[]", b"[" * 100_000, b'{"a":', b"\xff", b"null"])
def test_what_is_no_object_is_refused(document: bytes) -> None:
    with pytest.raises(Invalid):
        tls.read(document)


@given(st.integers(0, len(TEXT)), st.binary(max_size=8), st.integers(0, 40))
def test_any_damage_gives_a_report_or_an_error(at: int, put: bytes, cut: int) -> None:
    try:
        report = tls.read(TEXT[:at] + put + TEXT[at + cut :])
    except MailError:
        return
    assert tls.read(tls.write(report)).failed == report.failed
