"""Statements on message bodies: what the blob is, and its hot copy in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.model import AccountId, BlobId, EmailId, MailboxId
from mailserver.storage.database import Executor, Record


class NewBody(NamedTuple):
    """A body to store, with how many references it gains."""

    account_id: AccountId
    id: BlobId
    size: int  # bytes of the content
    refs: int
    data: bytes  # zstd of the content


async def insert(tx: Executor, bodies: Sequence[NewBody], now: datetime) -> None:
    """Store bodies that are new, and count the references of those that are known."""
    await tx.execute(
        """
        WITH given AS (
            SELECT *
            FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::int[], $5::bytea[])
                 AS d(account_id, id, size, refs, data)
        ), counted AS (
            INSERT INTO blob (account_id, id, size, refs, created_at, length)
            SELECT account_id, id, size, refs, $6, length(data) FROM given
            ON CONFLICT (account_id, id)
            DO UPDATE SET refs = blob.refs + excluded.refs, unreferenced_at = NULL
            RETURNING account_id, id, xmax = 0 AS new
        )
        INSERT INTO blob_hot (account_id, id, data)
        SELECT account_id, id, data
        FROM given
        JOIN counted USING (account_id, id)
        WHERE counted.new
        """,
        *zip(*bodies, strict=True),
        now,
    )


async def to_fetch(
    database: Executor,
    source: AccountId,
    mailbox: MailboxId,
    uids: Sequence[int],
    target: AccountId,
) -> list[tuple[BlobId, int]]:
    """Return the bodies of messages, with sizes, that another account has to read from S3."""
    rows = await database.fetch(
        """
        SELECT DISTINCT blob.id, blob.size
        FROM msg
        JOIN email ON email.account_id = $1 AND email.id = msg.email_id
        JOIN blob ON blob.account_id = $1 AND blob.id = email.blob_id
        WHERE msg.account_id = $1 AND msg.mailbox_id = $2 AND msg.uid = ANY($3::bigint[])
              AND NOT blob.hot
              AND NOT EXISTS (
                  SELECT FROM blob other WHERE other.account_id = $4 AND other.id = blob.id
              )
        """,
        source,
        mailbox,
        uids,
        target,
    )
    return [(BlobId(row["id"]), row["size"]) for row in rows]


async def adopt(
    tx: Executor, source: AccountId, target: AccountId, emails: Sequence[int], now: datetime
) -> list[BlobId]:
    """Give an account references to the bodies of another's emails, its own copy of the bytes each.

    Returns those that neither account has in PostgreSQL; then nothing of it may be committed.
    """
    rows = await tx.fetch(
        """
        WITH given AS (
            SELECT email.blob_id AS id, count(*)::int AS refs
            FROM unnest($3::bigint[]) AS e(id)
            JOIN email ON email.account_id = $1 AND email.id = e.id
            GROUP BY email.blob_id
        ), counted AS (
            INSERT INTO blob (account_id, id, size, refs, created_at, length)
            SELECT $2, blob.id, blob.size, given.refs, $4, blob.length
            FROM given
            JOIN blob ON blob.account_id = $1 AND blob.id = given.id
            ORDER BY blob.id
            ON CONFLICT (account_id, id)
            DO UPDATE SET refs = blob.refs + excluded.refs, unreferenced_at = NULL
            RETURNING id, xmax = 0 AS new
        ), copied AS (
            INSERT INTO blob_hot (account_id, id, data)
            SELECT $2, hot.id, hot.data
            FROM counted
            JOIN blob_hot hot ON hot.account_id = $1 AND hot.id = counted.id
            WHERE counted.new
            RETURNING id
        )
        SELECT id FROM counted WHERE new
        EXCEPT
        SELECT id FROM copied
        """,
        source,
        target,
        emails,
        now,
    )
    return [BlobId(row["id"]) for row in rows]


async def release(tx: Executor, account: AccountId, ids: Sequence[BlobId], now: datetime) -> None:
    """Drop one reference for each time an id is given; a body without any is collected later."""
    await tx.execute(
        """
        UPDATE blob
        SET refs = blob.refs - d.refs,
            unreferenced_at = CASE WHEN blob.refs = d.refs THEN $3::timestamptz END
        FROM (
            SELECT id, count(*)::int AS refs FROM unnest($2::bytea[]) AS id GROUP BY id
        ) AS d
        WHERE blob.account_id = $1 AND blob.id = d.id
        """,
        account,
        ids,
        now,
    )


async def hot(database: Executor, account: AccountId, ids: Sequence[BlobId]) -> dict[BlobId, bytes]:
    """Return the compressed bodies that are in PostgreSQL."""
    rows = await database.fetch(
        """
        SELECT id, data
        FROM blob_hot
        WHERE account_id = $1 AND id = ANY($2::bytea[])
        """,
        account,
        ids,
    )
    return {row["id"]: row["data"] for row in rows}


async def of_emails(
    database: Executor, account: AccountId, ids: Sequence[int]
) -> list[tuple[EmailId, BlobId, bytes | None]]:
    """Return the bodies of emails, compressed; None where one is not in PostgreSQL."""
    rows = await database.fetch(
        """
        SELECT id, blob_id,
               (SELECT data FROM blob_hot WHERE account_id = $1 AND blob_hot.id = email.blob_id)
        FROM email
        WHERE account_id = $1 AND id = ANY($2::bigint[])
        """,
        account,
        ids,
    )
    return [(each, blob, data) for each, blob, data in rows]


class Location(NamedTuple):
    """Where the stored form of a body is in S3."""

    account_id: AccountId
    id: BlobId
    size: int
    object: str | None
    offset: int
    length: int


def _location(row: Record) -> Location:
    return Location(
        row["account_id"], row["id"], row["size"], row["object"], row["offset"] or 0, row["length"]
    )


async def locations(
    database: Executor, account: AccountId, ids: Sequence[BlobId]
) -> dict[BlobId, Location]:
    """Return where bodies are."""
    rows = await database.fetch(
        """
        SELECT account_id, id, size, object, "offset", length
        FROM blob
        WHERE account_id = $1 AND id = ANY($2::bytea[])
        """,
        account,
        ids,
    )
    return {row["id"]: _location(row) for row in rows}


async def referenced(database: Executor, account: AccountId, ids: Sequence[BlobId]) -> set[BlobId]:
    """Return those of the bodies that something still needs."""
    rows = await database.fetch(
        """
        SELECT id
        FROM blob
        WHERE account_id = $1 AND id = ANY($2::bytea[]) AND refs > 0
        """,
        account,
        ids,
    )
    return {BlobId(row["id"]) for row in rows}


# The mover ---------------------------------------------------------------------------------------


async def to_copy(database: Executor, before: datetime, limit: int) -> list[Location]:
    """Return the oldest bodies that are in PostgreSQL only."""
    rows = await database.fetch(
        """
        SELECT account_id, id, size, object, "offset", length
        FROM blob
        WHERE object IS NULL AND created_at < $1
        ORDER BY created_at
        LIMIT $2
        """,
        before,
        limit,
    )
    return [_location(row) for row in rows]


async def copied(
    database: Executor, moves: Sequence[tuple[AccountId, BlobId, str]], now: datetime
) -> set[str]:
    """Note the objects that were written and read back; return those that bodies have now.

    A body that has another object by then keeps it, and one that is gone needs none.
    """
    rows = await database.fetch(
        """
        UPDATE blob
        SET object = d.object, "offset" = 0, copied_at = $4
        FROM unnest($1::bigint[], $2::bytea[], $3::text[]) AS d(account_id, id, object)
        WHERE blob.account_id = d.account_id AND blob.id = d.id AND blob.object IS NULL
        RETURNING blob.object
        """,
        *zip(*moves, strict=True),
        now,
    )
    return {row["object"] for row in rows}


async def to_drop(
    database: Executor, created_before: datetime, copied_before: datetime, limit: int
) -> list[Location]:
    """Return bodies whose hot copy has had its time and whose object has become durable."""
    rows = await database.fetch(
        """
        SELECT account_id, id, size, object, "offset", length
        FROM blob
        WHERE hot AND object IS NOT NULL AND created_at < $1 AND copied_at < $2
        ORDER BY created_at
        LIMIT $3
        """,
        created_before,
        copied_before,
        limit,
    )
    return [_location(row) for row in rows]


async def drop(tx: Executor, account: AccountId, places: Sequence[Location]) -> None:
    """Drop hot copies unless their objects changed; those are the only copy from now on."""
    await tx.execute(
        """
        WITH cold AS (
            UPDATE blob
            SET hot = false
            FROM unnest($2::bytea[], $3::text[]) AS d(id, object)
            WHERE blob.account_id = $1 AND blob.id = d.id AND blob.object = d.object
            RETURNING blob.account_id, blob.id
        )
        DELETE FROM blob_hot
        USING cold
        WHERE blob_hot.account_id = cold.account_id AND blob_hot.id = cold.id
        """,
        account,
        [place.id for place in places],
        [place.object for place in places],
    )


async def forget_object(tx: Executor, place: Location) -> bool:
    """Note that the object of a hot body is not there after all, so that it is copied again.

    Returns whether it was noted: not when the body has another object or is not hot by now.
    """
    done = await tx.execute(
        """
        UPDATE blob
        SET object = NULL, "offset" = NULL, copied_at = NULL
        WHERE account_id = $1 AND id = $2 AND object = $3 AND hot
        """,
        place.account_id,
        place.id,
        place.object,
    )
    return done == "UPDATE 1"


async def collect(
    tx: Executor, before: datetime, limit: int
) -> list[tuple[AccountId, BlobId, str | None]]:
    """Forget bodies that nobody has needed since `before`; return them with their objects."""
    rows = await tx.fetch(
        """
        WITH old AS (
            SELECT account_id, id
            FROM blob
            WHERE refs = 0 AND unreferenced_at < $1
            ORDER BY unreferenced_at
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM blob
            USING old
            WHERE blob.account_id = old.account_id AND blob.id = old.id
            RETURNING blob.account_id, blob.id, blob.object
        ), cooled AS (
            DELETE FROM blob_hot
            USING gone
            WHERE blob_hot.account_id = gone.account_id AND blob_hot.id = gone.id
        )
        SELECT account_id, id, object FROM gone
        """,
        before,
        limit,
    )
    return [(row["account_id"], row["id"], row["object"]) for row in rows]


async def objects_known(database: Executor, names: Sequence[str]) -> set[str]:
    """Return which object names a blob row points to."""
    rows = await database.fetch("SELECT object FROM blob WHERE object = ANY($1::text[])", names)
    return {row["object"] for row in rows}


async def page(
    database: Executor, after: tuple[int, bytes], limit: int
) -> list[tuple[Location, bool, bool]]:
    """Return blobs in key order with whether they say hot and whether a hot copy is there."""
    rows = await database.fetch(
        """
        SELECT b.account_id, b.id, b.size, b.object, b."offset", b.length, b.hot,
               EXISTS (
                   SELECT FROM blob_hot h WHERE h.account_id = b.account_id AND h.id = b.id
               ) AS here
        FROM blob b
        WHERE (b.account_id, b.id) > ($1, $2)
        ORDER BY b.account_id, b.id
        LIMIT $3
        """,
        *after,
        limit,
    )
    return [(_location(row), row["hot"], row["here"]) for row in rows]
