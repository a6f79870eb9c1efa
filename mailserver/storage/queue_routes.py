"""Statements on routes: how mail for a domain leaves."""

from collections.abc import Sequence
from typing import NamedTuple

from mailserver.storage.database import Executor


class RouteRow(NamedTuple):
    """One row of `queue_route`."""

    domain: str  # normal form; '*': every domain without a row of its own
    host: str | None  # the smarthost; None: as DNS says
    port: int | None
    tls: str
    login: str | None
    password: bytes | None  # sealed
    retry_first: int | None  # seconds
    retry_longest: int | None
    expire_after: int | None
    concurrency: int | None


async def find(database: Executor, domains: Sequence[str]) -> list[RouteRow]:
    """Return the routes of some domains."""
    rows = await database.fetch(
        """
        SELECT domain, host, port, tls, login, password, retry_first, retry_longest, expire_after,
               concurrency
        FROM queue_route
        WHERE domain = ANY($1::text[])
        """,
        domains,
    )
    return [RouteRow(*row) for row in rows]


async def all_routes(database: Executor) -> list[RouteRow]:
    """Return every route, by domain."""
    rows = await database.fetch(
        """
        SELECT domain, host, port, tls, login, password, retry_first, retry_longest, expire_after,
               concurrency
        FROM queue_route
        ORDER BY domain
        """
    )
    return [RouteRow(*row) for row in rows]


async def store(database: Executor, route: RouteRow) -> None:
    """Make a route, or change the one that the domain has."""
    await database.execute(
        """
        INSERT INTO queue_route (domain, host, port, tls, login, password, retry_first,
                                 retry_longest, expire_after, concurrency)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        ON CONFLICT (domain)
        DO UPDATE SET host = excluded.host, port = excluded.port, tls = excluded.tls,
                      login = excluded.login, password = excluded.password,
                      retry_first = excluded.retry_first, retry_longest = excluded.retry_longest,
                      expire_after = excluded.expire_after, concurrency = excluded.concurrency
        """,
        *route,
    )


async def remove(database: Executor, domain: str) -> bool:
    """Remove a route; False when there was none."""
    tag = await database.execute("DELETE FROM queue_route WHERE domain = $1", domain)
    return tag != "DELETE 0"
