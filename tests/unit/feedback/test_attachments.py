"""Reports in messages: every way of packing them, and what only looks like one."""

import gzip
import io
import zipfile
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.errors import Invalid, MailError, TooLarge
from mailserver.feedback import attachments, dmarc
from mailserver.feedback.model import DmarcReport, TlsReport
from tests.unit.feedback.test_dmarc import OLD, REPORT
from tests.unit.feedback.test_tls import TEXT


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return packed.getvalue()


def message(data: bytes, subtype: str, name: str) -> bytes:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "reports@example.com", "Report Domain: example.org"
    mail.set_content("A report.")
    mail.add_attachment(data, "application", subtype, filename=name)
    return mail.as_bytes()


XML = dmarc.write(REPORT)


@pytest.mark.parametrize(
    ("data", "subtype", "name", "kind"),
    [
        (gzip.compress(XML), "gzip", "a!b!1!2.xml.gz", DmarcReport),
        (gzip.compress(OLD), "octet-stream", "a.xml.gz", DmarcReport),
        (zipped(("a.xml", OLD)), "zip", "a.zip", DmarcReport),
        (zipped(("folder/", b""), ("a.xml", XML)), "x-zip-compressed", "", DmarcReport),
        (XML, "xml", "a.xml", DmarcReport),
        (gzip.compress(TEXT), "tlsrpt+gzip", "a.json.gz", TlsReport),
        (TEXT, "tlsrpt+json", "a.json", TlsReport),
    ],
)
def test_packed_in_any_way(data: bytes, subtype: str, name: str, kind: type) -> None:
    [found] = attachments.candidates(message(data, subtype, name))
    assert isinstance(attachments.read(found), kind)


def test_letter_has_none() -> None:
    assert list(attachments.candidates(message(b"x", "pdf", "a.pdf"))) == []


def test_message_with_many_attachments_is_not_read_for_ever() -> None:
    mail = EmailMessage()
    mail.set_content("many")
    for _ in range(50):
        mail.add_attachment(XML, "application", "xml", filename="a.xml")
    assert len(list(attachments.candidates(mail.as_bytes()))) == attachments.MAX_PARTS


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(b"<" * (attachments.MAX_DOCUMENT + 1)),
        zipped(("a.xml", b"<" * (attachments.MAX_DOCUMENT + 1))),
        b"<" * (attachments.MAX_PACKED + 1),
    ],
)
def test_bombs_are_refused(data: bytes) -> None:
    with pytest.raises(TooLarge):
        attachments.read(data)


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(XML)[:-20], gzip.compress(XML)[:4], b"\x1f\x8b" + b"\xff" * 40,
        zipped(("a.xml", XML))[:-30], b"PK\3\4" + b"\0" * 50, zipped(), zipped(("a/", b"")),
        zipped(("a.xml", XML), method=zipfile.ZIP_LZMA),
        zipped(("a.xml", XML)).replace(b"\x14\0\0\0\x08", b"\x14\0\1\0\x08"),
        gzip.compress(gzip.compress(XML)),
    ],
)  # fmt: skip
def test_damaged_archives_are_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        attachments.read(data)


ARCHIVES = (gzip.compress(XML), zipped(("a.xml", XML)))


@given(st.sampled_from(ARCHIVES), st.integers(0, 400), st.binary(max_size=4), st.integers(0, 9))
def test_any_damage_gives_a_report_or_an_error(data: bytes, at: int, put: bytes, cut: int) -> None:
    try:
        attachments.read(data[:at] + put + data[at + cut :])
    except MailError:
        return
