"""Every statement of the checks has its index."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from mailserver.model import AccountId
from mailserver.storage import greylist, rates, sending, spam_lists, traces
from mailserver.storage.database import Database
from mailserver.storage.rates import Amount
from mailserver.storage.spam_lists import Entry
from tests.plans import whole_tables_read

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEY = b"k" * 16
FILL = (
    "INSERT INTO trace SELECT n, now(), ARRAY['s' || n], '{}' FROM generate_series(1, 20000) n",
    "INSERT INTO greylist SELECT sha256(n::text::bytea), now(), false, now() + n * '1 s'::interval"
    " FROM generate_series(1, 20000) n",
    "INSERT INTO rate SELECT sha256(n::text::bytea), n, 1, now() + n * '1 s'::interval"
    " FROM generate_series(1, 20000) n",
    "INSERT INTO spam_list SELECT 'a' || n, '@example.org', 'deny', now()"
    " FROM generate_series(1, 20000) n",
    "INSERT INTO account (id, login, name, created_at) SELECT n, n || '@x.test', '', now()"
    " FROM generate_series(1, 2000) n",
    "INSERT INTO sending_contact SELECT n % 2000 + 1, n FROM generate_series(1, 20000) n",
    "INSERT INTO queue_message (id, account_id, blob_id, sender, received_at, size, session,"
    " smtputf8, body)"
    " SELECT n, n % 2000 + 1, '', 'a@example.test', now(), 1, '', false, ''"
    " FROM generate_series(1, 20000) n",
    "INSERT INTO queue_recipient (message_id, recipient, domain, state, next_attempt, expires_at,"
    " finished_at) SELECT n, 'x', 'example.org', CASE WHEN n % 100 = 0 THEN 2 ELSE 1 END, now(),"
    " now(), now() - n * '1 s'::interval FROM generate_series(1, 20000) n",
    "INSERT INTO sending_hold (account_id, reason, held_at) SELECT n, '', now()"
    " FROM generate_series(100, 2000) n",
    "ANALYZE",
)
STATEMENTS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "find traces": lambda db: traces.find(db, "s7", 10),
    "expire traces": lambda db: traces.expire(db, 100, 10),
    "meet": lambda db: greylist.meet(db, [KEY], KEY, NOW, NOW),
    "remember": lambda db: greylist.remember(db, [KEY], NOW, NOW),
    "expire greylist": lambda db: greylist.expire(db, NOW - timedelta(days=900), 10),
    "add to rates": lambda db: rates.add(db, [Amount(KEY, 1, 1, NOW)]),
    "expire rates": lambda db: rates.expire(db, NOW - timedelta(days=900), 10),
    "lists of the server": spam_lists.of_server,
    "list of an account": lambda db: spam_lists.of_scope(db, "a7"),
    "lists about": lambda db: spam_lists.about(db, ["a7"], ["@example.org"]),
    "put": lambda db: spam_lists.put(db, Entry("a7", "@example.net", "deny"), NOW),
    "remove": lambda db: spam_lists.remove(db, "a7", "@example.net"),
    "standing": lambda db: sending.standing(db, AccountId(7), [7]),
    "remember contacts": lambda db: sending.remember(db, [(AccountId(7), 1)]),
    "hold": lambda db: sending.hold(db, AccountId(7), "", NOW),
    "release": lambda db: sending.release(db, AccountId(7), NOW, queued=True),
    "refused": lambda db: sending.refused(db, datetime.now(UTC) - timedelta(seconds=60), 1),
}


async def test_no_statement_reads_a_whole_table(database: Database) -> None:
    assert await whole_tables_read(database, FILL, STATEMENTS) == {}
