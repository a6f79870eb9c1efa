"""Changes told across processes: after the commit, in batches.

NOTIFY inside a writing transaction takes a database-wide lock through the commit, measured to be 4
to 28 times slower. So one connection of each process sends what has been committed, a few
milliseconds' worth at a time, and the same connection listens; behind a transaction pooler, rows
take the place of both (`storage/lines.py`). What was lost is healed by a re-check of the accounts
that somebody here listens to.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, Literal

from mailserver.errors import MailError
from mailserver.events import Hub
from mailserver.metrics import Metrics
from mailserver.model import AccountId, Modseq
from mailserver.storage import accounts
from mailserver.storage.database import Database
from mailserver.storage.lines import Line, Notifications, Rows

log = logging.getLogger(__name__)

HINTS = "mail_0"  # the channel of which accounts changed
OLD_HINTS = [f"mail_{number}" for number in range(1, 16)]  # where the version before tells the same
CHANGES = "mail_changes"  # the channel of what changes did, for those who know what was before
NOTICES = "mail_notices"  # the channel of what is no change of an account
MOST_NOTICES = 1000  # that wait; more are not told
MOST_DETAILS = 200  # likewise of what changes did
BATCH_TIME = 0.008  # seconds changes are gathered after others were sent: a batch costs 0.3 ms
RECHECK_TIME = 30.0  # seconds between two looks for lost notifications
PAYLOAD = 7000  # bytes; PostgreSQL takes less than 8000
RECONNECT_TIME = 1.0  # seconds


class Notifier:
    """Sends this process's changes to the others and hands theirs to the hub."""

    def __init__(
        self,
        database: Database,
        hub: Hub,
        metrics: Metrics,
        origin: str,
        way: Literal["auto", "listen", "poll"] = "auto",
        direct: Database | None = None,
    ) -> None:
        """Take how to reach the others, and if that is another one the database to listen at."""
        self._database = database
        self._direct = direct or database
        self._way = way
        self._hub = hub
        self._metrics = metrics
        self._origin = origin  # marks our own notifications, which the hub has had already
        self._waiting: dict[AccountId, Modseq] = {}
        self._wake = asyncio.Event()
        self._next = 0.0  # loop time before which nothing is sent: a lone change does not wait
        self._details: list[str] = []
        self._notices: list[str] = []
        self.sent = asyncio.Event()  # set while nothing waits to be told
        self.sent.set()
        self.hear: Callable[[list[Any]], None] | None = None  # a notice of another process
        self.learn: Callable[[AccountId, Modseq, str], None] | None = None  # what a change did
        self.listening = asyncio.Event()  # set while notifications are received

    def tell(self, account: AccountId, modseq: Modseq) -> None:
        """Queue a change for the other processes."""
        self._waiting[account] = modseq
        self.sent.clear()
        self._wake.set()

    def tell_details(self, account: AccountId, modseq: Modseq, text: str) -> None:
        """Queue what a change did, in ASCII on one line; `tell` has to follow, which sends it."""
        if len(self._details) < MOST_DETAILS:
            self._details.append(f"{account} {modseq} {text}")

    def notice(self, *words: str | bool) -> None:
        """Queue a notice for the other processes; one that is lost must do no harm."""
        if len(self._notices) < MOST_NOTICES:
            # ASCII, so that octets and characters are the same: payloads are limited in octets
            self._notices.append(json.dumps(words))
            self.sent.clear()
            self._wake.set()

    async def run(self) -> None:
        """Keep one connection for sending and listening until cancelled."""
        while True:
            try:
                await self._session()
            except MailError as error:
                self._metrics.background_failures.labels("notifier").inc()
                log.warning("notifier: connection lost", extra={"error": str(error)})
            await asyncio.sleep(RECONNECT_TIME)

    async def _session(self) -> None:
        line = await self._line()
        try:
            await line.open(self._wake.set)
            self.listening.set()
            await self.recheck()
            now = asyncio.get_running_loop().time
            look, recheck = now() + line.pause, now() + RECHECK_TIME
            while True:
                if await self._woken(min(look, recheck)):
                    await self._send(line)
                # also when there is always something to send
                if now() >= look:
                    await line.look()
                    look = now() + line.pause
                if now() >= recheck:
                    await line.tidy()
                    await self.recheck()
                    recheck = now() + RECHECK_TIME
        finally:
            self.listening.clear()
            line.close()

    async def _line(self) -> Line:
        if self._way != "poll":
            connection = await self._direct.connect()
            if self._way == "listen" or not self._direct.pooled:
                names = [HINTS, CHANGES, NOTICES, *OLD_HINTS]
                return Notifications(connection, names, self._told)
            log.info("no LISTEN through a pooler: other processes are heard every second")
            connection.terminate()
        return Rows(self._database, self._told, self._origin)

    async def _woken(self, until: float) -> bool:
        try:
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(self._next - asyncio.get_running_loop().time())
        return True

    async def _send(self, line: Line) -> None:
        self._next = asyncio.get_running_loop().time() + BATCH_TIME
        self._wake.clear()
        waiting, self._waiting = self._waiting, {}
        names, texts = [], []
        details, self._details = self._details, []
        if line.immediate:  # later everybody has read it
            for text in _chunks(details, "\n"):  # before the hints: who is woken by one knows it
                names.append(CHANGES)
                texts.append(f"{self._origin} {text}")
        for text in _chunks([f"{account}:{modseq}" for account, modseq in waiting.items()]):
            names.append(HINTS)
            texts.append(f"{self._origin} {text}")
        notices, self._notices = self._notices, []
        for text in _chunks(notices):
            names.append(NOTICES)
            texts.append(f"{self._origin} [{text}]")
        try:
            await line.send(names, texts)
        except MailError:
            # told over the next connection; what came meanwhile is newer
            self._waiting = waiting | self._waiting
            self._wake.set()
            raise
        if not (self._waiting or self._notices):
            self.sent.set()

    def _told(self, channel: str, payload: str) -> None:
        origin, _, text = payload.partition(" ")
        if origin == self._origin:
            return
        if channel == CHANGES:
            self._learn(text)
            return
        if channel == NOTICES:
            if self.hear is not None:
                for words in json.loads(text):
                    self.hear(words)
            return
        for item in text.split(","):
            account, _, modseq = item.partition(":")
            self._hub.deliver(AccountId(int(account)), Modseq(int(modseq)))

    def _learn(self, text: str) -> None:
        """Hand on what changes of accounts did that somebody here listens to."""
        for item in text.split("\n"):
            account, modseq, what = item.split(" ", 2)
            if self.learn is not None and self._hub.listens(AccountId(int(account))):
                self.learn(AccountId(int(account)), Modseq(int(modseq)), what)

    async def recheck(self) -> None:
        """Tell the hub the modseq of every account that somebody here listens to."""
        listened = self._hub.accounts()
        if listened:
            for account, modseq in await accounts.newer(self._database, listened):
                self._hub.deliver(account, modseq)


def _chunks(items: list[str], between: str = ",") -> list[str]:
    """Join items into texts that fit a payload."""
    texts: list[str] = []
    for item in items:
        if texts and len(texts[-1]) + len(item) < PAYLOAD:
            texts[-1] += between + item
        else:
            texts.append(item)
    return texts
