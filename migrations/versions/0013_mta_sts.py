"""MTA-STS policies of other domains."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE mta_sts_policy (                    -- RFC 8461
        domain     text PRIMARY KEY,
        id         text NOT NULL,                    -- of the record in DNS
        policy     text NOT NULL,                    -- as it was fetched
        expires_at timestamptz NOT NULL
    )
    """,
)


def upgrade() -> None:
    """Add the table."""
    for statement in STATEMENTS:
        op.execute(statement)
