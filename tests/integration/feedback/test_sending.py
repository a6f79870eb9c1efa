"""Reports to other domains: once, few, to those who want them, never about spam or reports."""

import asyncio
import email
import email.policy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from dmarc.report import DMARC2Schema

from mailserver.address import parse_address
from mailserver.antispam.authentication import Authentication
from mailserver.antispam.authentication.results import Dmarc, Iprev, Signature, Spf
from mailserver.antispam.evidence import Client, Finding, Inquiry, Symbol
from mailserver.antispam.verdict import Action, Verdict
from mailserver.config import Config
from mailserver.feedback import attachments, listing
from mailserver.feedback.collecting import DmarcResults
from mailserver.feedback.model import DmarcReport, Kind, TlsReport
from mailserver.feedback.sending import Sender
from mailserver.feedback.tally import Tally
from mailserver.mail import accounts, content
from mailserver.mail.context import Mail
from mailserver.model import Account, AccountId
from mailserver.storage import feedback
from tests.zone import Zone

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def config() -> Config:
    return Config.model_validate(
        {
            "server": {"hostname": "mail.example.test"},
            "reports": {
                "addresses": "dmarc@example.test",
                "sender": "reports@noreply.example.test",
                "dmarc": True,
                "tls": True,
                "max_per_day": 3,
            },
        }
    )


@pytest.fixture
def zone() -> Zone:
    return Zone(
        {
            ("_dmarc.example.test", "TXT"): ["v=DMARC1; p=none; rua=mailto:dmarc@example.test"],
            ("_dmarc.a.test", "TXT"): ["v=DMARC1; p=reject; sp=none; rua=mailto:r@a.test"],
            ("_smtp._tls.b.test", "TXT"): ["v=TLSRPTv1; rua=mailto:t@b.test"],
        }
    )


class Bench:
    """A sender, what it counts, and what it queued."""

    def __init__(self, mail: Mail, zone: Zone, clock: Clock) -> None:
        self.mail, self.zone, self.clock = mail, zone, clock
        self.tally = Tally(mail.database, clock)
        self.sender = Sender(mail, zone, "one")
        self.results = DmarcResults(self.tally, mail.config.reports, "+", 5)

    def saw(
        self,
        domain: str = "a.test",
        *,
        result: str = "pass",
        to: str = "alice@example.test",
        verdict: Verdict | None = None,
        disposition: str = "none",
        ip: str = "192.0.2.1",
        delivered: bool = True,
    ) -> None:
        """Have a message judged."""
        inquiry = Inquiry(
            "S1", Client(ip), parse_address(f"x@bounce.{domain}"), (parse_address(to),), b"",
            self.clock(),
        )  # fmt: skip
        aligned = ("dkim",) if result == "pass" else ()
        done = Authentication(
            Iprev("pass", ip),
            Spf("none", "helo"),
            Spf("pass", "mailfrom", f"bounce.{domain}"),
            (Signature("pass" if aligned else "fail", domain, "s1"),),
            dmarc=Dmarc(result, domain, domain, "reject", aligned, disposition),
        )
        verdict = verdict or Verdict(Action.ACCEPT, "")
        self.results.record(inquiry, done, verdict, delivered=delivered)

    async def next_day(self) -> int:
        """Write the counts and send the reports of the day."""
        await self.tally.flush()
        self.clock.time += timedelta(days=1)
        return await self.sender.once()

    async def letters(self) -> list[tuple[str, str, bytes]]:
        """Return recipients, reverse-path and content of what is queued."""
        rows = await self.mail.database.fetch(
            """
            SELECT r.recipient, q.sender, q.account_id, q.blob_id
            FROM queue_message AS q JOIN queue_recipient AS r ON r.message_id = q.id
            ORDER BY q.id, r.recipient
            """
        )
        return [
            (
                row["recipient"],
                row["sender"],
                await content.content(self.mail, AccountId(row["account_id"]), row["blob_id"]),
            )
            for row in rows
        ]

    async def outcomes(self, kind: Kind) -> dict[str, str]:
        rows = await feedback.sent(self.mail.database, kind, NOON.date(), 100)
        return {row.domain: row.outcome for row in reversed(rows)}  # of the newest day


@pytest_asyncio.fixture
async def bench(mail: Mail, alice: Account, zone: Zone) -> Bench:
    clock = Clock()
    mail.now = clock
    await accounts.add_domain(mail, "noreply.example.test")
    await accounts.add_alias(mail, "reports@noreply.example.test", "alice@example.test")
    return Bench(mail, zone, clock)


def read(raw: bytes) -> Any:
    [data] = attachments.candidates(raw)
    return attachments.read(data)


async def test_dmarc_report_is_sent_once_and_read_by_others(bench: Bench) -> None:
    for _ in range(3):
        bench.saw()
    bench.saw(result="fail", disposition="reject", ip="198.51.100.7",
              verdict=Verdict(Action.REJECT, ""), delivered=False)  # fmt: skip
    bench.saw(result="fail", disposition="reject", ip="198.51.100.8",
              verdict=Verdict(Action.REJECT, ""))  # fmt: skip
    assert await bench.next_day() == 1
    assert await bench.sender.once() == 0
    [(to, reverse, raw)] = await bench.letters()
    assert (to, reverse) == ("r@a.test", "")
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert message["From"] == "reports@noreply.example.test"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Subject"].startswith("Report Domain: a.test Submitter: mail.example.test ")
    [attachment] = message.iter_attachments()
    assert attachment.get_content_type() == "application/gzip"
    name = "mail.example.test!a.test!1795737600!1795823999.xml.gz"
    assert attachment.get_filename() == name
    report = read(raw)
    assert isinstance(report, DmarcReport)
    assert (report.domain, report.passed, report.failed) == ("a.test", 3, 2)
    assert report.policy["p"] == "reject"
    first, *others = report.rows
    assert (first.count, first.disposition, first.dkim, first.spf) == (3, "pass", "pass", "fail")
    assert (first.header_from, first.envelope_from) == ("a.test", "bounce.a.test")
    assert sorted((each.disposition, each.reasons) for each in others) == [
        ("none", (("local_policy", ""),)),
        ("reject", ()),
    ]
    document = attachments.unpacked(attachment.get_content())
    DMARC2Schema.validate(document.decode().partition("\n")[2])


async def test_spam_refused_mail_and_mail_to_reports_are_not_counted(bench: Bench) -> None:
    spam = Verdict(Action.JUNK, "", (Finding("content", "spam", symbols=(Symbol("X", 9),)),))
    bench.saw("spam.test", verdict=spam)
    bench.saw("virus.test", verdict=Verdict(Action.REJECT, "clamd"), delivered=False)
    bench.saw("report.test", to="DMARC+x@example.test")
    bench.saw("unclear.test", result="temperror")
    for domain in ("spam.test", "virus.test", "report.test", "unclear.test"):
        bench.zone.add(f"_dmarc.{domain}", "TXT", f"v=DMARC1; p=none; rua=mailto:r@{domain}")
    assert await bench.next_day() == 0
    assert await bench.outcomes(Kind.DMARC) == {}
    assert await bench.letters() == []


async def test_domain_that_is_only_forged_hears_nothing(bench: Bench) -> None:
    bench.saw(result="fail", disposition="reject", verdict=Verdict(Action.REJECT, ""),
              delivered=False)  # fmt: skip
    assert await bench.next_day() == 0
    assert await bench.outcomes(Kind.DMARC) == {"a.test": "nothing to say"}


async def test_whoever_is_named_without_being_willing_gets_nothing(bench: Bench) -> None:
    bench.zone.add("_dmarc.c.test", "TXT", "v=DMARC1; p=none; rua=mailto:victim@d.test")
    bench.zone.add("_dmarc.e.test", "TXT", "v=DMARC1; p=none; rua=mailto:r@f.test,mailto:r@d.test")
    bench.zone.add("e.test._report._dmarc.f.test", "TXT", "v=DMARC1")
    bench.saw("c.test")
    bench.saw("e.test")
    assert await bench.next_day() == 1
    assert [to for to, _, _ in await bench.letters()] == ["r@f.test"]
    assert await bench.outcomes(Kind.DMARC) == {"c.test": "nobody wants it", "e.test": "sent"}


async def test_cap_of_a_day(bench: Bench) -> None:
    for number in range(5):
        domain = f"d{number}.test"
        bench.zone.add(f"_dmarc.{domain}", "TXT", f"v=DMARC1; p=none; rua=mailto:r@{domain}")
        bench.saw(domain)
    assert await bench.next_day() == 3
    assert await bench.sender.once() == 0
    assert len(await bench.letters()) == 3


async def test_report_that_is_refused_is_the_last(bench: Bench) -> None:
    bench.saw()
    assert await bench.next_day() == 1
    await bench.mail.database.execute("UPDATE queue_recipient SET state = 2")
    bench.saw()
    assert await bench.next_day() == 0
    assert await bench.outcomes(Kind.DMARC) == {"a.test": "nobody wants it"}
    await bench.mail.database.execute("UPDATE queue_recipient SET state = 1")
    bench.saw()
    bench.clock.time += timedelta(days=31)
    bench.saw()
    assert await bench.next_day() == 1


async def test_nothing_is_sent_from_a_domain_that_asks_for_reports(bench: Bench) -> None:
    bench.zone.add("_dmarc.noreply.example.test", "TXT", "v=DMARC1; p=none; rua=mailto:x@y.test")
    bench.saw()
    assert await bench.next_day() == 0
    assert await bench.outcomes(Kind.DMARC) == {}


async def test_dns_that_gives_no_answer_is_asked_again(bench: Bench) -> None:
    bench.saw()
    bench.zone.failing.add(("_dmarc.a.test", "TXT"))
    assert await bench.next_day() == 0
    bench.zone.failing.clear()
    assert await bench.sender.once() == 1


async def test_report_that_is_too_large_for_an_address(bench: Bench) -> None:
    bench.zone.records["_dmarc.a.test", "TXT"] = ["v=DMARC1; p=none; rua=mailto:r@a.test!1k"]
    bench.saw()
    assert await bench.next_day() == 0
    assert await bench.outcomes(Kind.DMARC) == {"a.test": "too large"}


async def test_two_nodes_send_once(bench: Bench) -> None:
    bench.saw()
    await bench.tally.flush()
    bench.clock.time += timedelta(days=1)
    # the same owner has the lease twice, as when it ran out while the first was busy
    sent = await asyncio.gather(*(Sender(bench.mail, bench.zone, "one").once() for _ in range(4)))
    assert sum(sent) == 1
    assert len(await bench.letters()) == 1


async def test_nothing_happens_while_it_is_off(bench: Bench) -> None:
    bench.saw()
    off = bench.mail.config.reports.model_copy(update={"dmarc": False, "tls": False})
    bench.mail.config = bench.mail.config.model_copy(update={"reports": off})
    bench.sender = Sender(bench.mail, bench.zone, "one")
    assert await bench.next_day() == 0
    assert await bench.letters() == []


async def test_tls_report(bench: Bench) -> None:
    seen: dict[str, Any] = {
        "type": "sts", "policy": ["version: STSv1", "mode: enforce"], "hosts": ["mx.b.test"],
        "result": "", "host": "", "ip": "", "reason": "",
    }  # fmt: skip
    failed = {**seen, "result": "certificate-expired", "host": "mx.b.test", "ip": "192.0.2.9"}
    for detail in (seen, seen, failed):
        bench.tally.add(Kind.TLS, "b.test", detail)
    bench.tally.add(Kind.TLS, "silent.test", seen)
    await bench.tally.flush()
    seen_now = await listing.sessions(bench.mail.database, "b.test", NOON.date(), 10)
    assert [(row["result"], row["sessions"]) for row in seen_now] == [
        ("success", 2), ("certificate-expired", 1),
    ]  # fmt: skip
    assert await bench.next_day() == 1
    shown = await listing.sent(bench.mail.database, Kind.TLS, NOON.date(), 10)
    assert ("b.test", "sent") in [(row["domain"], row["outcome"]) for row in shown]
    assert await bench.outcomes(Kind.TLS) == {"b.test": "sent", "silent.test": "nothing to say"}
    [(to, reverse, raw)] = await bench.letters()
    assert (to, reverse) == ("t@b.test", "")
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert message.get_content_type() == "multipart/report"
    assert message["Content-Type"].params["report-type"] == "tlsrpt"
    assert message["TLS-Report-Domain"] == "b.test"
    assert message["TLS-Report-Submitter"] == "mail.example.test"
    [_, attachment] = message.iter_parts()
    assert attachment.get_content_type() == "application/tlsrpt+gzip"
    report = read(raw)
    assert isinstance(report, TlsReport)
    [policy] = report.policies
    assert (policy.policy_type, policy.succeeded, policy.failed) == ("sts", 2, 1)
    assert [each.result_type for each in policy.failures] == ["certificate-expired"]
    assert policy.hosts == ("mx.b.test",)


async def test_counts_that_cannot_be_written_wait(bench: Bench, mail: Mail) -> None:
    bench.saw()
    await mail.database.execute("ALTER TABLE feedback_count RENAME TO away")
    with pytest.raises(Exception, match="feedback_count"):
        await bench.tally.flush()
    await mail.database.execute("ALTER TABLE away RENAME TO feedback_count")
    bench.saw()
    await bench.tally.flush()
    rows = await feedback.counts(mail.database, Kind.DMARC, NOON.date(), "a.test", 10)
    assert [times for _, times in rows] == [2]
