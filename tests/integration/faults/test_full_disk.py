"""A disk of PostgreSQL that is full while the others are not: its log of writes, or its tables.

Without room for its log PostgreSQL ends, and cannot start either; without room for tables it
refuses what would make them longer, and goes on.
"""

import asyncio
import contextlib
import json
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mailserver.runtime.embedded.postgres import Postgres
from mailserver.tls import make_development_ca
from tests.chaos.clients import Imap, Smtp, TemporaryRefusal, call, connected
from tests.chaos.cluster import LOGINS, Server, common_settings, make_accounts
from tests.chaos.disk import unmount
from tests.chaos.ledger import message
from tests.chaos.load import LOST, read_account
from tests.name_server import NameServer
from tests.running import run_command

pytestmark = pytest.mark.faults

ALICE = LOGINS[0]
ROOM = "256m"  # of the file system, far more than is used
SIZE = 1_000_000  # octets of a message; half as many are written
DRAFT = "draft"  # the subject of what is written by JMAP
PATIENCE = 120  # seconds; the machine may be busy


@dataclass
class Machine:
    """An embedded server with one folder of its PostgreSQL on a file system of its own."""

    server: Server
    ca: Path
    place: Path

    @property
    def nodes(self) -> tuple[Server]:
        """Return those whom clients talk to."""
        return (self.server,)

    def fill(self) -> None:
        """Leave no room."""
        filler = self.place / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(2**16))

    def make_room(self) -> None:
        """Give back what was filled."""
        (self.place / "filler").unlink()

    def logged(self) -> list[dict[str, Any]]:
        """Return what the server has logged."""
        whole = self.server.log.read_text().rpartition("\n")[0]  # one may just be written
        return [json.loads(line) for line in whole.splitlines()]

    async def deliver(self, name: str, size: int = SIZE) -> None:
        """Send a message to Alice; return when it was answered with 250."""
        async with connected(self.server, "smtp", None) as line:
            smtp = Smtp(line)
            await smtp.greet()
            await smtp.send("load@example.org", ALICE, message(name, size))

    async def write_by_jmap(self, name: str) -> None:
        """Store a large draft, or raise what it was refused with."""
        mailboxes = await call(self.server, ALICE, ["Mailbox/get", {"ids": None}, "0"])
        draft = {
            "mailboxIds": {mailboxes[0][1]["list"][0]["id"]: True},
            "subject": DRAFT,
            "bodyValues": {"1": {"value": message(name, SIZE).decode()}},
            "textBody": [{"partId": "1", "type": "text/plain"}],
        }
        answer = await call(self.server, ALICE, ["Email/set", {"create": {"a": draft}}, "0"])
        refused = answer[0][1]["notCreated"]
        if refused:
            assert refused["a"]["type"] == "serverUnavailable"
            raise TemporaryRefusal(str(refused))

    async def remove_drafts(self) -> None:
        """Remove what `write_by_jmap` stored."""
        ids = {"resultOf": "q", "name": "Email/query", "path": "/ids"}
        query = ["Email/query", {"filter": {"subject": DRAFT}}, "q"]
        await call(self.server, ALICE, query, ["Email/set", {"#destroy": ids}, "d"])


@pytest.fixture
def small_disks() -> Iterator[list[Path]]:
    """Places that are unmounted in the end."""
    places: list[Path] = []
    yield places
    for place in places:
        unmount(place)


def put_on_small_disk(place: Path) -> None:
    """Move a folder onto a file system of its own; skip where that is not allowed."""
    owner, before = place.stat(), place.with_name("before")
    place.rename(before)
    place.mkdir()
    options = f"size={ROOM},mode=700,uid={owner.st_uid},gid={owner.st_gid}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip("this test may not mount a file system")
    subprocess.run(["cp", "-a", f"{before}/.", str(place)], check=True)
    shutil.rmtree(before)


@pytest_asyncio.fixture
async def machine(
    tmp_path: Path, small_disks: list[Path], request: pytest.FixtureRequest
) -> AsyncIterator[Machine]:
    data = tmp_path / "data"
    data.mkdir(mode=0o711)
    postgres = Postgres(data / "postgresql")
    await postgres.start()
    await postgres.stop()
    place = postgres.data / request.param
    put_on_small_disk(place)
    small_disks.append(place)
    names = NameServer()
    tls = make_development_ca(tmp_path / "tls", ["127.0.0.1"], datetime.now(UTC))
    config = tmp_path / "server.toml"
    config.write_text(
        common_settings(tls.certificate, tls.key, peer_port=9, dns_port=await names.start())
        + f"[embedded]\nenabled = true\ndata_dir = {json.dumps(str(data))}\n"
    )
    # it ends with the test, so that nothing keeps the disk
    server = Server("server", tmp_path, config, prefix=("setpriv", "--pdeathsig", "KILL"))
    await server.start()
    await asyncio.to_thread(make_accounts, tmp_path, config)
    yield Machine(server, tls.ca, place)
    if server.running:
        await server.kill()
    names.stop()


async def until_refused(attempt: Callable[[str], Awaitable[object]], name: str) -> list[str]:
    """Do the same under ever new names until that is refused for now; return those that it was not.

    There may be room left over.
    """
    accepted: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await attempt(f"{name}-{len(accepted)}")
            except TemporaryRefusal:
                return accepted
            accepted.append(f"{name}-{len(accepted)}")


async def until_delivered(machine: Machine, name: str) -> None:
    """Deliver as soon as the server takes mail again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await machine.deliver(name)
            except (TemporaryRefusal, *LOST):
                await asyncio.sleep(0.1)  # as a sender that comes back


async def open_mailbox(machine: Machine, stack: AsyncExitStack) -> Imap:
    tls = ssl.create_default_context(cafile=str(machine.ca))
    imap = Imap(await stack.enter_async_context(connected(machine.server, "imaps", tls)))
    await imap.open(ALICE)
    return imap


async def works_again(machine: Machine, imap: Imap, accepted: set[str]) -> None:
    """Check that clients of before go on, and that nothing that was accepted is missing."""
    await until_delivered(machine, "after")
    await imap.append("INBOX", message("appended after", SIZE))
    await imap.command(b"UID STORE 1 +FLAGS (kept)")
    await machine.write_by_jmap(DRAFT)
    await machine.remove_drafts()
    found = await read_account(machine, machine.server, ALICE)
    assert accepted | {"after", "appended after"} <= set(found.names)
    assert max(found.names.values()) == 1
    config = str(machine.server.config)
    report = await asyncio.to_thread(run_command, "fsck", "--json", "--config", config)
    assert json.loads(report)["differences"] == []
    assert machine.server.started == 1
    assert await machine.server.stop() == 0
    assert [each for each in machine.logged() if "exception" in each] == []


@pytest.mark.parametrize("machine", ["pg_wal"], indirect=True)
async def test_without_room_for_its_log_postgresql_comes_back_when_there_is_some(
    machine: Machine,
) -> None:
    await machine.deliver("before")
    async with AsyncExitStack() as stack:
        imap = await open_mailbox(machine, stack)
        machine.fill()
        accepted = await until_refused(machine.deliver, "full")
        async with asyncio.timeout(PATIENCE):
            while not any(
                each["message"] == "service does not start"
                and "No space left on device" in each["error"]
                for each in machine.logged()
            ):
                accepted += await until_refused(machine.deliver, f"again-{len(accepted)}")
        for attempt in (
            imap.append("INBOX", message("refused", 1000)),
            imap.command(b"UID STORE 1 +FLAGS (lost)"),
            imap.command(b"UID FETCH 1 (BODY.PEEK[])"),
            machine.write_by_jmap(DRAFT),
        ):
            with pytest.raises(TemporaryRefusal):
                await attempt
        await imap.command(b"NOOP")
        machine.make_room()
        await works_again(machine, imap, {"before", *accepted})


@pytest.mark.parametrize("machine", ["base"], indirect=True)
async def test_without_room_for_tables_mail_is_read_and_deferred(machine: Machine) -> None:
    await machine.deliver("before")
    async with AsyncExitStack() as stack:
        imap = await open_mailbox(machine, stack)
        machine.fill()
        accepted = await until_refused(machine.deliver, "full")
        accepted += await until_refused(
            lambda name: imap.append("INBOX", message(name, SIZE)), "appended"
        )
        await until_refused(machine.write_by_jmap, DRAFT)
        # what is there is read, by connections of before and by new ones
        (read,) = await imap.command(b"UID FETCH 1 (BODY.PEEK[])")
        assert b"Subject: before" in read
        again = await open_mailbox(machine, stack)
        assert await again.command(b"UID FETCH 1 (BODY.PEEK[])") == [read]
        at = ("--config", str(machine.server.config))
        said = await asyncio.to_thread(run_command, "doctor", "--json", *at, codes=(1, 4))
        assert f"0.0 GiB free in {machine.place}" in said
        machine.make_room()
        await works_again(machine, imap, {"before", *accepted})
