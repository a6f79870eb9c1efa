"""A report on its whole way: counted, made, signed, sent, refused; and read by whoever gets it."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest_asyncio

from mailserver.config import Config
from mailserver.dns import Resolver
from mailserver.feedback import listing
from mailserver.feedback.model import Kind
from mailserver.feedback.receiving import Receiver
from mailserver.feedback.sending import Sender
from mailserver.feedback.tally import Tally
from mailserver.mail import accounts, delivery, dkim
from mailserver.mail.delivery import Target
from mailserver.model import QueueState
from tests.integration.outbound.conftest import Sending
from tests.integration.outbound.test_signing import verified

COUNTED = {
    "ip": "192.0.2.1", "disposition": "none", "dkim": "pass", "spf": "fail",
    "header_from": "carol.example", "envelope_from": "carol.example", "override": "",
    "signatures": [["carol.example", "s1", "pass"]], "spf_result": ["carol.example", "none"],
}  # fmt: skip


@pytest_asyncio.fixture
async def config(config: Config) -> Config:
    reports = {
        "dmarc": True,
        "sender": "alice@noreply.example.test",
        "addresses": "alice@example.test",
    }
    return Config.model_validate(config.model_dump() | {"reports": reports})


def late_enough() -> datetime:
    """Return the time, or that of an hour later when the day has just begun."""
    now = datetime.now(UTC)
    return now + timedelta(hours=1) if now.hour == 0 else now


async def counted(sending: Sending) -> Sender:
    """Count a message of yesterday from a domain that wants reports."""
    sending.mail.now = late_enough
    await accounts.add_domain(sending.mail, "noreply.example.test")
    await accounts.add_alias(sending.mail, "alice@noreply.example.test", "alice@example.test")
    record = '"v=DMARC1; p=reject; rua=mailto:dmarc@carol.example"'
    sending.names.add("_dmarc.carol.example", "TXT", record)
    sending.domain("carol.example", (10, "mx.carol.example", "127.0.0.2"))
    tally = Tally(sending.mail.database, lambda: late_enough() - timedelta(days=1))
    tally.add(Kind.DMARC, "carol.example", COUNTED)
    await tally.flush()
    resolver = Resolver(sending.mail.config.dns, asyncio.get_running_loop().time)
    return Sender(sending.mail, resolver, "one")


async def test_report_arrives_signed_and_is_read(sending: Sending) -> None:
    sender = await counted(sending)
    keys = await dkim.make_all(sending.mail, "noreply.example.test")
    peer = await sending.peer()
    assert await sender.once() == 1
    await sending.work()
    await sending.settled("dmarc@carol.example", QueueState.DELIVERED)
    [letter] = peer.received
    assert letter.sender.startswith("MAIL FROM:<> ")
    assert [each.split()[1] for each in letter.recipients] == ["TO:<dmarc@carol.example>"]
    assert verified(letter.content, keys) == [True, True]
    # as if it had come to an address of ours
    await delivery.accept(
        sending.mail,
        letter.content,
        [Target(sending.alice.id)],
        received_at=sending.mail.now(),
        sender="",
    )
    assert await Receiver(sending.mail, "one").once() == 1
    [row] = await listing.newest(
        sending.mail.database, Kind.DMARC, None, datetime(2020, 1, 1, tzinfo=UTC), 5
    )
    assert (row["domain"], row["passed"], row["failed"]) == ("carol.example", 1, 0)
    assert row["organization"] == "mail.example.test"


async def test_report_that_is_refused_comes_back_to_nobody(sending: Sending) -> None:
    sender = await counted(sending)
    peer = await sending.peer(
        say=lambda line: "550 5.1.1 No such user" if line.startswith("RCPT") else None
    )
    assert await sender.once() == 1
    await sending.work()
    await sending.settled("dmarc@carol.example", QueueState.FAILED)
    assert all(not each.recipients for each in peer.received)
    assert await sending.mail.database.fetchval("SELECT count(*) FROM email") == 0
    await sender.once()
    [address] = await sending.mail.database.fetch("SELECT address FROM feedback_suppressed")
    assert address["address"] == "dmarc@carol.example"
