"""Users and servers at work, until told to stop; every promise goes into the ledger."""

import asyncio
import random
import re
import ssl
import zlib
from collections.abc import Awaitable, Callable

import aiohttp

from tests.chaos.clients import Imap, Smtp, TemporaryRefusal, call, connected
from tests.chaos.cluster import LOGINS, Server, Servers
from tests.chaos.ledger import GONE, INBOX, FlagKey, Found, Ledger, message, name_of

SENDERS = 3
SUBMITTERS = 2
PAUSE = 0.05  # seconds between two tries of a client that lost its connection
KEPT = "Kept"  # a mailbox into which messages are moved
READ_AT_ONCE = 100  # messages of a FETCH
# How a client may lose its server; anything else that goes wrong is a failure of the run.
LOST = (OSError, asyncio.IncompleteReadError, TimeoutError, aiohttp.ClientError)

_UID = re.compile(rb"UID (\d+)")
_FLAGS = re.compile(rb"FLAGS \(([^)]*)\)")


class Load:
    """The clients of one run."""

    def __init__(self, servers: Servers, chance: random.Random, pace: float) -> None:
        """Plan a load; `pace` is the pause of each client after a success, in seconds."""
        self._servers = servers
        self._chance = chance
        self._pace = pace
        self._tls = ssl.create_default_context(cafile=str(servers.ca))
        self._tasks: list[asyncio.Task[None]] = []
        self._counts: dict[str, int] = {}
        self.ledger = Ledger()
        self.stopping = False
        self.names: dict[tuple[str, int], str] = {}  # of messages, by login and UID

    def start(self) -> None:
        """Put every client to work, again after a stop."""
        self.stopping = False
        works: dict[str, Callable[[str, Server], Awaitable[None]]] = {}
        works |= {f"smtp{n}": self._deliver for n in range(SENDERS)}
        works |= {f"submission{n}": self._submit for n in range(SUBMITTERS)}
        works |= {f"imap-{login.partition('@')[0]}": self._flag for login in LOGINS[:2]}
        works |= {f"file-{login.partition('@')[0]}": self._file for login in LOGINS[2:]}
        works |= {f"jmap-{login.partition('@')[0]}": self._set for login in LOGINS[:2]}
        self._tasks = [
            asyncio.create_task(self._keep(name, work), name=name) for name, work in works.items()
        ]

    async def stop(self) -> None:
        """Let every client finish what it does; raise what went wrong in one."""
        self.stopping = True
        await asyncio.gather(*self._tasks)

    @property
    def failed(self) -> bool:
        """Tell whether a client saw what it never may."""
        return any(task.done() and not self.stopping for task in self._tasks)

    async def _keep(self, client: str, work: Callable[[str, Server], Awaitable[None]]) -> None:
        kind = client.rstrip("0123456789").partition("-")[0]
        while not self.stopping:
            node = self._chance.choice(self._servers.nodes)
            try:
                await work(client, node)
            except TemporaryRefusal:
                self.ledger.refused[kind] += 1
            except LOST:
                self.ledger.broken[kind] += 1
            await asyncio.sleep(PAUSE)

    def _next(self, client: str) -> str:
        self._counts[client] = self._counts.get(client, 0) + 1
        return f"{client}-{self._counts[client]}"

    async def _deliver(self, client: str, node: Server) -> None:
        async with connected(node, "smtp", None) as line:
            smtp = Smtp(line)
            await smtp.greet()
            while not self.stopping:
                name, login = self._next(client), self._chance.choice(LOGINS)
                await smtp.send("load@example.org", login, message(name, _size(name)))
                self.ledger.deliver(login, name)
                await asyncio.sleep(self._pace)

    async def _submit(self, client: str, node: Server) -> None:
        login = LOGINS[-1]
        async with connected(node, "submissions", self._tls) as line:
            smtp = Smtp(line)
            await smtp.greet(login)
            while not self.stopping:
                name = self._next(client)
                content = message(name, 1000).replace(b"load@example.org", login.encode(), 1)
                await smtp.send(login, "someone@remote.test", content)
                self.ledger.submitted.add(name)
                await asyncio.sleep(self._pace)

    async def _file(self, client: str, node: Server) -> None:
        """Store messages; leave one, move the next, remove the third."""
        login = f"{client.partition('-')[2]}@example.test"
        async with connected(node, "imaps", self._tls) as line:
            imap = Imap(line)
            await imap.open(login)
            if KEPT not in await imap.mailboxes():
                await imap.command(f"CREATE {KEPT}".encode())
            while not self.stopping:
                name = self._next(client)
                uid = await imap.append(INBOX, message(name, _size(name)))
                self.ledger.deliver(login, name)
                turn = zlib.crc32(name.encode()) % 3
                if turn == 0:
                    self.ledger.file(login, name, INBOX, KEPT)
                    await imap.command(f"UID MOVE {uid} {KEPT}".encode())
                    self.ledger.file(login, name, KEPT)
                elif turn == 1:
                    self.ledger.file(login, name, INBOX, GONE)
                    await imap.command(rb"UID STORE %d +FLAGS.SILENT (\Deleted)" % uid)
                    await imap.command(b"UID EXPUNGE %d" % uid)
                    self.ledger.file(login, name, GONE)
                await asyncio.sleep(self._pace)

    async def _flag(self, client: str, node: Server) -> None:
        """Set and remove the keyword of this client, on one message after the other."""
        login = f"{client.partition('-')[2]}@example.test"
        async with connected(node, "imaps", self._tls) as line:
            imap = Imap(line)
            await imap.open(login)
            while not self.stopping:
                listed = await imap.command(b"UID FETCH * (UID)")
                newest = max((int(each[1]) for each in map(_UID.search, listed) if each), default=0)
                if newest:
                    await self._flag_one(imap, login, self._chance.randint(1, newest))
                await asyncio.sleep(self._pace)

    async def _flag_one(self, imap: Imap, login: str, uid: int) -> None:
        if (login, uid) not in self.names:
            found = await imap.command(b"UID FETCH %d (BODY.PEEK[HEADER.FIELDS (SUBJECT)])" % uid)
            subject = re.search(rb"Subject: (\S+)", b"".join(found))
            assert subject is not None, f"UID {uid} of {login} is gone"
            self.names[login, uid] = subject[1].decode()
        key = FlagKey(login, self.names[login, uid], "by-imap")
        if key in self.ledger.unsure:
            return
        on = not self.ledger.flags.get(key, False)
        sign = b"+" if on else b"-"
        try:
            await imap.command(b"UID STORE %d %bFLAGS.SILENT (by-imap)" % (uid, sign))
        except (*LOST, TemporaryRefusal):
            self.ledger.doubt(key)
            raise
        self.ledger.flag(key, on)

    async def _set(self, client: str, node: Server) -> None:
        """Set and remove the keyword of this client by JMAP."""
        login = f"{client.partition('-')[2]}@example.test"
        asked = {
            "position": self._chance.randrange(20),
            "limit": 1,
            "sort": [{"property": "receivedAt", "isAscending": False}],
        }
        got = {
            "#ids": {"resultOf": "q", "name": "Email/query", "path": "/ids"},
            "properties": ["subject"],
        }
        responses = await call(node, login, ["Email/query", asked, "q"], ["Email/get", got, "g"])
        for email in responses[1][1]["list"]:
            key = FlagKey(login, email["subject"], "by-jmap")
            if key in self.ledger.unsure:
                continue
            on = not self.ledger.flags.get(key, False)
            update = {email["id"]: {"keywords/by-jmap": True if on else None}}
            try:
                answer = await call(node, login, ["Email/set", {"update": update}, "s"])
            except (*LOST, TemporaryRefusal):
                self.ledger.doubt(key)
                raise
            if answer[0][0] == "Email/set" and email["id"] in (answer[0][1]["updated"] or {}):
                self.ledger.flag(key, on)
            else:
                self.ledger.doubt(key)
                self.ledger.refused["jmap"] += 1
        await asyncio.sleep(self._pace)


async def read_account(servers: Servers, node: Server, login: str, how: str = "SELECT") -> Found:
    """Read every message of an account from one node, and check that each is whole."""
    found = Found()
    tls = ssl.create_default_context(cafile=str(servers.ca))
    async with connected(node, "imaps", tls) as line:
        imap = Imap(line)
        await imap.login(login)
        for mailbox in await imap.mailboxes():
            await imap.command(f"{how} {mailbox}".encode())
            await _read_mailbox(imap, mailbox, found)
    return found


async def _read_mailbox(imap: Imap, mailbox: str, found: Found) -> None:
    listed = await imap.command(b"UID SEARCH ALL")
    uids = [int(uid) for each in listed if b"SEARCH" in each for uid in each.split()[2:]]
    for start in range(0, len(uids), READ_AT_ONCE):
        part = ",".join(map(str, uids[start : start + READ_AT_ONCE]))
        for response in await imap.command(f"UID FETCH {part} (FLAGS BODY.PEEK[])".encode()):
            if b" FETCH " in response[:40]:
                head, _, rest = response.partition(b"}\r\n")
                size = int(head.rpartition(b"{")[2])
                name = name_of(rest[:size])
                found.names[name] += 1
                found.mailboxes[name] = mailbox
                flags = _FLAGS.search(head) or _FLAGS.search(rest[size:])
                assert flags is not None
                found.keywords[name] = {flag.lower() for flag in flags[1].decode().split()}


def _size(name: str) -> int:
    return 500 + zlib.crc32(name.encode()) % 30_000
