"""Statements that set right what is derived: each works on one account, whose row is locked."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.model import AccountId, MailboxId
from mailserver.storage.bodies import Location
from mailserver.storage.database import Executor


class Repair(NamedTuple):
    """What sets a rule of `storage.fsck` right for account $1; returns mailboxes it changed."""

    rule: str
    statements: tuple[str, ...]


REPAIRS: tuple[Repair, ...] = (
    Repair(
        "mailbox counters equal a count of its messages",
        (
            """
            UPDATE mailbox m
            SET total = c.total, unseen = c.unseen, deleted = c.deleted, size = c.size
            FROM (
                SELECT box.id, count(msg.uid) AS total,
                       count(*) FILTER (WHERE msg.flags & 1 = 0) AS unseen,
                       count(*) FILTER (WHERE msg.flags & 16 <> 0) AS deleted,
                       coalesce(sum(msg.size), 0) AS size
                FROM mailbox box
                LEFT JOIN msg ON msg.account_id = $1 AND msg.mailbox_id = box.id
                WHERE box.account_id = $1
                GROUP BY box.id
            ) AS c
            WHERE m.account_id = $1 AND m.id = c.id
                  AND (m.total, m.unseen, m.deleted, m.size)
                      <> (c.total, c.unseen, c.deleted, c.size)
            RETURNING m.id
            """,
        ),
    ),
    Repair(
        "UIDs are below UIDNEXT, modseqs not above the mailbox's and the account's",
        (
            # the account's own modseq first: the others are compared with it
            """
            UPDATE account a
            SET modseq = c.modseq + 1
            FROM (
                SELECT greatest((SELECT max(modseq) FROM msg WHERE account_id = $1),
                                (SELECT max(modseq) FROM mailbox WHERE account_id = $1),
                                (SELECT max(modseq) FROM change WHERE account_id = $1)) AS modseq
            ) AS c
            WHERE a.id = $1 AND a.modseq <= c.modseq
            """,
            """
            UPDATE mailbox m
            SET uidnext = greatest(m.uidnext, c.uid + 1), modseq = greatest(m.modseq, c.modseq)
            FROM (
                SELECT mailbox_id, max(uid) AS uid, max(modseq) AS modseq
                FROM msg
                WHERE account_id = $1
                GROUP BY mailbox_id
            ) AS c
            WHERE m.account_id = $1 AND m.id = c.mailbox_id
                  AND (c.uid >= m.uidnext OR c.modseq > m.modseq)
            RETURNING m.id
            """,
        ),
    ),
    Repair(
        "blob references equal a count of emails, uploads, queue entries and reports",
        (
            """
            UPDATE blob b
            SET refs = c.refs,
                unreferenced_at = CASE WHEN c.refs = 0 THEN coalesce(b.unreferenced_at, now()) END
            FROM (
                SELECT blob.id, count(r.blob_id) AS refs
                FROM blob
                LEFT JOIN (
                    SELECT blob_id FROM email WHERE account_id = $1
                    UNION ALL SELECT blob_id FROM upload WHERE account_id = $1
                    UNION ALL SELECT blob_id FROM queue_message WHERE account_id = $1
                    UNION ALL SELECT blob_id FROM submission_report WHERE account_id = $1
                ) AS r ON r.blob_id = blob.id
                WHERE blob.account_id = $1
                GROUP BY blob.id
            ) AS c
            WHERE b.account_id = $1 AND b.id = c.id
                  AND (b.refs <> c.refs OR (b.refs = 0) <> (b.unreferenced_at IS NOT NULL))
            """,
        ),
    ),
    Repair(
        "a blob is hot exactly when PostgreSQL has its body, else it has an object",
        (
            """
            UPDATE blob b
            SET hot = NOT b.hot
            WHERE account_id = $1
                  AND hot <> EXISTS (
                      SELECT FROM blob_hot h WHERE h.account_id = $1 AND h.id = b.id
                  )
            """,
        ),
    ),
    Repair(
        "the bytes an account uses are those of its emails",
        (
            """
            UPDATE account
            SET quota_used = (SELECT coalesce(sum(size), 0) FROM email WHERE account_id = $1)
            WHERE id = $1
            """,
        ),
    ),
    Repair(
        "deliveries look for a vacation response where one is enabled",
        (
            """
            UPDATE account
            SET responds = EXISTS (SELECT FROM vacation WHERE account_id = $1 AND enabled)
            WHERE id = $1
            """,
        ),
    ),
    *(
        # nothing is lost by it: the index is made anew from the bodies, in the background
        Repair(
            rule,
            (
                "DELETE FROM search_word WHERE account_id = $1",
                "DELETE FROM search_frame WHERE account_id = $1",
                "DELETE FROM search_progress WHERE account_id = $1",
            ),
        )
        for rule in (
            "every email is in the index of words, or still to do",
            "emails in the index of words exist, or their going is still to be noted",
            "every email in the index of words has its texts once, unless it cannot be read",
        )
    ),
)


async def run(tx: Executor, repair: Repair, account: AccountId) -> Sequence[MailboxId]:
    """Set one rule right for an account; return the mailboxes whose rows changed."""
    changed = []
    for statement in repair.statements:
        changed += [MailboxId(row[0]) for row in await tx.fetch(statement, account)]
    return changed


async def renumber(tx: Executor) -> None:
    """Give every mailbox a new UIDVALIDITY, and every account states that nobody was told of.

    After PostgreSQL went back in time the next UIDs, modseqs and UIDVALIDITYs would be those that
    clients know with another meaning (RFC 9051 §2.3.1.1). The time in seconds is above every
    UIDVALIDITY that was given out, one a mailbox, and 2^32 changes were not made since.
    """
    await tx.execute(
        """
        SELECT setval('uidvalidity',
                      greatest(nextval('uidvalidity'), extract(epoch FROM now())::bigint))
        """
    )
    await tx.execute("UPDATE mailbox SET uidvalidity = nextval('uidvalidity')")
    await tx.execute(
        """
        UPDATE account SET modseq = modseq + (1::bigint << 32),
                           low_water_mark = modseq + (1::bigint << 32)
        """
    )


async def adopt_object(database: Executor, place: Location, now: datetime) -> bool:
    """Give an object that no row names to its blob, or to a new, unreferenced one; False if none.

    The collector deletes the latter when its grace time is over; until then nothing is lost. A blob
    that has an object already does not need another.
    """
    return (
        await database.fetchval(
            """
            INSERT INTO blob (account_id, id, size, refs, created_at, unreferenced_at, object,
                              "offset", length, copied_at, hot)
            VALUES ($1, $2, $3, 0, $7, $7, $4, $5, $6, $7, false)
            ON CONFLICT (account_id, id) DO UPDATE
            SET object = excluded.object, "offset" = excluded."offset",
                length = excluded.length, copied_at = excluded.copied_at
            WHERE blob.object IS NULL
            RETURNING true
            """,
            *place,
            now,
        )
        is not None
    )
