"""Statements on frames: the texts of up to 50 emails as they are searched, and their words."""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from mailserver.model import AccountId
from mailserver.storage.database import Executor, Record
from mailserver.storage.search_text import packed, unpacked


class Place(NamedTuple):
    """Which emails a frame has texts of."""

    id: int
    email_ids: "array[int]"  # in the order of the texts
    cut_ids: "array[int]"  # those whose text is not whole
    dead: int  # emails of it that do not exist any more


class NewFrame(NamedTuple):
    """A frame to store."""

    id: int
    dead: int  # emails of it that do not exist any more
    email_ids: Sequence[int]
    cut_ids: Sequence[int]
    size: int  # octets of the texts
    small: bool
    data: bytes
    vocabulary: bytes


async def insert_frame(tx: Executor, account: AccountId, frame: NewFrame) -> None:
    """Store the texts of emails."""
    await tx.execute(
        """
        INSERT INTO search_frame (account_id, id, dead, first_id, last_id, email_ids, cut_ids,
                                  size, small, data, vocabulary)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        """,
        account,
        frame.id,
        frame.dead,
        min(frame.email_ids),
        max(frame.email_ids),
        packed(frame.email_ids),
        packed(frame.cut_ids),
        frame.size,
        frame.small,
        frame.data,
        frame.vocabulary,
    )


async def frames_of(database: Executor, account: AccountId, first: int, last: int) -> list[Place]:
    """Return the frames that may have texts of emails between two ids."""
    rows = await database.fetch(
        """
        SELECT id, email_ids, cut_ids, dead
        FROM search_frame
        WHERE account_id = $1 AND last_id >= $2 AND first_id <= $3
        ORDER BY id
        """,
        account,
        first,
        last,
    )
    return [_place(row) for row in rows]


async def untidy_frames(
    database: Executor, account: AccountId, *, any_dead: bool, limit: int
) -> list[Place]:
    """Return frames that are small or have texts of destroyed emails: a quarter, or any."""
    rows = await database.fetch(
        """
        SELECT id, email_ids, cut_ids, dead
        FROM search_frame
        WHERE account_id = $1 AND (small OR dead > 0)
              AND (small OR $2 OR dead * 32 >= length(email_ids))
        ORDER BY id
        LIMIT $3
        """,
        account,
        any_dead,
        limit,
    )
    return [_place(row) for row in rows]


def _place(row: Record) -> Place:
    return Place(row["id"], unpacked(row["email_ids"]), unpacked(row["cut_ids"]), row["dead"])


async def accounts_with_dead(database: Executor, limit: int) -> list[AccountId]:
    """Return accounts that have texts of destroyed emails."""
    rows = await database.fetch(
        """
        SELECT DISTINCT account_id
        FROM search_frame
        WHERE (small OR dead > 0) AND dead > 0
        LIMIT $1
        """,
        limit,
    )
    return [row["account_id"] for row in rows]


async def texts(database: Executor, account: AccountId, frames: Sequence[int]) -> dict[int, bytes]:
    """Return the texts of frames that are still there, compressed; ask for 20 at a time."""
    rows = await database.fetch(
        """
        SELECT id, data FROM search_frame WHERE account_id = $1 AND id = ANY($2::bigint[])
        """,
        account,
        frames,
    )
    return {row["id"]: row["data"] for row in rows}


async def vocabularies(
    database: Executor, account: AccountId, frames: Sequence[int]
) -> dict[int, bytes]:
    """Return the words of frames that are still there and have them; ask for 100 at a time."""
    rows = await database.fetch(
        """
        SELECT id, vocabulary
        FROM search_frame
        WHERE account_id = $1 AND id = ANY($2::bigint[]) AND vocabulary IS NOT NULL
        """,
        account,
        frames,
    )
    return {row["id"]: row["vocabulary"] for row in rows}


async def frames_without_vocabulary(
    database: Executor, account: AccountId, limit: int
) -> list[Place]:
    """Return frames that were stored without their words."""
    rows = await database.fetch(
        """
        SELECT id, email_ids, cut_ids, dead
        FROM search_frame
        WHERE account_id = $1 AND vocabulary IS NULL
        ORDER BY id
        LIMIT $2
        """,
        account,
        limit,
    )
    return [_place(row) for row in rows]


async def accounts_without_vocabulary(database: Executor, limit: int) -> list[AccountId]:
    """Return accounts of which frames were stored without their words."""
    rows = await database.fetch(
        "SELECT DISTINCT account_id FROM search_frame WHERE vocabulary IS NULL LIMIT $1", limit
    )
    return [row["account_id"] for row in rows]


async def count_dead(tx: Executor, account: AccountId, counts: Sequence[tuple[int, int]]) -> None:
    """Note how many more emails of frames do not exist any more."""
    await tx.execute(
        """
        UPDATE search_frame
        SET dead = search_frame.dead + d.dead
        FROM unnest($2::bigint[], $3::int[]) AS d(id, dead)
        WHERE search_frame.account_id = $1 AND search_frame.id = d.id
        """,
        account,
        [frame for frame, _ in counts],
        [dead for _, dead in counts],
    )


async def remove_frames(tx: Executor, account: AccountId, frames: Sequence[tuple[int, int]]) -> int:
    """Remove frames that have as many dead as is said; return how many there were."""
    return len(
        await tx.fetch(
            """
            DELETE FROM search_frame
            USING unnest($2::bigint[], $3::int[]) AS d(id, dead)
            WHERE account_id = $1 AND search_frame.id = d.id AND search_frame.dead = d.dead
            RETURNING search_frame.id
            """,
            account,
            [frame for frame, _ in frames],
            [dead for _, dead in frames],
        )
    )
