"""The statement that brings a listing up to date."""

from typing import NamedTuple

from mailserver.model import EMAIL_KINDS, GONE_KINDS, AccountId, ChangeKind, MailboxId
from mailserver.storage.changes import News
from mailserver.storage.database import Executor
from mailserver.storage.messages import Packed, unpacked


class CatchUp(NamedTuple):
    """What happened to a mailbox, and the messages that it happened to, as of one moment."""

    news: News
    messages: Packed  # those that came or changed and are still there


async def catch_up(
    database: Executor, account: AccountId, mailbox: MailboxId, modseq: int
) -> CatchUp | None:
    """Return what happened to a mailbox after `modseq`; None without the account."""
    row = await database.fetchrow(
        """
        WITH log AS MATERIALIZED (
            SELECT modseq, kind, uids
            FROM change
            WHERE account_id = $1 AND modseq > $3 AND mailbox_id = $2
            ORDER BY modseq
        ), entries AS (
            SELECT array_agg(modseq) AS modseqs, array_agg(kind) AS kinds,
                   string_agg(coalesce(array_to_string(uids, ' '), ''), E'\n') AS uids
            FROM log
        ), touched AS (
            SELECT string_agg(
                       int8send(uid) || int8send(email_id) || int8send(thread_id)
                       || int8send((date_part('epoch', received_at) * 1000)::bigint)
                       || int8send(size) || int8send(modseq) || int8send(flags), ''
                   ) AS packed,
                   string_agg(uid || ' ' || array_to_string(keywords, ' '), E'\n')
                       FILTER (WHERE keywords IS NOT NULL) AS keywords,
                   string_agg(uid || ' ' || original_id, E'\n')
                       FILTER (WHERE original_id IS NOT NULL) AS originals
            FROM (
                SELECT uid, email_id, thread_id, received_at, size, modseq, flags, keywords,
                       original_id
                FROM msg
                WHERE account_id = $1 AND mailbox_id = $2
                      AND uid = ANY (ARRAY(
                          SELECT unnest(uids) FROM log WHERE kind = ANY($4::smallint[])
                      ))
                ORDER BY uid
            ) AS ordered
        )
        SELECT account.modseq, low_water_mark, modseqs, kinds, uids, packed, keywords, originals
        FROM account, entries, touched
        WHERE account.id = $1
        """,
        account,
        mailbox,
        modseq,
        sorted(EMAIL_KINDS - GONE_KINDS),
    )
    if row is None:
        return None
    found = []
    if row["modseqs"]:
        lines = row["uids"].split("\n")
        for at, kind, line in zip(row["modseqs"], row["kinds"], lines, strict=True):
            found.append((at, ChangeKind(kind), [int(uid) for uid in line.split()]))
    return CatchUp(News(row["modseq"], row["low_water_mark"], found), unpacked(row))
