"""Reports that others send: found in the mail of some addresses, behind delivery, and stored.

Nothing happens at delivery. What the change log of an account has beyond the stored place is looked
through, by one process of all (a lease). Reports and the new place are written in one transaction,
so each is stored exactly once, whatever ends this in the middle. Mail that cannot be read is passed
over: nobody can stop this by a message.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import orjson

from mailserver.address import parse_address
from mailserver.errors import Corrupt, Invalid, MailError, NotFound, TooLarge
from mailserver.feedback import attachments
from mailserver.feedback.model import DmarcReport, Kind, TlsReport
from mailserver.mail import content, recipients
from mailserver.mail.context import Mail
from mailserver.model import AccountId, ChangeKind, EmailId, IdKind, Modseq, id_text
from mailserver.storage import changes, feedback, leases
from mailserver.storage.compression import compressor
from mailserver.storage.feedback import ReportRow

log = logging.getLogger(__name__)

LEASE = "reports received"
LEASE_TIME = timedelta(minutes=5)
LOOK = 30.0  # seconds between two looks
CHANGES = 100  # entries of the change log that are read at once
READ = 5  # messages that are in memory at once
LONGEST_REST = 5.0  # seconds
MAX_NAME = 250  # characters of what rows are found by

NAMES = {Kind.DMARC: "dmarc", Kind.TLS: "tls"}


class Receiver:
    """Looks through the mail of the configured addresses."""

    def __init__(self, mail: Mail, owner: str) -> None:
        self._mail = mail
        self._owner = owner

    async def run(self) -> None:
        """Look until cancelled; a round that fails is logged and tried again."""
        while True:
            try:
                await self.once()
            except MailError as error:
                self._mail.metrics.background_failures.labels("reports received").inc()
                log.warning("reports: round failed", extra={"error": str(error)})
            await asyncio.sleep(LOOK)

    async def once(self) -> int:
        """Look through what is new, unless another process does; return the reports found."""
        mail = self._mail
        addresses = mail.config.reports.addresses.split()
        if not addresses or not await self._leased():
            return 0
        found = 0
        accounts: dict[AccountId, None] = {}
        for address in addresses:
            resolution = await recipients.resolve(mail, parse_address(address))
            accounts.update((account.id, None) for account in resolution.accounts)
        for account in accounts:
            found += await self._follow(account)
        return found

    async def _leased(self) -> bool:
        mail = self._mail
        return await leases.take(mail.database, LEASE, self._owner, mail.now(), LEASE_TIME)

    async def _follow(self, account: AccountId) -> int:
        """Look through all that is new in an account."""
        stored = 0
        while await self._leased():
            before = await feedback.place(self._mail.database, account)
            entries = await changes.since(self._mail.database, account, before, CHANGES)
            if not entries:
                break
            emails = [
                email
                for entry in entries
                if entry.kind is ChangeKind.EMAIL_CREATED
                for email in entry.email_ids
            ]
            rows: list[ReportRow] = []
            for at in range(0, len(emails), READ):
                rows += await self._read(account, emails[at : at + READ])
            written = await self._write(account, before, entries[-1].modseq, rows)
            if written is None:
                break  # somebody else was faster
            stored += written
        return stored

    async def _write(
        self, account: AccountId, before: Modseq, after: Modseq, rows: Sequence[ReportRow]
    ) -> int | None:
        async with self._mail.database.transaction() as tx:
            if not await feedback.advance(tx, account, before, after):
                return None
            new = [row for row in rows if await feedback.insert_report(tx, row)]
        self._tell(new, len(rows) - len(new))
        return len(new)

    def _tell(self, new: Sequence[ReportRow], doubles: int) -> None:
        metrics = self._mail.metrics
        for row in new:
            kind = NAMES[Kind(row.kind)]
            metrics.reports_received.labels(kind, "stored").inc()
            metrics.reported_failures.labels(kind).inc(row.failed)
            extra = {
                "kind": kind,
                "organization": row.organization,
                "domain": row.domain,
                "passed": row.passed,
                "failed": row.failed,
            }
            # TLS that fails is mail that waits or leaks; DMARC that fails is mostly forged mail
            level = logging.WARNING if row.failed and row.kind == Kind.TLS else logging.INFO
            log.log(level, "report received", extra=extra)
        if doubles:
            metrics.reports_received.labels("any", "double").inc(doubles)

    async def _read(self, account: AccountId, emails: Sequence[int]) -> list[ReportRow]:
        """Return the reports in some messages; Unavailable while they cannot be had."""
        mail = self._mail
        rows: list[ReportRow] = []
        for email in emails:
            try:
                raw = (await content.of_emails(mail, account, [email])).get(EmailId(email))
            except (NotFound, Corrupt) as error:
                log.error("reports: no message", extra={"email": shown(email), "error": str(error)})
                continue
            if raw is None:
                continue  # destroyed meanwhile
            loop = asyncio.get_running_loop()
            started = loop.time()
            reports = await asyncio.to_thread(self._reports, raw, email)
            # sessions come first, whatever somebody makes us read
            await asyncio.sleep(min(loop.time() - started, LONGEST_REST))
            rows += [row_of(report, mail.ids.next(), mail.now()) for report in reports]
        return rows

    def _reports(self, raw: bytes, email: int) -> list[DmarcReport | TlsReport]:
        found: list[DmarcReport | TlsReport] = []
        try:
            for data in attachments.candidates(raw):
                try:
                    found.append(attachments.read(data))
                except (Invalid, TooLarge) as error:
                    self._refused(email, str(error))
        except Exception:
            log.exception("reports: message cannot be read", extra={"email": shown(email)})
            self._mail.metrics.background_failures.labels("reports received").inc()
        return found

    def _refused(self, email: int, reason: str) -> None:
        self._mail.metrics.reports_received.labels("any", "refused").inc()
        log.info("report refused", extra={"email": shown(email), "reason": reason})


def shown(email: int) -> str:
    """Return the id of an email as logs show it."""
    return id_text(IdKind.EMAIL, email)


def row_of(report: DmarcReport | TlsReport, id: int, now: datetime) -> ReportRow:
    """Return what is stored of a report."""
    kind = Kind.DMARC if isinstance(report, DmarcReport) else Kind.TLS
    return ReportRow(
        id,
        kind,
        _name(report.organization),
        _name(report.report_id),
        _name(report.domain),
        _time(report.begins),
        _time(report.ends),
        now,
        report.passed,
        report.failed,
        compressor()(orjson.dumps(asdict(report))),
    )


def _name(text: str) -> str:
    return text.replace("\0", "")[:MAX_NAME]


def _time(seconds: int) -> datetime:
    """Return a time that PostgreSQL takes, whatever a report says."""
    return datetime.fromtimestamp(max(0, min(seconds, 4_102_444_800)), UTC)
