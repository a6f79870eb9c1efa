"""Statements on vacation responses and on who was told (RFC 8621 §8, RFC 5230 §4.2)."""

from datetime import datetime

from mailserver.model import AccountId, Vacation
from mailserver.storage.database import Executor


async def get(database: Executor, account: AccountId) -> Vacation:
    """Return the vacation response of an account; the one that is off where none was set."""
    row = await database.fetchrow(
        """
        SELECT enabled, from_date, to_date, subject, text_body, html_body
        FROM vacation
        WHERE account_id = $1
        """,
        account,
    )
    return Vacation(*row) if row else Vacation()


async def put(tx: Executor, account: AccountId, vacation: Vacation) -> None:
    """Set the vacation response, and let deliveries look for it while it is enabled."""
    await tx.execute(
        """
        WITH noted AS (
            UPDATE account SET responds = $2 WHERE id = $1
        )
        INSERT INTO vacation (account_id, enabled, from_date, to_date, subject, text_body,
                              html_body)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (account_id) DO UPDATE
        SET enabled = excluded.enabled, from_date = excluded.from_date,
            to_date = excluded.to_date, subject = excluded.subject,
            text_body = excluded.text_body, html_body = excluded.html_body
        """,
        account,
        vacation.enabled,
        vacation.from_date,
        vacation.to_date,
        vacation.subject,
        vacation.text_body,
        vacation.html_body,
    )


async def tell(
    tx: Executor, account: AccountId, sender: str, now: datetime, again_before: datetime
) -> bool:
    """Note that a sender is told; False when that was done not long enough ago."""
    tag = await tx.execute(
        """
        INSERT INTO vacation_sent (account_id, sender, sent_at)
        VALUES ($1, $2, $3)
        ON CONFLICT (account_id, sender) DO UPDATE
        SET sent_at = excluded.sent_at
        WHERE vacation_sent.sent_at <= $4
        """,
        account,
        sender,
        now,
        again_before,
    )
    return tag.endswith(" 1")


async def forget_told(tx: Executor, account: AccountId) -> None:
    """Forget who was told: it was something else."""
    await tx.execute("DELETE FROM vacation_sent WHERE account_id = $1", account)


async def trim_told(database: Executor, before: datetime) -> None:
    """Forget those who may be told again anyway."""
    await database.execute("DELETE FROM vacation_sent WHERE sent_at < $1", before)
