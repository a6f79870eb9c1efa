"""Statements on mailboxes."""

from collections.abc import Sequence
from typing import NamedTuple

from mailserver.model import (
    ALL_RIGHTS,
    DELETED,
    SEEN,
    AccountId,
    Mailbox,
    MailboxId,
    Membership,
    Modseq,
    Role,
    Tree,
    rights_of,
)
from mailserver.storage.database import Executor, Record


def _mailbox(row: Record, path: str) -> Mailbox:
    """Read what every query here selects first, in its order: names would be looked up."""
    (
        each, parent, name, role, subscribed, sort_order, uidvalidity, uidnext, modseq, total,
        unseen, deleted, size, owner_rights, recent_uid, *_,
    ) = row  # fmt: skip
    return Mailbox(
        id=each,
        parent_id=parent,
        name=name,
        path=path,
        role=Role(role) if role else None,
        subscribed=subscribed,
        sort_order=sort_order,
        uidvalidity=uidvalidity,
        uidnext=uidnext,
        recent_uid=recent_uid,
        modseq=modseq,
        total=total,
        unseen=unseen,
        deleted=deleted,
        size=size,
        owner_rights=ALL_RIGHTS if owner_rights is None else rights_of(owner_rights),
    )


async def of_account(database: Executor, account: AccountId) -> list[Mailbox]:
    """Return an account's mailboxes with their paths, INBOX first, parents before children."""
    return (await of_account_now(database, account))[0]


async def of_account_now(
    database: Executor, account: AccountId
) -> tuple[list[Mailbox], Modseq | None]:
    """Return them, and the modseq of the account at that moment."""
    rows = await database.fetch(
        """
        SELECT id, parent_id, name, role, subscribed, sort_order, uidvalidity, uidnext,
               modseq, total, unseen, deleted, size, owner_rights, recent_uid,
               (SELECT modseq FROM account WHERE id = $1) AS account_modseq
        FROM mailbox
        WHERE account_id = $1
        """,
        account,
    )
    return _with_paths(rows), rows[0]["account_modseq"] if rows else None


async def of_principal(database: Executor, account: AccountId) -> tuple[list[Mailbox], bool]:
    """Return what `of_account` does, and whether there are entries for it on others' mailboxes."""
    rows = await database.fetch(
        """
        SELECT id, parent_id, name, role, subscribed, sort_order, uidvalidity, uidnext,
               modseq, total, unseen, deleted, size, owner_rights, recent_uid,
               EXISTS (
                   SELECT FROM acl
                   WHERE (grantee_id = $1 OR grantee_id IS NULL) AND acl.account_id <> $1
               ) AS shares
        FROM mailbox
        WHERE account_id = $1
        """,
        account,
    )
    return _with_paths(rows), any(row["shares"] for row in rows[:1])


async def tree_of_principal(database: Executor, account: AccountId) -> Tree | None:
    """Return which mailboxes there are, if nobody else shares any."""
    row = await database.fetchrow(
        """
        SELECT account.modseq,
               (
                   SELECT sha256(convert_to(
                              string_agg(
                                  ROW(id, parent_id, name, role, subscribed, owner_rights)::text,
                                  E'\\n' ORDER BY id
                              ), 'UTF8'
                          ))
                   FROM mailbox
                   WHERE account_id = $1
               ) AS digest
        FROM account
        WHERE account.id = $1 AND NOT EXISTS (
            SELECT FROM acl
            WHERE (grantee_id = $1 OR grantee_id IS NULL) AND acl.account_id <> $1
        )
        """,
        account,
    )
    if row is None:
        return None
    modseq, digest = row
    return Tree(modseq, digest or b"")


async def of_accounts(
    database: Executor, accounts: Sequence[AccountId]
) -> dict[AccountId, list[Mailbox]]:
    """Return the mailboxes of several accounts, each in the order of `of_account`."""
    rows = await database.fetch(
        """
        SELECT id, parent_id, name, role, subscribed, sort_order, uidvalidity, uidnext,
               modseq, total, unseen, deleted, size, owner_rights, recent_uid, account_id
        FROM mailbox
        WHERE account_id = ANY($1::bigint[])
        """,
        accounts,
    )
    grouped: dict[AccountId, list[Record]] = {}
    for row in rows:
        grouped.setdefault(AccountId(row["account_id"]), []).append(row)
    return {account: _with_paths(each) for account, each in grouped.items()}


def _with_paths(rows: Sequence[Record]) -> list[Mailbox]:
    known = {row["id"]: (row["parent_id"], row["name"]) for row in rows}
    found = [_mailbox(row, _path(known, row["id"])) for row in rows]
    found.sort(key=lambda mailbox: (mailbox.role is not Role.INBOX, mailbox.path))
    return found


async def at_root(
    database: Executor, account: AccountId, name: str
) -> tuple[Mailbox, Modseq] | None:
    """Return a mailbox that has no parent, and the modseq of the account at that moment."""
    row = await database.fetchrow(
        """
        SELECT id, parent_id, name, role, subscribed, sort_order, uidvalidity, uidnext,
               modseq, total, unseen, deleted, size, owner_rights, recent_uid,
               (SELECT modseq FROM account WHERE id = $1) AS account_modseq
        FROM mailbox
        WHERE account_id = $1 AND parent_id IS NULL AND name = $2
        """,
        account,
        name,
    )
    return (_mailbox(row, name), row["account_modseq"]) if row is not None else None


class Entered(NamedTuple):
    """A mailbox that is to be opened."""

    mailbox: Mailbox
    recent: range | None = None  # the recent UIDs, if they became nobody else's
    modseq: Modseq | None = None  # of the account at that moment, if it was looked at


async def enter_at_root(database: Executor, account: AccountId, name: str) -> Entered | None:
    """Return a mailbox that has no parent, and its recent UIDs if this made them nobody else's.

    They are left alone when there are none, when the owner may not do everything there, and when
    another session takes them at the same moment. Losing that in a crash makes them recent twice,
    as RFC 3501 §2.3.2 has it for messages of which that is not known, so it waits for no disk.
    """
    row = await database.fetchrow(
        """
        WITH found AS MATERIALIZED (
            SELECT id, parent_id, name, role, subscribed, sort_order, uidvalidity, uidnext,
                   modseq, total, unseen, deleted, size, owner_rights, recent_uid
            FROM mailbox
            WHERE account_id = $1 AND parent_id IS NULL AND name = $2
        ), taken AS (
            UPDATE mailbox m
            SET recent_uid = m.uidnext
            FROM found, (SELECT set_config('synchronous_commit', 'off', true)) AS unhurried
            WHERE m.account_id = $1 AND m.id = found.id AND found.owner_rights IS NULL
                  AND m.recent_uid = found.recent_uid AND m.recent_uid < m.uidnext
            RETURNING m.uidnext
        )
        SELECT found.*, (SELECT uidnext FROM taken) AS next,
               (SELECT modseq FROM account WHERE id = $1) AS account_modseq
        FROM found
        """,
        account,
        name,
    )
    if row is None:
        return None
    mailbox = _mailbox(row, name)
    following, modseq = row["next"], row["account_modseq"]
    recent = range(mailbox.recent_uid, following) if following is not None else None
    return Entered(mailbox, recent, modseq)


def _path(known: dict[int, tuple[int | None, str]], mailbox: int) -> str:
    """Join the names from the root on."""
    parent, path = known[mailbox]
    while parent is not None:
        parent, name = known[parent]
        path = f"{name}/{path}"
    return path


async def inboxes(database: Executor, accounts: Sequence[AccountId]) -> dict[AccountId, MailboxId]:
    """Return the INBOX of each account."""
    return await with_role(database, accounts, Role.INBOX)


async def with_role(
    database: Executor, accounts: Sequence[AccountId], role: Role
) -> dict[AccountId, MailboxId]:
    """Return the mailbox of each account that has a role."""
    rows = await database.fetch(
        """
        SELECT account_id, id
        FROM mailbox
        WHERE account_id = ANY($1::bigint[]) AND role = $2
        """,
        accounts,
        role.value,
    )
    return {AccountId(row["account_id"]): MailboxId(row["id"]) for row in rows}


async def insert(
    tx: Executor,
    account: AccountId,
    mailbox: MailboxId,
    parent: MailboxId | None,
    name: str,
    role: Role | None,
    modseq: Modseq,
    *,
    subscribed: bool,
) -> None:
    """Add an empty mailbox; UIDVALIDITY comes from a sequence, so it is never reused."""
    await tx.execute(
        """
        INSERT INTO mailbox (account_id, id, parent_id, name, role, modseq, subscribed)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        account,
        mailbox,
        parent,
        name,
        role.value if role else None,
        modseq,
        subscribed,
    )


async def rename(
    tx: Executor,
    account: AccountId,
    mailbox: MailboxId,
    parent: MailboxId | None,
    name: str,
    modseq: Modseq,
) -> None:
    """Move a mailbox, and so all below it, to another parent or name."""
    await tx.execute(
        """
        UPDATE mailbox
        SET parent_id = $3, name = $4, modseq = $5
        WHERE account_id = $1 AND id = $2
        """,
        account,
        mailbox,
        parent,
        name,
        modseq,
    )


class Altered(NamedTuple):
    """What a client may choose of a mailbox, as it is to be."""

    id: MailboxId
    parent_id: MailboxId | None
    name: str
    role: str | None
    subscribed: bool
    sort_order: int


async def alter(
    tx: Executor, account: AccountId, mailboxes: Sequence[Altered], modseq: Modseq
) -> None:
    """Give mailboxes other places, names and so on."""
    await tx.execute(
        """
        UPDATE mailbox m
        SET parent_id = d.parent_id, name = d.name, role = d.role, subscribed = d.subscribed,
            sort_order = d.sort_order, modseq = $2
        FROM unnest($3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::boolean[], $8::int[])
             AS d(id, parent_id, name, role, subscribed, sort_order)
        WHERE m.account_id = $1 AND m.id = d.id
        """,
        account,
        modseq,
        *zip(*mailboxes, strict=True),
    )


async def subscribe(
    tx: Executor, account: AccountId, mailbox: MailboxId, subscribed: bool, modseq: Modseq
) -> None:
    """Set or clear the subscription."""
    await tx.execute(
        """
        UPDATE mailbox
        SET subscribed = $3, modseq = $4
        WHERE account_id = $1 AND id = $2
        """,
        account,
        mailbox,
        subscribed,
        modseq,
    )


async def delete(tx: Executor, account: AccountId, mailbox: MailboxId) -> None:
    """Remove a mailbox that has no messages and no children."""
    await tx.execute("DELETE FROM mailbox WHERE account_id = $1 AND id = $2", account, mailbox)


async def has_deleted(database: Executor, account: AccountId, mailbox: MailboxId) -> bool:
    """Tell whether any message of a mailbox has \\Deleted."""
    found = await database.fetchval(
        "SELECT deleted > 0 FROM mailbox WHERE account_id = $1 AND id = $2", account, mailbox
    )
    return found is True


async def take_recent(database: Executor, account: AccountId, mailbox: MailboxId) -> range | None:
    """Return the recent UIDs and make every message so far recent for nobody else.

    As in `enter_at_root` it waits for no disk.
    """
    row = await database.fetchrow(
        """
        UPDATE mailbox m
        SET recent_uid = m.uidnext
        FROM (
            SELECT recent_uid FROM mailbox WHERE account_id = $1 AND id = $2 FOR NO KEY UPDATE
        ) AS before, (SELECT set_config('synchronous_commit', 'off', true)) AS unhurried
        WHERE m.account_id = $1 AND m.id = $2
        RETURNING before.recent_uid AS first, m.recent_uid AS next
        """,
        account,
        mailbox,
    )
    return range(row["first"], row["next"]) if row is not None else None


async def peek_recent(database: Executor, account: AccountId, mailbox: MailboxId) -> int | None:
    """Return the first recent UID and leave it recent for others."""
    first: int | None = await database.fetchval(
        "SELECT recent_uid FROM mailbox WHERE account_id = $1 AND id = $2", account, mailbox
    )
    return first


class Growth(NamedTuple):
    """What a change adds to one mailbox; negative numbers take away."""

    account_id: AccountId
    mailbox_id: MailboxId
    uids: int  # how many UIDs are taken
    total: int
    unseen: int
    deleted: int
    size: int
    modseq: Modseq


def growth_of(
    account: AccountId, mailbox: MailboxId, added: Sequence[Membership], modseq: Modseq
) -> Growth:
    """Return what new messages with those flags and sizes add to a mailbox."""
    return Growth(
        account,
        mailbox,
        uids=len(added),
        total=len(added),
        unseen=sum(not row.flags.bits & SEEN for row in added),
        deleted=sum(bool(row.flags.bits & DELETED) for row in added),
        size=sum(row.size for row in added),
        modseq=modseq,
    )


class Place(NamedTuple):
    """Where the messages that a change added begin."""

    first_uid: int
    uidvalidity: int


async def grow(tx: Executor, growths: Sequence[Growth]) -> dict[tuple[AccountId, MailboxId], Place]:
    """Take UIDs and keep the counters of several mailboxes; one that is gone is left out."""
    rows = await tx.fetch(
        """
        UPDATE mailbox m
        SET uidnext = m.uidnext + d.uids,
            total = m.total + d.total,
            unseen = m.unseen + d.unseen,
            deleted = m.deleted + d.deleted,
            size = m.size + d.size,
            modseq = d.modseq
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[], $5::int[], $6::int[],
                    $7::bigint[], $8::bigint[])
             AS d(account_id, id, uids, total, unseen, deleted, size, modseq)
        WHERE m.account_id = d.account_id AND m.id = d.id
        RETURNING m.account_id, m.id, m.uidnext - d.uids AS first_uid, m.uidvalidity
        """,
        *zip(*growths, strict=True),
    )
    return {
        (AccountId(row["account_id"]), MailboxId(row["id"])): Place(
            row["first_uid"], row["uidvalidity"]
        )
        for row in rows
    }
