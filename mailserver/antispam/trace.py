"""Why? What became of each message, written down for those who ask later.

Nothing waits for this: a session hands in what it knows and goes on, and the rows are written
together behind it. So a crash may lose the traces of the last second, but never a message.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime

import orjson

from mailserver.antispam.evidence import Finding
from mailserver.errors import Invalid, Unavailable
from mailserver.metrics import Metrics
from mailserver.storage import traces
from mailserver.storage.database import Database
from mailserver.storage.ids import Ids
from mailserver.storage.traces import NewTrace

log = logging.getLogger(__name__)

MAX_WAITING = 20_000  # traces that wait to be written; beyond that the oldest are lost
BATCH = 500  # traces written with one statement
PAUSE = 1.0  # seconds that traces are collected, and until a failed write is tried again
MAX_KEY = 320  # characters of a key: the longest address, RFC 5321 §4.5.3.1
MAX_TEXT = 1000  # characters of a text from elsewhere
EXPIRE_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a copy of a message went, and why there."""

    account: str  # login
    mailbox: str  # "inbox" or "junk"
    reason: str = ""
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Story:
    """One message, or an attempt to send one: who came, what was found, what was said."""

    session: str
    stage: str  # "connect", "sender", "recipient" or "message"
    action: str  # "accepted", "deferred" or "refused"
    reply: str
    peer: str
    helo: str = ""
    tls: str = ""
    login: str = ""  # who sent it, when somebody logged in
    sender: str = ""
    recipients: tuple[str, ...] = ()
    size: int = 0
    message_id: str = ""  # the field, without angle brackets
    stored: str = ""  # id of the email or of the queued message
    reason: str = ""
    score: float = 0.0
    findings: tuple[Finding, ...] = ()
    places: tuple[Place, ...] = field(default=())

    def found_by(self) -> list[str]:
        """Return by what the message is found: addresses as given, in lower case."""
        addresses = [each.lower() for each in (self.sender, *self.recipients)]
        logins = [self.login, *(place.account for place in self.places)]
        return [self.session, self.message_id, self.stored, *addresses, *logins]


class Journal:
    """Takes stories of all sessions of the process and writes them behind the sessions."""

    def __init__(
        self, database: Database, ids: Ids, metrics: Metrics, now: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._ids = ids
        self._metrics = metrics
        self._now = now
        self._waiting: deque[NewTrace] = deque()
        self._arrived = asyncio.Event()

    def write(self, story: Story) -> None:
        """Take a story; it is in the database soon, or lost when that is away for long."""
        keys = dict.fromkeys(_line(key)[:MAX_KEY] for key in story.found_by() if key)
        row = NewTrace(self._ids.next(), self._now(), "\n".join(keys), _json(story))
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._metrics.traces_lost.inc()
        self._waiting.append(row)
        self._arrived.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(PAUSE)
            try:
                await self.flush()
            except Unavailable as error:
                log.warning("traces wait", extra={"count": len(self._waiting), "error": str(error)})

    async def flush(self) -> None:
        """Write what waits; Unavailable when it has to wait on."""
        self._arrived.clear()
        while self._waiting:
            rows = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                await traces.insert(self._database, rows)
            except BaseException:
                self._waiting.extendleft(reversed(rows))
                self._arrived.set()
                raise


@dataclass(frozen=True, slots=True)
class Told:
    """A story that was written down."""

    id: int
    at: datetime
    story: Mapping[str, object]


async def find(database: Database, words: Sequence[str], limit: int) -> list[Told]:
    """Return the newest stories that one of the words finds, the oldest of them first."""
    found = {}
    for word in words:
        for row in await traces.find(database, word, limit):
            found[row.id] = Told(row.id, row.at, orjson.loads(row.story))
    return [found[key] for key in sorted(found)][-limit:]


def keys_of(text: str) -> list[str]:
    """Return the forms in which an address or an id may have been written down."""
    text = text.strip().removeprefix("<").removesuffix(">")
    if not text:
        raise Invalid("say which: an address, a Message-ID, or the id of a session or message")
    return list(dict.fromkeys((text, text.lower())))


async def expire(database: Database, ids: Ids, before: datetime) -> int:
    """Forget what is older, a part at a time; return how many."""
    total, below = 0, ids.first_at(before)
    while count := await traces.expire(database, below, EXPIRE_BATCH):
        total += count
    return total


def _json(story: Story) -> str:
    """Return a story as JSON, without what is empty."""
    values: dict[str, object] = {
        name: value for name in _PLAIN if (value := getattr(story, name)) not in ("", 0, ())
    }
    values["findings"] = [_finding(each) for each in story.findings]
    values["places"] = [asdict(each) for each in story.places]
    try:
        return orjson.dumps(_cleaned(values)).decode()
    except orjson.JSONEncodeError:  # what no JSON can hold must not keep the others from it
        log.exception("trace cannot be written", extra={"session": story.session})
        return orjson.dumps({"session": story.session, "stage": story.stage}).decode()


def _finding(finding: Finding) -> dict[str, object]:
    """Return a finding without the changes of the message that it asks for."""
    row = {
        "check": finding.check,
        "result": finding.result,
        "reason": finding.reason,
        "seconds": finding.seconds,
        "demand": finding.demand,
        "symbols": [asdict(symbol) for symbol in finding.symbols],
    }
    return {name: value for name, value in row.items() if value not in (None, "", [])}


_PLAIN = tuple(each.name for each in fields(Story) if each.name not in ("findings", "places"))


def _cleaned(value: object) -> object:
    """Bound texts and take out of them what PostgreSQL and JSON do not hold."""
    if isinstance(value, str):
        return value[:MAX_TEXT].encode("utf-8", "replace").decode().replace("\0", "?")
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Mapping):
        return {name: _cleaned(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(each) for each in value]
    return value


def _line(key: str) -> str:
    return str(_cleaned(key)).replace("\n", " ")
