"""Every statement on reports has its index."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from mailserver.model import AccountId, Modseq
from mailserver.storage import feedback
from mailserver.storage.database import Database
from mailserver.storage.feedback import CountRow, ReportRow
from tests.plans import whole_tables_read

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = date(2026, 11, 1)
FILL = (
    "INSERT INTO account (id, login, name, created_at) SELECT n, n || '@x.test', '', now()"
    " FROM generate_series(1, 2000) n",
    "INSERT INTO feedback_report SELECT n, 1 + n % 2, 'o' || n, 'r' || n, 'd' || n % 100, now(),"
    " now(), now() - n * '1 min'::interval, 1, 1, '' FROM generate_series(1, 20000) n",
    "INSERT INTO feedback_place SELECT n, n FROM generate_series(1, 2000) n",
    "INSERT INTO feedback_count SELECT 1 + n % 2, '2026-11-01'::date - n % 60, 'd' || n % 500,"
    " sha256(n::text::bytea), '{}', 1 FROM generate_series(1, 20000) n",
    "INSERT INTO feedback_sent SELECT 1 + n % 2, '2026-11-01'::date - n / 400, 'd' || n,"
    " CASE WHEN n % 50 = 0 THEN 'sent' ELSE 'nothing to say' END,"
    " CASE WHEN n % 50 = 0 THEN n END, now() FROM generate_series(1, 20000) n",
    "INSERT INTO feedback_suppressed SELECT n || '@x.test', now() + n * '1 min'::interval"
    " FROM generate_series(1, 20000) n",
    "INSERT INTO queue_message (id, account_id, blob_id, sender, received_at, size, session,"
    " smtputf8, body)"
    " SELECT n, n % 2000 + 1, '', '', now(), 1, '', false, ''"
    " FROM generate_series(1, 40000) n",
    "INSERT INTO queue_recipient (message_id, recipient, domain, state, next_attempt, expires_at)"
    " SELECT n, n || '@x.test', 'x.test', CASE WHEN n % 1000 = 0 THEN 2 ELSE 1 END, now(), now()"
    " FROM generate_series(1, 40000) n",
    "ANALYZE",
)
STATEMENTS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "insert": lambda db: feedback.insert_report(
        db, ReportRow(90_000, 1, "o", "r", "d", NOW, NOW, NOW, 1, 1, b"")
    ),
    "list": lambda db: feedback.reports(db, 1, None, NOW - timedelta(days=90), 10),
    "list of a domain": lambda db: feedback.reports(db, 1, "d7", datetime.now(UTC), 10),
    "one": lambda db: feedback.report(db, 1, 8),
    "place": lambda db: feedback.place(db, AccountId(7)),
    "advance": lambda db: feedback.advance(db, AccountId(7), Modseq(7), Modseq(8)),
    "add": lambda db: feedback.add_counts(db, [CountRow(1, DAY, "d", b"x", "{}", 1)]),
    "domains": lambda db: feedback.domains_to_report(db, 1, DAY, "", 10),
    "seen": lambda db: feedback.seen(db, 1, None, DAY, 10),
    "seen of a domain": lambda db: feedback.seen(db, 1, "d60", DAY, 10),
    "counts": lambda db: feedback.counts(db, 1, DAY, "d60", 10),
    "count sent": lambda db: feedback.count_sent(db, 1, datetime(2026, 11, 1, tzinfo=UTC)),
    "decide": lambda db: feedback.decide(db, 1, DAY, "d", "sent", 1, NOW),
    "sent": lambda db: feedback.sent(db, 1, DAY, 10),
    "suppress": lambda db: feedback.suppress_returned(db, 2, NOW, NOW),
    "suppressed": lambda db: feedback.suppressed(db, ["7@x.test"], NOW),
    "expire": lambda db: feedback.expire(
        db, NOW - timedelta(days=900), NOW - timedelta(days=900), NOW
    ),
}


async def test_no_statement_reads_a_whole_table(database: Database) -> None:
    assert await whole_tables_read(database, FILL, STATEMENTS) == {}
