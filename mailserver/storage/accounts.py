"""Statements on domains, accounts and addresses."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.model import Account, AccountId, Modseq
from mailserver.storage.database import Executor, Record


def _account(row: Record) -> Account:
    return Account(
        id=AccountId(row["id"]),
        login=row["login"],
        name=row["name"],
        enabled=row["enabled"],
        quota_limit=row["quota_limit"],
        quota_used=row["quota_used"],
        modseq=Modseq(row["modseq"]),
        refuses=row["refuses"],
        remove_at=row["remove_at"],
    )


async def insert_domain(database: Executor, name: str, now: datetime) -> bool:
    """Add a domain; False when it is there."""
    tag = await database.execute(
        """
        INSERT INTO domain (name, created_at)
        VALUES ($1, $2)
        ON CONFLICT DO NOTHING
        """,
        name,
        now,
    )
    return tag.endswith(" 1")


async def domains(database: Executor) -> list[str]:
    """Return the names of all domains."""
    rows = await database.fetch("SELECT name FROM domain ORDER BY name")
    return [row["name"] for row in rows]


async def claim_domains(tx: Executor, names: Sequence[str]) -> set[str]:
    """Return which of the domains are ours; they stay so until the transaction ends."""
    rows = await tx.fetch(
        "SELECT name FROM domain WHERE name = ANY($1::text[]) ORDER BY name FOR KEY SHARE", names
    )
    return {row["name"] for row in rows}


async def delete_domain(tx: Executor, name: str) -> bool:
    """Take a domain out, with its keys; False when it is not there."""
    return (await tx.execute("DELETE FROM domain WHERE name = $1", name)).endswith(" 1")


async def in_domain(tx: Executor, name: str, limit: int) -> list[str]:
    """Return addresses in a domain that lead somewhere; all addresses are looked through."""
    rows = await tx.fetch(
        """
        SELECT address FROM address WHERE split_part(address, '@', 2) = $1
        UNION
        SELECT address FROM forward WHERE split_part(address, '@', 2) = $1
        ORDER BY address
        LIMIT $2
        """,
        name,
        limit,
    )
    return [row["address"] for row in rows]


async def domain_exists(database: Executor, name: str) -> bool:
    """Tell whether mail for the domain is ours."""
    found = await database.fetchval("SELECT true FROM domain WHERE name = $1", name)
    return found is True


async def insert(
    database: Executor,
    account: AccountId,
    login: str,
    name: str,
    password: str | None,
    scram: str | None,
    quota: int | None,
    now: datetime,
) -> bool:
    """Add an account and its own address; False when the login is taken."""
    tag = await database.execute(
        """
        WITH made AS (
            INSERT INTO account (id, login, name, password, scram, quota_limit, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (login) DO NOTHING
            RETURNING id, login
        )
        INSERT INTO address (address, account_id)
        SELECT login, id FROM made
        """,
        account,
        login,
        name,
        password,
        scram,
        quota,
        now,
    )
    return tag.endswith(" 1")


async def by_id(database: Executor, account: AccountId) -> Account | None:
    """Return one account."""
    row = await database.fetchrow(
        """
        SELECT id, login, name, enabled, quota_limit, quota_used, modseq, refuses, remove_at
        FROM account
        WHERE id = $1
        """,
        account,
    )
    return _account(row) if row else None


async def by_login(database: Executor, login: str) -> Account | None:
    """Return the account with that login in normal form."""
    row = await database.fetchrow(
        """
        SELECT id, login, name, enabled, quota_limit, quota_used, modseq, refuses, remove_at
        FROM account
        WHERE login = $1
        """,
        login,
    )
    return _account(row) if row else None


async def everyone(database: Executor) -> list[Account]:
    """Return all accounts by login."""
    rows = await database.fetch(
        """
        SELECT id, login, name, enabled, quota_limit, quota_used, modseq, refuses, remove_at
        FROM account
        ORDER BY login
        """
    )
    return [_account(row) for row in rows]


async def credentials(database: Executor, login: str) -> tuple[AccountId, str | None, bool] | None:
    """Return the id, the password hash and whether the account is enabled."""
    row = await database.fetchrow(
        "SELECT id, password, enabled FROM account WHERE login = $1", login
    )
    return (AccountId(row["id"]), row["password"], row["enabled"]) if row else None


async def scram_keys(database: Executor, login: str) -> tuple[AccountId, str | None, bool] | None:
    """Return the id, the SCRAM keys of the password and whether the account is enabled."""
    row = await database.fetchrow("SELECT id, scram, enabled FROM account WHERE login = $1", login)
    return (AccountId(row["id"]), row["scram"], row["enabled"]) if row else None


async def set_password(database: Executor, login: str, password: str, scram: str | None) -> bool:
    """Store a password hash and SCRAM keys; False when there is no such account."""
    tag = await database.execute(
        "UPDATE account SET password = $2, scram = $3 WHERE login = $1", login, password, scram
    )
    return tag.endswith(" 1")


async def replace_password(database: Executor, login: str, old: str, new: str) -> bool:
    """Store a password hash in place of another; False when that is no longer the stored one."""
    tag = await database.execute(
        "UPDATE account SET password = $3 WHERE login = $1 AND password = $2", login, old, new
    )
    return tag.endswith(" 1")


async def set_quota(database: Executor, account: AccountId, quota: int | None) -> None:
    """Set the room of an account in bytes; None is no limit."""
    await database.execute("UPDATE account SET quota_limit = $2 WHERE id = $1", account, quota)


async def insert_address(database: Executor, address: str, account: AccountId) -> bool:
    """Let an address lead to an account; False when it does already."""
    tag = await database.execute(
        """
        INSERT INTO address (address, account_id)
        VALUES ($1, $2)
        ON CONFLICT DO NOTHING
        """,
        address,
        account,
    )
    return tag.endswith(" 1")


async def addresses(database: Executor, account: AccountId) -> list[str]:
    """Return the addresses that an account may send as."""
    rows = await database.fetch(
        "SELECT address FROM address WHERE account_id = $1 AND send ORDER BY address", account
    )
    return [row["address"] for row in rows]


async def may_send(database: Executor, account: AccountId) -> list[str]:
    """Return the addresses an account may send as now: none while it is disabled."""
    rows = await database.fetch(
        """
        SELECT address.address
        FROM address
        JOIN account ON account.id = address.account_id AND account.enabled
        WHERE address.account_id = $1 AND address.send
        ORDER BY address.address
        """,
        account,
    )
    return [row["address"] for row in rows]


async def aliases(database: Executor) -> list[tuple[str, str]]:
    """Return all (address, login) pairs that are not an account's own login."""
    rows = await database.fetch(
        """
        SELECT address.address, account.login
        FROM address
        JOIN account ON account.id = address.account_id
        WHERE address.address <> account.login
        ORDER BY address.address, account.login
        """
    )
    return [(row["address"], row["login"]) for row in rows]


async def delete_address(tx: Executor, address: str, account: AccountId) -> bool:
    """Let an address no longer lead to an account; False when it did not."""
    tag = await tx.execute(
        "DELETE FROM address WHERE address = $1 AND account_id = $2", address, account
    )
    return tag.endswith(" 1")


async def set_login(tx: Executor, account: AccountId, login: str) -> bool:
    """Give an account another login; False when that is another account's."""
    tag = await tx.execute(
        """
        UPDATE account SET login = $2
        WHERE id = $1 AND NOT EXISTS (SELECT FROM account WHERE login = $2 AND id <> $1)
        """,
        account,
        login,
    )
    return tag.endswith(" 1")


async def by_address(database: Executor, addresses: Sequence[str]) -> list[tuple[str, Account]]:
    """Return which of the addresses lead to which accounts."""
    rows = await database.fetch(
        """
        SELECT address.address, id, login, name, enabled, quota_limit, quota_used, modseq,
               refuses, remove_at
        FROM address
        JOIN account ON account.id = address.account_id
        WHERE address.address = ANY($1::text[])
        ORDER BY account.id
        """,
        addresses,
    )
    return [(row["address"], _account(row)) for row in rows]


async def leads(
    database: Executor, addresses: Sequence[str]
) -> tuple[list[tuple[str, Account]], list[tuple[str, str]]]:
    """Return which of the addresses lead to which accounts, and to which addresses elsewhere."""
    rows = await database.fetch(
        """
        SELECT address.address, id, login, name, enabled, quota_limit, quota_used, modseq,
               refuses, remove_at, NULL AS target
        FROM address
        JOIN account ON account.id = address.account_id
        WHERE address.address = ANY($1::text[])
        UNION ALL
        SELECT address, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, target
        FROM forward
        WHERE address = ANY($1::text[])
        ORDER BY id, target
        """,
        addresses,
    )
    return (
        [(row["address"], _account(row)) for row in rows if row["target"] is None],
        [(row["address"], row["target"]) for row in rows if row["target"] is not None],
    )


async def insert_forward(database: Executor, address: str, target: str) -> bool:
    """Let an address lead to one on another server; False when it does already."""
    tag = await database.execute(
        "INSERT INTO forward (address, target) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        address,
        target,
    )
    return tag.endswith(" 1")


async def delete_forward(database: Executor, address: str, target: str) -> bool:
    """Let an address no longer lead to one on another server; False when it did not."""
    tag = await database.execute(
        "DELETE FROM forward WHERE address = $1 AND target = $2", address, target
    )
    return tag.endswith(" 1")


async def forwards(database: Executor) -> list[tuple[str, str]]:
    """Return all (address, target) pairs that lead to other servers."""
    rows = await database.fetch("SELECT address, target FROM forward ORDER BY address, target")
    return [(row["address"], row["target"]) for row in rows]


async def modseq(database: Executor, account: AccountId) -> Modseq | None:
    """Return the account's newest modseq."""
    value = await database.fetchval("SELECT modseq FROM account WHERE id = $1", account)
    return None if value is None else Modseq(value)


async def newer(
    database: Executor, accounts: Sequence[AccountId]
) -> list[tuple[AccountId, Modseq]]:
    """Return the modseq of several accounts, for the re-check that heals lost notifications."""
    rows = await database.fetch(
        "SELECT id, modseq FROM account WHERE id = ANY($1::bigint[])", accounts
    )
    return [(AccountId(account), Modseq(modseq)) for account, modseq in rows]


class Sight(NamedTuple):
    """What tells whether anything has changed in what an account sees."""

    modseq: Modseq
    shares: bool  # whether there are entries for it on mailboxes of others


async def sights(
    database: Executor, accounts: Sequence[AccountId]
) -> list[tuple[AccountId, Sight]]:
    """Return that of several accounts."""
    rows = await database.fetch(
        """
        SELECT id, modseq,
               EXISTS (
                   SELECT FROM acl
                   WHERE (grantee_id = account.id OR grantee_id IS NULL)
                         AND acl.account_id <> account.id
               ) AS shares
        FROM account
        WHERE id = ANY($1::bigint[])
        """,
        accounts,
    )
    return [(AccountId(each), Sight(Modseq(modseq), shares)) for each, modseq, shares in rows]


async def next_modseq(tx: Executor, account: AccountId) -> Modseq | None:
    """Lock the account and take its next modseq; None when there is no such account."""
    value = await tx.fetchval(
        "UPDATE account SET modseq = modseq + 1 WHERE id = $1 RETURNING modseq", account
    )
    return None if value is None else Modseq(value)
