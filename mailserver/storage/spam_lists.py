"""Whom a server, a domain or a user wants to hear of, and whom not."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.storage.database import Executor


class Entry(NamedTuple):
    """One line of a list."""

    scope: str  # "": the server; "@example.org": a domain; the id of an account
    subject: str  # "a@example.org", "@example.org", "192.0.2.0/24", "to:a@example.org"
    action: str  # "allow", "deny"


async def put(database: Executor, entry: Entry, now: datetime) -> None:
    """Write a line, in the place of the one about the same subject."""
    await database.execute(
        """
        INSERT INTO spam_list (scope, subject, action, created_at)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (scope, subject) DO UPDATE SET action = excluded.action
        """,
        *entry,
        now,
    )


async def remove(database: Executor, scope: str, subject: str) -> bool:
    """Take a line out; False when it was not there."""
    tag = await database.execute(
        "DELETE FROM spam_list WHERE scope = $1 AND subject = $2", scope, subject
    )
    return tag != "DELETE 0"


async def of_server(database: Executor) -> list[Entry]:
    """Return the lines of the server and of domains."""
    rows = await database.fetch(
        """
        SELECT scope, subject, action FROM spam_list
        WHERE scope >= '' AND scope < 'A'
        """
    )
    return [Entry(*row) for row in rows]


async def of_scope(database: Executor, scope: str) -> list[Entry]:
    """Return the lines of one list."""
    rows = await database.fetch(
        "SELECT scope, subject, action FROM spam_list WHERE scope = $1 ORDER BY subject", scope
    )
    return [Entry(*row) for row in rows]


async def about(database: Executor, scopes: Sequence[str], subjects: Sequence[str]) -> list[Entry]:
    """Return the lines of some lists about some subjects."""
    rows = await database.fetch(
        """
        SELECT scope, subject, action FROM spam_list
        WHERE scope = ANY($1::text[]) AND subject = ANY($2::text[])
        """,
        scopes,
        subjects,
    )
    return [Entry(*row) for row in rows]
