"""The plans of statements, on tables that have rows enough for an index to be worth it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from mailserver.storage.database import Connection, Database, Record


class Explaining:
    """Runs each statement and keeps its plan."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.plans: list[str] = []

    async def fetch(self, query: str, *args: Any) -> list[Record]:
        rows = await self._connection.raw.fetch(f"EXPLAIN {query}", *args)
        self.plans.append("\n".join(row[0] for row in rows))
        return await self._connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> Record | None:
        rows = await self.fetch(query, *args)
        return rows[0] if rows else None

    async def fetchval(self, query: str, *args: Any) -> Any:
        row = await self.fetchrow(query, *args)
        return row[0] if row is not None else None

    async def execute(self, query: str, *args: Any) -> str:
        await self.fetch(query, *args)
        return "DONE 0"


async def whole_tables_read(
    database: Database,
    fill: Sequence[str],
    statements: Mapping[str, Callable[[Any], Awaitable[object]]],
) -> dict[str, str]:
    """Run every statement after those that fill the tables; return plans without an index."""
    plans = {}
    async with database.connection() as connection:
        for statement in fill:
            await connection.execute(statement)
        for name, run in statements.items():
            explaining = Explaining(connection)
            await run(explaining)
            assert explaining.plans
            plans[name] = "\n".join(explaining.plans)
    return {name: plan for name, plan in plans.items() if "Seq Scan" in plan}
