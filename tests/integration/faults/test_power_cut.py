"""Power cuts of the disk under load: what was acknowledged is there, once and whole.

The whole server is on one disk: PostgreSQL, SeaweedFS, their keys and temporary files. Half of the
cuts stop everything in the same instant. In the others the disk goes first, and for a moment all
that runs on it goes on: what is acknowledged then is a promise too. POWER_CUTS, POWER_SEED and
POWER_FS say how many cuts there are, with what chance, and of what file system.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from mailserver.tls import make_development_ca
from tests.chaos.cluster import LOGINS, Server, common_settings, make_accounts
from tests.chaos.disk import Disk
from tests.chaos.ledger import Found, compare, name_of
from tests.chaos.load import Load, read_account
from tests.name_server import NameServer
from tests.running import descendants, run_command
from tests.smtp_peer import Peer

pytestmark = pytest.mark.faults

CUTS = int(os.environ.get("POWER_CUTS", "2"))
SEED = int(os.environ.get("POWER_SEED", "20261127"))
PACE = 0.02  # seconds between two acts of one client
DROP_AFTER = 5  # seconds: many cuts come between the copy of a body and the barrier
LATER = 1.0  # seconds at most that a server runs on a dead disk
PATIENCE = 120.0  # seconds; the machine may be busy
# a cut between the copy of a body and its row leaves an object, and fsck is there to tell
ORPHAN = "every object belongs to a blob"


@dataclass
class Machine:
    """One server with all that it stores, and the server of somebody else."""

    disk: Disk
    server: Server
    ca: Path
    peer: Peer

    @property
    def nodes(self) -> tuple[Server]:
        """Return those whom clients talk to."""
        return (self.server,)

    async def cut(self, chance: random.Random, *, disk_first: bool) -> None:
        """Take what the disk has at this instant, and switch on again with that."""
        assert self.server.process is not None
        if disk_first:
            self.disk.stop()
            await asyncio.sleep(chance.uniform(0, LATER))
        else:
            for pid in [self.server.process.pid, *descendants(self.server.process.pid)]:
                with contextlib.suppress(ProcessLookupError):  # a backend that had just ended
                    os.kill(pid, signal.SIGSTOP)
            self.disk.stop()
        await self.server.kill()
        await asyncio.to_thread(self.disk.power_on)
        await self.server.start()

    async def read(self) -> dict[str, Found]:
        """Read every message of every account."""
        return {login: await read_account(self, self.server, login) for login in LOGINS}

    async def until_moved(self) -> None:
        """Wait until the bodies of all messages are in SeaweedFS only."""
        place = self.disk.place / "data" / "postgresql"
        elsewhere = place / "socket-directory"  # where the path here is too long for a socket
        connection = await asyncpg.connect(
            host=elsewhere.read_text() if elsewhere.exists() else str(place / "socket"),
            user="mailserver",
            password=(place / "password").read_text(),
            database="mail",
        )
        async with asyncio.timeout(PATIENCE):
            while await connection.fetchval("SELECT count(*) FROM blob_hot"):
                await asyncio.sleep(0.1)  # nothing announces it
        await connection.close()

    def fsck(self) -> list[str]:
        """Recount everything, and return what is wrong."""
        at = ("--config", str(self.server.config))
        report = json.loads(run_command("fsck", "--json", *at, codes=(0, 1)))
        return [str(each) for each in report["differences"] if each["rule"] != ORPHAN]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path, os.environ.get("POWER_FS", "ext4"))
    yield disk
    disk.close()


@pytest_asyncio.fixture
async def machine(tmp_path: Path, disk: Disk) -> AsyncIterator[Machine]:
    peer = Peer()
    names = NameServer()
    peer_port, dns_port = await asyncio.gather(peer.start(), names.start())
    names.add("remote.test", "MX", "10 mx.remote.test.")
    names.add("mx.remote.test", "A", "127.0.0.1")
    tls = make_development_ca(tmp_path / "tls", ["127.0.0.1"], datetime.now(UTC))
    config = tmp_path / "server.toml"
    config.write_text(
        common_settings(tls.certificate, tls.key, peer_port, dns_port, DROP_AFTER)
        + f"[embedded]\nenabled = true\ndata_dir = {json.dumps(str(disk.place / 'data'))}\n"
    )
    # it ends with the test, so that nothing keeps the disk
    server = Server("server", tmp_path, config, prefix=("setpriv", "--pdeathsig", "KILL"))
    await server.start()
    await asyncio.to_thread(make_accounts, tmp_path, config)
    machine = Machine(disk, server, tls.ca, peer)
    yield machine
    if server.running:
        await server.stop()
    await peer.stop()
    names.stop()


async def test_nothing_acknowledged_is_lost(machine: Machine) -> None:
    chance = random.Random(SEED)
    load = Load(machine, random.Random(SEED + 1), PACE)
    for number in range(CUTS):
        context = f"cut {number}, seed {SEED}"
        flushes, promises = machine.disk.flushes(), load.ledger.promises
        load.start()
        async with asyncio.timeout(PATIENCE):
            while load.ledger.promises < promises + 50:  # of all kinds, and more by and by
                await asyncio.sleep(0.05)
        for _ in range(chance.randrange(30)):
            machine.disk.write_back(chance)
            await asyncio.sleep(chance.uniform(0, 0.2))  # when the cut comes is what varies
        assert machine.disk.flushes() > flushes
        await machine.cut(chance, disk_first=number % 2 == 1)
        await load.stop()
        arrived = await _until_sent(machine, load)
        assert compare(load.ledger, await machine.read(), arrived) == [], context
        # objects that were lost have been written anew, and there is nothing but objects then
        await machine.until_moved()
        assert await asyncio.to_thread(machine.fsck) == [], context
        assert compare(load.ledger, await machine.read(), arrived) == [], context
    assert load.ledger.delivered
    assert load.ledger.submitted
    assert load.ledger.flags
    assert load.ledger.places
    print(f"{CUTS} cuts, {load.ledger.promises} promises kept")


async def _until_sent(machine: Machine, load: Load) -> Counter[str]:
    """Wait until everything that was to leave has left, and return how often each did."""
    async with asyncio.timeout(PATIENCE):
        while True:
            arrived = Counter(name_of(each.content) for each in machine.peer.received)
            if load.ledger.submitted <= arrived.keys():
                return arrived
            machine.peer.arrived.clear()
            await machine.peer.arrived.wait()
