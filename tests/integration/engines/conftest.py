"""Engines of all kinds, and a listener that behaves as badly as a test wants."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from mailserver.address import parse_address
from mailserver.antispam.engines import build
from mailserver.antispam.engines.engine import Engine
from mailserver.antispam.evidence import Client, Inquiry
from mailserver.config import Engine as Settings
from tests.engine_programs import ClamdProgram, IcapProgram, Program, RspamdProgram, SpamdProgram

GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"
HEADER = (
    b"Received: from client.example.org (client.example.org [192.0.2.1])\r\n"
    b"\tby mail.example.test; Fri, 27 Nov 2026 01:00:00 +0000\r\n"
    b"From: Carol <carol@example.org>\r\nTo: alice@example.test\r\nSubject: Hello\r\n"
    b"Date: Fri, 27 Nov 2026 01:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n"
)

Make = Callable[..., Engine]
PATIENCE = 120.0  # seconds


def inquiry(body: bytes = b"Hello Alice,\r\nsee you.\r\n", header: bytes = HEADER) -> Inquiry:
    """Return a message of a client."""
    return Inquiry(
        session="S1",
        client=Client("192.0.2.1", "client.example.org", "client.example.org"),
        sender=parse_address("carol@example.org"),
        recipients=(parse_address("alice@example.test"), parse_address("bob@example.test")),
        raw=header + b"\r\n" + body,
        received_at=datetime(2026, 11, 27, 1, tzinfo=UTC),
    )


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Make]:
    """Build an engine of a kind and an address, with further settings."""
    engines: list[Engine] = []

    def made(kind: str, address: str, **settings: Any) -> Engine:
        # a busy machine may take its time; who waits for that sets less
        told = {"kind": kind, "address": address, "timeout": PATIENCE, **settings}
        chosen = Settings.model_validate(told)
        engines.extend(build([chosen], "mail.example.test"))
        return engines[-1]

    yield made
    for engine in engines:
        await engine.close()


@dataclass
class Impostor:
    """A listener that does one thing with every connection."""

    behave: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    connections: int = 0
    address: str = ""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await self.behave(reader, writer)
        finally:
            writer.transport.abort()

    async def all_gone(self) -> None:
        """Wait until every client has ended its connection."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


Pretend = Callable[..., Awaitable[Impostor]]


@pytest_asyncio.fixture
async def pretend() -> AsyncIterator[Pretend]:
    """Listen somewhere with a behaviour, or with octets to say at once and then end."""
    impostors: list[Impostor] = []

    async def started(
        behaviour: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] | bytes,
    ) -> Impostor:
        async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert isinstance(behaviour, bytes)
            await reader.read(65536)
            writer.write(behaviour)
            await writer.drain()
            writer.write_eof()
            while await reader.read(65536):
                continue

        impostors.append(Impostor(say if isinstance(behaviour, bytes) else behaviour))
        await impostors[-1].start()
        return impostors[-1]

    yield started
    for each in impostors:
        await each.stop()


async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything and say nothing."""
    while await reader.read(65536):
        continue
    await asyncio.Event().wait()


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End at once."""


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Talk without an end."""
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def _running(program: Program, kind: str, service: str = "") -> AsyncIterator[Program]:
    await program.start()
    # it listens, and may have to read its rules before it answers
    settings = {"kind": kind, "address": program.address, "timeout": PATIENCE, "service": service}
    [engine] = build([Settings.model_validate(settings)], "mail.example.test")
    found = await engine.judge(inquiry(), ())
    await engine.close()
    assert found.result != "error", (found.reason, program.output())
    yield program
    await program.stop()


@pytest_asyncio.fixture(scope="session")
async def spamd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Program]:
    async for each in _running(SpamdProgram(tmp_path_factory.mktemp("spamd")), "spamd"):
        yield each


@pytest_asyncio.fixture(scope="session")
async def rspamd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Program]:
    async for each in _running(RspamdProgram(tmp_path_factory.mktemp("rspamd")), "rspamd"):
        yield each


@pytest_asyncio.fixture(scope="session")
async def clamd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Program]:
    async for each in _running(ClamdProgram(tmp_path_factory.mktemp("clamd")), "clamd"):
        yield each


@pytest_asyncio.fixture(scope="session")
async def icap(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Program]:
    scanner = ClamdProgram(tmp_path_factory.mktemp("scanner"), socket=True)
    async for clamd in _running(scanner, "clamd"):
        program = IcapProgram(tmp_path_factory.mktemp("icap"), clamd.address)
        async for each in _running(program, "icap", "avscan"):
            yield each
