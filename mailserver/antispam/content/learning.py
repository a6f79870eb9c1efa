"""Learning: what a model knows of a message changes exactly once for each change of opinion."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mailserver.antispam.content.model import (
    ACCOUNT_BITS,
    SERVER_BITS,
    Counts,
    Delta,
    Incompatible,
    Lesson,
    delta_of,
)
from mailserver.antispam.content.tokens import Features
from mailserver.model import BlobId
from mailserver.storage import spam_models
from mailserver.storage.compression import compressor, decompress
from mailserver.storage.database import Database, Executor
from mailserver.storage.spam_models import SERVER

DELTAS = 100  # changes after which a base is made of them


class Opinion(NamedTuple):
    """What somebody says of a message."""

    spam: bool | None  # None: nothing any more
    features: Features


def bits_of(owner: int) -> int:
    """Return the size of an owner's model."""
    return SERVER_BITS if owner == SERVER else ACCOUNT_BITS


async def learn(tx: Executor, owner: int, opinions: Mapping[BlobId, Opinion]) -> int:
    """Teach a model; return how many messages it learned or unlearned.

    What it knows of a message is compared with what is said now, so the same lesson twice is one.
    """
    version, _ = await spam_models.lock(tx, owner)
    known = await spam_models.taught(tx, owner, list(opinions))
    lessons: list[Lesson] = []
    learned: list[tuple[BlobId, bool]] = []
    forgotten: list[BlobId] = []
    for blob, opinion in opinions.items():
        before = known.get(blob)
        if before is opinion.spam:
            continue
        if before is not None:
            lessons.append(Lesson(opinion.features, before, -1))
        if opinion.spam is None:
            forgotten.append(blob)
        else:
            lessons.append(Lesson(opinion.features, opinion.spam))
            learned.append((blob, opinion.spam))
    if lessons:
        delta = compressor()(delta_of(lessons, bits_of(owner)).pack())
        await spam_models.teach(tx, owner, version + 1, delta, learned, forgotten)
    return len(learned) + len(forgotten)


async def tidy(database: Database, owner: int) -> bool:
    """Make a base of the changes of a model when there are many; True when that was done."""
    async with database.transaction() as tx:
        version, base_version = await spam_models.lock(tx, owner)
        if version - base_version < DELTAS:
            return False
        news = await spam_models.news(tx, owner, -1)
        assert news is not None
        base = await asyncio.to_thread(_merged, news.base or b"", news.deltas, bits_of(owner))
        await spam_models.rebase(tx, owner, version, base)
    return True


def _merged(base: bytes, deltas: Sequence[bytes], bits: int) -> bytes:
    counts = Counts(bits)
    try:
        if base:
            counts = Counts.unpack(decompress(base))
        for data in deltas:
            counts.add(Delta.unpack(decompress(data)))
    except Incompatible:
        # learned with other features: it cannot be merged, and means nothing
        counts = Counts(bits)
    return compressor()(counts.pack())
