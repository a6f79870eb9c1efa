"""Opens connections to PostgreSQL, and sees whether a pooler is between.

A transaction pooler lends another backend for each transaction. So behind one no statement stays
prepared: each is sent with its text whenever it runs, in one round trip, which is right behind any
pooler of any version. Nor may a session be changed, so settings that the pooler does not know are
left to the role (`ALTER ROLE ... SET`).
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

if TYPE_CHECKING:
    Raw: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Raw = asyncpg.Connection

log = logging.getLogger(__name__)

# Any pooler takes these.
NEUTRAL = {"application_name": "mailserver", "timezone": "UTC"}

# Plans must not depend on who ran a statement first: every statement is keyed by account_id, so
# the generic plan is the right one, and it is made once a connection.
SETTINGS = NEUTRAL | {"plan_cache_mode": "force_generic_plan", "jit": "off"}


class Connector:
    """Opens connections to one database."""

    def __init__(self, dsn: Callable[[], str]) -> None:
        """Take the DSN as a function, asked for every new connection: passwords rotate."""
        self._dsn = dsn
        self.pooled = False  # whether a pooler was seen; what suits one suits every server

    async def open(self, **options: Any) -> Raw:
        """Open a connection with the options of `asyncpg.connect`."""
        # asyncpg keeps no statements of its own: their names would meet those of other clients
        options |= {"statement_cache_size": 0}
        connection: Raw
        if not self.pooled:
            try:
                connection = await asyncpg.connect(
                    self._dsn(), **options | {"server_settings": SETTINGS}
                )
            except asyncpg.ProtocolViolationError:
                # PgBouncer says so of settings that it does not know, and of all its own errors
                self._found()
            else:
                try:
                    backend = await _backend(connection)
                except BaseException:  # also whoever does not want it any more
                    connection.terminate()
                    raise
                # a pooler makes up the number that a client would cancel its statement with
                if connection.get_server_pid() != backend:
                    self._found()
                return connection
        connection = await asyncpg.connect(self._dsn(), **options | {"server_settings": NEUTRAL})
        return connection

    def _found(self) -> None:
        if not self.pooled:
            log.info("PostgreSQL is behind a pooler: statements are not kept prepared")
        self.pooled = True


async def _backend(connection: Raw) -> int:
    number: int = await connection.fetchval("SELECT pg_backend_pid()")
    return number
