import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from mailserver import tls
from mailserver.app.web import Application, BoundedProtocol, Message, WebServer
from mailserver.config import Http, Listener

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE = 40_000_000
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
PATIENCE = 60  # seconds; the machine may be busy


class Impatient(BoundedProtocol):
    """For peers who say nothing: who does may be too slow for it."""

    head_timeout, body_timeout = 0.2, 0.2


async def application(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer with the length of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving(
    protocol: type[BoundedProtocol] = BoundedProtocol,
    context: ssl.SSLContext | None = None,
    application: Application = application,
    **limits: int | str,
) -> AsyncIterator[tuple[str, int]]:
    server = WebServer(application, Http.model_validate(limits), context, protocol)
    address = await server.start(Listener(enabled=True, host="127.0.0.1", port=0))
    try:
        yield address
    finally:
        await asyncio.wait_for(server.stop(1), PATIENCE)


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return await reader.readexactly(length)


async def cut(reader: asyncio.StreamReader) -> bool:
    """Wait until the server has closed the connection without an answer."""
    try:
        return await asyncio.wait_for(reader.read(), PATIENCE) == b""
    except ConnectionResetError:
        return True


async def test_requests_on_one_connection() -> None:
    async with serving() as address:
        reader, writer = await asyncio.open_connection(*address)
        for size in (0, 10, 5000, 300_000, 0):
            writer.write(POST % size + b"x" * size)
            assert await answer(reader) == str(size).encode()
        writer.write(REQUEST * 3)
        assert [await answer(reader) for _ in range(3)] == [b"0"] * 3
        writer.close()


async def test_one_address_cannot_have_all_connections() -> None:
    async with serving(max_connections_per_ip=2, forwarded_networks="127.0.0.4") as address:
        held = [await asyncio.open_connection(*address) for _ in range(2)]
        reader, writer = await asyncio.open_connection(*address)
        assert (await asyncio.wait_for(reader.readline(), PATIENCE)).startswith(b"HTTP/1.1 503")
        await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        for source in ("127.0.0.3", *["127.0.0.4"] * 3):  # another, and a proxy
            one = await asyncio.open_connection(*address, local_addr=(source, 0))
            held.append(one)
            one[1].write(REQUEST)
            assert await answer(one[0]) == b"0"
        held[0][1].close()
        await until_served(address)
        for _, writer in held:
            writer.close()


async def until_served(address: tuple[str, int]) -> None:
    """Ask until there is room: the server has to notice that another has left."""
    async with asyncio.timeout(PATIENCE):
        while True:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(REQUEST)
            try:
                if (await reader.readline()).startswith(b"HTTP/1.1 200"):
                    return
            except ConnectionError:
                continue
            finally:
                writer.close()


async def talking(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Take WebSockets too, and say nothing on them."""
    if scope["type"] != "websocket":
        await application(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def test_a_websocket_counts_as_a_connection_until_it_ends() -> None:
    async with serving(application=talking, max_connections_per_ip=1) as address:
        async with connect(f"ws://{address[0]}:{address[1]}/"):
            reader, writer = await asyncio.open_connection(*address)
            assert (await asyncio.wait_for(reader.readline(), PATIENCE)).startswith(b"HTTP/1.1 503")
            writer.close()
        await until_served(address)


async def test_a_certificate_of_ours(tmp_path: Path) -> None:
    files = tls.make_development_ca(tmp_path, ["127.0.0.1"], datetime.now(UTC))
    context = tls.server_context(files.certificate, files.key)
    async with serving(context=context) as address:
        trusting = ssl.create_default_context(cafile=str(files.ca))
        reader, writer = await asyncio.open_connection(*address, ssl=trusting)
        writer.write(REQUEST)
        assert await answer(reader) == b"0"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"", id="says nothing"),
        pytest.param(b"GET / HT", id="stalls in the head"),
        pytest.param(POST % 100 + b"half", id="stalls in the body"),
    ],
)
async def test_a_peer_that_stalls_is_cut(start: bytes) -> None:
    async with serving(Impatient) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(start)
        assert await cut(reader)
        writer.close()


async def large(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer with more than the buffers of the kernel hold."""
    headers = [(b"content-length", str(LARGE).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": bytes(LARGE)})


async def test_a_peer_that_does_not_take_its_answer_is_cut() -> None:
    lost = asyncio.Event()

    class Watching(BoundedProtocol):
        send_timeout = 0.2

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    async with serving(Watching, application=large) as address:
        with socket.create_connection(address) as idle:
            idle.sendall(REQUEST)
            await asyncio.wait_for(lost.wait(), PATIENCE)


async def test_a_slow_reader_gets_all_of_a_large_answer() -> None:
    class Watching(BoundedProtocol):
        send_timeout, send_least = 2.0, 1

    async with serving(Watching, application=large) as address:
        reader, writer = await asyncio.open_connection(*address, limit=4096)
        writer.write(REQUEST)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        left = LARGE
        while left:  # the pauses are the subject: together they last longer than the timeout
            left -= len(await asyncio.wait_for(reader.readexactly(LARGE // 10), PATIENCE))
            await asyncio.sleep(0.25)
        writer.close()


async def test_a_head_without_end_is_cut() -> None:
    class Narrow(BoundedProtocol):
        head_timeout, head_limit = 600.0, 4096

    async with serving(Narrow) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\n")
        try:
            for _ in range(1000):
                writer.write(b"X-Header: " + b"x" * 1000 + b"\r\n")
                await writer.drain()
                if reader.at_eof():
                    break
            assert await cut(reader)
        except ConnectionError:
            pass  # cut while we were writing
        writer.close()


async def test_others_are_served_while_many_say_nothing() -> None:
    class Patient(BoundedProtocol):
        head_timeout = 600.0

    async with serving(Patient, max_connections=300) as address:
        silent = [await asyncio.open_connection(*address) for _ in range(200)]
        reader, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST)
        assert await answer(reader) == b"0"
        more = [await asyncio.open_connection(*address) for _ in range(100)]
        reader, refused = await asyncio.open_connection(*address)
        refused.write(REQUEST)
        assert (await asyncio.wait_for(reader.readline(), PATIENCE)).startswith(b"HTTP/1.1 503")
        for _, other in [*silent, *more, (reader, refused), (reader, writer)]:
            other.close()


async def test_nothing_is_left_when_a_port_is_taken() -> None:
    async with serving() as (host, port):
        server = WebServer(application, Http(), None)
        with pytest.raises(OSError, match="in use"):
            await server.start(Listener(enabled=True, host=host, port=port))
        await server.stop(0)
