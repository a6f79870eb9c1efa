"""Sending a message, the same for SMTP submission and JMAP: to users here and to anybody else."""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from mailserver.address import parse_address, path_text
from mailserver.errors import Invalid, MailError
from mailserver.mail import accounts, delivery, identities, recipients
from mailserver.mail.delivery import Accepted, Companion, Target
from mailserver.mail.originals import Flaw, Original, Unsendable, return_path
from mailserver.model import Account, AccountId, Identity
from mailserver.queue.enqueue import Outgoing, OutgoingRecipient
from mailserver.queue.rules import DeliverBy
from mailserver.storage import correspondents

if TYPE_CHECKING:
    from mailserver.mail.context import Mail


log = logging.getLogger(__name__)

MAX_ACQUAINTANCES = 50  # recipients of one message that are noted as known
MAX_PRIORITY = 4  # "urgent" of MIXER; higher ones are not for users (RFC 6710 §9.2)


@dataclass(frozen=True, slots=True)
class Recipient:
    """An accepted recipient: accounts here, or none for another server's user."""

    text: str  # the forward-path as given
    domain: str  # normal form
    accounts: tuple[Account, ...]
    notify: str | None = None  # RFC 3461 §4.1
    orcpt: str | None = None  # RFC 3461 §4.2
    is_alias: bool = False  # that leads to another server too: the queue delivers to it

    @property
    def reports_success(self) -> bool:
        """Whether the sender wants to hear of the delivery."""
        return self.notify is not None and "SUCCESS" in self.notify.split(",")


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sends, to whom, and how."""

    account_id: AccountId  # whose message it is
    sender: str  # the reverse-path; empty for <>
    recipients: tuple[Recipient, ...]
    session: str
    smtputf8: bool = False
    body: str = "7BIT"
    envid: str | None = None  # RFC 3461 §4.4
    ret: str | None = None  # RFC 3461 §4.3
    require_tls: bool = False  # RFC 8689
    release_at: datetime | None = None  # nobody gets it before (RFC 4865)
    deliver_by: DeliverBy | None = None  # RFC 2852
    priority: int = 0  # -9 to 9 (RFC 6710)

    @property
    def queued(self) -> tuple[Recipient, ...]:
        """The recipients that wait in the queue: those elsewhere, and all of mail that is held.

        A recipient here is queued too when its delivery is to be reported: the queue does that.
        """
        if self.release_at is not None:
            return self.recipients
        return tuple(each for each in self.recipients if not each.accounts or each.reports_success)

    @property
    def local(self) -> tuple[Recipient, ...]:
        """The recipients that get the message at once."""
        if self.release_at is not None:
            return ()
        return tuple(each for each in self.recipients if each.accounts and not each.reports_success)


def released(
    mail: "Mail", hold_for: timedelta | None, hold_until: datetime | None
) -> datetime | None:
    """Return when a message is released; None is at once (RFC 4865 §4); Unsendable."""
    now = mail.now()
    if hold_for is not None:
        if hold_until is not None:
            raise Unsendable(Flaw.HELD_TWICE)
        hold_until = now + hold_for
    if hold_until is None or hold_until <= now:
        return None
    if hold_until > now + timedelta(seconds=mail.config.smtp.max_delay):
        raise Unsendable(Flaw.HELD_TOO_LONG)
    return hold_until


def in_time(
    mail: "Mail", seconds: int, *, returns: bool, traced: bool, release_at: datetime | None
) -> DeliverBy:
    """Return until when a message has to be delivered (RFC 2852 §4); Unsendable."""
    by = DeliverBy(mail.now() + timedelta(seconds=seconds), returns, traced)
    if returns and release_at is not None and by.at <= release_at:
        raise Unsendable(Flaw.BACK_BEFORE_RELEASE)
    return by


async def checked(mail: "Mail", account: AccountId, content: bytes) -> Original:
    """Return the message when it can be sent, and its authors are the account's addresses."""
    original = Original(content)
    for author in original.authors():
        if not await recipients.may_send_as(mail, account, author):
            raise Unsendable(Flaw.AUTHOR_NOT_YOURS)
    return original


class Brake(Protocol):
    """Says how much an account may send."""

    async def admit(self, account: AccountId, login: str, recipients: Sequence[str]) -> str:
        """Return what keeps an account from sending: "held", "too fast", or nothing."""
        ...


_REFUSALS = {"held": Flaw.ACCOUNT_HELD, "too fast": Flaw.TOO_FAST}


async def admit(mail: "Mail", envelope: Envelope) -> None:
    """Count a message that a user wants to send; Unsendable when it is too much."""
    if mail.brake is None:
        return
    account = await accounts.get(mail, envelope.account_id)
    paths = [recipient.text for recipient in envelope.recipients]
    refusal = await mail.brake.admit(account.id, account.login, paths)
    if refusal:
        raise Unsendable(_REFUSALS[refusal])


async def send(
    mail: "Mail",
    original: Original,
    envelope: Envelope,
    trace: bytes,
    *,
    message_id: str,
    companion: Companion | None = None,
) -> Accepted:
    """Deliver to users here and queue the rest, in one commit.

    `message_id` is given to a message that has none; `trace` is put on top of the header. Raises
    what `delivery.accept` raises.
    """
    if not envelope.recipients:
        raise Invalid("a message needs a recipient")
    now = mail.now()
    outgoing = _outgoing(envelope, mail.tracing.parent())
    # Return-Path belongs to the final delivery (RFC 5321 §4.4): what leaves here has none.
    top = return_path(envelope.sender) if outgoing is None else b""
    accepted = await delivery.accept(
        mail,
        b"".join((top, trace, original.finished(date=now, message_id=message_id))),
        targets(envelope.local),
        received_at=now,
        outgoing=outgoing,
        sender=envelope.sender,
        companion=companion,
    )
    await _acquaint(mail, envelope)
    return accepted


async def _acquaint(mail: "Mail", envelope: Envelope) -> None:
    """Note to whom an account writes; the message is sent already, whatever comes of it.

    What answers by itself has the null sender, and knows nobody.
    """
    if not envelope.sender:
        return
    addresses = []
    for each in envelope.recipients[:MAX_ACQUAINTANCES]:
        with contextlib.suppress(Invalid):
            addresses.append(str(parse_address(each.text)))
    try:
        await correspondents.add(mail.database, envelope.account_id, addresses, mail.now())
    except MailError as error:
        log.warning("acquaintances not noted", extra={"error": str(error)})


def targets(found: Sequence[Recipient]) -> list[Target]:
    """Return each account here once."""
    once = {account.id: Target(account.id) for each in found for account in each.accounts}
    return list(once.values())


def _outgoing(envelope: Envelope, traceparent: str | None) -> Outgoing | None:
    """Return what the queue takes; None when that is nothing."""
    leaving = tuple(
        OutgoingRecipient(
            each.text, each.domain, each.notify, each.orcpt, bool(each.accounts) or each.is_alias
        )
        for each in envelope.queued
    )
    if not leaving:
        return None
    return Outgoing(
        envelope.account_id,
        envelope.sender,
        leaving,
        envelope.session,
        smtputf8=envelope.smtputf8,
        body=envelope.body,
        envid=envelope.envid,
        ret=envelope.ret,
        require_tls=envelope.require_tls,
        release_at=envelope.release_at,
        deliver_by=envelope.deliver_by,
        priority=envelope.priority,
        traceparent=traceparent,
    )


async def reverse_path(
    mail: "Mail", account: AccountId, identity: Identity, original: Original, given: str | None
) -> str:
    """Return the reverse-path: as given, else made from the message (RFC 8621 §7).

    Unsendable when it does not belong to the account; the null one belongs to all.
    """
    text = given if given is not None else _made(mail, identity, original)
    if not text:
        return ""
    try:
        address = parse_address(text)
    except Invalid:
        raise Unsendable(Flaw.SENDER_NOT_YOURS) from None
    if not await recipients.may_send_as(mail, account, address):
        raise Unsendable(Flaw.SENDER_NOT_YOURS)
    return path_text(text, address)


def _made(mail: "Mail", identity: Identity, original: Original) -> str:
    text = original.sender()
    separator = mail.config.smtp.subaddress_separator
    if identities.covers(identity, parse_address(text), separator):
        return text
    if not identity.email.startswith(identities.ANYBODY):
        return identity.email
    # of an identity that is a whole domain, the author who is there
    return next(
        (str(each) for each in original.authors() if identities.covers(identity, each, separator)),
        text,
    )


async def forward_paths(mail: "Mail", wanted: Sequence[Recipient]) -> tuple[Recipient, ...]:
    """Return recipients, of which only the text and the wishes are known, with where they are.

    Unsendable when there are none, too many, or such that cannot be; all of those are named. Who
    has no room waits in the queue.
    """
    if not wanted:
        raise Unsendable(Flaw.NO_RECIPIENTS)
    if len(wanted) > mail.config.smtp.max_recipients:
        raise Unsendable(Flaw.TOO_MANY_RECIPIENTS)
    found, bad = [], []
    for each in wanted:
        try:
            address = parse_address(each.text)
            where = await recipients.resolve(mail, address)
        except Invalid:
            bad.append(each.text)
            continue
        if where.local and not where.is_known:
            bad.append(each.text)
        has_room = all(
            account.quota_limit is None or account.quota_used < account.quota_limit
            for account in where.accounts
        )
        found.append(
            replace(
                each,
                text=path_text(each.text, address),
                domain=address.domain,
                accounts=where.accounts if has_room and not where.forwards else (),
                is_alias=bool(where.forwards),
            )
        )
    if bad:
        raise Unsendable(Flaw.BAD_RECIPIENTS, bad)
    return tuple({each.text: each for each in found}.values())
