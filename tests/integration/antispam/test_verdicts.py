"""What a verdict does: INBOX, Junk, a refusal in the session."""

import asyncio
import smtplib
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from mailserver.antispam.checks import Checks
from mailserver.antispam.evidence import Finding, Inquiry, Symbol
from mailserver.antispam.pipeline import Pipeline
from mailserver.config import Antispam
from mailserver.mail import accounts, content, listings, mailboxes, messages, vacation
from mailserver.mail.context import Mail
from mailserver.model import Account, AccountId, EmailId, Role, Vacation
from tests.integration.antispam.conftest import Serve

MESSAGE = b"From: carol@example.org\r\nSubject: hello\r\n\r\nbody\r\n"


@dataclass(frozen=True)
class Says:
    """A check that gives a score to everybody, or for one account."""

    score: float
    account: AccountId | None = None
    name: str = "content"

    async def judge(self, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        return Finding(self.name, "done", symbols=(Symbol("SAYS", self.score),))

    async def judge_for(
        self, account: AccountId, inquiry: Inquiry, findings: Sequence[Finding]
    ) -> Finding:
        score = self.score if account == self.account else 0
        return Finding("personal", "done", symbols=(Symbol("FOR_ME", score),))


def pipeline(mail: Mail, checks: Checks) -> Pipeline:
    return Pipeline(Antispam(), checks, mail.metrics, asyncio.get_running_loop().time)


async def send(port: int, *recipients: str, message: bytes = MESSAGE) -> None:
    def work() -> None:
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.sendmail("carol@example.org", recipients, message)

    await asyncio.to_thread(work)


async def found(mail: Mail, account: Account, role: Role) -> list[tuple[bytes, dict[str, bool]]]:
    """Return what is in the mailbox with a role: each message and its keywords."""
    mailbox = next(each for each in await mailboxes.list_all(mail, account.id) if each.role is role)
    listing = await listings.open_listing(mail, account.id, mailbox.id)
    ids = [EmailId(email_id) for email_id in listing.email_ids]
    emails = await messages.emails(mail, account.id, ids)
    return [
        (
            await content.content(mail, account.id, emails[email_id].blob_id),
            listing.flags_of(at).jmap(),
        )
        for at, email_id in enumerate(ids)
    ]


async def test_spam_with_a_score_of_35_never_reaches_the_inbox(
    mail: Mail, alice: Account, serve: Serve
) -> None:
    port = await serve(pipeline(mail, Checks(judges=[Says(35)])))
    with pytest.raises(smtplib.SMTPDataError) as refusal:
        await send(port, "alice@example.test")
    assert refusal.value.args == (550, b"5.7.1 looks like spam, score 35.0")
    assert await found(mail, alice, Role.INBOX) == []
    assert await found(mail, alice, Role.JUNK) == []


async def test_junk_is_in_the_mailbox_with_that_role_and_marked(
    mail: Mail, alice: Account, serve: Serve
) -> None:
    port = await serve(pipeline(mail, Checks(judges=[Says(7)])))
    await send(port, "alice@example.test", message=b"X-Spam-Flag: NO\r\n" + MESSAGE)
    assert await found(mail, alice, Role.INBOX) == []
    [(raw, keywords)] = await found(mail, alice, Role.JUNK)
    assert keywords == {"$junk": True}
    assert raw.count(b"X-Spam-Flag:") == 1
    assert b"\r\nX-Spam-Flag: YES\r\n" in raw
    assert b"score=7.0" in raw


async def test_a_missing_junk_mailbox_is_made(mail: Mail, alice: Account, serve: Serve) -> None:
    junk = await mailboxes.by_path(mail, alice.id, "Junk")
    await mailboxes.delete(mail, alice.id, junk.id)
    port = await serve(pipeline(mail, Checks(judges=[Says(7)])))
    await send(port, "alice@example.test")
    await send(port, "alice@example.test")
    assert len(await found(mail, alice, Role.JUNK)) == 2


async def test_one_reply_for_recipients_who_judge_differently(
    mail: Mail, alice: Account, bob: Account, serve: Serve
) -> None:
    port = await serve(pipeline(mail, Checks(personal={"personal": Says(40, bob.id)})))
    await send(port, "alice@example.test", "bob@example.test")
    assert len(await found(mail, alice, Role.INBOX)) == 1
    assert len(await found(mail, bob, Role.JUNK)) == 1
    with pytest.raises(smtplib.SMTPDataError):
        await send(port, "bob@example.test")


async def test_junk_gets_no_vacation_response(mail: Mail, alice: Account, serve: Serve) -> None:
    async with mail.change(alice.id) as change:
        await vacation.put(change, Vacation(enabled=True))
    port = await serve(pipeline(mail, Checks(judges=[Says(7)])))
    await send(port, "alice@example.test")
    assert await mail.database.fetchval("SELECT count(*) FROM delivery_task") == 0


async def test_a_thousand_recipients_get_one_verdict(mail: Mail, serve: Serve) -> None:
    await accounts.create(mail, "carol@example.test", password="a good one")
    await accounts.add_alias(mail, "@example.test", "carol@example.test")
    port = await serve(pipeline(mail, Checks(judges=[Says(7)])))
    await send(port, *(f"user{n}@example.test" for n in range(1000)))
    carol = await accounts.find(mail, "carol@example.test")
    assert len(await found(mail, carol, Role.JUNK)) == 1
