"""Clients that only apply what they are told have the mailbox, also when they come back (RFC 7162).

Three clients change, expunge and read one mailbox at the same time, leave and come back with
SELECT (QRESYNC ...); now and then the change log is trimmed.
"""

import asyncio
import random
import re
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from mailserver.auth.credentials import Authenticator
from mailserver.imap.channel import Channel, Disconnected
from mailserver.imap.commands.dispatch import converse
from mailserver.imap.session import Session
from mailserver.mail import delivery, listings, mailboxes
from mailserver.mail.context import Mail
from mailserver.mail.memory import Memory
from mailserver.model import Account, Principal, flag_names
from mailserver.storage import changes

PATIENCE = 30.0  # seconds
FETCH = re.compile(r"\* \d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\) MODSEQ \((\d+)\)\)")
VANISHED = re.compile(r"\* VANISHED (\(EARLIER\) )?([\d:,]+)")
HIGHEST = re.compile(r"\[HIGHESTMODSEQ (\d+)\]")


class Wire(Channel):
    """A connection in memory."""

    def __init__(self) -> None:
        super().__init__(memory=Memory(1024 * 1024), disk=Memory(1024 * 1024), secure=True)
        self.peer = "192.0.2.1"
        self.said = bytearray()
        self.spoke = asyncio.Event()
        self.incoming: asyncio.Queue[bytes | None] = asyncio.Queue()

    def write(self, data: bytes | memoryview) -> None:
        self.said += data
        self.spoke.set()

    async def drain(self) -> None:
        await asyncio.sleep(0)

    async def more(self) -> None:
        octets = await self.incoming.get()
        if octets is None:
            raise Disconnected
        self.framing.feed(octets)

    def wake(self) -> None:
        self.incoming.put_nowait(b"")

    async def start_tls(self) -> None:
        raise AssertionError("nobody asked for TLS")

    def logged_in(self) -> None:
        pass

    @property
    def compressed(self) -> bool:
        return False

    def compress(self) -> None:
        raise AssertionError("nobody asked for compression")

    def end_compression(self) -> None:
        raise AssertionError("nothing is compressed")

    @property
    def can_start_tls(self) -> bool:
        return False

    @property
    def end_point(self) -> bytes | None:
        return None


@dataclass
class Client:
    """What a client knows, and its connection."""

    mail: Mail
    account: Account
    flags: dict[int, frozenset[str]] = field(default_factory=dict)  # by UID
    count: int = 0  # as EXISTS and VANISHED say
    uidvalidity: str = ""
    highest: int = 0
    fetched: set[int] = field(default_factory=set)
    learned: int = 0  # the largest UID whose flags were asked for, with all below it

    async def connect(self) -> None:
        self.wire = Wire()
        session = Session(
            mail=self.mail,
            authenticator=Authenticator(self.mail.database),
            channel=self.wire,
            session_id="model",
        )
        session.log_in(Principal(self.account.id, self.account.login))
        self.task = asyncio.create_task(converse(session))
        assert (await self._line()).startswith("* OK ")
        await self.do("ENABLE QRESYNC")
        if not self.highest:
            await self.do("SELECT INBOX")
        else:
            await self.do(f"SELECT INBOX (QRESYNC ({self.uidvalidity} {self.highest}))")
        await self.learn()

    async def leave(self) -> None:
        self.wire.incoming.put_nowait(None)
        await asyncio.wait_for(self.task, PATIENCE)

    async def do(self, command: str) -> str:
        """Send a command and believe every word of the answer."""
        self.wire.incoming.put_nowait(f"t {command}\r\n".encode())
        codes: list[int] = []
        modseqs = [self.highest]
        while True:
            line = await self._line()
            codes += [int(code) for code in HIGHEST.findall(line)]
            if line.startswith("t "):
                # a code is believed even when it is lower (RFC 7162 §4)
                self.highest = codes[-1] if codes else max(modseqs)
                return line
            self._apply(line, modseqs)

    def _apply(self, line: str, modseqs: list[int]) -> None:
        if found := FETCH.fullmatch(line):
            names = frozenset(found[2].split()) - {"\\Recent"}
            self.flags[int(found[1])] = names
            self.fetched.add(int(found[1]))
            modseqs.append(int(found[3]))
        elif found := VANISHED.fullmatch(line):
            for span in found[2].split(","):
                first, _, last = span.partition(":")
                for uid in range(int(first), int(last or first) + 1):
                    self.flags.pop(uid, None)
                    self.count -= not found[1]
        elif found := re.fullmatch(r"\* (\d+) EXISTS", line):
            self.count = int(found[1])
        elif found := re.search(r"\[UIDVALIDITY (\d+)\]", line):
            self.uidvalidity = found[1]
        else:
            assert "EXPUNGE" not in line
            assert " FETCH " not in line, line

    async def _line(self) -> str:
        async with asyncio.timeout(PATIENCE):
            while (end := self.wire.said.find(b"\r\n")) < 0:
                self.wire.spoke.clear()
                await self.wire.spoke.wait()
        line = self.wire.said[:end].decode()
        del self.wire.said[: end + 2]
        return line

    async def step(self, choose: random.Random) -> None:
        """Do something at random."""
        flag = choose.choice(["\\Seen", "\\Flagged", "\\Deleted", "\\Answered"])
        sign = choose.choice("+-")
        uid = choose.choice(sorted(self.flags) or [1])
        what = choose.randrange(8)
        if what == 0:
            await self.do("NOOP")
        elif what == 1:
            await self.do("EXPUNGE")
        elif what == 2:
            await self.leave()
            await self.connect()
        elif what == 3 and self.count:
            await self.do(f"STORE {choose.randint(1, self.count)} {sign}FLAGS ({flag})")
        elif what == 4:
            await self.do(f"UID STORE {uid}:{uid + 3} (UNCHANGEDSINCE {self.highest}) "
                          f"{sign}FLAGS ({flag})")  # fmt: skip
        elif what == 5:
            await delivery.accept(
                self.mail,
                b"Subject: new\r\n\r\nnew\r\n",
                [delivery.Target(self.account.id)],
                received_at=self.mail.now(),
            )
        elif what == 6 and self.count:
            await self.do(f"FETCH {choose.randint(1, self.count)} (UID FLAGS MODSEQ)")
        else:
            await self.do(f"UID STORE {uid}:{uid + 1} {sign}FLAGS ({flag})")
        await self.learn()

    async def learn(self) -> None:
        """Ask for new messages, whose flags were not told."""
        self.fetched = {self.learned}
        await self.do(f"UID FETCH {self.learned + 1}:* (UID FLAGS MODSEQ)")
        self.learned = max(self.fetched)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_clients_have_what_the_server_has(mail: Mail, alice: Account, seed: int) -> None:
    choose = random.Random(seed)
    target = [delivery.Target(alice.id)]
    for _ in range(12):
        await delivery.accept(mail, b"Subject: x\r\n\r\nx\r\n", target, received_at=mail.now())
    inbox = await mailboxes.by_path(mail, alice.id, "INBOX")
    clients = [Client(mail, alice) for _ in range(3)]
    for client in clients:
        await client.connect()
    for turn in range(40):
        await asyncio.gather(*(client.step(choose) for client in clients))
        if turn % 13 == 12:
            await changes.trim(mail.database, mail.now() + timedelta(seconds=1))
        if turn % 10 != 9:
            continue
        for client in clients:
            if choose.random() < 0.5:
                await client.leave()
                await client.connect()
            await client.do("NOOP")
            await client.learn()
            listing = await listings.open_listing(mail, alice.id, inbox.id)
            there = {
                uid: frozenset(flag_names(listing.flags[index]))
                for index, uid in enumerate(listing.uids)
            }
            assert client.flags == there
            assert client.count == len(there)
    for client in clients:
        await client.leave()
