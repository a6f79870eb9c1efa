"""Alembic's entry: run the migrations over a connection that the caller made."""

from alembic import context
from sqlalchemy import Connection, text

LOCK = 0x6D61696C  # one migration at a time, however many nodes start together


def run() -> None:
    """Migrate in one transaction, under a lock that waits for another migration to end."""
    connection: Connection = context.config.attributes["connection"]
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    context.configure(connection=connection)
    context.run_migrations()


run()
