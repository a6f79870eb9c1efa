"""Who may send: accounts that are held, and to whom an account has sent before."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.model import AccountId
from mailserver.storage.database import Executor


class Standing(NamedTuple):
    """What is known of an account that wants to send."""

    held: str | None  # why it may not
    known: frozenset[int]  # of the contacts that were asked about


class Held(NamedTuple):
    """An account that may not send."""

    login: str
    reason: str
    held_at: datetime


async def standing(database: Executor, account: AccountId, contacts: Sequence[int]) -> Standing:
    """Return whether an account is held, and which contacts it has sent to before."""
    row = await database.fetchrow(
        """
        SELECT (SELECT reason FROM sending_hold WHERE account_id = $1) AS held,
               ARRAY(
                   SELECT contact FROM sending_contact
                   WHERE account_id = $1 AND contact = ANY($2::bigint[])
               ) AS known
        """,
        account,
        contacts,
    )
    assert row is not None
    return Standing(row["held"], frozenset(row["known"]))


async def remember(database: Executor, contacts: Sequence[tuple[AccountId, int]]) -> None:
    """Note to whom accounts have sent; those that are gone meanwhile do not matter."""
    await database.execute(
        """
        INSERT INTO sending_contact (account_id, contact)
        SELECT d.account_id, d.contact
        FROM unnest($1::bigint[], $2::bigint[]) AS d(account_id, contact)
        JOIN account ON account.id = d.account_id
        ORDER BY d.account_id, d.contact
        ON CONFLICT DO NOTHING
        """,
        *zip(*contacts, strict=True),
    )


async def hold(tx: Executor, account: AccountId, reason: str, now: datetime) -> bool:
    """Hold an account and all that waits of it; False when it was held already."""
    held = await tx.fetchval(
        """
        INSERT INTO sending_hold (account_id, reason, held_at) VALUES ($1, $2, $3)
        ON CONFLICT DO NOTHING
        RETURNING true
        """,
        account,
        reason,
        now,
    )
    await tx.execute(
        """
        UPDATE queue_recipient q SET state = 3
        FROM queue_message m
        WHERE m.account_id = $1 AND q.message_id = m.id AND q.state = 0
        """,
        account,
    )
    return bool(held)


async def release(tx: Executor, account: AccountId, now: datetime, *, queued: bool) -> bool:
    """Let an account send again, `queued`: also what was held of it; False when it was not held."""
    released = await tx.fetchval(
        "DELETE FROM sending_hold WHERE account_id = $1 RETURNING true", account
    )
    if queued:
        await tx.execute(
            """
            UPDATE queue_recipient q SET state = 0, next_attempt = $2
            FROM queue_message m
            WHERE m.account_id = $1 AND q.message_id = m.id AND q.state = 3
            """,
            account,
            now,
        )
    return bool(released)


async def held(database: Executor) -> list[Held]:
    """Return the accounts that may not send, the first one first."""
    rows = await database.fetch(
        """
        SELECT account.login, sending_hold.reason, sending_hold.held_at
        FROM sending_hold
        JOIN account ON account.id = sending_hold.account_id
        ORDER BY sending_hold.held_at
        """
    )
    return [Held(*row) for row in rows]


async def refused(database: Executor, since: datetime, most: int) -> list[tuple[AccountId, int]]:
    """Return the accounts of whose recipients other servers refused more than so many since."""
    rows = await database.fetch(
        """
        SELECT m.account_id, count(*) AS refused
        FROM queue_recipient q
        JOIN queue_message m ON m.id = q.message_id
        WHERE q.finished_at > $1 AND q.state = 2 AND q.last_reply LIKE '5%' AND m.sender <> ''
              AND NOT EXISTS (SELECT FROM sending_hold h WHERE h.account_id = m.account_id)
        GROUP BY m.account_id
        HAVING count(*) > $2
        """,
        since,
        most,
    )
    return [(AccountId(row["account_id"]), row["refused"]) for row in rows]
