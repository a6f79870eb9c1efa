"""Statements on annotations of mailboxes, and of accounts where the mailbox is None."""

from collections.abc import Sequence
from typing import NamedTuple

from mailserver.model import AccountId, MailboxId
from mailserver.storage.database import Executor


async def of_mailbox(
    database: Executor, account: AccountId, mailbox: MailboxId | None
) -> dict[str, bytes]:
    """Return all annotations of one mailbox, or of the account, by name."""
    rows = await database.fetch(
        """
        SELECT name, value
        FROM metadata
        WHERE account_id = $1 AND mailbox_id IS NOT DISTINCT FROM $2
        ORDER BY name COLLATE "C"
        """,
        account,
        mailbox,
    )
    return {row["name"]: row["value"] for row in rows}


async def of_all_mailboxes(
    database: Executor, account: AccountId, names: Sequence[str]
) -> dict[MailboxId, dict[str, bytes]]:
    """Return the annotations with those names of every mailbox that has one."""
    rows = await database.fetch(
        """
        SELECT mailbox_id, name, value
        FROM metadata
        WHERE account_id = $1 AND mailbox_id IS NOT NULL AND name = ANY($2::text[])
        """,
        account,
        names,
    )
    found: dict[MailboxId, dict[str, bytes]] = {}
    for row in rows:
        found.setdefault(MailboxId(row["mailbox_id"]), {})[row["name"]] = row["value"]
    return found


class Usage(NamedTuple):
    """How many annotations there are."""

    here: int  # of the mailbox
    total: int  # of the account and all its mailboxes
    octets: int  # of the values of all


async def usage(tx: Executor, account: AccountId, mailbox: MailboxId | None) -> Usage:
    """Count the annotations of a mailbox, and of all its account has."""
    row = await tx.fetchrow(
        """
        SELECT count(*) FILTER (WHERE mailbox_id IS NOT DISTINCT FROM $2) AS here,
               count(*) AS total,
               coalesce(sum(octet_length(value)), 0) AS octets
        FROM metadata
        WHERE account_id = $1
        """,
        account,
        mailbox,
    )
    return Usage(row["here"], row["total"], row["octets"]) if row else Usage(0, 0, 0)


async def insert(
    tx: Executor, account: AccountId, mailbox: MailboxId | None, values: dict[str, bytes]
) -> None:
    """Add annotations that are not there."""
    await tx.execute(
        """
        INSERT INTO metadata (account_id, mailbox_id, name, value)
        SELECT $1, $2, name, value
        FROM unnest($3::text[], $4::bytea[]) AS given(name, value)
        """,
        account,
        mailbox,
        list(values),
        list(values.values()),
    )


async def delete(
    tx: Executor, account: AccountId, mailbox: MailboxId | None, names: Sequence[str]
) -> None:
    """Remove the annotations with those names."""
    await tx.execute(
        """
        DELETE FROM metadata
        WHERE account_id = $1 AND mailbox_id IS NOT DISTINCT FROM $2 AND name = ANY($3::text[])
        """,
        account,
        mailbox,
        names,
    )


async def copy(tx: Executor, account: AccountId, source: MailboxId, target: MailboxId) -> None:
    """Give a new mailbox the annotations of another."""
    await tx.execute(
        """
        INSERT INTO metadata (account_id, mailbox_id, name, value)
        SELECT account_id, $3, name, value
        FROM metadata
        WHERE account_id = $1 AND mailbox_id = $2
        """,
        account,
        source,
        target,
    )
