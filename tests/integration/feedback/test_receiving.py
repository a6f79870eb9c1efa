"""Reports in the mail of an account: stored once, whatever happens, and shown by commands."""

import asyncio
import gzip
from datetime import UTC, datetime, timedelta

import pytest

from mailserver.config import Config
from mailserver.errors import NotFound
from mailserver.feedback import listing
from mailserver.feedback.model import Kind
from mailserver.feedback.receiving import Receiver
from mailserver.mail import delivery
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.model import Account
from mailserver.storage import feedback
from mailserver.storage.database import Database
from tests.unit.feedback.test_attachments import XML, message, zipped
from tests.unit.feedback.test_dmarc import OLD
from tests.unit.feedback.test_tls import TEXT

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def config() -> Config:
    return Config.model_validate(
        {
            "server": {"hostname": "mail.example.test"},
            "reports": {"addresses": "alice+dmarc@example.test nobody@example.test"},
        }
    )


async def deliver(mail: Mail, account: Account, raw: bytes) -> None:
    await delivery.accept(
        mail, raw, [Target(account.id)], received_at=mail.now(), sender="r@example.com"
    )


async def known(mail: Mail, kind: Kind) -> list[tuple[object, ...]]:
    rows = await listing.newest(mail.database, kind, None, LONG_AGO, 100)
    return sorted((row["domain"], row["passed"], row["failed"]) for row in rows)


async def test_reports_are_found_stored_and_shown(mail: Mail, alice: Account) -> None:
    await deliver(mail, alice, b"Subject: a letter\r\n\r\nhello\r\n")
    await deliver(mail, alice, message(gzip.compress(XML), "gzip", "a.xml.gz"))
    await deliver(mail, alice, message(zipped(("a.xml", OLD)), "zip", "a.zip"))
    await deliver(mail, alice, message(gzip.compress(TEXT), "tlsrpt+gzip", "a.json.gz"))
    await deliver(mail, alice, message(b"<no>", "xml", "a.xml"))
    receiver = Receiver(mail, "one")
    assert await receiver.once() == 3
    assert await known(mail, Kind.DMARC) == [("example.org", 2, 0), ("example.org", 12, 3)]
    assert await known(mail, Kind.TLS) == [("company-y.example", 5326, 303)]
    [newest] = await listing.newest(mail.database, Kind.TLS, "company-y.example", LONG_AGO, 5)
    whole = await listing.whole(mail.database, Kind.TLS, str(newest["id"]))
    assert [row["result"] for row in listing.tls_rows(whole)] == [
        "success", "certificate-expired", "starttls-not-supported", "validation-failure",
    ]  # fmt: skip
    older = await listing.newest(mail.database, Kind.DMARC, "example.org", LONG_AGO, 5)
    [large] = [row for row in older if row["failed"] == 3]
    whole = await listing.whole(mail.database, Kind.DMARC, str(large["id"]))
    assert [(row["source"], row["result"]) for row in listing.dmarc_rows(whole)] == [
        ("2001:db8::1", "fail"), ("192.0.2.1", "pass"),
    ]  # fmt: skip
    assert listing.dmarc_rows(whole)[1]["signed by"] == ["example.org", "list.example"]
    with pytest.raises(NotFound):
        await listing.whole(mail.database, Kind.DMARC, str(newest["id"]))
    text = mail.metrics.render().decode()
    assert 'test_reported_failures_total{kind="dmarc"} 3.0' in text
    assert 'test_reported_failures_total{kind="tls"} 303.0' in text
    assert 'test_reports_received_total{kind="any",outcome="refused"} 1.0' in text


async def test_a_report_counts_once(mail: Mail, alice: Account) -> None:
    raw = message(gzip.compress(XML), "gzip", "a.xml.gz")
    receiver = Receiver(mail, "one")
    await deliver(mail, alice, raw)
    assert await receiver.once() == 1
    assert await receiver.once() == 0
    await deliver(mail, alice, raw)  # sent again
    assert await receiver.once() == 0
    assert await Receiver(mail, "two").once() == 0  # has no lease
    assert len(await known(mail, Kind.DMARC)) == 1


async def test_two_that_work_at_once_store_once(mail: Mail, alice: Account) -> None:
    for number in range(20):
        report = XML.replace(b"2026-11-26.example.org", b"id-%d" % number)
        await deliver(mail, alice, message(report, "xml", "a.xml"))
    # the same owner has the lease twice, as when it ran out while the first was busy
    found = await asyncio.gather(*(Receiver(mail, "one").once() for _ in range(4)))
    assert sum(found) == 20
    assert len(await known(mail, Kind.DMARC)) == 20


async def test_message_that_is_damaged_is_passed_over(mail: Mail, alice: Account) -> None:
    await deliver(mail, alice, message(XML, "xml", "a.xml"))
    whole = await mail.database.fetchval("SELECT data FROM blob_hot")
    await mail.database.execute("UPDATE blob_hot SET data = 'damaged'")
    await deliver(mail, alice, message(TEXT, "json", "a.json"))
    assert await Receiver(mail, "one").once() == 1
    assert await known(mail, Kind.DMARC) == []
    assert len(await known(mail, Kind.TLS)) == 1
    await mail.database.execute("UPDATE blob_hot SET data = $1 WHERE data = 'damaged'", whole)


async def test_nothing_happens_without_addresses(database: Database, mail: Mail) -> None:
    bare = mail.config.model_copy(update={"reports": Config().reports})
    mail.config = bare
    assert await Receiver(mail, "one").once() == 0
    assert await database.fetchval("SELECT count(*) FROM lease") == 0


async def test_old_reports_are_forgotten(mail: Mail, alice: Account) -> None:
    await deliver(mail, alice, message(XML, "xml", "a.xml"))
    await Receiver(mail, "one").once()
    now = mail.now()
    before, after = now - timedelta(days=1), now + timedelta(days=1)
    assert await feedback.expire(mail.database, before, before, now) == 0
    assert await feedback.expire(mail.database, after, before, now) == 1
    assert await known(mail, Kind.DMARC) == []
