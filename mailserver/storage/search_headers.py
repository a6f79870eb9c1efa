"""Header blocks in bulk, for searching, sorting and threading."""

from collections.abc import Sequence
from typing import NamedTuple

from mailserver.model import AccountId
from mailserver.storage.database import Executor


class StoredHeader(NamedTuple):
    """One header block."""

    email_id: int
    sent: float | None  # seconds since 1970, by a valid Date
    header: bytes  # zstd


async def headers(database: Executor, account: AccountId, ids: Sequence[int]) -> list[StoredHeader]:
    """Return the header blocks of emails, as they are stored."""
    rows = await database.fetch(
        """
        SELECT id, date_part('epoch', sent_at), header
        FROM email
        WHERE account_id = $1 AND id = ANY($2::bigint[])
        """,
        account,
        ids,
    )
    return [StoredHeader(*row) for row in rows]
