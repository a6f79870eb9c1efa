"""To whom accounts write, and whose mail they took out of Junk."""

from collections.abc import Sequence
from datetime import datetime

from mailserver.model import AccountId
from mailserver.storage.database import Executor


async def add(
    database: Executor, account: AccountId, addresses: Sequence[str], now: datetime
) -> None:
    """Note that an account knows addresses; what was noted within a day is not written again."""
    await database.execute(
        """
        INSERT INTO correspondent (account_id, address, at)
        SELECT $1, address, $3
        FROM (SELECT DISTINCT address FROM unnest($2::text[]) AS address ORDER BY address) AS d
        ON CONFLICT (account_id, address)
        DO UPDATE SET at = excluded.at
        WHERE correspondent.at < excluded.at - interval '1 day'
        """,
        account,
        addresses,
        now,
    )


async def remove(database: Executor, account: AccountId, address: str) -> None:
    """Note that an account does not want to know an address."""
    await database.execute(
        "DELETE FROM correspondent WHERE account_id = $1 AND address = $2", account, address
    )


async def knows(database: Executor, account: AccountId, address: str) -> bool:
    """Tell whether an account knows an address."""
    found = await database.fetchval(
        "SELECT true FROM correspondent WHERE account_id = $1 AND address = $2", account, address
    )
    return found is True
