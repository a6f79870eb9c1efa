"""Virus scanners behind ICAP (RFC 3507): the message is shown as the body of an HTTP response."""

import asyncio
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mailserver.antispam.engines.engine import Engine
from mailserver.antispam.engines.link import EngineFailed, Link, Links, clean, shown
from mailserver.antispam.evidence import Finding, Inquiry
from mailserver.config import Engine as Settings

MAX_HEADER = 32 * 1024  # octets
CHUNK = 256 * 1024  # octets that are sent in one part
MAX_CHUNK = 16 * 1024 * 1024  # octets of a part that is read

# No RFC has them, but every scanner says by one of these what it found.
FOUND = ("x-infection-found", "x-virus-id", "x-violations-found", "x-virus-name")

_STATUS = re.compile(rb"ICAP/1\.[0-9] ([0-9]{3})(?: [^\r\n]*)?\r\n")
_HTTP = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[^\r\n]*)?\r\n")
_THREAT = re.compile(r"Threat=([^;]{1,200})")


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an ICAP answer."""

    status: int
    fields: Mapping[str, str]  # by lower-case name

    def threats(self) -> list[str]:
        """Return the names of what was found."""
        for name in FOUND:
            value = self.fields.get(name)
            if value:
                threat = _THREAT.search(value)
                return [clean(threat[1] if threat else value)]
        return []


def read_head(head: bytes) -> Answer:
    """Read the status line and the fields; ValueError when that is no ICAP."""
    status = _STATUS.match(head)
    if status is None:
        raise ValueError(shown(head))
    fields: dict[str, str] = {}
    for line in head[status.end() :].decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return Answer(int(status[1]), fields)


class Icap(Engine):
    """Asks a service of an ICAP server, over connections that are kept."""

    def __init__(self, settings: Settings, hostname: str) -> None:
        super().__init__(settings, hostname)
        self._links = {address: Links(address) for address in self.addresses}

    async def ask(self, address: str, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        """Show a message; over a kept connection first, which the server may have closed."""
        links = self._links[address]
        link = await links.get()
        try:
            found = await self._scan(address, link, inquiry.raw)
        except (OSError, EOFError):
            if link.fresh:
                raise
            link = await links.get(fresh=True)
            found = await self._scan(address, link, inquiry.raw)
        return self.virus(found) if found else Finding(self.name, "clean")

    async def _scan(self, address: str, link: Link, raw: bytes) -> list[str]:
        """Return the names of what is found in a message.

        A server may answer before it has seen all, and sends as it reads: so both at a time. One
        that closes then resets the connection, which must not end with the answer unread.
        """
        with link.second_handle() as handle:
            sending = asyncio.ensure_future(self._show(address, handle, raw))
            try:
                answer = await _head(link)
                if answer.status not in (200, 204):
                    raise EngineFailed(f"{address}: ICAP status {answer.status}")
                found = answer.threats()
                whole = answer.status == 204
                if not whole and not found:
                    found = await _changed(link, answer, raw)
                    whole = not found
            except BaseException:
                link.abort()
                raise
            finally:
                sent = sending.done() and sending.exception() is None
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        if whole and sent and answer.fields.get("connection", "").lower() != "close":
            self._links[address].give_back(link)
        else:
            link.abort()  # there may be more to come: a page about what was found
        return found

    async def _show(self, address: str, handle: socket.socket, raw: bytes) -> None:
        """Send a message as what a web server would have answered (RFC 3507 §4.9)."""
        request = b"GET http://mail.invalid/message HTTP/1.1\r\nHost: mail.invalid\r\n\r\n"
        response = (
            b"HTTP/1.1 200 OK\r\nContent-Type: message/rfc822\r\n"
            + f"Content-Length: {len(raw)}\r\n\r\n".encode()
        )
        places = (len(request), len(request) + len(response))
        parts = f"Encapsulated: req-hdr=0, res-hdr={places[0]}, res-body={places[1]}\r\n\r\n"
        head = self._head("RESPMOD", address, "Allow: 204") + parts.encode()
        send = asyncio.get_running_loop().sock_sendall
        await send(handle, head + request + response)
        for at in range(0, len(raw), CHUNK):
            part = raw[at : at + CHUNK]
            await send(handle, b"%x\r\n%b\r\n" % (len(part), part))
        await send(handle, b"0\r\n\r\n")

    def _head(self, method: str, address: str, *fields: str) -> bytes:
        host = "localhost" if address.startswith("unix:") else address
        lines = [
            f"{method} icap://{host}/{self.settings.service.lstrip('/')} ICAP/1.0",
            f"Host: {host}",
            *fields,
        ]
        return "".join(f"{line}\r\n" for line in lines).encode()

    async def probe(self, address: str) -> None:
        """Ask for the options of the service, which has to take RESPMOD."""
        link = await self._links[address].get(fresh=True)
        try:
            await link.send(self._head("OPTIONS", address), b"Encapsulated: null-body=0\r\n\r\n")
            answer = await _head(link)
        finally:
            link.abort()
        if answer.status != 200:
            raise EngineFailed(
                f"{address}: ICAP status {answer.status} for the service"
                f" {self.settings.service or '/'}; is `service` right?"
            )
        if "respmod" not in answer.fields.get("methods", "").lower():
            raise EngineFailed(f"{address}: the service does not take RESPMOD")

    async def close(self) -> None:
        """Close the connections that wait for messages."""
        for links in self._links.values():
            links.close()


async def _head(link: Link) -> Answer:
    """Read the head of an answer; what is no ICAP is refused at its first line."""
    line = await link.reader.readline()
    if not line:
        raise EOFError
    if _STATUS.match(line) is None:
        raise ValueError(shown(line))
    head = bytearray(line)
    while (line := await link.reader.readline()) != b"\r\n":
        head += line
        if not line or len(head) > MAX_HEADER:
            raise ValueError("the head has no end")
    return read_head(bytes(head))


async def _changed(link: Link, answer: Answer, raw: bytes) -> list[str]:
    """Say what is wrong with a message, by what comes in its place.

    A server that does not take `Allow: 204` sends a good message back as it was. A page that says
    why there is none, or a message that was cleaned, tells of a bad one.
    """
    if "res-body" not in answer.fields.get("encapsulated", ""):
        raise ValueError("an answer without a response in it")
    line = await link.reader.readline()
    status = _HTTP.match(line)
    if status is None:
        raise ValueError(shown(line))
    if status[1] != b"200":
        return ["refused by the scanner"]
    head = 0
    while (line := await link.reader.readline()) != b"\r\n":
        head += len(line)
        if not line or head > MAX_HEADER:
            raise ValueError("the head has no end")
    at = 0
    while size := await _chunk_size(link):
        part = await link.reader.readexactly(size + 2)
        if raw[at : at + size] != part[:-2]:
            return ["changed by the scanner"]
        at += size
    if await link.reader.readline() != b"\r\n":
        raise ValueError("the body has no end")
    return [] if at == len(raw) else ["changed by the scanner"]


async def _chunk_size(link: Link) -> int:
    """Read how long the next part of a body is; 0 at its end (RFC 9112 §7.1)."""
    line = await link.reader.readline()
    size = _CHUNK_SIZE.fullmatch(line)
    if size is None or int(size[1], 16) > MAX_CHUNK:
        raise ValueError(f"a part of the body without its length: {shown(line)}")
    return int(size[1], 16)
