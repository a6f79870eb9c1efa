"""A server that is frozen while it sends, for longer than others wait for a sign of life.

They send what it had. When it wakes up, in the middle of the conversation, it must not send it
too. Only what the other side had taken, with a reply that was not read, comes twice (RFC 1047).
"""

import asyncio
import contextlib
import json
import os
import signal
import smtplib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from mailserver.model import QueueState
from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from tests.name_server import NameServer
from tests.nodes import PASSWORD, Installation, Node
from tests.running import descendants
from tests.smtp_peer import Peer

pytestmark = pytest.mark.faults

ALICE = "alice@example.test"
LEASE = 5  # seconds, the shortest that the configuration allows
PATIENCE = 60.0  # seconds; the machine may be busy


@dataclass
class Sending:
    """Two servers, of which one is to be frozen, and the server of somebody else."""

    servers: list[Node]
    peer: Peer
    dsn: str

    def submit(self, recipient: str) -> None:
        """Send a message of Alice to somebody elsewhere."""
        node = self.servers[0]
        context = ssl.create_default_context(cafile=str(node.installation.ca))
        with smtplib.SMTP_SSL(
            "127.0.0.1", node.port("submissions"), timeout=PATIENCE, context=context
        ) as client:
            client.login(ALICE, PASSWORD)
            client.sendmail(ALICE, [recipient], f"From: {ALICE}\r\n\r\nhello\r\n")

    def copies(self, recipient: str) -> int:
        """Return how many copies the peer has of what was for somebody."""
        return sum(f"<{recipient}>" in " ".join(each.recipients) for each in self.peer.received)

    async def row(self, recipient: str) -> tuple[int, int]:
        """Return the state of a recipient in the queue, and how often it was tried."""
        connection = await asyncpg.connect(self.dsn)
        row = await connection.fetchrow(
            "SELECT state, attempts FROM queue_recipient WHERE recipient = $1", recipient
        )
        await connection.close()
        assert row is not None
        return row["state"], row["attempts"]


class Freezer:
    """Freezes the server that the peer talks to, once it has come to a step."""

    def __init__(self, servers: list[Node], case: "Case") -> None:
        self._names = {node.name: node for node in servers}
        self._case = case
        self._speaker = ""
        self._pids: list[int] = []
        self._said = {node.name: node.log.read_text().count(case.says) for node in servers}
        self.frozen: Node | None = None

    def say(self, line: str) -> str | None:
        """See what the peer is told, and let it answer as usual."""
        if line.startswith("EHLO"):
            self._speaker = line.split()[1].partition(".")[0]
        elif line.startswith(self._case.step) and self.frozen is None:
            self.frozen = self._names[self._speaker]
            self._pids = self._pids_of(self.frozen)
            self._signal(signal.SIGSTOP)
        return None

    def wake(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)
        self._pids = []

    async def speaks(self) -> None:
        """Wait until it says in its log what it makes of it."""
        assert self.frozen is not None
        async with asyncio.timeout(PATIENCE):
            while self._said[self.frozen.name] == self.frozen.log.read_text().count(
                self._case.says
            ):
                await asyncio.sleep(0.02)  # a file announces nothing

    def _pids_of(self, node: Node) -> list[int]:
        assert node.process is not None
        below = list(descendants(node.process.pid))
        return [node.process.pid, *below] if self._case.whole else below

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


@pytest_asyncio.fixture
async def sending(tmp_path: Path, dsn: str, seaweedfs: SeaweedFS) -> AsyncIterator[Sending]:
    peer, names = Peer(), NameServer()
    port, dns = await peer.start(), await names.start()
    names.add("remote.test", "MX", "10 mx.remote.test.")
    names.add("mx.remote.test", "A", "127.0.0.1")
    installation = Installation.make(
        tmp_path, dsn, seaweedfs,
        MAILSERVER_SMTP__CATCH_OUTBOUND="false",
        MAILSERVER_DNS__SERVERS=f"127.0.0.1:{dns}",
        MAILSERVER_OUTBOUND__PORT=str(port),
        MAILSERVER_OUTBOUND__LEASE=str(LEASE),
        MAILSERVER_OUTBOUND__CONNECTION_MESSAGES="1",  # so that each begins with a name
    )  # fmt: skip
    await asyncio.to_thread(installation.populate, "alice")
    servers = [
        Node(installation, name, {"MAILSERVER_SERVER__HOSTNAME": f"{name}.example.test"})
        for name in ("one", "two")
    ]
    for node in servers:
        node.launch()
    for node in servers:
        await asyncio.to_thread(node.wait)
    yield Sending(servers, peer, dsn)
    for node in servers:
        await asyncio.to_thread(node.close)
    await peer.stop()
    names.stop()


@dataclass(frozen=True)
class Case:
    """When a server is frozen, and what comes of it."""

    step: str  # of the conversation, as the peer hears it
    whole: bool  # the supervisor too
    copies: int  # that the peer gets
    says: str  # when it wakes up


NOT_SENT = "not sent, this worker was stopped for too long"
SENT = "sent, but another worker may have taken it over"
CASES = (
    Case("DATA", whole=False, copies=1, says=NOT_SENT),
    Case("DATA", whole=True, copies=1, says=NOT_SENT),
    Case("END", whole=True, copies=2, says=SENT),
)


async def test_what_a_frozen_server_was_sending_is_sent_by_another(sending: Sending) -> None:
    for number, case in enumerate(CASES):
        recipient = f"user{number}@remote.test"
        freezer = Freezer(sending.servers, case)
        sending.peer.say = freezer.say
        try:
            await asyncio.to_thread(sending.submit, recipient)
            async with asyncio.timeout(PATIENCE):
                while (await sending.row(recipient))[0] != QueueState.DELIVERED:
                    await asyncio.sleep(0.05)  # nothing announces it
        finally:
            freezer.wake()
        assert freezer.frozen is not None
        await freezer.speaks()
        assert sending.copies(recipient) == case.copies
        assert await sending.row(recipient) == (QueueState.DELIVERED, 2)
        # it works again
        await asyncio.to_thread(freezer.frozen.send, "it takes mail")
    for node in sending.servers:
        assert await asyncio.to_thread(node.stop) == 0
    received = [sending.copies(f"user{number}@remote.test") for number in range(len(CASES))]
    assert received == [case.copies for case in CASES]
    report = await asyncio.to_thread(sending.servers[0].installation.command, "fsck", "--json")
    assert json.loads(report)["differences"] == []
