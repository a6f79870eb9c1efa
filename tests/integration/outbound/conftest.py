"""A worker of the queue, a name server and other mail servers on loopback."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mailserver.config import Config
from mailserver.dns import Resolver
from mailserver.feedback.tally import Tally
from mailserver.mail import delivery
from mailserver.mail.context import Mail
from mailserver.model import Account, QueueId, QueueState
from mailserver.queue.enqueue import Outgoing, OutgoingRecipient
from mailserver.smtp.outbound.connection import Timeouts
from mailserver.smtp.outbound.courier import Contexts
from mailserver.smtp.outbound.worker import Worker
from mailserver.tls import client_context
from tests.integration.conftest import Tls
from tests.name_server import NameServer
from tests.running import free_port
from tests.smtp_peer import Peer

QUICK = Timeouts(
    connect=6, greeting=6, command=6, data=6, block=6, final=6, quit=1, idle=30
)  # a peer that stalls is given up soon
LETTER = b"From: alice@example.test\r\nTo: carol@example.org\r\nSubject: Hello\r\n\r\nHello\r\n"


@pytest.fixture
def port() -> int:
    """The port on which all other servers listen, each on an address of its own."""
    return free_port()


@pytest_asyncio.fixture
async def names() -> AsyncIterator[NameServer]:
    server = NameServer()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def config(names: NameServer, port: int, request: pytest.FixtureRequest) -> Config:
    """The configuration, with what a test is marked with for `outbound`."""
    resolver = await names.start()
    return Config.model_validate(
        {
            "server": {"hostname": "mail.example.test", "secret_key": "of the tests"},
            "dns": {
                "servers": f"127.0.0.1:{resolver}",
                "timeout": 10,
                "attempts": 1,
                "validating": True,
            },
            "outbound": {"port": port, **getattr(request, "param", {})},
        }
    )


@dataclass
class Sending:
    """What tests do with the queue."""

    mail: Mail
    alice: Account
    names: NameServer
    port: int
    tls: Tls
    workers: list[Worker] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    authorities: list[Path] = field(default_factory=list)  # believed beside that of `tls`
    https_port: int = 443
    tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(self.mail.database, self.mail.now)

    async def peer(self, address: str = "127.0.0.2", **options: Any) -> Peer:
        """Start another mail server."""
        peer = Peer(address=address, port=self.port, **options)
        await peer.start()
        self.peers.append(peer)
        return peer

    def domain(self, domain: str, *hosts: tuple[int, str, str]) -> None:
        """Give a domain MX records: preference, name and address of each host."""
        self.names.add(domain, "MX", *(f"{preference} {host}." for preference, host, _ in hosts))
        for _, host, address in hosts:
            self.names.add(host, "A", address)

    async def send(
        self,
        *recipients: str,
        raw: bytes = LETTER,
        sender: str = "alice@example.test",
        notify: str | None = None,
        **options: Any,
    ) -> QueueId:
        """Queue a message as a submission does."""
        outgoing = Outgoing(
            self.alice.id,
            sender,
            tuple(
                OutgoingRecipient(each, each.rpartition("@")[2], notify=notify)
                for each in recipients
            ),
            "test",
            **options,
        )
        done = await delivery.accept(
            self.mail, raw, (), received_at=self.mail.now(), outgoing=outgoing
        )
        assert done.queue_id is not None
        return done.queue_id

    async def work(self, name: str = "one", timeouts: Timeouts = QUICK) -> Worker:
        """Start a worker."""
        resolver = Resolver(self.mail.config.dns, asyncio.get_running_loop().time)
        verified = client_context(verify=True)
        for ca in (self.tls.ca, *self.authorities):
            verified.load_verify_locations(ca)
        worker = Worker(
            self.mail,
            resolver,
            name,
            contexts=Contexts(verified=verified),
            timeouts=timeouts,
            chance=random.Random(1),
            https_port=self.https_port,
            tally=self.tally,
        )
        self.workers.append(worker)
        self.tasks.append(asyncio.create_task(worker.run()))
        return worker

    async def stop(self) -> None:
        for worker in self.workers:
            await worker.stop(5)
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for peer in self.peers:
            await peer.stop()

    async def rows(self) -> list[dict[str, Any]]:
        rows = await self.mail.database.fetch(
            "SELECT * FROM queue_recipient ORDER BY message_id, recipient"
        )
        return [dict(row) for row in rows]

    async def until(self, what: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Wait until the rows of the queue are so; nothing announces them to a test."""
        async with asyncio.timeout(30):
            while True:
                rows = await self.rows()
                if what(rows):
                    return rows
                await asyncio.sleep(0.02)

    async def settled(self, recipient: str, state: QueueState) -> dict[str, Any]:
        """Wait until an attempt for a recipient has ended in a state."""

        def found(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [
                row
                for row in rows
                if row["recipient"] == recipient
                and row["state"] == state
                and row["last_reply"] is not None
            ]

        return found(await self.until(lambda rows: bool(found(rows))))[0]

    async def due(self, by: timedelta = timedelta(days=1)) -> None:
        """Let time pass for what waits: it becomes due now."""
        await self.mail.database.execute(
            "UPDATE queue_recipient SET next_attempt = $1 WHERE state = 0",
            self.mail.now() - timedelta(seconds=1),
        )


Start = Callable[[], Awaitable[datetime]]


@pytest_asyncio.fixture
async def sending(
    mail: Mail, alice: Account, names: NameServer, port: int, tls: Tls
) -> AsyncIterator[Sending]:
    found = Sending(mail, alice, names, port, tls)
    yield found
    await found.stop()
