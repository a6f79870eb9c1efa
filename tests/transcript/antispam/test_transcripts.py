"""Plays every transcript beside this file, with all checks; the clients are 127.0.0.1.

What the checks know: 127.0.0.0/8 may send for example.org, which has a DMARC policy; nobody may for
forged.test. The list zen has 127.0.0.9; the network 127.0.7.0/24 is denied, closed@example.test
takes no mail, users of example.test want none of unwanted.test, and greylisting asks suspicious
clients to come again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from mailserver.antispam.authentication import Rules
from mailserver.antispam.checks import Checks
from mailserver.antispam.content.filter import ContentFilter
from mailserver.antispam.dnsbl import DnsLists, chosen
from mailserver.antispam.gate import Gate
from mailserver.antispam.greylist import Greylist
from mailserver.antispam.lists import Lists
from mailserver.antispam.pipeline import Pipeline
from mailserver.antispam.ratelimit import Rates
from mailserver.config import Antispam
from mailserver.mail import accounts
from mailserver.mail.context import Mail
from mailserver.model import Account
from mailserver.storage import spam_lists
from mailserver.storage.spam_lists import Entry
from tests.transcript.smtp.conftest import certificates as certificates
from tests.transcript.smtp.conftest import play as play
from tests.zone import Zone

TRANSCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.fixture
def zone() -> Zone:
    zone = Zone()
    zone.add("example.org", "TXT", "v=spf1 ip4:127.0.0.0/8 -all")
    zone.add("_dmarc.example.org", "TXT", "v=DMARC1; p=reject")
    zone.add("forged.test", "TXT", "v=spf1 -all")
    zone.add("_dmarc.forged.test", "TXT", "v=DMARC1; p=reject")
    zone.add("2.0.0.127.zen.spamhaus.org", "A", "127.0.0.2")
    zone.add("9.0.0.127.zen.spamhaus.org", "A", "127.0.0.4")
    return zone


@pytest_asyncio.fixture
async def gate(mail: Mail, zone: Zone) -> Gate:
    """All checks, over DNS in memory."""
    for entry in (
        Entry("", "127.0.7.0/24", "deny"),
        Entry("", "to:closed@example.test", "deny"),
        Entry("@example.test", "@unwanted.test", "deny"),
    ):
        await spam_lists.put(mail.database, entry, mail.now())
    clock = asyncio.get_running_loop().time
    settings = Antispam()
    lists = DnsLists(chosen("zen", None, ""), zone, mail.metrics)
    await lists.test()
    content = ContentFilter(budget=60)  # seconds; a busy machine may take its time
    await content.load()
    checks = Checks(
        rates=Rates(mail.database, mail.now),
        people=Lists(mail.database, clock),
        dns_lists=lists,
        greylist=Greylist(settings.greylisting, mail.database, mail.metrics, mail.now, clock),
        authentication=(zone, Rules("mail.example.test")),
        judges=[content],
    )
    return Gate(Pipeline(settings, checks, mail.metrics, clock))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
async def test_transcript(
    mail: Mail, alice: Account, bob: Account, play: Callable[[Path], Awaitable[int]], path: Path
) -> None:
    for alias in ("postmaster", "closed"):
        await accounts.add_alias(mail, f"{alias}@example.test", "alice@example.test")
    assert await play(path) > 0
