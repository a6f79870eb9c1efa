"""Statements on annotations of mailboxes, and of accounts where the mailbox is None.

The reader is None for what is shared and for what is the owner's own; else it is who made a private
annotation on a mailbox of another account.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mailserver.model import AccountId, MailboxId
from mailserver.storage.database import Executor


async def of_mailbox(
    database: Executor,
    account: AccountId,
    mailbox: MailboxId | None,
    reader: AccountId | None,
) -> dict[str, bytes]:
    """Return the annotations of one mailbox, or of the account, that a reader sees, by name."""
    rows = await database.fetch(
        """
        SELECT name, value
        FROM metadata
        WHERE account_id = $1 AND mailbox_id IS NOT DISTINCT FROM $2
              AND (reader_id IS NOT DISTINCT FROM $3
                   OR (reader_id IS NULL AND name LIKE '/shared/%'))
        ORDER BY name COLLATE "C"
        """,
        account,
        mailbox,
        reader,
    )
    return {row["name"]: row["value"] for row in rows}


async def of_all_mailboxes(
    database: Executor, principal: AccountId, accounts: Sequence[AccountId], names: Sequence[str]
) -> dict[MailboxId, dict[str, bytes]]:
    """Return what somebody sees of annotations with those names, of all mailboxes of accounts."""
    rows = await database.fetch(
        """
        SELECT mailbox_id, name, value
        FROM metadata
        WHERE account_id = ANY($2::bigint[]) AND mailbox_id IS NOT NULL
              AND name = ANY($3::text[])
              AND CASE WHEN reader_id IS NULL
                       THEN account_id = $1 OR name LIKE '/shared/%'
                       ELSE reader_id = $1 END
        """,
        principal,
        accounts,
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
        WHERE account_id = $1 AND reader_id IS NULL
        """,
        account,
        mailbox,
    )
    return Usage(row["here"], row["total"], row["octets"]) if row else Usage(0, 0, 0)


async def usage_elsewhere(tx: Executor, reader: AccountId, mailbox: MailboxId) -> Usage:
    """Count the private annotations of a reader on a mailbox of another, and on all such ones."""
    row = await tx.fetchrow(
        """
        SELECT count(*) FILTER (WHERE mailbox_id = $2) AS here,
               count(*) AS total,
               coalesce(sum(octet_length(value)), 0) AS octets
        FROM metadata
        WHERE reader_id = $1
        """,
        reader,
        mailbox,
    )
    return Usage(row["here"], row["total"], row["octets"]) if row else Usage(0, 0, 0)


async def insert(
    tx: Executor,
    account: AccountId,
    mailbox: MailboxId | None,
    reader: AccountId | None,
    values: dict[str, bytes],
) -> None:
    """Add annotations that are not there."""
    await tx.execute(
        """
        INSERT INTO metadata (account_id, mailbox_id, reader_id, name, value)
        SELECT $1, $2, $3, name, value
        FROM unnest($4::text[], $5::bytea[]) AS given(name, value)
        """,
        account,
        mailbox,
        reader,
        list(values),
        list(values.values()),
    )


async def delete(
    tx: Executor,
    account: AccountId,
    mailbox: MailboxId | None,
    reader: AccountId | None,
    names: Sequence[str],
) -> None:
    """Remove the annotations with those names."""
    await tx.execute(
        """
        DELETE FROM metadata
        WHERE account_id = $1 AND mailbox_id IS NOT DISTINCT FROM $2
              AND reader_id IS NOT DISTINCT FROM $3 AND name = ANY($4::text[])
        """,
        account,
        mailbox,
        reader,
        names,
    )


async def copy(tx: Executor, account: AccountId, source: MailboxId, target: MailboxId) -> None:
    """Give a new mailbox the annotations of another, but not those that are others' own."""
    await tx.execute(
        """
        INSERT INTO metadata (account_id, mailbox_id, name, value)
        SELECT account_id, $3, name, value
        FROM metadata
        WHERE account_id = $1 AND mailbox_id = $2 AND reader_id IS NULL
        """,
        account,
        source,
        target,
    )
