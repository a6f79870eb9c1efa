"""Two workers against one: deliveries by SMTP, commands of IMAP, and both at once, a second.

On the cores of a server nothing runs but its workers: PostgreSQL, the object store and the clients
are elsewhere. Here all share the machine. So each worker gets a small share of a core (`limited`):
one has one such core, two have two, and everything else takes what it wants of the rest, as `cores`
tells. `shared` is the same without a limit and says less, for there the others take what they
want: `bounds` are the largest ratios that the cores allow then.

`cpu_ms` is what one operation costs each program. Each user has two devices, which take turns and
are often served by different workers, and gets mail by connections that are served by any.
"""

import asyncio
import contextlib
import json
import os
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import cpu_share
from tests.running import RunningServer, descendants

SECONDS, QUICK_SECONDS = 12.0, 4.0  # of each phase
TURNS = 4
WARM_SECONDS = 2.0
SHARE = 0.25  # of a core for each worker
USERS = 48
DEVICES = 2  # of each user
MESSAGES = 6  # that each user has at first
PASSWORD = "correct horse"
TARGET = 1.6
TICK = os.sysconf("SC_CLK_TCK")
TIMEOUT = 120.0  # seconds for one answer
BODY = "".join(f"line {number} of a message like many others\r\n" for number in range(400))
MESSAGE = f"From: a@example.org\r\nSubject: bench\r\n\r\n{BODY}.\r\n".encode()
COMMANDS = (
    b"NOOP",
    b"FETCH 1:5 (UID FLAGS ENVELOPE BODYSTRUCTURE)",
    b"FETCH 1 BODY.PEEK[]",
    b"STORE 2 +FLAGS (\\Seen)",
    b"STORE 2 -FLAGS (\\Seen)",
    b"SEARCH UNSEEN",
    b"STATUS INBOX (MESSAGES UNSEEN)",
)
LIMIT = 16 * 1024 * 1024  # octets of the answers to all of them


@dataclass
class Loaded:
    """A server under load, with its users."""

    server: RunningServer
    users: "Sequence[User]"


@dataclass
class Sums:
    """What was done in several turns, and what it cost."""

    done: int = 0
    took: float = 0.0  # seconds
    used: Counter[str] = field(default_factory=Counter)  # seconds of CPU, by program

    def shown(self) -> dict[str, Any]:
        """Return the rate and the CPU."""
        costs = {name: self.used[name] / self.done * 1000 for name in ("workers", "postgres")}
        return {
            "per_second": round(self.done / self.took, 1),
            "cpu_ms": {name: round(cost, 3) for name, cost in costs.items()},
            "cores": {name: round(used / self.took, 2) for name, used in self.used.items()},
        }


def run(quick: bool) -> dict[str, object]:
    """Load a server with one worker and one with two; return the rates, their ratios, the CPU."""
    return asyncio.run(_run(QUICK_SECONDS if quick else SECONDS))


async def _run(seconds: float) -> dict[str, object]:
    cores = os.cpu_count() or 1
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(_loaded(count)) for count in (1, 2)]
        shared = await _compared(servers, seconds)
        shared["bounds"] = {
            phase: round(cores / sum(one["cores"].values()), 2)
            for phase, one in shared["one_worker"].items()
        }
        reason = cpu_share.why_not()
        limited: dict[str, Any] = {"not_measured": reason}
        if reason is None:
            for each in servers:
                stack.enter_context(cpu_share.limited(each.server.workers(), SHARE))
            limited = {"share_of_a_core": SHARE, **await _compared(servers, seconds)}
    counts = shared if reason is not None else limited
    return {
        "cores": cores,
        "limited": limited,
        "shared": shared,
        "target_ratio_mixed": TARGET,
        "within_target": counts["ratios"]["mixed"] >= TARGET,
    }


async def _compared(servers: Sequence[Loaded], seconds: float) -> dict[str, Any]:
    """Load one server after the other in turns, so that they meet the same machine."""
    sums = [{phase: Sums() for phase in PHASES} for _ in servers]
    for _ in range(TURNS):
        for phase, work in PHASES.items():
            for loaded, found in zip(servers, sums, strict=True):
                await _turn(loaded, work, seconds / TURNS, found[phase])
    one, two = ({phase: each.shown() for phase, each in found.items()} for found in sums)
    rates = {phase: two[phase]["per_second"] / one[phase]["per_second"] for phase in PHASES}
    return {
        "one_worker": one,
        "two_workers": two,
        "ratios": {phase: round(rate, 2) for phase, rate in rates.items()},
    }


@contextlib.asynccontextmanager
async def _loaded(workers: int) -> AsyncIterator[Loaded]:
    """Run a server with so many workers, whose users have mail and are connected."""
    environment = {"MAILSERVER_SERVER__WORKERS": str(workers)}
    with tempfile.TemporaryDirectory() as folder:
        server = RunningServer(Path(folder) / "data", environment)
        server.start()
        try:
            accounts = Path(folder) / "accounts.csv"
            rows = [f"u{number}@example.test,,{PASSWORD},,\n" for number in range(USERS)]
            accounts.write_text("login,name,password,quota,aliases\n" + "".join(rows))
            server.command("account", "import", str(accounts))
            async with _connected(server) as users:
                for _ in range(MESSAGES):
                    await asyncio.gather(*map(User.deliver, users))
                await _load(User.do_both, users, WARM_SECONDS)
                yield Loaded(server, users)
        finally:
            server.close()


class Wire:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, sent: bytes, end: bytes) -> bytes:
        """Send something; return the answer up to the line in which `end` comes."""
        self._writer.write(sent)
        async with asyncio.timeout(TIMEOUT):
            answer = await self._reader.readuntil(end)
            return answer + await self._reader.readuntil(b"\n")

    def close(self) -> None:
        """Close it without a word."""
        self._writer.transport.abort()


@dataclass
class User:
    """A user's devices, and a server that sends mail to all users in turn."""

    sender: Wire
    devices: Sequence[Wire]
    recipient: int
    turns: int = 0

    async def deliver(self) -> int:
        """Send a message to the next user; return 1, for one operation."""
        self.recipient = (self.recipient + 1) % USERS
        commands = (
            f"MAIL FROM:<a@example.org>\r\nRCPT TO:<u{self.recipient}@example.test>\r\nDATA\r\n"
        )
        await self.sender.ask(commands.encode(), b"354 ")
        await self.sender.ask(MESSAGE, b"250 ")
        return 1

    async def read(self) -> int:
        """Do what clients do with mail, on the next device; return how many commands."""
        self.turns += 1
        device = self.devices[self.turns % DEVICES]
        lines = b"".join(b"t%d %b\r\n" % pair for pair in enumerate(COMMANDS))
        answer = await device.ask(lines, b"\r\nt%d " % (len(COMMANDS) - 1))
        assert all(b"\r\nt%d OK " % each in b"\r\n" + answer for each in range(len(COMMANDS))), (
            answer
        )
        return len(COMMANDS)

    async def do_both(self) -> int:
        """Read while a message is sent; one counts as much as a command."""
        return sum(await asyncio.gather(self.deliver(), self.read()))


Work = Callable[[User], Awaitable[int]]
PHASES: dict[str, Work] = {"delivery": User.deliver, "imap": User.read, "mixed": User.do_both}


@contextlib.asynccontextmanager
async def _connected(server: RunningServer) -> AsyncIterator[list[User]]:
    """Connect all, one after the other, so that a worker hashes one password at a time."""
    context = ssl.create_default_context(cafile=str(server.info["ca"]))
    async with contextlib.AsyncExitStack() as stack:

        async def connect(listener: str, tls: ssl.SSLContext | None) -> Wire:
            host, port = server.address(listener)
            wire = Wire(*await asyncio.open_connection(host, port, ssl=tls, limit=LIMIT))
            stack.callback(wire.close)
            return wire

        users = []
        for number in range(USERS):
            devices = [await connect("imaps", context) for _ in range(DEVICES)]
            for device in devices:
                login = f't LOGIN u{number}@example.test "{PASSWORD}"\r\n'
                await device.ask(login.encode(), b"t OK ")
                await device.ask(b"t SELECT INBOX\r\n", b"t OK ")
            sender = await connect("smtp", None)
            await sender.ask(b"", b"220 ")
            await sender.ask(b"EHLO bench.example.org\r\n", b"250 ")
            users.append(User(sender, devices, number))
        yield users


async def _load(work: Work, users: Sequence[User], seconds: float) -> int:
    """Let every user do the same again and again for a time; return how much was done."""
    end = time.monotonic() + seconds

    async def repeat(user: User) -> int:
        done = 0
        while time.monotonic() < end:
            done += await work(user)
        return done

    return sum(await asyncio.gather(*map(repeat, users)))


async def _turn(loaded: Loaded, work: Work, seconds: float, sums: Sums) -> None:
    """Load a server for a time, and add what was done."""
    before, began = _cpu(loaded.server), time.monotonic()
    sums.done += await _load(work, loaded.users, seconds)
    sums.took += time.monotonic() - began
    after = _cpu(loaded.server)
    sums.used.update({name: used - before[name] for name, used in after.items()})


def _cpu(server: RunningServer) -> dict[str, float]:
    """Return the CPU seconds of each part of the server, of its services, and of the load.

    Children that have ended count as their parents.
    """
    workers = set(server.workers())
    used = {"workers": 0.0, "supervisor": 0.0, "postgres": 0.0, "weed": 0.0}
    for pid in (server.pid, *descendants(server.pid)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
            fields = rest.split()
            of = name if name in used else "workers" if pid in workers else "supervisor"
            used[of] += sum(map(int, fields[11:15])) / TICK
    return used | {"load": time.process_time()}


if __name__ == "__main__":
    print(json.dumps(run(quick=False), indent=2))
