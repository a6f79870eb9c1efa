"""Statements on the keys that sign outgoing mail."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.storage.database import Executor


class KeyRow(NamedTuple):
    """One row of `dkim_key`."""

    domain: str
    selector: str
    algorithm: str  # rsa-sha256, ed25519-sha256
    private: bytes  # sealed PKCS #8
    public: str  # base64, as in DNS
    created_at: datetime
    signs_from: datetime
    signs_until: datetime | None


async def insert(tx: Executor, key: KeyRow) -> None:
    """Store a new key."""
    await tx.execute(
        """
        INSERT INTO dkim_key (domain, selector, algorithm, private, public, created_at, signs_from,
                              signs_until)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        *key,
    )


async def of_domain(database: Executor, domain: str) -> list[KeyRow]:
    """Return the keys of a domain, oldest first."""
    rows = await database.fetch(
        """
        SELECT domain, selector, algorithm, private, public, created_at, signs_from, signs_until
        FROM dkim_key
        WHERE domain = $1
        ORDER BY created_at, selector
        """,
        domain,
    )
    return [KeyRow(*row) for row in rows]


async def end(tx: Executor, domain: str, selectors: Sequence[str], until: datetime) -> None:
    """Let keys sign up to a time only."""
    await tx.execute(
        """
        UPDATE dkim_key
        SET signs_until = $3
        WHERE domain = $1 AND selector = ANY($2::text[]) AND signs_until IS NULL
        """,
        domain,
        selectors,
        until,
    )


async def remove(database: Executor, domain: str, selector: str) -> bool:
    """Remove a key; False when there is none."""
    tag = await database.execute(
        "DELETE FROM dkim_key WHERE domain = $1 AND selector = $2", domain, selector
    )
    return tag != "DELETE 0"
