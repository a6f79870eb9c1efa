"""IMAP transcripts: what a client says and what it must hear, on a real database, without a socket.

In `tests/transcript/imap/*.txt`, and in `clients/` what programs say that cannot be run here:

    # a comment
    @login                 connections are alice, logged in; without it they begin at the greeting
    @user NAME N ...       but these connections are NAME@example.test
    @insecure              connections are not under TLS
    @deliver NAME [FLAGS]  a message of `MESSAGES` arrives in alice's INBOX
    @quota OCTETS          alice has room for that much
    @config NAME=NUMBER    from here on a key of the configuration has that value
    @now MOMENT            from here on it is that time, as ISO 8601 writes it
    C: a1 NOOP             the client of connection 1 sends a line
    C~ text                the client sends octets without a line end; \\r \\n \\t \\x are escapes
    C* N text              the same N times
    S: a1 OK ...           the server's next line; "..." is anything, to the end or in the middle
    S* a1 OK ...           the first of the server's lines that is this, after any others
    S- * 1 EXISTS          the same, in any order among neighbouring "S-" lines
    S= 2                   nothing was said (the number of the connection)
    2C: / 2S:              the same on another connection

`{name}` takes any word the first time and the same one later.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
import pytest_asyncio

from mailserver.auth.credentials import Authenticator
from mailserver.imap.channel import Channel, Disconnected
from mailserver.imap.commands.dispatch import converse
from mailserver.imap.session import Session
from mailserver.mail import accounts as people
from mailserver.mail import delivery
from mailserver.mail.context import Mail
from mailserver.mail.memory import Memory
from mailserver.model import Account, Flags, Principal
from mailserver.storage import accounts

FOLDER = Path(__file__).parent / "imap"
PATIENCE = 30.0  # seconds until an answer that does not come fails the test
_LINE = re.compile(r"(?P<who>\d*)(?P<what>[CS])(?P<how>[:~\-=*]) ?(?P<text>.*)")

SIMPLE = (
    b"Date: Mon, 7 Feb 1994 21:52:25 -0800 (PST)\r\n"
    b"From: Fred Foobar <foobar@blurdybloop.example>\r\n"
    b"Subject: afternoon meeting\r\n"
    b"To: mooch@owatagu.siam.edu.example\r\n"
    b"Message-Id: <B27397-0100000@blurdybloop.example>\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n"
    b"\r\n"
    b"Hello Joe, do you think we can meet at 3:30 tomorrow?\r\n"
)
MIXED = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <juergen@example.org>\r\n"
    b"To: alice@example.test\r\n"
    b"Subject: =?utf-8?b?R3LDvMOfZQ==?= from far\r\n"
    b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n'
    b"\r\n"
    b"preamble\r\n"
    b"--b\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n"
    b"\r\n"
    b"gr=C3=BCn\r\n"
    b"--b\r\n"
    b"Content-Type: message/rfc822\r\n"
    b"\r\n"
    b"From: inner@example.org\r\n"
    b"Subject: inner\r\n"
    b"\r\n"
    b"inside\r\n"
    b"--b--\r\n"
)
PLAIN = b"Subject: plain\r\n\r\nno more than this\r\n"
MESSAGES = {"simple": SIMPLE, "mixed": MIXED, "plain": PLAIN}


class Wire(Channel):
    """A connection in memory."""

    def __init__(self, *, secure: bool) -> None:
        super().__init__(memory=Memory(1024 * 1024), disk=Memory(1024 * 1024), secure=secure)
        self.peer = "192.0.2.1"
        self.said = bytearray()
        self.spoke = asyncio.Event()
        self._compressed = False
        self._incoming: asyncio.Queue[bytes | None] = asyncio.Queue()

    def write(self, data: bytes | memoryview) -> None:
        self.said += data
        self.spoke.set()

    async def drain(self) -> None:
        await asyncio.sleep(0)

    async def more(self) -> None:
        octets = await self._incoming.get()
        if octets is None:
            raise Disconnected
        self.framing.feed(octets)

    def wake(self) -> None:
        self._incoming.put_nowait(b"")

    async def start_tls(self) -> None:
        self.framing.clear()
        self.secure = True

    def logged_in(self) -> None:
        pass

    @property
    def compressed(self) -> bool:
        return self._compressed

    def compress(self) -> None:
        self._compressed = True

    def end_compression(self) -> None:
        self._compressed = False

    @property
    def can_start_tls(self) -> bool:
        return not self.secure

    @property
    def end_point(self) -> bytes | None:
        return None

    def send(self, octets: bytes | None) -> None:
        self._incoming.put_nowait(octets)


@dataclass
class Client:
    """The client's end."""

    wire: Wire
    task: "asyncio.Task[None]"

    async def line(self) -> str:
        """Return the server's next line, literals included."""
        async with asyncio.timeout(PATIENCE):
            while (line := self._take()) is None:
                self.wire.spoke.clear()
                await self.wire.spoke.wait()
        return line

    def _take(self) -> str | None:
        position = 0
        said = self.wire.said
        while (end := said.find(b"\r\n", position)) >= 0:
            literal = re.search(rb"\{(\d+)\}\Z", said[position:end])
            if literal is None:
                line = bytes(said[:end])
                del said[: end + 2]
                return line.decode("utf-8", "backslashreplace").replace("\r\n", "\\r\\n")
            position = end + 2 + int(literal[1])
        return None


@dataclass
class Script:
    """One transcript as it runs."""

    mail: Mail
    account: Account
    authenticator: Authenticator
    log_in: bool = False
    secure: bool = True
    users: dict[int, Account] = field(default_factory=dict)
    clients: dict[int, Client] = field(default_factory=dict)
    bound: dict[str, str] = field(default_factory=dict)

    async def run(self, path: Path) -> None:
        lines = path.read_text(encoding="utf-8").splitlines()
        index = 0
        while index < len(lines):
            where = f"{path.name}:{index + 1}"
            line = lines[index].rstrip()
            index += 1
            if not line or line.startswith("#"):
                continue
            if line.startswith("@"):
                await self._directive(line[1:].split())
                continue
            found = _LINE.fullmatch(line)
            assert found, f"{where}: not a line of a transcript"
            client = await self.client(int(found["who"] or 1))
            text = found["text"]
            if found["what"] == "C":
                client.wire.send(self._octets(text, found["how"]))
            elif found["how"] == "-":
                wanted = [text]
                while (
                    index < len(lines)
                    and (more := _LINE.fullmatch(lines[index].rstrip()))
                    and more["how"] == "-"
                    and more["who"] == found["who"]
                ):
                    wanted.append(more["text"])
                    index += 1
                await self._expect_all(client, wanted, where)
            elif found["how"] == "=":
                assert not client.wire.said, f"{where}: unexpected {bytes(client.wire.said)!r}"
            elif found["how"] == "*":
                while not self._matches(text, await client.line()):
                    pass
            else:
                await self._expect(client, text, where)

    async def client(self, number: int) -> Client:
        if number not in self.clients:
            wire = Wire(secure=self.secure)
            session = Session(
                mail=self.mail,
                authenticator=self.authenticator,
                channel=wire,
                session_id=f"test{number}",
            )
            if self.log_in:
                user = self.users.get(number, self.account)
                session.log_in(Principal(user.id, user.login))
            self.clients[number] = Client(wire, asyncio.create_task(converse(session)))
            if self.log_in:
                assert (await self.clients[number].line()).startswith("* OK ")
        return self.clients[number]

    async def _directive(self, words: list[str]) -> None:
        if words[0] == "login":
            self.log_in = True
        elif words[0] == "user":
            login = f"{words[1]}@example.test"
            user = await people.create(self.mail, login, password=None)
            self.users.update((int(number), user) for number in words[2:])
        elif words[0] == "insecure":
            self.secure = False
        elif words[0] == "quota":
            await accounts.set_quota(self.mail.database, self.account.id, int(words[1]))
        elif words[0] == "config":
            name, _, value = words[1].partition("=")
            section, _, key = name.partition(".")
            config = self.mail.config
            changed = getattr(config, section).model_copy(update={key: int(value)})
            self.mail.config = config.model_copy(update={section: changed})
        elif words[0] == "now":
            moment = datetime.fromisoformat(words[1])
            self.mail.now = lambda: moment
        else:
            assert words[0] == "deliver"
            await delivery.accept(
                self.mail,
                MESSAGES[words[1]],
                [delivery.Target(self.account.id, flags=Flags.of(words[2:]))],
                received_at=self.mail.now(),
            )

    def _octets(self, text: str, how: str) -> bytes:
        times = 1
        if how == "*":
            count, _, text = text.partition(" ")
            times = int(count)
        octets = self._filled(text).encode("utf-8")
        if how == ":":
            return octets + b"\r\n"
        return octets.decode("unicode_escape").encode("latin-1") * times

    async def _expect(self, client: Client, wanted: str, where: str) -> None:
        try:
            said = await client.line()
        except TimeoutError:
            raise AssertionError(f"{where}\n wanted {wanted}\n    got nothing") from None
        assert self._matches(wanted, said), f"{where}\n wanted {wanted}\n    got {said}"

    async def _expect_all(self, client: Client, wanted: list[str], where: str) -> None:
        for _ in range(len(wanted)):
            said = await client.line()
            found = next((text for text in wanted if self._matches(text, said)), None)
            assert found is not None, f"{where}\n wanted one of {wanted}\n    got {said}"
            wanted.remove(found)

    def _matches(self, wanted: str, said: str) -> bool:
        pattern = ""
        for piece in re.split(r"(\{[a-z]\w*\}|\.\.\.)", wanted):
            name = piece[1:-1]
            if piece == "...":
                pattern += ".*"
            elif not re.fullmatch(r"\{[a-z]\w*\}", piece):
                pattern += re.escape(piece)
            elif name in self.bound:
                pattern += re.escape(self.bound[name])
            else:
                pattern += rf"(?P<{name}>[^ \])]+)"
        found = re.fullmatch(pattern, said, re.DOTALL)
        if found:
            self.bound.update(found.groupdict())
        return found is not None

    def _filled(self, text: str) -> str:
        return re.sub(r"\{([a-z]\w*)\}", lambda found: self.bound.get(found[1], found[0]), text)

    async def end(self) -> None:
        for client in self.clients.values():
            client.wire.send(None)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(client.task for client in self.clients.values()))


@pytest_asyncio.fixture
async def script(mail: Mail, alice: Account) -> AsyncIterator[Script]:
    authenticator = Authenticator(mail.database)
    script = Script(mail, alice, authenticator)
    yield script
    await script.end()


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.txt")), ids=lambda path: path.stem)
async def test_transcript(script: Script, path: Path) -> None:
    await script.run(path)
