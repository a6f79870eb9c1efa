"""The statement that counts messages and threads of mailboxes.

Messages with \\Deleted do not exist for whoever looks here (RFC 8621 §4.1.1).
"""

from array import array
from collections.abc import Collection, Sequence
from typing import NamedTuple

from mailserver.model import DELETED, DRAFT, SEEN, AccountId, MailboxId
from mailserver.storage.database import Executor
from mailserver.storage.search import numbers


class ThreadCount(NamedTuple):
    """What JMAP counts in one mailbox (RFC 8621 §2)."""

    emails: int
    unread_emails: int
    threads: int
    unread_threads: int


class ThreadPlaces(NamedTuple):
    """In which mailboxes threads have emails, and the state of the account that this shows."""

    modseq: int
    trash: int | None  # the mailbox with that role
    columns: tuple["array[int]", ...]  # thread, mailbox, emails there, unread ones


async def thread_places(
    database: Executor,
    account: AccountId,
    *,
    within: Collection[MailboxId] | None,
    threads: Sequence[int] | None,
) -> ThreadPlaces:
    """Return the places of some threads, or of all, in some mailboxes or all, as one value."""
    arguments = (account, None if within is None else list(within), SEEN | DRAFT, DELETED)
    if threads is None:
        row = await database.fetchrow(
            """
            SELECT account.modseq, found.packed, (
                       SELECT id FROM mailbox WHERE account_id = $1 AND role = 'trash'
                   ) AS trash
            FROM account
            CROSS JOIN (
                SELECT string_agg(int8send(thread_id) || int8send(mailbox_id)
                                  || int8send(emails) || int8send(unread), '') AS packed
                FROM (
                    SELECT thread_id, mailbox_id, count(*) AS emails,
                           count(*) FILTER (WHERE flags & $3 = 0) AS unread
                    FROM msg
                    WHERE account_id = $1 AND flags & $4 = 0
                          AND ($2::bigint[] IS NULL OR mailbox_id = ANY($2::bigint[]))
                    GROUP BY thread_id, mailbox_id
                ) AS place
            ) AS found
            WHERE account.id = $1
            """,
            *arguments,
        )
    else:
        row = await database.fetchrow(
            """
            SELECT account.modseq, found.packed, (
                       SELECT id FROM mailbox WHERE account_id = $1 AND role = 'trash'
                   ) AS trash
            FROM account
            CROSS JOIN (
                SELECT string_agg(int8send(thread_id) || int8send(mailbox_id)
                                  || int8send(emails) || int8send(unread), '') AS packed
                FROM (
                    SELECT msg.thread_id, msg.mailbox_id, count(*) AS emails,
                           count(*) FILTER (WHERE flags & $3 = 0) AS unread
                    FROM email
                    JOIN msg ON msg.account_id = $1 AND msg.email_id = email.id
                    WHERE email.account_id = $1 AND email.thread_id = ANY($5::bigint[])
                          AND flags & $4 = 0
                          AND ($2::bigint[] IS NULL OR mailbox_id = ANY($2::bigint[]))
                    GROUP BY msg.thread_id, msg.mailbox_id
                ) AS place
            ) AS found
            WHERE account.id = $1
            """,
            *arguments,
            threads,
        )
    values = numbers(row)
    columns = tuple(values[offset::4] for offset in range(4))
    return ThreadPlaces(row["modseq"] if row else 0, row["trash"] if row else None, columns)
