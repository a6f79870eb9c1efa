"""A database for servers that make their own schema."""

import itertools
import os
from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from mailserver.runtime.embedded.postgres import Postgres

_numbers = itertools.count(1)


@pytest_asyncio.fixture
async def empty_database(postgres: Postgres) -> AsyncIterator[str]:
    """The DSN of a database without a schema."""
    name = f"empty_{os.getpid()}_{next(_numbers)}"
    admin = await asyncpg.connect(postgres.dsn())
    await admin.execute(f"CREATE DATABASE {name}")
    yield postgres.dsn(name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()
