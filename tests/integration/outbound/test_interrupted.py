"""Servers that answer in the middle of a message and close, with octets of it unread.

Their system then resets the connection, which must not cost us the answer.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import uvloop

from mailserver.model import QueueState
from mailserver.smtp.outbound.connection import Connection, ConnectionFailed, MessageCut, Timeouts
from mailserver.smtp.protocol.client import Envelope, RecipientLine, ServerReply
from tests.integration.conftest import Tls
from tests.integration.outbound.conftest import Sending

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 76 + b"\r\n") * 150_000  # more than sockets hold
PATIENT = Timeouts(connect=30, greeting=30, command=30, data=30, block=30, final=30, quit=30)
TOO_BIG = b"552 5.3.4 too big for us\r\n"


class Interrupting:
    """Takes so many octets of each message and no more."""

    def __init__(
        self,
        address: str,
        port: int,
        answer: bytes,
        *,
        octets: int,
        chunking: bool,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._listening = socket.create_server((address, port))
        self.port: int = self._listening.getsockname()[1]
        self.messages = 0
        self.gone = threading.Event()  # whoever is served may go: it stays open until then
        self.gone.set()
        self._answer = answer
        self._octets = octets
        self._offers = ["PIPELINING", "CHUNKING"] if chunking else ["PIPELINING"]
        self._tls = tls
        self._thread = threading.Thread(target=self._serve)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.gone.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.settimeout(60)
            with contextlib.suppress(OSError):
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        connection.sendall(b"220 peer.test ESMTP\r\n")
        secure = self._tls is None
        with contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            lines = stack.enter_context(connection.makefile("rb", buffering=0))
            while line := lines.readline().upper():
                if line.startswith(b"EHLO"):
                    offers = self._offers if secure else [*self._offers, "STARTTLS"]
                    lines_of = "".join(f"250-{offer}\r\n" for offer in ("peer.test", *offers))
                    connection.sendall(f"{lines_of}250 HELP\r\n".encode())
                elif line.startswith(b"STARTTLS") and self._tls is not None:
                    connection.sendall(b"220 2.0.0 go\r\n")
                    connection = self._tls.wrap_socket(connection, server_side=True)
                    stack.enter_context(connection)
                    lines = stack.enter_context(connection.makefile("rb", buffering=0))
                    secure = True
                elif line.startswith((b"DATA", b"BDAT")):
                    if line.startswith(b"DATA"):
                        connection.sendall(b"354 go on\r\n")
                    self._interrupt(connection)
                    return
                else:
                    connection.sendall(b"250 2.0.0 ok\r\n")

    def _interrupt(self, connection: socket.socket) -> None:
        self.messages += 1
        left = self._octets
        while left > 0 and (got := connection.recv(min(left, 65536))):
            left -= len(got)
        connection.sendall(self._answer)
        self.gone.wait(60)


@contextmanager
def interrupting(
    answer: bytes = TOO_BIG,
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    octets: int = 0,
    chunking: bool = False,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Interrupting]:
    peer = Interrupting(address, port, answer, octets=octets, chunking=chunking, tls=tls)
    peer.start()
    try:
        yield peer
    finally:
        peer.stop()


async def send(
    port: int, tls: ssl.SSLContext | None = None, timeouts: Timeouts = PATIENT
) -> list[ServerReply]:
    """Send a large message; return the reply for each recipient."""
    connection = await Connection.open("localhost", "127.0.0.1", port, timeouts, None)
    try:
        await connection.hello("mail.example.test")
        if tls is not None:
            await connection.start_tls(tls, "localhost")
            await connection.hello("mail.example.test")
        recipients = (RecipientLine("b@example.org"), RecipientLine("c@example.org"))
        envelope = Envelope("alice@example.test", recipients, len(LARGE))
        return await connection.send(envelope, LARGE, lambda: None)
    finally:
        connection.abort()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("chunking", [False, True], ids=["data", "bdat"])
@pytest.mark.parametrize("octets", [0, 1_000_000])
@pytest.mark.parametrize("new_loop", LOOPS)
def test_the_answer_is_read_after_the_reset(
    tls: Tls,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    octets: int,
    chunking: bool,
    secure: bool,
) -> None:
    server, client = (tls.server, tls.client) if secure else (None, None)
    with (
        interrupting(octets=octets, chunking=chunking, tls=server) as peer,
        asyncio.Runner(loop_factory=new_loop) as runner,
    ):
        replies = runner.run(send(peer.port, client))
    assert [str(reply) for reply in replies] == ["552 5.3.4 too big for us"] * 2


@pytest.mark.parametrize("new_loop", LOOPS)
def test_one_that_goes_away_says_so(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with (
        interrupting(b"421 4.3.2 going down\r\n") as peer,
        asyncio.Runner(loop_factory=new_loop) as runner,
        pytest.raises(MessageCut) as cut,
    ):
        runner.run(send(peer.port))
    assert str(cut.value.reply) == "421 4.3.2 going down"


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("new_loop", LOOPS)
def test_what_is_said_over_a_lost_connection_fails_like_any_other(
    tls: Tls, new_loop: Callable[[], asyncio.AbstractEventLoop], secure: bool
) -> None:
    async def check(port: int) -> None:
        connection = await Connection.open("localhost", "127.0.0.1", port, PATIENT, None)
        await connection.hello("mail.example.test")
        if secure:
            await connection.start_tls(tls.client, "localhost")
            await connection.hello("mail.example.test")
        connection.abort()
        envelope = Envelope("alice@example.test", (RecipientLine("b@example.org"),), len(LARGE))
        for _ in range(3):  # at first it is only about to end
            with pytest.raises(ConnectionFailed, match=r"closed|lost"):
                await connection.hello("mail.example.test")
            with pytest.raises(ConnectionFailed, match=r"closed|lost"):
                await connection.send(envelope, LARGE, lambda: None)
            await connection.quit()

    with (
        interrupting(tls=tls.server if secure else None) as peer,
        asyncio.Runner(loop_factory=new_loop) as runner,
    ):
        runner.run(check(peer.port))


@pytest.mark.parametrize("answer", [b"250 2.0.0 ok\r\n", b""])
async def test_a_part_of_a_message_is_not_delivered_whatever_is_said(answer: bytes) -> None:
    with interrupting(answer) as peer, pytest.raises(MessageCut, match="lost: "):
        await send(peer.port)


async def test_one_that_answers_and_stays_without_reading_is_heard() -> None:
    with interrupting() as peer:
        peer.gone.clear()
        impatient = Timeouts(block=0.2, quit=30)
        replies = await send(peer.port, timeouts=impatient)
    assert {reply.code for reply in replies} == {552}


async def test_one_that_says_nothing_and_does_not_read_is_left() -> None:
    with interrupting(b"") as peer:
        peer.gone.clear()
        with pytest.raises(ConnectionFailed, match="does not take the message"):
            await send(peer.port, timeouts=Timeouts(block=0.2, quit=0.2))


async def test_a_message_that_is_refused_in_the_middle_is_not_sent_again(sending: Sending) -> None:
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    with interrupting(address="127.0.0.2", port=sending.port) as peer:
        await sending.work()
        await sending.send("b@example.org", raw=LARGE)
        row = await sending.settled("b@example.org", QueueState.FAILED)
    assert (row["last_reply"], row["status"]) == ("552 5.3.4 too big for us", "5.3.4")
    assert peer.messages == 1
