"""A client in memory that believes every word of the server and knows nothing else."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

PATIENCE = 60.0  # seconds until something that does not come fails the test
_NUMBER = re.compile(r"\* (\d+) (EXISTS|EXPUNGE|RECENT)")
_FETCH = re.compile(r"\* (\d+) FETCH \((.*)\)")
_VANISHED = re.compile(r"\* VANISHED (\(EARLIER\) )?([\d:,]+)")
_STATUS = re.compile(r"\* STATUS (\S+) \((.*)\)")
_ESEARCH = re.compile(r'\* ESEARCH \(TAG "(\w+)"\)(?: UID)?(.*)')
_RESULTS = re.compile(r" (ALL|ADDTO|REMOVEFROM) (?:\(([^)]*)\)|([\d:,]+))")
_SILENT = re.compile(r"UID STORE (\d+):(\d+) ([+-])FLAGS\.SILENT \((\S+)\)")
_CODE = re.compile(r"\[(UIDVALIDITY|HIGHESTMODSEQ) (\d+)\]")

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def numbers(text: str) -> list[int]:
    """Expand a sequence set as it is in a response."""
    return list(_numbers(text))


def _numbers(text: str) -> Iterator[int]:
    for span in text.split(","):
        first, _, last = span.partition(":")
        yield from range(int(first), int(last or first) + 1)


@dataclass(slots=True)
class Message:
    """What the client knows about a message; None is what it was not told."""

    uid: int | None = None
    flags: frozenset[str] | None = None


@dataclass(eq=False)
class ModelClient:
    """One client; connections come and go, what it knows stays where QRESYNC allows that."""

    connect: Connect
    login: str
    mailbox: str
    qresync: bool = False
    notify: str = ""  # the arguments of NOTIFY SET
    updates: bool = False  # keep results of searches
    messages: list[Message] = field(default_factory=list)  # by sequence number
    results: dict[str, list[int]] = field(default_factory=dict)  # of searches, by tag
    status: dict[str, dict[str, int]] = field(default_factory=dict)  # of mailboxes
    codes: dict[str, int] = field(default_factory=dict)
    sorted: list[int] = field(default_factory=list)  # as the last SORT found them
    idling: bool = False
    exists: int | None = None  # as SELECT says, until what the client knows is brought in line
    numbered: str = ""  # the tag of the search whose results are sequence numbers

    async def open(self) -> None:
        """Connect, log in, and learn what is new."""
        self.reader, self.writer = await self.connect()
        self.spoke = asyncio.Event()
        self.error: BaseException | None = None
        self.running: tuple[str, str] | None = None  # tag and command
        self.answer = ""
        self.tags = 0
        self.reading = asyncio.create_task(self._read())
        await self.do(f'LOGIN {self.login} "correct horse"')
        if self.qresync:
            await self.do("ENABLE QRESYNC")
        await self._select()
        if self.updates:
            await self._ask_for_updates()
        if self.notify:
            self.status.clear()
            await self.do(f"NOTIFY SET STATUS {self.notify}")
        await self.learn()

    async def _select(self) -> None:
        known = [message for message in self.messages if message.flags is not None]
        modseq = self.codes.get("HIGHESTMODSEQ")
        self.messages = []
        self.exists = 0
        if self.qresync and modseq:
            self.messages = known
            uidvalidity = self.codes["UIDVALIDITY"]
            await self.do(f"SELECT {self.mailbox} (QRESYNC ({uidvalidity} {modseq}))")
        else:
            await self.do(f"SELECT {self.mailbox}")
        self._fill()

    def _fill(self) -> None:
        """Add what SELECT told of and the client did not know."""
        if self.exists is not None:
            assert self.exists >= len(self.messages)
            self.messages += [Message() for _ in range(self.exists - len(self.messages))]
            self.exists = None

    async def _ask_for_updates(self) -> None:
        self.results.clear()
        await self.do("UID SEARCH RETURN (UPDATE ALL) UNSEEN")
        await self.do("UID SORT RETURN (UPDATE ALL) (REVERSE SUBJECT) UTF-8 UNDELETED")
        if not self.qresync:
            self.numbered = f"t{self.tags + 1}"
            await self.do("SEARCH RETURN (UPDATE ALL) FLAGGED")

    async def close(self) -> None:
        """Cut the connection."""
        self.writer.close()
        self.reading.cancel()
        await asyncio.wait([self.reading])
        self.idling = False

    async def do(self, command: str) -> str:
        """Say something and wait for the answer; return its tagged line."""
        self.tags += 1
        tag = f"t{self.tags}"
        self.running = (tag, command)
        if found := _SILENT.match(command):
            self._change(range(int(found[1]), int(found[2]) + 1), found[3], found[4])
        self.writer.write(f"{tag} {command}\r\n".encode())
        await self.until(lambda: self.running is None)
        return self.answer

    def _change(self, uids: range, sign: str, flag: str) -> None:
        """Change what is known as a STORE will that says nothing."""
        for message in self.messages:
            if message.uid in uids and message.flags is not None:
                there = message.flags - {flag}
                message.flags = there | {flag} if sign == "+" else there

    async def idle(self) -> None:
        """Begin to IDLE."""
        self.tags += 1
        self.running = (f"t{self.tags}", "IDLE")
        self.writer.write(f"t{self.tags} IDLE\r\n".encode())
        await self.until(lambda: self.idling)

    async def done(self) -> None:
        """End IDLE."""
        self.writer.write(b"DONE\r\n")
        await self.until(lambda: self.running is None)
        self.idling = False

    async def learn(self) -> None:
        """Ask for what EXISTS told of only."""
        for _ in range(20):
            if all(message.flags is not None for message in self.messages):
                return
            first = 1
            for message in self.messages:
                if message.uid is None or message.flags is None:
                    break
                first = message.uid + 1
            await self.do(f"UID FETCH {first}:* (UID FLAGS{' MODSEQ' if self.qresync else ''})")
        raise AssertionError(f"not told of all messages: {self.messages}")

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for something that the server makes true."""
        async with asyncio.timeout(PATIENCE):
            while not true():
                if self.error is not None:
                    raise self.error
                self.spoke.clear()
                await self.spoke.wait()

    async def _read(self) -> None:
        try:
            while line := (await self.reader.readline()).decode():
                self._hear(line.rstrip("\r\n"))
                self.spoke.set()
            self.error = ConnectionError("the server closed the connection")
        except Exception as error:
            self.error = error
        self.spoke.set()

    def _hear(self, line: str) -> None:
        for name, value in _CODE.findall(line):
            self.codes[name] = int(value)
        if line.startswith("+"):
            self.idling = True
        elif self.running is not None and line.startswith(self.running[0] + " "):
            assert line.split()[1] in ("OK", "NO"), (self.running, line)
            self.answer, self.running = line, None
        else:
            self._untagged(line)

    def _untagged(self, line: str) -> None:
        if found := _NUMBER.fullmatch(line):
            self._count(int(found[1]), found[2])
        elif found := _FETCH.fullmatch(line):
            self._fetched(int(found[1]), found[2])
        elif found := _VANISHED.fullmatch(line):
            for uid in numbers(found[2]):
                self._vanished(uid, earlier=bool(found[1]))
        elif found := _STATUS.fullmatch(line):
            values = found[2].split()
            pairs = zip(values[::2], map(int, values[1::2]), strict=True)
            self.status.setdefault(found[1], {}).update(pairs)
        elif found := _ESEARCH.fullmatch(line):
            self._results(found[1], found[2])
        elif line.startswith("* SORT"):
            self.sorted = [int(uid) for uid in line.split()[2:]]

    def _count(self, number: int, what: str) -> None:
        if what == "EXPUNGE":
            assert not self.qresync
            assert self._may_expunge(), self.running
            del self.messages[number - 1]
            found = self.results.get(self.numbered, [])
            assert number not in found  # it was removed before
            found[:] = [other - (other > number) for other in found]
        elif what == "EXISTS" and self.exists is not None:
            self.exists = number
        elif what == "EXISTS":
            assert number >= len(self.messages)
            self.messages += [Message() for _ in range(number - len(self.messages))]

    def _may_expunge(self) -> bool:
        """Whether the client can take an EXPUNGE now (RFC 3501 §7.4.1)."""
        if self.notify:
            return True
        command = self.running[1].split()[0] if self.running is not None else "nothing"
        return command not in ("FETCH", "STORE", "SEARCH", "SORT", "nothing")

    def _fetched(self, number: int, items: str) -> None:
        self._fill()
        message = self.messages[number - 1]
        if found := re.search(r"\bUID (\d+)", items):
            assert message.uid in (None, int(found[1]))
            message.uid = int(found[1])
        if found := re.search(r"FLAGS \(([^)]*)\)", items):
            message.flags = frozenset(found[1].split()) - {"\\Recent"}
        if found := re.search(r"MODSEQ \((\d+)\)", items):
            self.codes["HIGHESTMODSEQ"] = max(self.codes.get("HIGHESTMODSEQ", 0), int(found[1]))

    def _vanished(self, uid: int, *, earlier: bool) -> None:
        assert earlier or self._may_expunge() or self.qresync
        place = next((i for i, each in enumerate(self.messages) if each.uid == uid), None)
        if place is None and not earlier:  # one of those that EXISTS told of only
            place = next(i for i, each in enumerate(self.messages) if each.uid is None)
        if place is not None:
            del self.messages[place]

    def _results(self, tag: str, text: str) -> None:
        results = self.results.setdefault(tag, [])
        for item, pairs, everything in _RESULTS.findall(text):
            if item == "ALL":
                results[:] = numbers(everything)
                continue
            words = pairs.split()
            for position, found in zip(words[::2], words[1::2], strict=True):
                self._update(results, item, int(position), numbers(found))

    def _update(self, results: list[int], item: str, position: int, found: list[int]) -> None:
        if item == "ADDTO":
            assert not set(found) & set(results)
            if position:
                results[position - 1 : position - 1] = found
            else:
                results[:] = sorted([*results, *found])
        elif position:
            assert results[position - 1 : position - 1 + len(found)] == found
            del results[position - 1 : position - 1 + len(found)]
        else:
            assert set(found) <= set(results)
            results[:] = [each for each in results if each not in found]
