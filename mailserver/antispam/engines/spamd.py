"""SpamAssassin's spamd: the SPAMC protocol 1.5, one connection a message."""

import re
from collections.abc import Sequence
from email.utils import format_datetime

from mailserver.antispam.engines.engine import Engine
from mailserver.antispam.engines.link import EngineFailed, Link, clean, open_link, shown
from mailserver.antispam.evidence import Finding, Inquiry, Symbol
from mailserver.antispam.verdict import Action

MAX_REPORT = 256 * 1024  # octets
MAX_SYMBOLS = 500
EXACT = 0.05  # half a unit of the last digit in a report

_STATUS = re.compile(rb"SPAMD/[0-9.]{1,8} ([0-9]{1,4}) ([!-~]{1,40})[ \r\n]")
_VERDICT = re.compile(
    rb"^Spam:\s*(?:True|False|Yes|No)\s*;\s*(-?[0-9]{1,6}(?:\.[0-9]{1,3})?)"
    rb"\s*/\s*(-?[0-9]{1,6}(?:\.[0-9]{1,3})?)\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_RULE = re.compile(r"^[* ]{0,4}(-?[0-9]{1,4}(?:\.[0-9]{1,3})?) ([A-Z][A-Z0-9_]{0,99})(?: +(.*))?$")


def trace(inquiry: Inquiry, hostname: str) -> bytes:
    """Return the fields by which SpamAssassin learns who sent a message."""
    client = inquiry.client
    date = format_datetime(inquiry.received_at)
    helo, name = clean(client.helo or client.ip), client.name or "unknown"
    lines = (
        f"X-Envelope-From: <{inquiry.sender or ''}>",
        f"Received: from {helo} ({name} [{client.ip}])",
        f"\tby {hostname} with ESMTP id {inquiry.session}; {date}",
    )
    return "".join(f"{line}\r\n" for line in lines).encode()


class Spamd(Engine):
    """Asks spamd for a report."""

    async def ask(self, address: str, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        """Send a message, read the score and the rules that it met."""
        message = trace(inquiry, self.hostname) + inquiry.raw
        head = f"REPORT SPAMC/1.5\r\nContent-length: {len(message)}\r\n"
        if self.settings.user:
            head += f"User: {self.settings.user}\r\n"
        header, report = await self._talk(address, head.encode() + b"\r\n" + message)
        found = _VERDICT.search(header)
        if found is None:
            raise ValueError("no Spam field")
        score, threshold = float(found[1]), float(found[2])
        symbols = self._symbols(report.decode("utf-8", "replace"), score)
        spam = score >= threshold
        return Finding(
            self.name,
            "spam" if spam else "ham",
            f"score {score:g} of {threshold:g}",
            symbols,
            demand=Action.JUNK if spam and self.settings.obey else None,
        )

    async def probe(self, address: str) -> None:
        """Send PING, which spamd answers with PONG."""
        link = await open_link(address)
        try:
            await link.send(b"PING SPAMC/1.5\r\n\r\n")
            await self._status(address, link, b"PONG")
        finally:
            link.abort()

    async def _talk(self, address: str, request: bytes) -> tuple[bytes, bytes]:
        """Send a request; return the header and the body of the answer."""
        link = await open_link(address)
        try:
            await link.send(request)
            link.writer.write_eof()  # it reads lines: one without an end has it waiting
            await self._status(address, link, b"EX_OK")
            header = await link.reader.readuntil(b"\r\n\r\n")
            body = bytearray()
            while part := await link.reader.read(MAX_REPORT + 1 - len(body)):
                body += part
                if len(body) > MAX_REPORT:
                    raise ValueError("the report is too long")
        finally:
            link.abort()
        length = re.search(rb"^Content-length:\s*([0-9]{1,9})\s*$", header, re.I | re.M)
        if length is None or int(length[1]) > len(body):
            raise EOFError
        return header, bytes(body)

    async def _status(self, address: str, link: Link, wanted: bytes) -> None:
        """Read the first line of an answer."""
        line = await link.reader.readline()
        if not line:
            raise EOFError
        status = _STATUS.match(line)
        if status is None:
            raise ValueError(shown(line))
        if status[1] != b"0" or status[2] != wanted:
            raise EngineFailed(f"{address}: {clean(status[2].decode())}")

    def _symbols(self, report: str, score: float) -> tuple[Symbol, ...]:
        """Return the rules of a report; what they leave of the score is a symbol too."""
        weight = self.settings.weight
        rules = [match for line in report.splitlines() if (match := _RULE.match(line))]
        symbols = [
            Symbol(rule[2], float(rule[1]) * weight, clean(rule[3] or ""))
            for rule in rules[:MAX_SYMBOLS]
        ]
        rest = score - sum(float(rule[1]) for rule in rules[:MAX_SYMBOLS])
        if abs(rest) > EXACT:
            symbols.append(Symbol("REST", rest * weight, "what is left of the score"))
        return tuple(symbols)
