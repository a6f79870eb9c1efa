"""How mail for a domain leaves: what was configured for it."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from mailserver.config import Outbound
from mailserver.queue.rules import Schedule
from mailserver.storage import queue_routes
from mailserver.storage.database import Executor
from mailserver.storage.queue_routes import RouteRow

SEALED_FOR = "queue route"  # the purpose of sealed passwords
EVERY = "*"  # the route of all domains that have none of their own


class TlsLevel(StrEnum):
    """What is asked of the encryption of a connection."""

    NONE = "none"
    MAY = "may"  # when the server offers it, with any certificate
    ENCRYPT = "encrypt"  # always, with any certificate
    VERIFY = "verify"  # always, with a certificate of the right name from a known authority


@dataclass(frozen=True, slots=True)
class Smarthost:
    """A server that takes mail for others."""

    host: str
    port: int
    login: str | None = None
    password: bytes | None = None  # sealed


@dataclass(frozen=True, slots=True)
class Route:
    """What was configured for a domain."""

    domain: str  # of the row it comes from; EVERY for defaults
    smarthost: Smarthost | None
    tls: TlsLevel
    schedule: Schedule
    concurrency: int


def default(settings: Outbound) -> Route:
    """Return the route of a domain for which nothing was configured."""
    return Route(
        EVERY,
        None,
        TlsLevel.MAY,
        Schedule(
            timedelta(seconds=settings.retry_first), timedelta(seconds=settings.retry_longest)
        ),
        settings.destination_concurrency,
    )


def of_row(row: RouteRow, settings: Outbound) -> Route:
    """Read a row; what it leaves open is as configured."""
    smarthost = None
    if row.host:
        port = settings.port if row.port is None else row.port
        smarthost = Smarthost(row.host, port, row.login, row.password)
    return Route(
        row.domain,
        smarthost,
        TlsLevel(row.tls),
        Schedule(
            timedelta(seconds=row.retry_first or settings.retry_first),
            timedelta(seconds=row.retry_longest or settings.retry_longest),
            timedelta(seconds=row.expire_after) if row.expire_after else None,
        ),
        row.concurrency or settings.destination_concurrency,
    )


async def find(database: Executor, domain: str, settings: Outbound) -> Route:
    """Return the route of a domain: its own, else that of every domain, else as DNS says."""
    rows = {row.domain: row for row in await queue_routes.find(database, [domain, EVERY])}
    row = rows.get(domain) or rows.get(EVERY)
    return of_row(row, settings) if row is not None else default(settings)
