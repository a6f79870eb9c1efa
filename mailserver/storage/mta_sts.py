"""Statements on the MTA-STS policies of other domains: kept across restarts (RFC 8461 §10.2)."""

from datetime import datetime
from typing import NamedTuple

from mailserver.storage.database import Executor


class PolicyRow(NamedTuple):
    """One row of `mta_sts_policy`."""

    domain: str
    id: str
    policy: str  # as it was fetched
    expires_at: datetime


async def find(database: Executor, domain: str, now: datetime) -> PolicyRow | None:
    """Return the policy of a domain unless it has expired."""
    row = await database.fetchrow(
        """
        SELECT domain, id, policy, expires_at
        FROM mta_sts_policy
        WHERE domain = $1 AND expires_at > $2
        """,
        domain,
        now,
    )
    return None if row is None else PolicyRow(*row)


async def store(database: Executor, policy: PolicyRow) -> None:
    """Keep a policy in place of the one before it."""
    await database.execute(
        """
        INSERT INTO mta_sts_policy (domain, id, policy, expires_at)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (domain)
        DO UPDATE SET id = excluded.id, policy = excluded.policy, expires_at = excluded.expires_at
        """,
        *policy,
    )
