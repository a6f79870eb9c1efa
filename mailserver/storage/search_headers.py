"""Header blocks in bulk, for searching, sorting and threading."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.model import AccountId
from mailserver.storage.database import Executor


class StoredHeader(NamedTuple):
    """One header block."""

    email_id: int
    sent_at: datetime | None
    header: bytes  # zstd


async def headers(database: Executor, account: AccountId, ids: Sequence[int]) -> list[StoredHeader]:
    """Return the header blocks of emails, as they are stored."""
    rows = await database.fetch(
        """
        SELECT id, sent_at, header
        FROM email
        WHERE account_id = $1 AND id = ANY($2::bigint[])
        """,
        account,
        ids,
    )
    return [StoredHeader(*row) for row in rows]
