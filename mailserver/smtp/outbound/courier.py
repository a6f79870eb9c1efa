"""Brings jobs to the hosts of one destination, over connections that are used again."""

import asyncio
import logging
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mailserver import tls
from mailserver.dns import LookupFailed, Resolver, TlsaRecord
from mailserver.feedback.tally import Tally
from mailserver.mail.originals import repair_line_ends
from mailserver.mime.headers import HeaderBlock
from mailserver.mime.recode import has_long_lines, is_lines, to_lines, to_seven_bit
from mailserver.model import NOBODY
from mailserver.queue.routes import SEALED_FOR, Route, TlsLevel
from mailserver.queue.rules import Outcome, Result
from mailserver.queue.work import Claimed, LeaseLost
from mailserver.sealing import Seal
from mailserver.smtp.outbound import dane
from mailserver.smtp.outbound.connection import (
    Connection,
    ConnectionFailed,
    MessageCut,
    NoTls,
    Timeouts,
    TlsFailed,
)
from mailserver.smtp.outbound.route import Hop, Router
from mailserver.smtp.outbound.sts import Policies
from mailserver.smtp.outbound.tls_results import TlsResults
from mailserver.smtp.protocol.client import (
    Envelope,
    RecipientLine,
    ServerReply,
    Unsendable,
    needs_smtputf8,
)
from mailserver.smtp.protocol.sts import Mode

log = logging.getLogger(__name__)

MAX_RECIPIENTS = 100  # of one transaction: what every server must take (RFC 5321 §4.5.3.1.8)
MAX_RECEIVED = 100  # Received fields, after which mail goes round in circles (RFC 5321 §6.3)


NOT_IN_POLICY = Outcome(
    Result.DEFERRED,
    "451 4.7.5 The MTA-STS policy of the domain allows none of its mail servers",
    "4.7.5",
)
CANNOT_CONVERT = Outcome(
    Result.FAILED,
    "550 5.6.3 The other server does not take mail of this form, and it cannot be converted",
    "5.6.3",
)


@dataclass(frozen=True, slots=True)
class Job:
    """One message for recipients of one destination."""

    claims: tuple[Claimed, ...]
    taken_at: datetime  # before they were claimed

    @property
    def first(self) -> Claimed:
        """Any of the recipients: the message is the same for all."""
        return self.claims[0]


@dataclass(frozen=True, slots=True)
class Letter:
    """A message, and what has to be known of it to send it."""

    content: bytes
    eight_bit: bool
    header_is_ascii: bool
    long_lines: bool
    hops: int  # Received fields

    @classmethod
    def of(cls, content: bytes) -> "Letter":
        """Look a message over."""
        block = HeaderBlock(content)
        received = sum(field.name.lower() == "received" for field in block)
        ascii_only = content.isascii()
        header_is_ascii = ascii_only or content[block.start : block.end].isascii()
        return cls(content, not ascii_only, header_is_ascii, has_long_lines(content), received)


class Unreachable(Exception):
    """No host of the destination could be used."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reply)
        self.outcome = outcome


class Contexts:
    """TLS contexts for connections to others."""

    def __init__(self, verified: ssl.SSLContext | None = None) -> None:
        """Take a context that verifies certificates, or make it when it is asked for."""
        self.any_certificate = tls.client_context(verify=False)
        self._verified = verified

    def verified(self) -> ssl.SSLContext:
        """Return what verifies certificates; to read all authorities takes 25 ms, and 1 MB."""
        if self._verified is None:
            self._verified = tls.client_context(verify=True)
        return self._verified


@dataclass(frozen=True, slots=True)
class Means:
    """What all couriers of a process share."""

    router: Router
    contexts: Contexts
    timeouts: Timeouts
    seal: Seal
    sign: Callable[[bytes], Awaitable[bytes]]
    policies: Policies
    resolver: Resolver
    hostname: str
    max_messages: int  # over one connection
    now: Callable[[], datetime]
    tally: Tally  # for TLS reports
    check: Callable[[datetime], None]  # raises LeaseLost when what was taken then may be another's


class Courier:
    """One lane of traffic to a destination: at most one connection at a time."""

    def __init__(self, means: Means, domain: str, route: Route) -> None:
        self._means = means
        self._domain = domain
        self._route = route
        self._connection: Connection | None = None
        self.cut = False  # the last delivery ended with its connection
        self._signed: dict[bool, Letter] = {}  # the message under way, in 7 bits or as it is
        self._results = TlsResults(means.tally, domain)

    @property
    def connected(self) -> bool:
        """Whether a connection is open that can be used again."""
        connection = self._connection
        return connection is not None and not connection.lost

    async def close(self) -> None:
        """End the connection politely."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.quit()

    def abort(self) -> None:
        """End the connection at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    async def deliver(self, job: Job, content: bytes) -> list[Outcome]:
        """Try to deliver; return an outcome for each recipient, in order.

        Unreachable, NoRoute or LeaseLost when it did not come to the message at all.
        """
        if not is_lines(content):
            # another server may drop a NUL or take a lone LF for a line end, and see two messages
            lines = await asyncio.to_thread(_as_lines, content)
            if lines is None:
                return [CANNOT_CONVERT for _ in job.claims]
            content = lines
        letter = Letter.of(content)
        self._signed = {}
        if letter.hops > MAX_RECEIVED:
            looped = Outcome(Result.FAILED, "554 5.4.6 The message goes round in circles", "5.4.6")
            return [looped for _ in job.claims]
        outcomes: dict[str, Outcome] = {}
        self.cut = False
        failure: ConnectionFailed | None = None
        host = ""
        async for connection in self._connections():
            host = connection.host
            try:
                await self._send_all(connection, job, letter, outcomes)
                return [outcomes[claimed.recipient] for claimed in job.claims]
            except ConnectionFailed as error:
                self.abort()
                failure = error
                if isinstance(error, MessageCut):
                    break  # the server may have it: another host now would double it for sure
            except LeaseLost as error:
                self.abort()
                if not outcomes:
                    raise
                failure = ConnectionFailed(str(error))
                break
        assert failure is not None
        self.cut = True
        lost = _connection_outcome(failure, host)
        return [outcomes.get(claimed.recipient, lost) for claimed in job.claims]

    async def _send_all(
        self, connection: Connection, job: Job, letter: Letter, outcomes: dict[str, Outcome]
    ) -> None:
        """Send to all recipients without an outcome, in as many transactions as it takes."""
        ready = await self._ready(
            letter,
            seven_bit="8BITMIME" not in connection.extensions,
            passing=job.first.account_id == NOBODY,
        )
        if ready is None:
            outcomes.update({each.recipient: CANNOT_CONVERT for each in job.claims})
            return
        most = min(connection.extensions.limit("RCPTMAX") or MAX_RECIPIENTS, MAX_RECIPIENTS)
        while left := [each for each in job.claims if each.recipient not in outcomes]:
            part = left[:most]
            try:
                envelope = _envelope(part, ready, self._means.now())
                replies = await connection.send(
                    envelope, ready.content, lambda: self._means.check(job.taken_at)
                )
            except Unsendable as error:
                if len(part) > 1:  # perhaps only one of them needs what the server lacks
                    most = 1
                    continue
                refused = Outcome(Result.FAILED, f"550 {error.status} {error.text}", error.status)
                outcomes.update({each.recipient: refused for each in part})
                continue
            some = any(reply.positive for reply in replies)
            for claimed, reply in zip(part, replies, strict=True):
                if some and _too_many(reply):
                    continue  # the next transaction has room for it (RFC 5321 §4.5.3.1.10)
                outcomes[claimed.recipient] = _outcome(reply, connection)
            if some:
                most = max(sum(each.recipient in outcomes for each in part), 1)

    async def _ready(self, letter: Letter, *, seven_bit: bool, passing: bool) -> Letter | None:
        """Return the message as it is sent: in 7 bits where that is needed, then signed.

        What only passes through is not signed: whoever wrote it did not show who it is.
        """
        convert = (seven_bit and letter.eight_bit) or letter.long_lines
        ready = self._signed.get(convert)
        if ready is None:
            content: bytes | None = letter.content
            if convert:
                content = await asyncio.to_thread(to_seven_bit, letter.content)
                if content is None and not (seven_bit and letter.eight_bit):
                    content = letter.content  # lines too long, but most servers take them
            if content is None:
                return None
            if not passing:
                content = await self._means.sign(content)
            ready = self._signed[convert] = Letter.of(content)
        return ready

    async def _connections(self) -> AsyncIterator[Connection]:
        """Give the connection that is open, then one to each address until the caller is content.

        Raises Unreachable when there was none to give.
        """
        used = self._connection
        if used is not None and not used.lost and used.messages < self._most(used):
            yield used
        elif used is not None:
            await self.close()
        failure: Outcome | None = None
        given = False
        hops, level = await self._hops()
        for hop in hops:
            try:
                self._connection = await self._connect(hop, level)
            except ConnectionFailed as error:
                failure = _connection_outcome(error, hop.host)
                log.info(
                    "no connection",
                    extra={"host": hop.host, "address": hop.address, "reason": error.text},
                )
                continue
            given = True
            yield self._connection
        if not given and failure is not None:
            raise Unreachable(failure)

    def _most(self, connection: Connection) -> int:
        """Return how many messages a connection may carry (RFC 9422 §4.1)."""
        theirs = connection.extensions.limit("MAILMAX")
        return min(theirs or self._means.max_messages, self._means.max_messages)

    async def _hops(self) -> tuple[list[Hop], TlsLevel]:
        """Return the hosts to try and what is asked of TLS, by the policy of the domain."""
        route = self._route
        hops = await self._means.router.hops(self._domain, route)
        if route.smarthost is not None or route.tls is not TlsLevel.MAY:
            return hops, route.tls
        policy = await self._means.policies.find(self._domain)
        self._results.counting = not self._domain.startswith("[")
        self._results.policy = None if policy is None or policy.mode is Mode.NONE else policy
        if policy is None or policy.mode is Mode.NONE:
            return hops, route.tls
        allowed = [hop for hop in hops if policy.allows(hop.host)]
        if policy.mode is Mode.TESTING:
            if len(allowed) < len(hops):
                log.info("MTA-STS: hosts do not fit the policy", extra={"domain": self._domain})
            return hops, route.tls
        if not allowed:
            self._results.outside(hops[0])
            raise Unreachable(NOT_IN_POLICY)
        return allowed, TlsLevel.VERIFY

    async def _connect(self, hop: Hop, level: TlsLevel) -> Connection:
        if hop.secure and self._route.tls is TlsLevel.MAY:
            try:
                base, records = await self._tlsa(hop)
            except LookupFailed:
                # who can suppress an answer must not be able to switch the check off (§2.2.1)
                self._results.unsigned(hop)
                raise ConnectionFailed("DNS gave no answer for its TLSA records") from None
            if records:
                opening = self._with_dane(replace(hop, host=base), dane.usable(records))
                return await self._results.counted(opening, hop, records)
        first, *others = _levels(level, testing=self._results.testing)
        opening = self._results.counted(self._opened(hop, first), hop)
        for milder in others:
            try:
                return await opening
            except (TlsFailed, NoTls) as error:
                # opportunistic: what cannot be encrypted goes in the clear, as it would to a server
                # that never offered TLS (RFC 7435 §3)
                log.info("TLS failed", extra={"host": hop.host, "reason": error.text})
                opening = self._opened(hop, milder)
        return await opening

    async def _tlsa(self, hop: Hop) -> tuple[str, Sequence[TlsaRecord]]:
        """Return the TLSA records of a host and whose they are.

        Those where CNAME records lead come before those of the host itself (RFC 7672 §2.2.3).
        """
        for base in dict.fromkeys((hop.canonical or hop.host, hop.host)):
            records = await self._means.resolver.tlsa(base, hop.port)
            if records:
                return base, records
        return hop.host, ()

    async def _with_dane(self, hop: Hop, records: Sequence[TlsaRecord]) -> Connection:
        """Connect to a host with TLSA records: encrypted always, checked by those of use."""
        connection = await self._opened(hop, TlsLevel.ENCRYPT)
        chain = connection.chain()
        if not records or dane.fits_leaf(chain, records):
            return connection
        connection.abort()
        authority = dane.anchor(chain, records)
        if authority is None:
            raise TlsFailed("the certificate fits no TLSA record")
        return await self._opened(hop, TlsLevel.VERIFY, tls.anchor_context(authority))

    async def _opened(
        self, hop: Hop, level: TlsLevel, verifying: ssl.SSLContext | None = None
    ) -> Connection:
        means = self._means
        connection = await Connection.open(hop.host, hop.address, hop.port, means.timeouts, None)
        try:
            await connection.hello(means.hostname)
            if level is not TlsLevel.NONE and "STARTTLS" in connection.extensions:
                verify = level is TlsLevel.VERIFY
                contexts = means.contexts
                context = contexts.verified() if verify else contexts.any_certificate
                await connection.start_tls(verifying or context, hop.host)
                await connection.hello(means.hostname)
            elif level in (TlsLevel.ENCRYPT, TlsLevel.VERIFY):
                raise NoTls("the server offers no TLS, which is required here")
            smarthost = self._route.smarthost
            if smarthost is not None and smarthost.login is not None:
                sealed = smarthost.password or b""
                password = means.seal.open(sealed, SEALED_FOR).decode() if sealed else ""
                await connection.login(smarthost.login, password)
        except BaseException:
            connection.abort()
            raise
        return connection


def _levels(level: TlsLevel, *, testing: bool) -> list[TlsLevel]:
    """Return what is asked of TLS, and what is asked instead where that fails.

    A policy that is tested is tried in earnest, so that a report can say what it would prevent.
    """
    if level is not TlsLevel.MAY:
        return [level]
    return [*([TlsLevel.VERIFY] if testing else []), TlsLevel.MAY, TlsLevel.NONE]


def _as_lines(content: bytes) -> bytes | None:
    """Return a message as lines: binary parts encoded, and the line ends of text made whole."""
    found = to_lines(content) if b"\0" in content else None
    return found or to_lines(repair_line_ends(content))


def _envelope(claims: Sequence[Claimed], letter: Letter, now: datetime) -> Envelope:
    first = claims[0]
    left = None if first.deliver_by is None else first.deliver_by - now
    addresses = [each.recipient for each in claims]
    return Envelope(
        sender=first.sender,
        recipients=tuple(RecipientLine(each.recipient, each.notify, each.orcpt) for each in claims),
        size=len(letter.content),
        eight_bit=letter.eight_bit,
        smtputf8=needs_smtputf8(first.sender, addresses, letter.header_is_ascii),
        envid=first.envid,
        ret=first.ret,
        require_tls=first.require_tls,
        by=None if left is None else math.floor(left.total_seconds()),
        by_mode=first.by_mode or "",
        priority=first.priority,
    )


def _too_many(reply: ServerReply) -> bool:
    """Tell whether a recipient was refused for the number of those before it."""
    return reply.code in (452, 552) and reply.status in ("4.5.3", "5.5.3")


def _outcome(reply: ServerReply, connection: Connection) -> Outcome:
    result = Result.DEFERRED
    if reply.positive:
        result = Result.RELAYED
    elif reply.permanent and not _too_many(reply):
        result = Result.FAILED
    remote = f"{connection.host} [{connection.address}]"
    return Outcome(result, str(reply), reply.status, remote, "DSN" in connection.extensions)


def _connection_outcome(error: ConnectionFailed, host: str) -> Outcome:
    """Return the outcome of a conversation that failed: always for later."""
    if error.reply is not None and not error.reply.permanent:
        return Outcome(Result.DEFERRED, str(error.reply), error.reply.status, host)
    status = "4.7.5" if isinstance(error, TlsFailed) else "4.4.2"
    return Outcome(Result.DEFERRED, f"451 {status} {host}: {error.text}", status, host)
