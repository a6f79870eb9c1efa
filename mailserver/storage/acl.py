"""Statements on access control lists, and on subscriptions to mailboxes of others."""

from collections.abc import Sequence
from typing import NamedTuple

from mailserver.model import AccountId, Grant, MailboxId, Right, rights_of, rights_text
from mailserver.storage.database import Executor


async def of_mailbox(database: Executor, account: AccountId, mailbox: MailboxId) -> list[Grant]:
    """Return the entries of a mailbox with the logins of their grantees, anyone's last.

    Those of a deleted account do not count: there are none.
    """
    rows = await database.fetch(
        """
        SELECT acl.grantee_id, acl.negative, acl.rights, account.login
        FROM acl
        JOIN account owner ON owner.id = acl.account_id AND owner.remove_at IS NULL
        LEFT JOIN account ON account.id = acl.grantee_id
        WHERE acl.account_id = $1 AND acl.mailbox_id = $2
        ORDER BY account.login, acl.negative
        """,
        account,
        mailbox,
    )
    return [
        Grant(row["grantee_id"], row["negative"], rights_of(row["rights"]), row["login"])
        for row in rows
    ]


async def of_account(database: Executor, account: AccountId) -> dict[MailboxId, list[Grant]]:
    """Return the entries of all mailboxes of an account that have any, as `of_mailbox` does."""
    rows = await database.fetch(
        """
        SELECT acl.mailbox_id, acl.grantee_id, acl.negative, acl.rights, account.login
        FROM acl
        LEFT JOIN account ON account.id = acl.grantee_id
        WHERE acl.account_id = $1
        ORDER BY account.login, acl.negative
        """,
        account,
    )
    found: dict[MailboxId, list[Grant]] = {}
    for row in rows:
        grant = Grant(row["grantee_id"], row["negative"], rights_of(row["rights"]), row["login"])
        found.setdefault(MailboxId(row["mailbox_id"]), []).append(grant)
    return found


async def put(tx: Executor, account: AccountId, mailbox: MailboxId, grant: Grant) -> None:
    """Add an entry, or give the one that is there other rights."""
    await tx.execute(
        """
        INSERT INTO acl (account_id, mailbox_id, grantee_id, negative, rights)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (account_id, mailbox_id, grantee_id, negative)
        DO UPDATE SET rights = excluded.rights
        """,
        account,
        mailbox,
        grant.grantee,
        grant.negative,
        rights_text(grant.rights),
    )


async def delete(
    tx: Executor,
    account: AccountId,
    mailbox: MailboxId,
    grantee: AccountId | None,
    negative: bool,
) -> None:
    """Remove an entry."""
    await tx.execute(
        """
        DELETE FROM acl
        WHERE account_id = $1 AND mailbox_id = $2 AND grantee_id IS NOT DISTINCT FROM $3
              AND negative = $4
        """,
        account,
        mailbox,
        grantee,
        negative,
    )


async def inherit(tx: Executor, account: AccountId, parent: MailboxId, child: MailboxId) -> None:
    """Give a new mailbox the entries of another."""
    await tx.execute(
        """
        WITH copied AS (
            INSERT INTO acl (account_id, mailbox_id, grantee_id, negative, rights)
            SELECT account_id, $3, grantee_id, negative, rights
            FROM acl
            WHERE account_id = $1 AND mailbox_id = $2
        )
        UPDATE mailbox
        SET owner_rights = parent.owner_rights
        FROM mailbox parent
        WHERE mailbox.account_id = $1 AND mailbox.id = $3
              AND parent.account_id = $1 AND parent.id = $2
        """,
        account,
        parent,
        child,
    )


async def set_owner_rights(
    tx: Executor, account: AccountId, mailbox: MailboxId, rights: Right | None
) -> None:
    """Note what the entries of a mailbox leave to its owner; None is all rights."""
    await tx.execute(
        "UPDATE mailbox SET owner_rights = $3 WHERE account_id = $1 AND id = $2",
        account,
        mailbox,
        None if rights is None else rights_text(rights),
    )


class Shared(NamedTuple):
    """An entry that concerns somebody on a mailbox of another account."""

    account_id: AccountId
    login: str  # of the owner
    mailbox_id: MailboxId
    grant: Grant
    subscribed: bool  # by the one it concerns


async def shared_with(
    database: Executor, grantee: AccountId, logins: Sequence[str] | None
) -> list[Shared]:
    """Return the entries for an account or anyone on mailboxes of others, or of these logins."""
    rows = await database.fetch(
        """
        SELECT acl.account_id, owner.login, acl.mailbox_id, acl.grantee_id, acl.negative,
               acl.rights,
               EXISTS (
                   SELECT FROM subscription s
                   WHERE s.subscriber_id = $1 AND s.account_id = acl.account_id
                         AND s.mailbox_id = acl.mailbox_id
               ) AS subscribed
        FROM acl
        JOIN account owner ON owner.id = acl.account_id
        WHERE (acl.grantee_id = $1 OR acl.grantee_id IS NULL) AND acl.account_id <> $1
              AND owner.remove_at IS NULL
              AND ($2::text[] IS NULL OR owner.login = ANY($2::text[]))
        """,
        grantee,
        logins,
    )
    return [
        Shared(
            AccountId(row["account_id"]),
            row["login"],
            MailboxId(row["mailbox_id"]),
            Grant(row["grantee_id"], row["negative"], rights_of(row["rights"])),
            row["subscribed"],
        )
        for row in rows
    ]


async def subscribe(
    database: Executor, subscriber: AccountId, account: AccountId, mailbox: MailboxId
) -> None:
    """Remember that somebody subscribed to a mailbox of another account, if it is there still."""
    await database.execute(
        """
        INSERT INTO subscription (subscriber_id, account_id, mailbox_id)
        SELECT $1, account_id, id
        FROM mailbox
        WHERE account_id = $2 AND id = $3
        FOR KEY SHARE
        ON CONFLICT DO NOTHING
        """,
        subscriber,
        account,
        mailbox,
    )


async def unsubscribe(
    database: Executor, subscriber: AccountId, account: AccountId, mailbox: MailboxId
) -> None:
    """Forget it."""
    await database.execute(
        """
        DELETE FROM subscription
        WHERE subscriber_id = $1 AND account_id = $2 AND mailbox_id = $3
        """,
        subscriber,
        account,
        mailbox,
    )
