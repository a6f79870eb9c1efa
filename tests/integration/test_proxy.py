"""Connections through a proxy: who the client is, and what a header changes on the wire."""

import asyncio
import ssl
from collections.abc import Callable

import pytest
import uvloop

from mailserver import proxy
from mailserver.networks import Networks
from tests.integration.conftest import Tls

HEADER = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\n"
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


class Echo(asyncio.Protocol):
    """Says who the client is, then what it hears."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport.get_extra_info("peername"), tuple)
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        named = transport.get_extra_info("peername")[0], transport.get_extra_info("sockname")[0]
        self.transport.write(f"{named[0]} {named[1]}\n".encode())

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """The same with a buffer of its own."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.buffer = bytearray(3)
        Echo.connection_made(self, transport)  # type: ignore[arg-type]

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))  # type: ignore[attr-defined]


async def talk(
    factory: proxy.Factory,
    said: list[bytes],
    *,
    networks: str = "127.0.0.0/8",
    server_tls: ssl.SSLContext | None = None,
    client_tls: ssl.SSLContext | None = None,
    timeout: float = 5.0,
) -> bytes:
    """Say something, after it "after" in TLS or not, and return what is heard."""
    loop = asyncio.get_running_loop()
    behind = proxy.behind(factory, Networks(networks), tls=server_tls, timeout=timeout)
    server = await loop.create_server(behind, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for each in said:
            writer.write(each)
            await writer.drain()
        if client_tls is not None:
            await writer.start_tls(client_tls, server_hostname="localhost")
            writer.write(b"after")
        return await asyncio.wait_for(reader.readuntil(b"after"), 30)
    except (ConnectionError, asyncio.IncompleteReadError):
        return b""
    finally:
        writer.close()
        server.close()


@pytest.mark.parametrize("loop_factory", LOOPS)
@pytest.mark.parametrize("factory", [Echo, BufferedEcho])
def test_the_client_is_the_one_that_the_header_names(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], factory: proxy.Factory
) -> None:
    async def check() -> None:
        named = b"192.0.2.1 198.51.100.2\nhello after"
        assert await talk(factory, [HEADER + b"hello after"]) == named
        assert await talk(factory, [HEADER[:9], HEADER[9:], b"hello after"]) == named
        own = b"127.0.0.1 127.0.0.1\nafter"
        assert await talk(factory, [b"PROXY UNKNOWN\r\nafter"]) == own

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(check())


@pytest.mark.parametrize("loop_factory", LOOPS)
@pytest.mark.parametrize("factory", [Echo, BufferedEcho])
def test_tls_begins_behind_the_header(
    tls: Tls, loop_factory: Callable[[], asyncio.AbstractEventLoop], factory: proxy.Factory
) -> None:
    async def check() -> None:
        both = {"server_tls": tls.server, "client_tls": tls.client}
        named = b"192.0.2.1 198.51.100.2\nafter"
        assert await talk(factory, [HEADER], **both) == named  # type: ignore[arg-type]
        # a client whose handshake arrives in the same packet as the header
        assert await handshake_at_once(tls, factory) == named

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(check())


async def handshake_at_once(tls: Tls, factory: proxy.Factory) -> bytes:
    loop = asyncio.get_running_loop()
    behind = proxy.behind(factory, Networks("127.0.0.1"), tls=tls.server)
    server = await loop.create_server(behind, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = tls.client.wrap_bio(incoming, outgoing, server_hostname="localhost")

    async def step(do: Callable[[], object], before: bytes = b"") -> object:
        while True:
            try:
                result = do()
            except ssl.SSLWantReadError:
                writer.write(before + outgoing.read())
                before = b""
                incoming.write(await asyncio.wait_for(reader.read(65536), 30))
            else:
                writer.write(before + outgoing.read())
                return result

    try:
        await step(client.do_handshake, HEADER)
        await step(lambda: client.write(b"after"))
        heard = b""
        while not heard.endswith(b"after"):
            heard += await step(lambda: client.read(1000))  # type: ignore[operator]
        return heard
    finally:
        writer.close()
        server.close()


async def test_a_proxy_that_sends_no_header_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    assert await talk(Echo, [b"hello"]) == b""
    assert caplog.messages == ["proxy refused"]
    assert await talk(Echo, [b"PROXY "], timeout=0.05) == b""  # slowly, or never to its end
    assert caplog.messages == ["proxy refused"] * 2


async def test_who_is_no_proxy_cannot_pose_as_somebody() -> None:
    heard = await talk(Echo, [HEADER + b"after"], networks="192.0.2.0/24")
    assert heard == b"127.0.0.1 127.0.0.1\n" + HEADER + b"after"
    unchanged = proxy.behind(Echo, Networks(""))
    assert unchanged is Echo
