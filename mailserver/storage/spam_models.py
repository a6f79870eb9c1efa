"""What the content filter has learned: a base and the changes since, by owner."""

from collections.abc import Sequence
from dataclasses import dataclass

from mailserver.model import AccountId, BlobId
from mailserver.storage.database import Executor

SERVER = 0  # the owner of what all accounts share


@dataclass(frozen=True, slots=True)
class News:
    """What is new in a model since a version."""

    version: int
    base: bytes | None  # to begin with; None: go on with what is known
    deltas: Sequence[bytes]  # oldest first


async def news(database: Executor, owner: int, version: int) -> News | None:
    """Return what is new since `version`; None when there is no such model."""
    row = await database.fetchrow(
        """
        SELECT version, base_version > $2 OR version < $2 AS anew,
               CASE WHEN base_version > $2 OR version < $2 THEN base END AS base,
               ARRAY(
                   SELECT data
                   FROM spam_delta
                   WHERE owner = $1
                         AND version > CASE
                             WHEN base_version > $2 OR spam_model.version < $2 THEN base_version
                             ELSE $2
                         END
                   ORDER BY version
               ) AS deltas
        FROM spam_model
        WHERE owner = $1
        """,
        owner,
        version,
    )
    if row is None:
        return None
    return News(row["version"], row["base"] or b"" if row["anew"] else None, row["deltas"])


async def lock(tx: Executor, owner: int) -> tuple[int, int]:
    """Lock a model, made when it is missing; return its version and that of its base.

    Models are locked in ascending order of their owners.
    """
    row = await tx.fetchrow(
        """
        INSERT INTO spam_model (owner, account_id, version, base_version)
        VALUES ($1::bigint, nullif($1::bigint, 0), 0, 0)
        ON CONFLICT (owner) DO UPDATE SET version = spam_model.version
        RETURNING version, base_version
        """,
        owner,
    )
    assert row is not None
    return row["version"], row["base_version"]


async def taught(tx: Executor, owner: int, blobs: Sequence[BlobId]) -> dict[BlobId, bool]:
    """Return what a model has learned of messages: whether each is spam."""
    rows = await tx.fetch(
        "SELECT blob_id, spam FROM spam_taught WHERE owner = $1 AND blob_id = ANY($2::bytea[])",
        owner,
        blobs,
    )
    return {BlobId(row["blob_id"]): row["spam"] for row in rows}


async def teach(
    tx: Executor,
    owner: int,
    version: int,
    delta: bytes,
    known: Sequence[tuple[BlobId, bool]],
    forgotten: Sequence[BlobId],
) -> None:
    """Write a change of a locked model, and what it has learned of which messages."""
    await tx.execute(
        """
        WITH changed AS (
            UPDATE spam_model SET version = $2 WHERE owner = $1
        ), forgotten AS (
            DELETE FROM spam_taught WHERE owner = $1 AND blob_id = ANY($6::bytea[])
        ), known AS (
            INSERT INTO spam_taught (owner, blob_id, spam)
            SELECT $1, blob_id, spam FROM unnest($4::bytea[], $5::boolean[]) AS d(blob_id, spam)
            ON CONFLICT (owner, blob_id) DO UPDATE SET spam = excluded.spam
        )
        INSERT INTO spam_delta (owner, version, data) VALUES ($1, $2, $3)
        """,
        owner,
        version,
        delta,
        [blob for blob, _ in known],
        [spam for _, spam in known],
        forgotten,
    )


async def rebase(tx: Executor, owner: int, version: int, base: bytes) -> None:
    """Put a base in the place of all changes up to a version of a locked model."""
    await tx.execute(
        """
        WITH merged AS (
            DELETE FROM spam_delta WHERE owner = $1 AND version <= $2
        )
        UPDATE spam_model SET base_version = $2, base = $3 WHERE owner = $1
        """,
        owner,
        version,
        base,
    )


async def forget(tx: Executor, owner: int) -> None:
    """Forget all that a model has learned; its version goes on, so that every process notices."""
    await tx.execute(
        """
        WITH changes AS (
            DELETE FROM spam_delta WHERE owner = $1
        ), messages AS (
            DELETE FROM spam_taught WHERE owner = $1
        )
        UPDATE spam_model
        SET version = version + 1, base_version = version + 1, base = NULL
        WHERE owner = $1
        """,
        owner,
    )


async def accounts(database: Executor) -> int:
    """Return how many accounts have taught something."""
    count: int = await database.fetchval("SELECT count(*) FROM spam_model WHERE owner <> 0")
    return count


def owner_of(account: AccountId | None) -> int:
    """Return whose model that is; None is the server."""
    return SERVER if account is None else account
