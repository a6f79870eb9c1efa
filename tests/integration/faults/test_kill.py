"""SIGKILL at random moments under load: what was answered with 250 is there, once and whole."""

import asyncio
import contextlib
import hashlib
import imaplib
import os
import random
import re
import signal
import ssl
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.running import RunningServer

pytestmark = pytest.mark.faults

ROUNDS = 2  # of each victim
SENDERS = 8
PATIENCE = 120  # seconds; the machine may be busy
RECIPIENTS = ("alice@example.test", "bob@example.test")
# a kill between the copy of a body and its row leaves an object, and fsck is there to tell
ORPHAN = "every object belongs to a blob"
# the whole life of a body within a round: copied at once, dropped from PostgreSQL soon after
ENVIRONMENT = {
    "MAILSERVER_MOVER__INTERVAL": "0.1",
    "MAILSERVER_MOVER__COPY_AFTER": "0",
    "MAILSERVER_MOVER__DROP_AFTER": "1",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path / "data", ENVIRONMENT)
    running.start()
    yield running
    running.close()


def message(name: str, size: int) -> bytes:
    """Return a message that says its name and proves its own integrity."""
    chance = random.Random(name)
    body = "\r\n".join(f"{chance.getrandbits(240):060x}" for _ in range(size // 62))
    digest = hashlib.sha256(body.encode()).hexdigest()
    return (
        f"From: load@example.org\r\nTo: someone@example.test\r\nSubject: {name}\r\n"
        f"Message-ID: <{name}@example.org>\r\nX-Digest: {digest}\r\n\r\n{body}\r\n"
    ).encode()


class Load:
    """Senders that deliver until told to stop, and what was answered with 250."""

    def __init__(self, server: RunningServer, round_number: int) -> None:
        self.server = server
        self.round = round_number
        self.accepted: list[str] = []
        self.refused = 0
        self.stopping = False
        self.going = asyncio.Event()  # set once a message begun after `restart` was accepted
        self._era = 0

    def restart(self) -> None:
        """Wait for mail anew: replies that are on their way do not count."""
        self._era += 1
        self.going.clear()

    async def run(self) -> None:
        await asyncio.gather(*(self._sender(number) for number in range(SENDERS)))

    async def _sender(self, number: int) -> None:
        count = 0
        while not self.stopping:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                host, port = self.server.address("smtp")
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    await self._expect(reader, b"220")
                    writer.write(b"EHLO load.example.org\r\n")
                    await self._expect(reader, b"250")
                    while not self.stopping:
                        count += 1
                        await self._send(reader, writer, f"r{self.round}-s{number}-{count}")
                finally:
                    writer.close()
            await asyncio.sleep(0.01)

    async def _send(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str
    ) -> None:
        era = self._era
        recipients = "".join(f"RCPT TO:<{address}>\r\n" for address in RECIPIENTS)
        writer.write(f"MAIL FROM:<load@example.org>\r\n{recipients}DATA\r\n".encode())
        for wanted in (b"250", b"250", b"250", b"354"):
            await self._expect(reader, wanted)
        writer.write(message(name, 500 + zlib.crc32(name.encode()) % 40_000) + b".\r\n")
        await self._expect(reader, b"250")
        self.accepted.append(name)
        if era == self._era:
            self.going.set()

    async def _expect(self, reader: asyncio.StreamReader, wanted: bytes) -> None:
        while True:
            line = await reader.readuntil(b"\r\n")
            if line[3:4] == b" ":
                break
        if not line.startswith(wanted):
            self.refused += 1
            assert line[:1] == b"4", f"not a temporary refusal: {line!r}"
            raise ConnectionError(line.decode())


def mailbox(server: RunningServer, login: str) -> imaplib.IMAP4_SSL:
    host, port = server.address("imaps")
    context = ssl.create_default_context(cafile=server.info["ca"])
    client = imaplib.IMAP4_SSL(host, port, ssl_context=context)
    client.login(login, server.password(login))
    assert client.select("INBOX")[0] == "OK"
    return client


def read_all(server: RunningServer, login: str, first_uid: int) -> tuple[dict[str, int], int]:
    """Read every message from a UID on; return how often each name occurs, and the next UID."""
    client = mailbox(server, login)
    try:
        names: dict[str, int] = {}
        status, uids = client.uid("SEARCH", f"UID {first_uid}:*")
        assert status == "OK"
        wanted = [uid for uid in map(int, uids[0].split()) if uid >= first_uid]
        for start in range(0, len(wanted), 100):
            part = ",".join(map(str, wanted[start : start + 100]))
            status, answer = client.uid("FETCH", part, "(BODY.PEEK[])")
            assert status == "OK"
            for item in answer:
                if isinstance(item, tuple):
                    name = verified(item[1])
                    names[name] = names.get(name, 0) + 1
        return names, max(wanted, default=first_uid - 1) + 1
    finally:
        client.logout()


def verified(raw: bytes) -> str:
    """Return the name of a message; fail when it is torn."""
    name = re.search(rb"^Subject: (.+)\r$", raw, re.MULTILINE)
    digest = re.search(rb"^X-Digest: (.+)\r$", raw, re.MULTILINE)
    assert name is not None
    assert digest is not None
    body = raw.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
    assert hashlib.sha256(body).hexdigest() == digest[1].decode()
    return name[1].decode()


VICTIMS: dict[str, Callable[[RunningServer], int]] = {
    "server": lambda server: server.pid,
    "worker": lambda server: server.workers()[0],
    "postgresql": lambda server: server.child("postgres"),
    "seaweedfs": lambda server: server.child("weed"),
}


async def test_nothing_answered_with_250_is_lost_or_doubled(server: RunningServer) -> None:
    seed = int(os.environ.get("FAULT_SEED", "20261124"))
    chance = random.Random(seed)
    accepted: set[str] = set()
    next_uid = dict.fromkeys(RECIPIENTS, 1)
    victims = list(VICTIMS) * ROUNDS
    chance.shuffle(victims)
    for number, victim in enumerate(victims):
        load = Load(server, number)
        task = asyncio.create_task(load.run())
        async with asyncio.timeout(PATIENCE):
            while len(load.accepted) <= SENDERS:  # some have begun their second message
                load.going.clear()
                await load.going.wait()
        # a moment of load, not a wait for something: when the kill comes is what varies
        await asyncio.sleep(chance.uniform(0.05, 1.0))
        if victim == "server":
            await asyncio.to_thread(server.kill)
            load.stopping = True
            await task
            await asyncio.to_thread(server.start)
        else:
            os.kill(VICTIMS[victim](server), signal.SIGKILL)
            load.restart()
            async with asyncio.timeout(PATIENCE):
                await load.going.wait()  # it recovers by itself
            load.stopping = True
            await task
        accepted.update(load.accepted)
        context = f"round {number}, {victim}, seed {seed}"
        found = await asyncio.to_thread(server.fsck)
        assert [each for each in found if each["rule"] != ORPHAN] == [], context
        for login in RECIPIENTS:
            names, next_uid[login] = await asyncio.to_thread(
                read_all, server, login, next_uid[login]
            )
            missing = set(load.accepted) - names.keys()
            assert not missing, f"{context}: lost {sorted(missing)[:5]}"
            doubled = [name for name, times in names.items() if times > 1]
            assert not doubled, f"{context}: doubled {doubled[:5]}"
    assert len(accepted) > len(victims) * SENDERS
    # and all of it once more, most of it from S3 by now
    for login in RECIPIENTS:
        names, _ = await asyncio.to_thread(read_all, server, login, 1)
        assert accepted <= names.keys()
        assert max(names.values()) == 1
