"""Ten thousand connections from one address: it is told so at once, and others notice little."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from tests.nodes import Installation, Node
from tests.running import descendants, usage

pytestmark = pytest.mark.faults

COUNT = 10_000
FLOODED_FROM = "127.0.0.2"
OTHER = "127.0.0.3"
PATIENCE = 120.0  # seconds; the machine may be busy
BOUND = 5.0  # seconds that another client may wait for an answer meanwhile
MEMORY = 64 << 10  # KiB that a worker may keep of it, most of which the allocator has free
FILES = 8  # and files, to PostgreSQL


@dataclass(frozen=True)
class Protocol:
    """What is said on a listener."""

    listener: str
    greeting: str
    refusal: str
    ask: bytes
    most: int  # connections of one address, by default


PROTOCOLS = (
    Protocol("smtp", "220", "421", b"NOOP\r\n", 1200),
    Protocol("imap", "* OK", "* BYE", b"a NOOP\r\n", 2000),
)


@dataclass
class Other:
    """Another client, and how long it waits for each answer."""

    node: Node
    protocol: Protocol
    waits: list[float] = field(default_factory=list)

    async def run(self, ends: asyncio.Event) -> None:
        """Connect, ask something, and leave, again and again."""
        while not ends.is_set():
            began = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self.node.port(self.protocol.listener), local_addr=(OTHER, 0)
                )
                for question in (b"", self.protocol.ask):
                    writer.write(question)
                    line = await reader.readline()
                    assert not line.startswith(self.protocol.refusal.encode()), line
            self.waits.append(time.monotonic() - began)
            writer.close()


def taken(node: Node) -> tuple[int, int]:
    """Return KiB of memory and open files of the processes of a node."""
    assert node.process is not None
    return usage(descendants(node.process.pid))


@pytest_asyncio.fixture
async def node(tmp_path: Path, dsn: str, seaweedfs: SeaweedFS) -> AsyncIterator[Node]:
    installation = Installation.make(tmp_path, dsn, seaweedfs)
    node = Node(installation, "flooded")
    await asyncio.to_thread(node.start)
    yield node
    await asyncio.to_thread(node.close)


async def flood(node: Node, protocol: Protocol) -> list[float]:
    """Flood a listener; return how long another client waited each time."""
    other, ends = Other(node, protocol), asyncio.Event()
    task = asyncio.create_task(other.run(ends))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.flood",
        "127.0.0.1", str(node.port(protocol.listener)), FLOODED_FROM, str(COUNT), protocol.greeting,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        said = json.loads(await process.stdout.readline())
        ends.set()
        await task
        process.stdin.close()
        assert await process.wait() == 0
    assert said.pop("greeted") == protocol.most
    (refused,) = said
    assert refused.startswith(protocol.refusal)
    assert said[refused] == COUNT - protocol.most
    return other.waits


async def test_one_address_is_refused_what_is_too_much_and_others_are_served(node: Node) -> None:
    memory, files = taken(node)
    for protocol in PROTOCOLS:
        waits = sorted(await flood(node, protocol))
        print(
            f"{protocol.listener}: another waited {waits[len(waits) // 2]:.3f} s, {waits[-1]:.3f}"
        )
        assert waits[-1] < BOUND
        async with asyncio.timeout(PATIENCE):
            while taken(node)[1] > files + FILES:
                await asyncio.sleep(0.05)  # nothing announces it
    assert taken(node)[0] < memory + MEMORY
