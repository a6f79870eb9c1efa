"""Small clients that know exactly what was answered, and break at nothing else."""

import asyncio
import base64
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp

from tests.chaos.cluster import PASSWORD, Node

PATIENCE = 30.0  # seconds for one answer
# of a call, and of those that take their arguments from it
TEMPORARY = ("serverUnavailable", "invalidResultReference")
LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")


class TemporaryRefusal(Exception):
    """The server said that it cannot do that now."""


class Line:
    """A connection on which lines are said and heard."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), PATIENCE)

    async def hear(self) -> bytes:
        line = await asyncio.wait_for(self.reader.readline(), PATIENCE)
        if not line.endswith(b"\n"):
            raise ConnectionResetError
        return line


@asynccontextmanager
async def connected(node: Node, listener: str, tls: ssl.SSLContext | None) -> AsyncIterator[Line]:
    """Connect with a listener of a node."""
    if not node.running:
        raise ConnectionRefusedError
    host, port = node.listeners[listener]
    reader, writer = await asyncio.wait_for(
        asyncio.open_connection(host, port, ssl=tls, limit=2**20), PATIENCE
    )
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


class Smtp:
    """SMTP and submission."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def greet(self, login: str | None = None) -> None:
        """Begin the conversation, and log in when there is a login."""
        await self._expect(220)
        await self._command(b"EHLO load.example.org", 250)
        if login is not None:
            secret = base64.b64encode(f"\0{login}\0{PASSWORD}".encode())
            await self._command(b"AUTH PLAIN " + secret, 235)

    async def send(self, sender: str, recipient: str, content: bytes) -> None:
        """Send a message; return when it was answered with 250."""
        await self._command(f"MAIL FROM:<{sender}>".encode(), 250)
        await self._command(f"RCPT TO:<{recipient}>".encode(), 250)
        await self._command(b"DATA", 354)
        await self._line.say(content + b".\r\n")
        await self._expect(250)

    async def _command(self, line: bytes, code: int) -> None:
        await self._line.say(line + b"\r\n")
        await self._expect(code)

    async def _expect(self, code: int) -> None:
        while (line := await self._line.hear())[3:4] == b"-":
            pass
        if int(line[:3]) == code:
            return
        assert line[:1] == b"4", f"not a temporary refusal: {line!r}"
        raise TemporaryRefusal(line.decode())


class Imap:
    """As much of IMAP as it takes to flag and to read."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._count = 0

    async def open(self, login: str, how: str = "SELECT") -> None:
        """Log in and open the INBOX."""
        await self._line.hear()
        await self.command(f'LOGIN {login} "{PASSWORD}"'.encode())
        await self.command(f"{how} INBOX".encode())

    async def command(self, text: bytes) -> list[bytes]:
        """Return the untagged responses, literals within; TemporaryRefusal when it says NO."""
        self._count += 1
        tag = b"t%d" % self._count
        await self._line.say(tag + b" " + text + b"\r\n")
        untagged = []
        while True:
            response = await self._response()
            if response.startswith(tag + b" "):
                break
            if response.startswith(b"* BYE"):
                raise ConnectionResetError
            untagged.append(response)
        if response.split(b" ")[1] == b"OK":
            return untagged
        assert response.split(b" ")[1] == b"NO", f"not a temporary refusal: {response!r}"
        raise TemporaryRefusal(response.decode())

    async def _response(self) -> bytes:
        response = await self._line.hear()
        while (literal := LITERAL.search(response)) is not None:
            wanted = self._line.reader.readexactly(int(literal[1]))
            response += await asyncio.wait_for(wanted, PATIENCE) + await self._line.hear()
        return response


async def call(node: Node, login: str, *calls: list[Any]) -> list[Any]:
    """Make JMAP method calls over a connection of their own, and return the responses."""
    if not node.running:
        raise ConnectionRefusedError
    host, port = node.listeners["http"]
    timeout = aiohttp.ClientTimeout(PATIENCE)
    secret = base64.b64encode(f"{login}:{PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {secret}"}
    base = f"http://{host}:{port}"
    async with aiohttp.ClientSession(base, headers=headers, timeout=timeout) as http:
        session = await _json(http.get("/.well-known/jmap"))
        account = session["primaryAccounts"]["urn:ietf:params:jmap:mail"]
        for each in calls:
            each[1]["accountId"] = account
        request = {
            "using": ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"],
            "methodCalls": list(calls),
        }
        path = session["apiUrl"].partition("://")[2].partition("/")[2]
        answer = await _json(http.post(f"/{path}", json=request))
        responses: list[Any] = answer["methodResponses"]
        for name, arguments, _ in responses:
            if name == "error":
                assert arguments["type"] in TEMPORARY, f"not a temporary refusal: {arguments}"
                raise TemporaryRefusal(arguments["type"])
        return responses


async def _json(request: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> Any:
    async with request as response:
        if response.status in (429, 503):
            raise TemporaryRefusal(str(response.status))
        assert response.status == 200, f"not a temporary refusal: {response.status}"
        return await response.json()
