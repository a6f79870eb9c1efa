"""Small clients that know exactly what was answered, and break at nothing else."""

import asyncio
import base64
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp

from tests.chaos.cluster import PASSWORD, Server

PATIENCE = 30.0  # seconds for one answer
# of a call, and of those that take their arguments from it
TEMPORARY = ("serverUnavailable", "invalidResultReference")
LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")
_APPENDED = re.compile(rb"\[APPENDUID \d+ (\d+)\]")
_LISTED = re.compile(rb'^\* LIST \([^)]*\) "/" "?([^"]+?)"?\r\n$')


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
async def connected(node: Server, listener: str, tls: ssl.SSLContext | None) -> AsyncIterator[Line]:
    """Connect with a listener of a node."""
    host, port = node.address(listener)
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
    """As much of IMAP as it takes to store, to flag, to file and to read."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._count = 0

    async def login(self, login: str) -> None:
        """Begin the conversation and log in."""
        await self._line.hear()
        await self.command(f'LOGIN {login} "{PASSWORD}"'.encode())

    async def open(self, login: str, how: str = "SELECT") -> None:
        """Log in and open the INBOX."""
        await self.login(login)
        await self.command(f"{how} INBOX".encode())

    async def mailboxes(self) -> list[str]:
        """Return the names of all mailboxes."""
        found = map(_LISTED.match, await self.command(b'LIST "" "*"'))
        return [match[1].decode() for match in found if match is not None]

    async def append(self, mailbox: str, content: bytes) -> int:
        """Store a message and return its UID."""
        tag = await self._say(f"APPEND {mailbox} {{{len(content)}}}".encode())
        while not (response := await self._response()).startswith(b"+"):
            self._refuse(tag, response)
        await self._line.say(content + b"\r\n")
        _, done = await self._answer(tag)
        appended = _APPENDED.search(done)
        assert appended is not None, f"no UID: {done!r}"
        return int(appended[1])

    async def command(self, text: bytes) -> list[bytes]:
        """Return the untagged responses, literals within; TemporaryRefusal when it says NO."""
        untagged, _ = await self._answer(await self._say(text))
        return untagged

    async def _say(self, text: bytes) -> bytes:
        self._count += 1
        tag = b"t%d " % self._count
        await self._line.say(tag + text + b"\r\n")
        return tag

    async def _answer(self, tag: bytes) -> tuple[list[bytes], bytes]:
        untagged = []
        while not (response := await self._response()).startswith(tag + b"OK"):
            self._refuse(tag, response)
            untagged.append(response)
        return untagged, response

    def _refuse(self, tag: bytes, response: bytes) -> None:
        """Raise what a response means when it ends the command otherwise than well."""
        if response.startswith(b"* BYE"):
            raise ConnectionResetError
        if response.startswith(tag):
            assert response.startswith(tag + b"NO"), f"not a temporary refusal: {response!r}"
            raise TemporaryRefusal(response.decode())

    async def _response(self) -> bytes:
        response = await self._line.hear()
        while (literal := LITERAL.search(response)) is not None:
            wanted = self._line.reader.readexactly(int(literal[1]))
            response += await asyncio.wait_for(wanted, PATIENCE) + await self._line.hear()
        return response


async def call(node: Server, login: str, *calls: list[Any]) -> list[Any]:
    """Make JMAP method calls over a connection of their own, and return the responses."""
    host, port = node.address("http")
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
