"""What was learned, as this process knows it: the server's counts, and those of some accounts."""

import asyncio
import logging
from collections import OrderedDict
from typing import NamedTuple

from mailserver.antispam.content.model import (
    ACCOUNT_BITS,
    SERVER_BITS,
    Counts,
    Delta,
    Incompatible,
)
from mailserver.model import AccountId
from mailserver.storage import spam_models
from mailserver.storage.compression import decompress
from mailserver.storage.database import Executor
from mailserver.storage.spam_models import SERVER, News

log = logging.getLogger(__name__)

ROOM = 64 * 1024 * 1024  # octets of the counts of accounts
MAX_ACCOUNTS = 10_000  # that are known, those that taught nothing too
LARGE = 64 * 1024  # octets compressed; larger ones are read in a thread


class Known(NamedTuple):
    """A model as of a version; without counts nothing was learned."""

    version: int
    counts: Counts | None


class Models:
    """Models in memory, brought up to date by what is new in the database."""

    def __init__(self, database: Executor, room: int = ROOM) -> None:
        self._database = database
        self._room = room
        self._server = Known(-1, None)
        self._refreshing = asyncio.Lock()  # what is new is added to counts in place: once
        self._nothing = Counts(0)  # many servers never learn: 8 MiB of zeros are not for them
        self._accounts: OrderedDict[AccountId, Known] = OrderedDict()
        self._used = 0  # octets of their counts; to add them up for each recipient takes long

    @property
    def server(self) -> Counts:
        """What all accounts share, as of the last `refresh`."""
        return self._server.counts or self._nothing

    @property
    def version(self) -> int:
        """Of the server's model, as of the last `refresh`."""
        return self._server.version

    async def refresh(self) -> None:
        """Bring the server's model up to date."""
        async with self._refreshing:
            self._server = await self._news(SERVER, SERVER_BITS, self._server)

    async def of_account(self, account: AccountId) -> Counts | None:
        """Return what an account taught, as of now; None when that is nothing."""
        known = await self._news(account, ACCOUNT_BITS, self._forget(account))
        self._forget(account)  # somebody else may have asked at the same time
        self._accounts[account] = known
        self._used += _size(known)
        while len(self._accounts) > 1 and (
            self._used > self._room or len(self._accounts) > MAX_ACCOUNTS
        ):
            self._forget(next(iter(self._accounts)))
        return known.counts

    def _forget(self, account: AccountId) -> Known:
        known = self._accounts.pop(account, Known(-1, None))
        self._used -= _size(known)
        return known

    async def _news(self, owner: int, bits: int, known: Known) -> Known:
        news = await spam_models.news(self._database, owner, known.version)
        if news is None:
            return Known(-1, None)
        if news.version == known.version:
            return known
        size = len(news.base or b"") + sum(map(len, news.deltas))
        if size > LARGE:
            return await asyncio.to_thread(_applied, known, news, bits)
        return _applied(known, news, bits)


def _size(known: Known) -> int:
    return known.counts.size if known.counts is not None else 0


def _applied(known: Known, news: News, bits: int) -> Known:
    """Return a model with what is new; what other features taught is left out."""
    counts = known.counts if news.base is None else None
    try:
        if news.base:
            counts = Counts.unpack(decompress(news.base))
        for data in news.deltas:
            delta = Delta.unpack(decompress(data))
            counts = counts or Counts(bits)
            counts.add(delta)
    except Incompatible as error:
        log.warning(
            "what the content filter learned cannot be used: forget and train it again",
            extra={"reason": str(error)},
        )
        counts = None
    return Known(news.version, counts)
