"""What became of each message that was accepted, put off or refused."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE trace (
        id    bigint PRIMARY KEY,                    -- grows with time, so it also expires by it
        at    timestamptz NOT NULL,
        keys  text[] NOT NULL,                       -- by what it is found: addresses, ids
        story json NOT NULL
    )
    """,
    "CREATE INDEX trace_keys ON trace USING gin (keys)",
)


def upgrade() -> None:
    """Add the table."""
    for statement in STATEMENTS:
        op.execute(statement)
