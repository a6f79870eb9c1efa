"""One connection to another server: bytes in and out, TLS, and time limits."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mailserver.smtp.outbound import streams
from mailserver.smtp.protocol.client import (
    Envelope,
    Extensions,
    NotSmtp,
    ReplyBuffer,
    ServerReply,
    Step,
    Transaction,
    chunks,
    joined,
    stuffed,
)

DER = 2  # how certificates are written, for OpenSSL
HIGH_WATER = 512 * 1024  # octets of a message that wait to be sent
PART = "lost: the server took only a part of the message"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that the other server has (RFC 5321 §4.5.3.2)."""

    connect: float = 30
    greeting: float = 300
    command: float = 300  # EHLO, MAIL, RCPT, STARTTLS, AUTH
    data: float = 120  # the reply to DATA
    block: float = 180  # to take a piece of the message
    final: float = 600  # the reply to the message
    quit: float = 5
    idle: float = 2  # that we keep a connection for another message


class ConnectionFailed(Exception):
    """The connection cannot be made or used; the text says at which point, for people."""

    def __init__(self, text: str, reply: ServerReply | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.reply = reply


class TlsFailed(ConnectionFailed):
    """TLS could not be begun."""


class NoTls(ConnectionFailed):
    """TLS is needed, and the server does not offer it."""


class MessageCut(ConnectionFailed):
    """The whole message was sent, and nobody knows what became of it."""


class Connection:
    """A conversation with one server, after its greeting."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        host: str,
        address: str,
        timeouts: Timeouts,
    ) -> None:
        self.host = host
        self.address = address
        self.extensions = Extensions()
        self.tls = ""  # version and cipher; empty without TLS
        self.verified = False  # the certificate is of a known authority and of the right name
        self.messages = 0
        self._reader = reader
        self._writer = writer
        self._timeouts = timeouts
        self._replies = ReplyBuffer()
        self._reset = False  # the server has a transaction that RSET ends

    @classmethod
    async def open(
        cls, host: str, address: str, port: int, timeouts: Timeouts, tls: ssl.SSLContext | None
    ) -> "Connection":
        """Connect and read the greeting; with a context TLS comes first (RFC 8314 §3.3)."""
        try:
            async with asyncio.timeout(timeouts.connect):
                reader, writer = await streams.connect(address, port, tls, host)
        except (OSError, TimeoutError) as error:
            raise ConnectionFailed(f"cannot connect: {_reason(error)}") from error
        if not writer.is_closing():
            writer.transport.set_write_buffer_limits(HIGH_WATER)
        connection = cls(reader, writer, host, address, timeouts)
        connection._note_tls()
        try:
            greeting = await connection._reply(timeouts.greeting, "greeting")
            if greeting.code != 220:
                raise ConnectionFailed(f"greeted with {greeting}", greeting)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def hello(self, name: str) -> None:
        """Say EHLO, or HELO to a server that does not know it (RFC 5321 §3.2)."""
        reply = await self._ask(f"EHLO {name}\r\n", "EHLO")
        if reply.positive:
            self.extensions = Extensions.of(reply)
            return
        if not reply.permanent:
            raise ConnectionFailed(f"EHLO was answered with {reply}", reply)
        reply = await self._ask(f"HELO {name}\r\n", "HELO")
        if not reply.positive:
            raise ConnectionFailed(f"HELO was answered with {reply}", reply)
        self.extensions = Extensions()

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """Begin TLS (RFC 3207); TlsFailed leaves a connection that cannot be used."""
        reply = await self._ask("STARTTLS\r\n", "STARTTLS")
        if reply.code != 220:
            raise TlsFailed(f"STARTTLS was answered with {reply}", reply)
        if self._replies.pending:
            # what was said in the clear must not be taken for something said under TLS
            raise TlsFailed("the server said more before TLS began")
        try:
            async with asyncio.timeout(self._timeouts.command):
                await streams.start_tls(self._writer, context, name)
        except (OSError, TimeoutError, ValueError) as error:
            raise TlsFailed(f"TLS failed: {_reason(error)}") from error
        self.extensions = Extensions()
        self._note_tls()

    def chain(self) -> list[bytes]:
        """Return the certificates that the server showed, in DER, its own first."""
        tls = self._writer.get_extra_info("ssl_object")
        # of the whole chain CPython 3.11 tells in no public way; 3.13 has get_unverified_chain
        inner = getattr(tls, "_sslobj", None)
        if inner is None:
            return []
        return [each.public_bytes(DER) for each in inner.get_unverified_chain() or ()]

    async def login(self, login: str, password: str) -> None:
        """Log in by PLAIN or LOGIN (RFC 4954); ConnectionFailed when that is refused."""
        mechanisms = self.extensions.mechanisms
        if "PLAIN" in mechanisms:
            token = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
            reply = await self._ask(f"AUTH PLAIN {token}\r\n", "AUTH")
        elif "LOGIN" in mechanisms:
            reply = await self._ask("AUTH LOGIN\r\n", "AUTH")
            for word in (login, password):
                if reply.code != 334:
                    break
                reply = await self._ask(base64.b64encode(word.encode()).decode() + "\r\n", "AUTH")
        else:
            raise ConnectionFailed("the server offers no way to log in that we know")
        if reply.code != 235:
            raise ConnectionFailed(f"the login was answered with {reply}", reply)

    async def send(
        self, envelope: Envelope, content: bytes, check: Callable[[], None]
    ) -> list[ServerReply]:
        """Send one message; return the reply that decides on each recipient.

        Unsendable when the server lacks what it needs; ConnectionFailed when nobody knows what
        became of it. What `check` raises just before the message keeps it from being sent.
        """
        transaction = Transaction(envelope, self.extensions, reset=self._reset)
        self._reset = True
        try:
            while steps := transaction.send():
                if steps[-1] is Step.CONTENT and transaction.sends_message:
                    check()
                cut = await self._say(transaction, steps, content)
                if cut is not None:
                    await self._last_replies(transaction, cut)
                while (awaited := transaction.awaits) is not None:
                    transaction.take(await self._reply(self._limit(awaited), awaited.name))
        except ConnectionFailed as error:
            if transaction.awaits is Step.CONTENT and transaction.sends_message:
                raise MessageCut(error.text, error.reply) from error
            raise
        self._reset = transaction.open
        self.messages += 1
        return transaction.verdicts()

    async def quit(self) -> None:
        """Say goodbye and close."""
        with contextlib.suppress(ConnectionFailed):
            self._write(b"QUIT\r\n")
            await self._reply(self._timeouts.quit, "QUIT")
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

    @property
    def lost(self) -> bool:
        """Whether the server has closed, or has said something unasked, as 421 before it does."""
        return self._reader.at_eof() or self._writer.is_closing() or self._replies.pending

    async def _say(
        self, transaction: Transaction, steps: Sequence[Step], content: bytes
    ) -> ConnectionFailed | None:
        """Write commands, and the message when it is its turn, in as few packets as possible.

        Return what kept us from writing all of it.
        """
        lines = b"".join(map(transaction.line, steps))
        if steps[-1] is not Step.CONTENT:
            self._write(lines)
            return None
        pieces: Iterable[bytes] = (b".\r\n",)
        if transaction.sends_message:
            pieces = chunks(content) if transaction.chunking else stuffed(content)
        left = joined(lines, pieces)
        try:
            for piece in left:
                if self._writer.is_closing():
                    return ConnectionFailed(PART)
                self._writer.write(piece)
                async with asyncio.timeout(self._timeouts.block):
                    await self._writer.drain()
        except TimeoutError:
            return ConnectionFailed("the server does not take the message")
        except OSError:
            if next(left, None) is not None:
                return ConnectionFailed(PART)
        return None  # or what was written last was lost on its way, which the reply will tell

    async def _last_replies(self, transaction: Transaction, cut: ConnectionFailed) -> None:
        """Read what a server answered that did not take the whole message.

        One that refuses a message in the middle of it has said why before it closed.
        """
        try:
            while transaction.awaits is not None:
                transaction.take(await self._reply(self._timeouts.quit, "message"))
        except ConnectionFailed as error:
            raise (error if error.reply is not None else cut) from error
        finally:
            self.abort()
        if transaction.final is not None and transaction.final.positive:
            raise MessageCut(cut.text)  # to a part of it

    def _limit(self, step: Step) -> float:
        if step is Step.CONTENT:
            return self._timeouts.final
        return self._timeouts.data if step is Step.DATA else self._timeouts.command

    async def _ask(self, line: str, what: str) -> ServerReply:
        self._write(line.encode())
        return await self._reply(self._timeouts.command, what)

    def _write(self, lines: bytes) -> None:
        """Write commands; where the connection has ended, whoever reads the reply is told."""
        if not self._writer.is_closing():  # uvloop raises RuntimeError then, asyncio nothing
            self._writer.write(lines)

    async def _reply(self, timeout: float, what: str) -> ServerReply:
        """Read the next reply; 421 ends the connection, whatever it answers (RFC 5321 §3.8)."""
        reply = self._replies.next()
        try:
            if reply is None:
                async with asyncio.timeout(timeout):  # for the whole reply, however it is cut
                    reply = await self._read(what)
        except TimeoutError:
            raise ConnectionFailed(f"no answer in {timeout:g} seconds ({what})") from None
        except NotSmtp as error:
            raise ConnectionFailed(f"{error} ({what})") from None
        except OSError as error:
            raise ConnectionFailed(f"lost: {_reason(error)} ({what})") from error
        if reply.code == 421:
            raise ConnectionFailed(str(reply), reply)
        return reply

    async def _read(self, what: str) -> ServerReply:
        while (reply := self._replies.next()) is None:
            data = await self._reader.read(streams.READ)
            if not data:
                raise ConnectionFailed(f"the server closed the connection ({what})")
            self._replies.feed(data)
        return reply

    def _note_tls(self) -> None:
        tls = self._writer.get_extra_info("ssl_object")
        if tls is not None:
            cipher = tls.cipher()
            self.tls = f"{tls.version()} {cipher[0] if cipher else ''}".rstrip()
            self.verified = tls.context.verify_mode is ssl.CERT_REQUIRED


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return error.reason or "TLS error"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
