"""Who may send: accounts that are held, and to whom an account has sent before."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.model import AccountId
from mailserver.storage.database import Executor


class Standing(NamedTuple):
    """What is known of an account that wants to send."""

    held: str | None  # why it may not
    released_at: datetime | None  # when it was held last and let go: counts begin anew
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
        SELECT h.reason, h.released_at,
               ARRAY(
                   SELECT contact FROM sending_contact
                   WHERE account_id = $1 AND contact = ANY($2::bigint[])
               ) AS known
        FROM (VALUES (1)) AS one
        LEFT JOIN sending_hold h ON h.account_id = $1
        """,
        account,
        contacts,
    )
    assert row is not None
    held = row["reason"] if row["released_at"] is None else None
    return Standing(held, row["released_at"], frozenset(row["known"]))


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
        ON CONFLICT (account_id) DO UPDATE
        SET reason = excluded.reason, held_at = excluded.held_at, released_at = NULL
        WHERE sending_hold.released_at IS NOT NULL
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


async def hold_rest(database: Executor, besides: Sequence[str]) -> None:
    """Hold what was under way when its account was held, and waits again now.

    What accounts of some logins send goes on.
    """
    await database.execute(
        """
        UPDATE queue_recipient q SET state = 3
        FROM sending_hold h
        JOIN account ON account.id = h.account_id
        JOIN queue_message m ON m.account_id = h.account_id
        WHERE h.released_at IS NULL AND account.login <> ALL($1::text[])
              AND q.message_id = m.id AND q.state = 0
        """,
        besides,
    )


async def release(tx: Executor, account: AccountId, now: datetime, *, queued: bool) -> bool:
    """Let an account send again, `queued`: also what was held of it; False when it was not held."""
    released = await tx.fetchval(
        """
        UPDATE sending_hold SET released_at = $2
        WHERE account_id = $1 AND released_at IS NULL
        RETURNING true
        """,
        account,
        now,
    )
    if queued:
        await tx.execute(
            """
            UPDATE queue_recipient q
            SET state = 0,
                -- what was never tried is not due before its time (RFC 4865)
                next_attempt = CASE WHEN attempts = 0 THEN greatest(next_attempt, $2) ELSE $2 END
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
        WHERE sending_hold.released_at IS NULL
        ORDER BY sending_hold.held_at
        """
    )
    return [Held(*row) for row in rows]


class Refused(NamedTuple):
    """An account many of whose recipients other servers refused."""

    account: AccountId
    login: str
    recipients: int


async def refused(database: Executor, since: datetime, most: int) -> list[Refused]:
    """Return the accounts with more than so many such recipients since then, or since a release.

    What was given up here, by an administrator or because its time was over, was not refused.
    """
    rows = await database.fetch(
        """
        SELECT m.account_id, account.login, count(*) AS refused
        FROM queue_recipient q
        JOIN queue_message m ON m.id = q.message_id
        JOIN account ON account.id = m.account_id
        LEFT JOIN sending_hold h ON h.account_id = m.account_id
        WHERE q.finished_at > $1 AND q.state = 2 AND q.last_reply LIKE '5%' AND m.sender <> ''
              AND (q.remote IS NOT NULL OR q.status LIKE '5.1.%')
              AND (h.account_id IS NULL OR q.finished_at > h.released_at)
        GROUP BY m.account_id, account.login
        HAVING count(*) > $2
        """,
        since,
        most,
    )
    return [Refused(*row) for row in rows]
