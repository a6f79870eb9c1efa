"""Statements that recount what the store keeps: each returns a row for every difference."""

from collections.abc import AsyncIterator
from typing import NamedTuple

from mailserver.storage.database import Connection


class Check(NamedTuple):
    """A rule of the store, and a query that returns what breaks it as one text column."""

    rule: str
    query: str


# In these, flags & 1 is \Seen and flags & 16 is \Deleted (model.FLAG_NAMES).
CHECKS: tuple[Check, ...] = (
    Check(
        "mailbox counters equal a count of its messages",
        """
        SELECT format('mailbox %s of account %s: total %s/%s unseen %s/%s deleted %s/%s size %s/%s',
                      m.id, m.account_id, m.total, c.total, m.unseen, c.unseen, m.deleted,
                      c.deleted, m.size, c.size)
        FROM mailbox m
        CROSS JOIN LATERAL (
            SELECT count(*) AS total,
                   count(*) FILTER (WHERE flags & 1 = 0) AS unseen,
                   count(*) FILTER (WHERE flags & 16 <> 0) AS deleted,
                   coalesce(sum(size), 0) AS size
            FROM msg
            WHERE msg.account_id = m.account_id AND msg.mailbox_id = m.id
        ) AS c
        WHERE (m.total, m.unseen, m.deleted, m.size) <> (c.total, c.unseen, c.deleted, c.size)
        """,
    ),
    Check(
        "UIDs are below UIDNEXT, modseqs not above the mailbox's and the account's",
        """
        SELECT format('mailbox %s of account %s: uid %s uidnext %s modseq %s/%s/%s',
                      m.id, m.account_id, c.uid, m.uidnext, c.modseq, m.modseq, a.modseq)
        FROM mailbox m
        JOIN account a ON a.id = m.account_id
        CROSS JOIN LATERAL (
            SELECT max(uid) AS uid, max(modseq) AS modseq
            FROM msg
            WHERE msg.account_id = m.account_id AND msg.mailbox_id = m.id
        ) AS c
        WHERE c.uid >= m.uidnext OR c.modseq > m.modseq OR m.modseq > a.modseq
        """,
    ),
    Check(
        "every message is in a mailbox that exists",
        """
        SELECT format('uid %s of mailbox %s, account %s', uid, mailbox_id, account_id)
        FROM msg
        WHERE NOT EXISTS (
            SELECT FROM mailbox m WHERE m.account_id = msg.account_id AND m.id = msg.mailbox_id
        )
        """,
    ),
    Check(
        "every message has its email, with the same thread, size and date",
        """
        SELECT format('uid %s of mailbox %s, account %s', uid, mailbox_id, account_id)
        FROM msg
        WHERE NOT EXISTS (
            SELECT FROM email e
            WHERE e.account_id = msg.account_id AND e.id = msg.email_id
                  AND (e.thread_id, e.size, e.received_at)
                      = (msg.thread_id, msg.size, msg.received_at)
        )
        """,
    ),
    Check(
        "every email is in a mailbox",
        """
        SELECT format('email %s of account %s', id, account_id)
        FROM email
        WHERE NOT EXISTS (
            SELECT FROM msg WHERE msg.account_id = email.account_id AND msg.email_id = email.id
        )
        """,
    ),
    Check(
        "an email has the same flags in all its mailboxes, \\Deleted aside",
        """
        SELECT format('email %s of account %s', email_id, account_id)
        FROM msg
        GROUP BY account_id, email_id
        HAVING count(*) > 1
               AND count(DISTINCT (flags & ~16, coalesce(keywords, '{}'))) > 1
        """,
    ),
    Check(
        "an email is a copy of one other at most, in all its mailboxes",
        """
        SELECT format('email %s of account %s', email_id, account_id)
        FROM msg
        GROUP BY account_id, email_id
        HAVING count(DISTINCT coalesce(original_id, 0)) > 1
        """,
    ),
    Check(
        "an email and its copies are in one thread",
        """
        SELECT format('email %s of account %s', coalesce(original_id, email_id), account_id)
        FROM msg
        GROUP BY account_id, coalesce(original_id, email_id)
        HAVING count(DISTINCT thread_id) > 1
        """,
    ),
    Check(
        "blob references equal a count of emails, uploads, queue entries and reports",
        """
        SELECT format('blob %s of account %s: %s references, counted %s',
                      encode(b.id, 'hex'), b.account_id, b.refs, coalesce(c.refs, 0))
        FROM blob b
        LEFT JOIN (
            SELECT account_id, blob_id, count(*) AS refs
            FROM (
                SELECT account_id, blob_id FROM email
                UNION ALL SELECT account_id, blob_id FROM upload
                UNION ALL SELECT account_id, blob_id FROM queue_message
                UNION ALL SELECT account_id, blob_id FROM submission_report
            ) AS r
            GROUP BY account_id, blob_id
        ) AS c ON c.account_id = b.account_id AND c.blob_id = b.id
        WHERE b.refs <> coalesce(c.refs, 0) OR (b.refs = 0) <> (b.unreferenced_at IS NOT NULL)
        """,
    ),
    Check(
        "whatever needs a blob finds it, with the same size",
        """
        SELECT format('blob %s of account %s', encode(r.blob_id, 'hex'), r.account_id)
        FROM (
            SELECT account_id, blob_id, size FROM email
            UNION ALL SELECT account_id, blob_id, size FROM queue_message
        ) AS r
        WHERE NOT EXISTS (
            SELECT FROM blob b
            WHERE b.account_id = r.account_id AND b.id = r.blob_id AND b.size = r.size
        )
        """,
    ),
    Check(
        "a blob is hot exactly when PostgreSQL has its body, else it has an object",
        """
        SELECT format('blob %s of account %s: hot %s, in PostgreSQL %s, object %s',
                      encode(b.id, 'hex'), b.account_id, b.hot, h.id IS NOT NULL, b.object)
        FROM blob b
        LEFT JOIN blob_hot h ON h.account_id = b.account_id AND h.id = b.id
        WHERE b.hot <> (h.id IS NOT NULL) OR (NOT b.hot AND b.object IS NULL)
              OR (h.id IS NOT NULL AND length(h.data) <> b.length)
        """,
    ),
    Check(
        "every body in PostgreSQL belongs to a blob",
        """
        SELECT format('blob %s of account %s', encode(h.id, 'hex'), h.account_id)
        FROM blob_hot h
        WHERE NOT EXISTS (
            SELECT FROM blob b WHERE b.account_id = h.account_id AND b.id = h.id
        )
        """,
    ),
    Check(
        "the bytes an account uses are those of its emails",
        """
        SELECT format('account %s: %s, counted %s', a.id, a.quota_used, coalesce(c.size, 0))
        FROM account a
        LEFT JOIN (
            SELECT account_id, sum(size) AS size FROM email GROUP BY account_id
        ) AS c ON c.account_id = a.id
        WHERE a.quota_used <> coalesce(c.size, 0)
        """,
    ),
    Check(
        "the change log knows every message at its modseq, unless that was trimmed",
        """
        SELECT format('uid %s of mailbox %s, account %s, modseq %s', uid, mailbox_id,
                      msg.account_id, msg.modseq)
        FROM msg
        JOIN account a ON a.id = msg.account_id
        WHERE msg.modseq > a.low_water_mark
              AND NOT EXISTS (
                  SELECT FROM change c
                  WHERE c.account_id = msg.account_id AND c.modseq = msg.modseq
                        AND c.mailbox_id = msg.mailbox_id AND msg.uid = ANY(c.uids)
              )
        """,
    ),
    Check(
        "every account has exactly one INBOX",
        """
        SELECT format('account %s', a.id)
        FROM account a
        WHERE (
            SELECT count(*) FROM mailbox m WHERE m.account_id = a.id AND m.role = 'inbox'
        ) <> 1
        """,
    ),
    Check(
        "rights are the letters of RFC 4314 §2.1, in their order",
        """
        SELECT format('mailbox %s of account %s: rights %s', mailbox_id, account_id, rights)
        FROM acl
        WHERE rights !~ '^l?r?s?w?i?p?k?x?t?e?a?$'
        """,
    ),
    Check(
        "the rights of owners are what the entries leave them",
        """
        SELECT format('mailbox %s of account %s: %s, counted %s', m.id, m.account_id,
                      coalesce(m.owner_rights, 'all'), c.rights)
        FROM mailbox m
        CROSS JOIN LATERAL (
            SELECT bool_or(NOT negative AND grantee_id = m.account_id) AS named,
                   coalesce(string_agg(rights, '') FILTER (WHERE NOT negative), '') AS given,
                   coalesce(string_agg(rights, '') FILTER (WHERE negative), '') AS taken
            FROM acl
            WHERE acl.account_id = m.account_id AND acl.mailbox_id = m.id
                  AND (grantee_id = m.account_id OR grantee_id IS NULL)
        ) AS e
        CROSS JOIN LATERAL (
            SELECT string_agg(letter, '' ORDER BY place) AS rights
            FROM string_to_table('lrswipkxtea', NULL) WITH ORDINALITY AS l(letter, place)
            WHERE letter IN ('l', 'a')
                  OR ((named IS NOT TRUE OR strpos(given, letter) > 0)
                      AND strpos(taken, letter) = 0)
        ) AS c
        WHERE coalesce(m.owner_rights, 'lrswipkxtea') <> c.rights
        """,
    ),
    Check(
        "every address that may send has its identity, and only those",
        """
        SELECT format('account %s: %s', account_id, email)
        FROM (SELECT account_id, email FROM identity WHERE standard) AS i
        FULL JOIN (
            SELECT account_id, CASE WHEN address LIKE '@%' THEN '*' ELSE '' END || address AS email
            FROM address
            WHERE send
        ) AS a USING (account_id, email)
        WHERE i.email IS NULL OR a.email IS NULL
        """,
    ),
    Check(
        "deliveries look for a vacation response where one is enabled",
        """
        SELECT format('account %s', a.id)
        FROM account a
        LEFT JOIN vacation v ON v.account_id = a.id
        WHERE a.responds <> coalesce(v.enabled, false)
        """,
    ),
    Check(
        "every email is in the index of words, or still to do",
        """
        SELECT format('email %s of account %s', e.id, e.account_id)
        FROM search_progress p
        JOIN account a ON a.id = p.account_id AND p.modseq >= a.low_water_mark
        JOIN email e ON e.account_id = p.account_id AND (p.before IS NULL OR e.id >= p.before)
        WHERE NOT EXISTS (
                SELECT FROM search_word w WHERE w.account_id = e.account_id AND w.email_id = e.id
              )
              AND NOT EXISTS (
                  SELECT FROM change c
                  WHERE c.account_id = e.account_id AND c.modseq > p.modseq AND c.kind = 1
                        AND e.id = ANY(c.email_ids)
              )
        """,
    ),
    Check(
        "emails in the index of words exist, or their going is still to be noted",
        """
        SELECT format('email %s of account %s', w.email_id, w.account_id)
        FROM search_progress p
        JOIN account a ON a.id = p.account_id AND p.modseq >= a.low_water_mark
        JOIN search_word w ON w.account_id = p.account_id
        WHERE p.before IS NULL
              AND NOT EXISTS (
                  SELECT FROM email e WHERE e.account_id = w.account_id AND e.id = w.email_id
              )
              AND NOT EXISTS (
                  SELECT FROM change c
                  WHERE c.account_id = w.account_id AND c.modseq > p.modseq AND c.kind = 5
                        AND w.email_id = ANY(c.email_ids)
              )
        """,
    ),
    Check(
        "every email in the index of words has its texts once, unless it cannot be read",
        """
        SELECT format('account %s: %s texts, %s emails, %s of them with words', p.account_id,
                      f.texts, w.emails, w.readable)
        FROM search_progress p
        CROSS JOIN LATERAL (
            SELECT count(*) AS emails, count(*) FILTER (WHERE length(words) > 0) AS readable
            FROM search_word WHERE account_id = p.account_id
        ) AS w
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(length(email_ids) / 8 - dead), 0) AS texts
            FROM search_frame WHERE account_id = p.account_id
        ) AS f
        WHERE f.texts NOT BETWEEN w.readable AND w.emails
        """,
    ),
    Check(
        "every queued recipient has its message, and every queued message a recipient",
        """
        SELECT format('queue entry %s', m.id)
        FROM queue_message m
        WHERE NOT EXISTS (SELECT FROM queue_recipient r WHERE r.message_id = m.id)
        """,
    ),
)

# The whole store is read: a plan made for one account would be the wrong one here.
SETTINGS = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "SET LOCAL plan_cache_mode = auto",
    "SET LOCAL statement_timeout = 0",
)


async def differences(connection: "Connection") -> AsyncIterator[tuple[str, str]]:
    """Run every check on one snapshot; give (rule, what breaks it)."""
    raw = connection.raw
    async with raw.transaction():
        for setting in SETTINGS:
            await raw.execute(setting)
        for check in CHECKS:
            for row in await raw.fetch(check.query, timeout=3600):
                yield check.rule, row[0]
