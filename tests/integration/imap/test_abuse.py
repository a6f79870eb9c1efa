"""Clients that mean harm or are broken: bounded memory and time, and the others are served."""

import asyncio
import contextlib
import random
import socket
import ssl
import tracemalloc
from typing import Any

import pytest

from mailserver.config import Config, Listener
from mailserver.imap import server
from mailserver.imap.commands import seeker
from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.imap.conftest import Client, serves

MEGABYTE = 1024 * 1024


async def test_a_line_without_end(servers: Any, connect: Any, alice: Account) -> None:
    port = await servers.start()
    client = await connect(port)
    tracemalloc.start()
    await client.send(b"a1 NOOP ")
    for _ in range(64):
        await client.send(b"x" * MEGABYTE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await client.send(b"\r\n")
    assert await client.line() == b"a1 BAD Command is too long\r\n"
    assert peak < 16 * MEGABYTE
    assert await client.ask(b"NOOP") == [b"t1 OK NOOP completed\r\n"]


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"a1 LOGIN {70000}\r\n", b"a1 BAD Literal is too large\r\n"),
        (b"a1 LOGIN {99999999999999999999}\r\n", b"a1 BAD Literal is too large\r\n"),
        # before the login an APPEND has no right to more
        (b"a1 APPEND INBOX {70000}\r\n", b"a1 BAD Literal is too large\r\n"),
        (b"a1 LOGIN {4000000000+}\r\n", b"* BYE [TOOBIG] Literal is too large\r\n"),
        (
            b"a1 LOGIN {70000+}\r\n" + b"x" * 70000 + b" b\r\na2 NOOP\r\n",
            b"a1 BAD Literal is too large\r\n",
        ),
        (b"a1 LOGIN {99999999999999999999999999}\r\n", b"a1 BAD Expected a string\r\n"),
    ],
)
async def test_literal_bombs(
    servers: Any, connect: Any, alice: Account, sent: bytes, answer: bytes
) -> None:
    port = await servers.start()
    client = await connect(port)
    await client.send(sent)
    assert await client.line() == answer
    await serves(connect, port)


async def test_an_append_above_the_limit(servers: Any, connect: Any, alice: Account) -> None:
    port = await servers.start()
    client = await connect(port)
    await client.log_in()
    said = await client.ask(b"APPEND INBOX {16777217}")
    assert said == [b"t2 NO [TOOBIG] Message is too large\r\n"]
    # a client that does not ask is heard out, and nothing of it is kept
    tracemalloc.start()
    await client.send(b"t3 APPEND INBOX {20000000+}\r\n")
    for _ in range(20):
        await client.send(b"x" * 1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await client.send(b"\r\n")
    assert await client.until(b"t3") == [b"t3 NO [TOOBIG] Message is too large\r\n"]
    assert peak < 8 * MEGABYTE
    assert (await client.ask(b"STATUS INBOX (MESSAGES)"))[0].endswith(b"(MESSAGES 0)\r\n")


async def test_garbage(servers: Any, connect: Any, alice: Account) -> None:
    port = await servers.start()
    chance = random.Random(7)
    for _ in range(20):
        client = await connect(port)
        await client.send(chance.randbytes(20_000) + b"\r\n")
        client.writer.write_eof()
        said = await client.rest()
        assert b"Traceback" not in said
        assert b"OK" not in said
    await serves(connect, port)


async def test_nonsense_ends(servers: Any, connect: Any, alice: Account) -> None:
    port = await servers.start()
    client = await connect(port)
    await client.send(b"GET / HTTP/1.1\r\n" * 60)
    assert (await client.rest()).endswith(b"* BYE Too many errors\r\n")


async def test_disconnects(servers: Any, connect: Any, alice: Account) -> None:
    port = await servers.start()
    for sent in (b"APPEND INBOX {100000+}\r\nhalf", b"FETCH", b"IDLE\r\n", b"SELECT INBOX\r\n"):
        client = await connect(port)
        await client.log_in()
        await client.send(b"x " + sent)
        client.writer.transport.abort()
    await serves(connect, port)
    await asyncio.wait_for(servers.running[0].stop(20), 30)


@pytest.mark.parametrize(
    "said", [b"a IDLE\r\n", b"a APPEND INBOX {100000}\r\n", b"a APPEND INBOX {9+}\r\nhalf", b"a FE"]
)
async def test_half_closed(servers: Any, connect: Any, alice: Account, said: bytes) -> None:
    port = await servers.start()
    client = await connect(port)
    await client.log_in()
    (task,) = servers.running[0]._connections.values()
    await client.send(said)
    client.writer.write_eof()
    await asyncio.wait_for(task, 30)
    assert b"BAD" not in await client.rest()
    assert not servers.running[0]._connections
    await serves(connect, port)


async def test_a_thousand_that_say_nothing(servers: Any, connect: Any, alice: Account) -> None:
    port = await servers.start()
    silent = []
    tracemalloc.start()
    for _ in range(1000):
        taken = socket.create_connection(("127.0.0.1", port), timeout=30)
        taken.setblocking(False)
        silent.append(taken)
        await asyncio.sleep(0)
    await serves(connect, port)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 40 * MEGABYTE
    for taken in silent:
        taken.close()


class TestLimits:
    """Each limit by itself: the machine may stand still for longer than the short ones."""

    @pytest.fixture
    def config(self, request: pytest.FixtureRequest) -> Config:
        return Config.model_validate({"imap": {"allow_plaintext_login": True, **request.param}})

    @pytest.mark.parametrize("config", [{"login_timeout": 0.2}], indirect=True)
    async def test_the_login_takes_too_long(
        self, servers: Any, connect: Any, alice: Account
    ) -> None:
        port = await servers.start()
        client = await connect(port)
        assert await client.rest() == b"* BYE Idle for too long\r\n"

    @pytest.mark.parametrize("config", [{"idle_timeout": 1}], indirect=True)
    async def test_idle_for_too_long(self, servers: Any, connect: Any, alice: Account) -> None:
        port = await servers.start()
        client = await connect(port)
        # both at once, so that nothing but IDLE waits for the client
        await client.send(b'a LOGIN alice@example.test "correct horse"\r\nb IDLE\r\n')
        assert (await client.until(b"a"))[-1].startswith(b"a OK")
        assert await client.rest() == b"+ idling\r\n* BYE Idle for too long\r\n"

    @pytest.mark.parametrize("config", [{"max_connections": 2}], indirect=True)
    async def test_too_many_connections(self, servers: Any, connect: Any, alice: Account) -> None:
        port = await servers.start()
        first, second = await connect(port), await connect(port)
        await first.log_in()
        await second.log_in()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"* BYE [UNAVAILABLE] Too many connections\r\n"
        writer.close()
        await writer.wait_closed()


class TestFairShares:
    @pytest.fixture
    def config(self) -> Config:
        return Config.model_validate(
            {
                "imap": {
                    "allow_plaintext_login": True,
                    "max_connections_per_ip": 3,
                    "max_connections_per_account": 2,
                }
            }
        )

    async def test_connections_of_one_address(
        self, servers: Any, connect: Any, mail: Mail, alice: Account
    ) -> None:
        port = await servers.start()
        first, *_ = [await connect(port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"* BYE [UNAVAILABLE] Too many connections\r\n"
        writer.close()
        await writer.wait_closed()
        assert refusals(mail, "address") == 1
        assert (await first.ask(b"LOGOUT"))[-1].startswith(b"t1 OK")
        assert await first.rest() == b""
        await connect(port)

    async def test_connections_of_one_account(
        self, servers: Any, connect: Any, mail: Mail, alice: Account
    ) -> None:
        port = await servers.start()
        clients = [await connect(port) for _ in range(3)]
        for client in clients[:2]:
            await client.log_in()
        login = b'LOGIN alice@example.test "correct horse"'
        refused = (await clients[2].ask(login))[-1]
        assert refused == b"t1 NO [LIMIT] A limit is reached, try again later\r\n"
        assert refusals(mail, "account") == 1
        assert (await clients[0].ask(b"UNAUTHENTICATE"))[-1].startswith(b"t2 OK")
        await clients[2].log_in()
        assert (await clients[0].ask(login))[-1].startswith(b"t3 NO [LIMIT]")
        clients[1].close()
        await clients[1].writer.wait_closed()
        # the server notices in a moment that it is gone
        async with asyncio.timeout(30):
            while (await clients[0].ask(login))[-1].split(b" ")[1] != b"OK":
                pass


def refusals(mail: Mail, limit: str) -> float:
    (counted,) = [
        sample.value
        for family in mail.metrics.imap_refused.collect()
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels == {"limit": limit}
    ]
    return float(counted)


async def test_a_slow_reader_is_cut(
    servers: Any, connect: Any, deliver: Any, alice: Account
) -> None:
    body = b"x" * 98 + b"\r\n"
    for number in range(12):
        await deliver(b"Subject: %d\r\n\r\n" % number + body * 40_000)  # 4 MB each
    port = await servers.start(write_timeout=0.5)
    client = await connect(port, limit=1024)
    await client.log_in()
    await client.ask(b"SELECT INBOX")
    client.writer.transport.pause_reading()
    tracemalloc.start()
    # the listener has cut the connection when its task ends
    tasks = list(servers.running[0]._connections.values())
    await client.send(b"a FETCH 1:* BODY.PEEK[]\r\n")
    await asyncio.wait_for(asyncio.gather(*tasks), 30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * MEGABYTE  # of 48; two chunks of 8, and what was read to make them
    await serves(connect, port)


async def test_nothing_said_before_tls_counts(
    servers: Any, tls: Any, connect: Any, alice: Account
) -> None:
    port = await servers.start()
    client = await connect(port)
    await client.send(b"a STARTTLS\r\nb LOGIN alice@example.test x\r\n")
    assert await client.line() == b"a OK STARTTLS completed\r\n"
    await client.writer.start_tls(tls.client, server_hostname="localhost")
    assert await client.ask(b"NOOP") == [b"t1 OK NOOP completed\r\n"]


async def test_ten_gigabytes_that_nobody_reads(
    servers: Any, connect: Any, deliver: Any, alice: Account
) -> None:
    body = b"x" * 98 + b"\r\n"
    for number in range(13):
        await deliver(b"Subject: %d\r\n\r\n" % number + body * 40_000)
    port = await servers.start(write_timeout=2)
    clients = [await connect(port, limit=1024) for _ in range(4)]
    for client in clients:
        await client.log_in()
        await client.ask(b"SELECT INBOX")
        client.writer.transport.pause_reading()
    tasks = list(servers.running[0]._connections.values())
    tracemalloc.start()
    wanted = b" ".join(b"BODY.PEEK[]<%d.4000000>" % start for start in range(200))
    for client in clients:
        await client.send(b"a FETCH 1:13 (" + wanted + b")\r\n")
    await serves(connect, port)
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 96 * MEGABYTE  # for each its message, one literal of it, and what is buffered
    await serves(connect, port)


@pytest.mark.parametrize(
    "said", [b"a LOGIN alice x\r\n" * 10, b"\x16\x03\x01\x40\x00" + b"x" * 20_000, b"\0" * 300_000]
)
async def test_what_is_no_tls(
    servers: Any, tls: Any, connect: Any, alice: Account, said: bytes
) -> None:
    port = await servers.start(implicit_tls=True)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    async with asyncio.timeout(30):
        try:
            answer = await reader.read()
        except ConnectionError:
            answer = b""
    assert b"BYE" not in answer
    assert len(answer) < 100  # an alert
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    await _serves_under_tls(port, tls)
    assert not servers.running[0]._connections


async def _serves_under_tls(port: int, tls: Any) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls.client, server_hostname="localhost"
    )
    client = Client(reader, writer)
    assert (await client.line()).startswith(b"* OK ")
    await client.log_in()
    assert (await client.ask(b"LOGOUT"))[0].startswith(b"* BYE ")
    assert await client.rest() == b""  # and a good-bye of TLS, or this would be an error
    client.close()
    await writer.wait_closed()


async def test_handshakes_that_never_end(
    servers: Any, tls: Any, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, shake_hands = 0, server.Connection.shake_hands

    async def counted(self: server.Connection) -> None:
        nonlocal begun
        begun += 1
        await shake_hands(self)

    port = await servers.start(implicit_tls=True)
    with monkeypatch.context() as patched:  # not for the one that is served
        patched.setattr(server, "HANDSHAKE_TIMEOUT", 0.5)
        patched.setattr(server.Connection, "shake_hands", counted)
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
        for _, writer in silent[:25]:
            writer.write(b"\x16\x03\x01")  # the beginning of a handshake
        async with asyncio.timeout(30):
            while begun < len(silent):
                await asyncio.sleep(0)
    await _serves_under_tls(port, tls)
    async with asyncio.timeout(30):
        for reader, writer in silent:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    assert not servers.running[0]._connections


async def test_a_client_that_reads_nothing_is_let_go_of(
    servers: Any,
    connect: Any,
    deliver: Any,
    alice: Account,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "HIGH_WATER", 1 << 28)  # so that the session ends before
    await deliver(b"Subject: long\r\n\r\n" + b"x\r\n" * 4_000_000)
    port = await servers.start(write_timeout=0.5)
    client = await connect(port, limit=1024)
    await client.log_in()
    await client.ask(b"SELECT INBOX")
    client.writer.transport.pause_reading()
    ((connection, task),) = servers.running[0]._connections.items()
    await client.send(b"a FETCH 1 BODY.PEEK[]\r\nb LOGOUT\r\n")
    async with asyncio.timeout(30):
        await task
        assert connection._transport.get_write_buffer_size()
        while not connection._closed:
            await asyncio.sleep(0)
    await serves(connect, port)


@pytest.mark.parametrize("under_tls", [False, True])
async def test_a_client_that_says_its_last_and_reads_nothing_is_let_go_of(
    servers: Any,
    tls: Any,
    deliver: Any,
    alice: Account,
    monkeypatch: pytest.MonkeyPatch,
    under_tls: bool,
) -> None:
    monkeypatch.setattr(server, "HIGH_WATER", 1 << 28)  # so that nothing waits for the client
    await deliver(b"Subject: long\r\n\r\n" + b"x\r\n" * 4_000_000)
    port = await servers.start(implicit_tls=under_tls, write_timeout=0.5)
    with await asyncio.to_thread(_ask_for_much, port, tls.client if under_tls else None) as client:
        async with asyncio.timeout(60):
            while not servers.running[0]._connections:
                await asyncio.sleep(0)
            ((connection, task),) = servers.running[0]._connections.items()
            while not connection._transport.get_write_buffer_size():
                await asyncio.sleep(0)
            if isinstance(client, ssl.SSLSocket):
                with contextlib.suppress(ssl.SSLError):  # it does not wait for the answer
                    client.unwrap()
            else:
                client.shutdown(socket.SHUT_WR)
            await task
            while connection._transport.get_write_buffer_size():
                await asyncio.sleep(0)


def _ask_for_much(port: int, tls: ssl.SSLContext | None) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    if tls is not None:
        client = tls.wrap_socket(client, server_hostname="localhost")
    client.sendall(b'a LOGIN alice@example.test "correct horse"\r\n')
    client.sendall(b"b SELECT INBOX\r\nc FETCH 1 BODY.PEEK[]\r\n")
    client.setblocking(False)
    return client


async def test_others_are_served_between_commands_that_came_at_once(
    servers: Any, connect: Any
) -> None:
    port = await servers.start()
    client = await connect(port)
    (connection,) = servers.running[0]._connections
    await client.send(b"a NOOP\r\n" * 5000 + b"b LOGOUT\r\n")
    before, most = 0, 0
    while connection in servers.running[0]._connections:
        await asyncio.sleep(0)
        most = max(most, before - connection.framing.buffered)
        before = connection.framing.buffered
    assert most < 100  # octets of commands that were done while nobody else could do anything


async def test_others_are_served_between_the_keys_of_a_search(
    servers: Any, connect: Any, deliver: Any, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeker, "MANY", 2)
    for _ in range(2):
        await deliver(b"Subject: a\r\n\r\n")
    port = await servers.start()
    client = await connect(port)
    await client.log_in()
    await client.ask(b"SELECT INBOX")
    asked = asyncio.create_task(client.ask(b"SEARCH 1" + b" 1:*" * 1000))
    turns = 0
    while not asked.done():
        await asyncio.sleep(0)
        turns += 1
    assert b"* SEARCH 1\r\n" in await asked
    assert turns > 900  # one for each key, but for those before the command was read


async def test_shutdown_says_bye(servers: Any, connect: Any, alice: Account) -> None:
    port = await servers.start()
    silent, idle = await connect(port), await connect(port)
    await idle.log_in()
    await idle.send(b"a IDLE\r\n")
    assert await idle.line() == b"+ idling\r\n"
    await servers.running[0].stop(10)
    bye = b"* BYE [UNAVAILABLE] Server is going down\r\n"
    assert await silent.rest() == bye
    assert await idle.rest() == bye
    with pytest.raises(OSError, match=r"refused|failed"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_listening_twice_on_one_port(servers: Any) -> None:
    port = await servers.start()
    with pytest.raises(OSError, match="in use"):
        await servers.running[0].start(Listener(host="127.0.0.1", port=port))
