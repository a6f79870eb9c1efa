"""ClamAV's clamd: INSTREAM inside a session, so that one connection serves many messages."""

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Sequence

from mailserver.antispam.engines.engine import Engine, TooLargeForEngine
from mailserver.antispam.engines.link import (
    LONGEST_LINE,
    EngineFailed,
    Link,
    Links,
    clean,
    shown,
)
from mailserver.antispam.evidence import Finding, Inquiry
from mailserver.config import Engine as Settings

CHUNK = 64 * 1024  # octets
END = b"\0\0\0\0"
TOO_LARGE = b"INSTREAM size limit exceeded. ERROR"

_ANSWER = re.compile(rb"(?:[0-9]{1,9}: )?stream: (?:(OK)|(.{1,200}) FOUND)", re.DOTALL)


def _last_words(handle: socket.socket) -> bytes:
    """Return what clamd said before it reset the connection; EOFError when that is no answer."""
    said = b""
    with contextlib.suppress(OSError):
        said = handle.recv(LONGEST_LINE)
    answer, end, _ = said.partition(b"\0")
    if not end:
        raise EOFError
    return answer


class Clamd(Engine):
    """Shows messages to clamd; signatures of the name only, no score."""

    def __init__(self, settings: Settings, hostname: str) -> None:
        super().__init__(settings, hostname)
        self._links = {address: Links(address) for address in self.addresses}

    async def ask(self, address: str, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        """Scan a message; over a kept connection first, which clamd may have closed by now."""
        links = self._links[address]
        link = await links.get()
        try:
            answer = await self._scan(link, inquiry.raw)
        except (OSError, EOFError):
            if link.fresh:
                raise
            link = await links.get(fresh=True)
            answer = await self._scan(link, inquiry.raw)
        found = _ANSWER.fullmatch(answer)
        if found is None:
            link.abort()
            if answer.endswith(TOO_LARGE):  # its StreamMaxLength
                raise TooLargeForEngine
            if answer.endswith(b" ERROR"):
                raise EngineFailed(f"{address}: {clean(answer.decode('utf-8', 'replace'))}")
            raise ValueError(shown(answer))
        links.give_back(link)
        if found[1]:
            return Finding(self.name, "clean")
        return self.virus([clean(found[2].decode("utf-8", "replace"))])

    async def _scan(self, link: Link, raw: bytes) -> bytes:
        """Send a message, return the answer, which may come before all is sent."""
        with link.second_handle() as handle:
            answer = asyncio.ensure_future(link.reader.readuntil(b"\0"))
            try:
                with contextlib.suppress(ConnectionError):  # it closes when it has enough
                    await self._show(link, raw, answer)
                return (await answer)[:-1]
            except ConnectionError:
                link.abort()
                return _last_words(handle)
            except BaseException:
                answer.cancel()
                link.abort()
                raise

    async def _show(self, link: Link, raw: bytes, answer: asyncio.Future[bytes]) -> None:
        """Send a message in parts, or less of it when there is an answer already."""
        await link.send(b"zIDSESSION\0zINSTREAM\0" if link.fresh else b"zINSTREAM\0")
        for at in range(0, len(raw), CHUNK):
            part = raw[at : at + CHUNK]
            await link.send(struct.pack(">I", len(part)), part)
            await asyncio.sleep(0)  # an answer is read before there is more to write
            if answer.done():
                break
        await link.send(END)

    async def probe(self, address: str) -> None:
        """Send PING, which clamd answers with PONG."""
        link = await self._links[address].get(fresh=True)
        try:
            await link.send(b"zPING\0")
            answer = await link.reader.read(100)
        finally:
            link.abort()
        if not answer:
            raise EOFError
        if answer.strip(b"\0\n") != b"PONG":
            raise ValueError(shown(answer))

    async def close(self) -> None:
        """Close the connections that wait for messages."""
        for links in self._links.values():
            links.close()
