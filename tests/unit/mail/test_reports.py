"""What is read from reports about mail that was sent."""

from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import reports
from mailserver.mail.reports import Told
from mailserver.model import Delivery, NotificationKind, RecipientStatus

DSN = b"""\
From: MAILER-DAEMON@example.org
Content-Type: multipart/report; report-type=delivery-status; boundary=x

--x

It did not work.
--x
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example.org
Original-Envelope-Id: s0123456789abc

Original-Recipient: rfc822;Carol@example.org
Final-Recipient: rfc822;carol@inner.example.org
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1
 no such user

Final-Recipient: rfc822;dave@example.org
Action: delivered
Status: 2.0.0

Final-Recipient: rfc822;erin@example.org
Action: delayed
Status: 4.0.0
--x
Content-Type: text/rfc822-headers

Message-ID: <m1@example.test>
Subject: hello
--x--
""".replace(b"\n", b"\r\n")

MDN = b"""\
From: carol@example.org
Content-Type: multipart/report; report-type=disposition-notification; boundary=x

--x

It was shown.
--x
Content-Type: message/disposition-notification

Final-Recipient: rfc822;carol@example.org
Original-Message-ID: <m1@example.test>
Disposition: manual-action/MDN-sent-manually; displayed
--x--
""".replace(b"\n", b"\r\n")


def test_a_report_is_known_by_its_header() -> None:
    assert reports.is_report(DSN[:200])
    assert reports.is_report(b"content-type:\r\n multipart/report;\r\n x=y\r\n\r\n")
    assert not reports.is_report(b"Subject: Content-Type: multipart/report\r\n\r\n")
    assert not reports.is_report(
        b"Content-Type: multipart/reporter\r\n\r\n".replace(b"er\r", b"\r", 0)
    )


def test_a_delivery_status_notification() -> None:
    report = reports.read(DSN)
    assert report is not None
    assert report.kind is NotificationKind.DSN
    assert report.envelope_id == "s0123456789abc"
    assert report.message_id == "m1@example.test"
    assert report.told == (
        Told(
            ("Carol@example.org", "carol@inner.example.org"),
            Delivery.NO,
            "550 5.1.1 no such user",
        ),
        Told(("dave@example.org",), Delivery.YES, "250 2.0.0 Delivered"),
        Told(("erin@example.org",), None, ""),
    )


def test_a_disposition_notification() -> None:
    report = reports.read(MDN)
    assert report is not None
    assert report.kind is NotificationKind.MDN
    assert report.message_id == "m1@example.test"
    assert report.told == (Told(("carol@example.org",), displayed=True),)
    deleted = reports.read(MDN.replace(b"; displayed", b"; deleted"))
    assert deleted is not None
    assert not deleted.told[0].displayed


def test_what_is_told_changes_statuses() -> None:
    known = [
        RecipientStatus("carol@Example.org", Delivery.UNKNOWN, "250 OK"),
        RecipientStatus("dave@example.org", Delivery.YES, "250 2.0.0 Delivered"),
        RecipientStatus("erin@example.org", Delivery.QUEUED, "451 later"),
    ]
    dsn, mdn = reports.read(DSN), reports.read(MDN)
    assert dsn is not None
    assert mdn is not None
    assert reports.merged(known, dsn) == [
        RecipientStatus("carol@Example.org", Delivery.NO, "550 5.1.1 no such user")
    ]
    assert reports.merged(known, mdn) == [
        RecipientStatus("carol@Example.org", Delivery.UNKNOWN, "250 OK", displayed=True)
    ]


@given(
    raw=st.sampled_from([DSN, MDN]),
    at=st.integers(0, len(DSN)),
    length=st.integers(0, 60),
    new=st.binary(max_size=30),
)
def test_no_report_is_an_error(raw: bytes, at: int, length: int, new: bytes) -> None:
    reports.read(raw[:at] + new + raw[at + length :])
