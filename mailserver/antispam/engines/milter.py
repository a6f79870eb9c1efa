"""Milters: filters that mail servers ask by the protocol of Sendmail.

A filter is asked when the whole message is here, with all that it would have been told on the way.
One that wants to discard a message has it filed as junk: nothing that was accepted is lost.
"""

import contextlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from mailserver.antispam.edits import Edit, ReplaceBody
from mailserver.antispam.engines import milter_protocol as protocol
from mailserver.antispam.engines.engine import Engine
from mailserver.antispam.engines.link import EngineFailed, Link, clean, open_link, shown
from mailserver.antispam.engines.milter_protocol import Agreed, Steps
from mailserver.antispam.evidence import Finding, Inquiry
from mailserver.antispam.verdict import Action
from mailserver.mime import HeaderBlock

MAX_CHANGES = 1000  # of one message
MAX_BODY = 2  # times the largest message, of a body that it is replaced by
MAX_ANSWERS = 100_000  # packets for one message

_WANTED = {
    protocol.REJECT: (Action.REJECT, "refused"),
    protocol.TEMPFAIL: (Action.DEFER, "not now"),
    protocol.DISCARD: (Action.JUNK, "to be discarded; kept as junk"),
    protocol.ACCEPT: (None, "accepted"),
}


class _Decided(Exception):
    """The filter needs to see no more of the message."""

    def __init__(self, action: Action | None, reason: str) -> None:
        super().__init__(reason)
        self.action = action
        self.reason = reason


class Milter(Engine):
    """Plays the mail server for a filter."""

    async def ask(self, address: str, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        """Tell the filter of a message, over a connection of its own.

        QUIT_NC would keep it for the next client, but opendkim was seen to fall silent then.
        """
        link = await open_link(address)
        try:
            dialogue = _Dialogue(link, await _negotiate(link), self.settings.max_size * MAX_BODY)
            await dialogue.run(inquiry, self.hostname)
        except BaseException:
            link.abort()
            raise
        await _quit(link)
        return dialogue.finding(self.name)

    async def probe(self, address: str) -> None:
        """Negotiate: nothing but a milter answers that."""
        link = await open_link(address)
        try:
            await _negotiate(link)
        except BaseException:
            link.abort()
            raise
        await _quit(link)


async def _quit(link: Link) -> None:
    """End a connection; a filter that has said all may have ended it before."""
    try:
        with contextlib.suppress(OSError):
            await link.send(protocol.packet(protocol.QUIT))
        link.writer.close()
    except BaseException:
        link.abort()
        raise


async def _negotiate(link: Link) -> Agreed:
    await link.send(protocol.offer())
    command, data = await _read(link)
    if command != protocol.OPTNEG:
        raise ValueError(shown(command + data))
    return protocol.agreed(data)


async def _read(link: Link) -> tuple[bytes, bytes]:
    """Read a packet."""
    link.acknowledge()  # 45 ms to 6 with opendkim, whose library writes each packet by itself
    head = await link.reader.readexactly(4)
    (length,) = struct.unpack(">I", head)
    if not 1 <= length <= protocol.MAX_PACKET:
        raise ValueError(shown(head + await link.reader.read(100)))
    body = await link.reader.readexactly(length)
    return body[:1], body[1:]


@dataclass(slots=True)
class _Dialogue:
    """What is said about one message."""

    link: Link
    agreed: Agreed
    max_body: int
    action: Action | None = None
    reason: str = ""
    edits: list[Edit] = field(default_factory=list)
    body: bytearray | None = None
    quarantined: str | None = None

    async def run(self, inquiry: Inquiry, hostname: str) -> None:
        """Tell all of the message, until the filter has decided."""
        try:
            await self._envelope(inquiry, hostname)
            await self._message(inquiry.raw)
        except _Decided as decided:
            self.action, self.reason = decided.action, decided.reason
            if decided.action is not None:  # what it changed before is of no use
                self.edits.clear()
                self.body = None

    def finding(self, name: str) -> Finding:
        """Return what came of it."""
        edits = tuple(self.edits)
        if self.body is not None:
            edits += (ReplaceBody(bytes(self.body)),)
        if self.action is None and self.quarantined is not None:
            return Finding(name, "quarantine", self.quarantined, demand=Action.JUNK, edits=edits)
        if self.action is None:
            return Finding(name, "pass", self.reason, edits=edits)
        return Finding(name, self.action.value, self.reason, demand=self.action)

    async def _envelope(self, inquiry: Inquiry, hostname: str) -> None:
        client = inquiry.client
        known = {"j": hostname, "{daemon_name}": hostname, "v": "mailserver"}
        known["_"] = f"{client.name or 'unknown'} [{client.ip}]"
        await self._step(protocol.CONNECT, protocol.connect(client.name, client.ip), known)
        version, _, cipher = client.tls.partition(" ")
        secure = {"{tls_version}": version, "{cipher}": cipher}
        await self._step(protocol.HELO, _told(protocol.HELO, client.helo), secure)
        sender = str(inquiry.sender or "")
        about = {"i": inquiry.session, "{mail_addr}": sender}
        await self._step(protocol.MAIL, _told(protocol.MAIL, f"<{sender}>"), about)
        refused: list[_Decided] = []
        for recipient in map(str, inquiry.recipients):
            try:
                told = _told(protocol.RCPT, f"<{recipient}>")
                await self._step(protocol.RCPT, told, {"{rcpt_addr}": recipient})
            except _Decided as decided:
                if decided.action not in (Action.REJECT, Action.DEFER):
                    raise
                # one recipient less for it; the message itself is refused for all or for none
                refused.append(decided)
        if refused and len(refused) == len(inquiry.recipients):
            raise refused[0]
        await self._step(protocol.DATA, protocol.packet(protocol.DATA), {"i": inquiry.session})

    async def _message(self, raw: bytes) -> None:
        header = HeaderBlock(raw)
        leading_space = bool(self.agreed.steps & Steps.HDR_LEADSPC)
        for name, value in header.pairs():
            told = protocol.header(name, value, leading_space=leading_space)
            await self._step(protocol.HEADER, told)
        await self._step(protocol.EOH, protocol.packet(protocol.EOH))
        for at in range(header.body_start, len(raw), protocol.CHUNK):
            chunk = raw[at : at + protocol.CHUNK]
            if await self._step(protocol.BODY, protocol.packet(protocol.BODY, chunk)):
                break  # it has seen enough
        await self._step(protocol.BODYEOB, protocol.packet(protocol.BODYEOB))

    async def _step(
        self, command: bytes, told: bytes, macros: dict[str, str] | None = None
    ) -> bool:
        """Make a step; return whether the filter wants no more of this kind."""
        steps = self.agreed.steps
        if command == protocol.DATA and self.agreed.version < 4:
            return False
        if steps & protocol.SKIPPED[command]:
            return False
        if macros:
            told = protocol.macros(command, macros) + told
        await self.link.send(told)
        if steps & protocol.UNANSWERED[command]:
            return False
        for _ in range(MAX_ANSWERS):
            answer, data = await _read(self.link)
            if answer == protocol.PROGRESS:
                continue
            if command == protocol.BODYEOB and self._changed(answer, data):
                continue
            return self._answered(answer, data)
        raise ValueError("there is no end to its answers")

    def _changed(self, answer: bytes, data: bytes) -> bool:
        """Take a change of the message; False when the answer is none."""
        if answer == protocol.QUARANTINE:
            self.quarantined = clean(data.rstrip(b"\0").decode("utf-8", "replace"))
        elif answer == protocol.REPLBODY:
            self.body = self.body if self.body is not None else bytearray()
            self.body += data
            if len(self.body) > self.max_body:
                raise ValueError("the new body is too long")
        elif answer in protocol.CHANGES:
            self.edits.append(protocol.change(answer, data))
            if len(self.edits) > MAX_CHANGES:
                raise ValueError("too many changes")
        else:
            return False
        return True

    def _answered(self, answer: bytes, data: bytes) -> bool:
        """Take the end of an answer."""
        if answer == protocol.CONTINUE:
            return False
        if answer == protocol.SKIP:
            return True
        if answer == protocol.REPLYCODE:
            for_good, line = protocol.replied(data)
            raise _Decided(Action.REJECT if for_good else Action.DEFER, clean(line))
        if answer in _WANTED:
            raise _Decided(*_WANTED[answer])
        if answer in (protocol.CONN_FAIL, protocol.SHUTDOWN):
            raise EngineFailed("the filter gave up")
        raise ValueError(shown(answer + data))


def _told(command: bytes, value: str) -> bytes:
    return protocol.packet(command, protocol.text(value))
