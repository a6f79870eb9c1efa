"""Statements on identities (RFC 8621 §6)."""

import json
from collections.abc import Sequence

from mailserver.model import AccountId, EmailAddress, Identity, IdentityId
from mailserver.storage.database import Executor, Record


def _addresses(value: str | None) -> tuple[EmailAddress, ...] | None:
    if value is None:
        return None
    return tuple(EmailAddress(each["name"], each["email"]) for each in json.loads(value))


def _json(value: tuple[EmailAddress, ...] | None) -> str | None:
    if value is None:
        return None
    return json.dumps([{"name": each.name, "email": each.email} for each in value])


def _identity(row: Record) -> Identity:
    return Identity(
        IdentityId(row["id"]),
        row["email"],
        row["name"],
        _addresses(row["reply_to"]),
        _addresses(row["bcc"]),
        row["text_signature"],
        row["html_signature"],
        row["standard"],
    )


async def of_account(database: Executor, account: AccountId) -> list[Identity]:
    """Return the identities of an account, those that came with its addresses first."""
    rows = await database.fetch(
        """
        SELECT id, email, name, reply_to, bcc, text_signature, html_signature, standard
        FROM identity
        WHERE account_id = $1
        ORDER BY NOT standard, id
        """,
        account,
    )
    return [_identity(row) for row in rows]


async def by_id(database: Executor, account: AccountId, identity: int) -> Identity | None:
    """Return one identity."""
    row = await database.fetchrow(
        """
        SELECT id, email, name, reply_to, bcc, text_signature, html_signature, standard
        FROM identity
        WHERE account_id = $1 AND id = $2
        """,
        account,
        identity,
    )
    return _identity(row) if row else None


async def count(database: Executor, account: AccountId) -> int:
    """Return how many identities an account has."""
    found: int = await database.fetchval(
        "SELECT count(*) FROM identity WHERE account_id = $1", account
    )
    return found


async def insert(tx: Executor, account: AccountId, identity: Identity) -> None:
    """Add an identity."""
    await tx.execute(
        """
        INSERT INTO identity (account_id, id, email, name, reply_to, bcc, text_signature,
                              html_signature, standard)
        VALUES ($1, $2, $3, $4, $5::jsonb, $6::jsonb, $7, $8, $9)
        """,
        account,
        identity.id,
        identity.email,
        identity.name,
        _json(identity.reply_to),
        _json(identity.bcc),
        identity.text_signature,
        identity.html_signature,
        identity.standard,
    )


async def update(tx: Executor, account: AccountId, identity: Identity) -> None:
    """Write what of an identity can change."""
    await tx.execute(
        """
        UPDATE identity
        SET name = $3, reply_to = $4::jsonb, bcc = $5::jsonb, text_signature = $6,
            html_signature = $7
        WHERE account_id = $1 AND id = $2
        """,
        account,
        identity.id,
        identity.name,
        _json(identity.reply_to),
        _json(identity.bcc),
        identity.text_signature,
        identity.html_signature,
    )


async def delete(tx: Executor, account: AccountId, ids: Sequence[int]) -> None:
    """Remove identities."""
    await tx.execute(
        "DELETE FROM identity WHERE account_id = $1 AND id = ANY($2::bigint[])", account, ids
    )
